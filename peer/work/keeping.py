"""Keeps the journal in step with the downloads, and begins those again that a restart has interrupted."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError

from core.errors import RelevoError
from core.times import from_timestamp
from peer.library.worker import Worker
from peer.views import ended_transfer, progress_of, transfer_message
from peer.work.journal import Accepted, Journal
from peer.work.orders import Way, order_of, priority_of
from peer.work.transfers import Transfers
from peer.work.work import Transfer
from relevo.v1.peer_control_pb2 import Transfer as TransferMessage
from relevo.v1.peer_control_pb2 import TransferState

log = logging.getLogger("relevo.transfers")


class Keeping:
    """The journal, written by one thread in the order in which things happen."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._worker = Worker("journal")
        self._writes: set[asyncio.Task[None]] = set()

    async def keep(self, transfer: Transfer) -> None:
        """Returns when a transfer, its priority and its pause will not be forgotten.

        Raises:
            NotPossible: the journal cannot be written.
        """
        if transfer.request is not None:
            kind, request = transfer.request.DESCRIPTOR.full_name, transfer.request.SerializeToString()
            accepted = Accepted(transfer.transfer_id, kind, request, _snapshot(transfer))
            await self._worker.run(self._journal.accept, accepted)

    def ended(self, transfer: Transfer) -> None:
        """Begins to remember that a transfer has ended."""
        task = asyncio.ensure_future(self._end(transfer.transfer_id, _snapshot(transfer)))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def settled(self) -> None:
        """Returns when what has ended will not be begun again."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def restore(self, transfers: Transfers, ways: Mapping[str, Way]) -> None:
        """Opens the journal, adds what has ended, and begins again what has not.

        Args:
            transfers: to which it is added.
            ways: how each kind of request is begun again, by the full name of its message.

        Raises:
            NotPossible: the journal cannot be opened or read.
        """
        await self._worker.run(self._journal.open)
        for serialized in await self._worker.run(self._journal.ended):
            try:
                transfers.remember(ended_transfer(TransferMessage.FromString(serialized)))
            except (DecodeError, KeyError, ValueError) as error:  # a newer version's
                log.debug("an ended download is not shown: %s", error)
        for accepted in await self._worker.run(self._journal.accepted):
            self._begin(accepted, ways)

    async def close(self) -> None:
        """Writes what is to be written, and closes the journal."""
        await self.settled()
        await self._worker.run(self._journal.close)
        await self._worker.close()

    def _begin(self, accepted: Accepted, ways: Mapping[str, Way]) -> None:
        try:
            way = ways[accepted.kind]
            request: Any = way.message.FromString(accepted.request)
            stood = TransferMessage.FromString(accepted.transfer)
            order = replace(
                order_of(request, request.options),
                priority=priority_of(stood.priority),
                detached=True,  # whoever waited for it does so no more
                paused=stood.state == TransferState.TRANSFER_STATE_PAUSED,
                transfer_id=accepted.transfer_id,
                start_time=from_timestamp(stood.start_time),
                progress=progress_of(stood),
            )
        except (DecodeError, KeyError, ValueError, RelevoError) as error:
            log.warning("download %s cannot be read and does not go on: %r", accepted.transfer_id, error)
            return
        try:
            way.begin(request, order)
        except RelevoError as error:
            log.warning("download %s does not go on: %s", accepted.transfer_id, error)

    async def _end(self, transfer_id: str, message: bytes) -> None:
        try:
            await self._worker.run(self._journal.end, transfer_id, message)
        except RelevoError as error:
            log.warning("that download %s has ended may be forgotten: %s", transfer_id, error)


def _snapshot(transfer: Transfer) -> bytes:
    message = transfer_message(transfer, 0.0)
    del message.sources[:]  # who gave what is of no use after a restart, and may be long
    return message.SerializeToString()
