"""The work of this daemon that takes time: downloads, uploads and copies for others, while it runs and afterwards."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from core import errors
from peer.progress import Progress

log = logging.getLogger("relevo.transfers")

# Finished transfers that are remembered.
REMEMBERED = 1000


class Kind(Enum):
    """What a transfer does."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    STORE = "store"


class State(Enum):
    """How far a transfer is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Transfer:
    """One piece of work. Times are seconds since 1970; `target` is absolute, or empty for copies kept for others."""

    transfer_id: str
    kind: Kind
    path: str
    target: str
    progress: Progress
    start_time: float
    content_id: bytes = b""
    placement_id: str = ""
    state: State = State.WAITING
    end_time: float | None = None
    error: errors.RelevoError | None = None
    task: "asyncio.Task[None]" = field(init=False, repr=False)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state in {State.WAITING, State.RUNNING}


class Transfers:
    """Runs transfers and remembers the last ones."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._all: dict[str, Transfer] = {}
        self._forgotten_bytes = 0

    def start(
        self,
        kind: Kind,
        work: Callable[[Transfer], Awaitable[None]],
        *,
        path: str = "",
        target: str = "",
        size: int = 0,
        content_id: bytes = b"",
        placement_id: str = "",
    ) -> Transfer:
        """Starts `work` and returns the transfer, which is waiting until `work` says otherwise."""
        transfer = Transfer(
            transfer_id=secrets.token_hex(8),
            kind=kind,
            path=path,
            target=target,
            progress=Progress(size),
            start_time=self._wall(),
            content_id=content_id,
            placement_id=placement_id,
        )
        self._all[transfer.transfer_id] = transfer
        self._forget_oldest()
        transfer.task = asyncio.create_task(self._run(transfer, work))
        transfer.task.add_done_callback(lambda task: self._ended(transfer, task))
        return transfer

    def get(self, transfer_id: str) -> Transfer:
        """Returns a transfer.

        Raises:
            NotFound: there is none with this id.
        """
        try:
            return self._all[transfer_id]
        except KeyError:
            raise errors.NotFound(f"there is no transfer {transfer_id!r}; `relevo transfers` lists them") from None

    def latest_first(self) -> list[Transfer]:
        """Returns all transfers that are remembered, the latest first."""
        return list(reversed(self._all.values()))

    @property
    def received_bytes(self) -> int:
        """Block bytes that came from other peers since the daemon started."""
        return self._forgotten_bytes + sum(_received(transfer) for transfer in self._all.values())

    def running(self) -> Iterator[Transfer]:
        """Yields the transfers that have not ended."""
        return (transfer for transfer in self._all.values() if transfer.running)

    async def cancel(self, transfer_id: str) -> Transfer:
        """Stops a transfer and returns it when it has stopped; one that has ended stays as it is.

        Raises:
            NotFound: there is none with this id.
        """
        transfer = self.get(transfer_id)
        if transfer.running:
            transfer.task.cancel()
            await asyncio.wait([transfer.task])
        return transfer

    async def close(self) -> None:
        """Stops everything that runs; what was fetched stays on disk for the next try."""
        tasks = [transfer.task for transfer in self.running()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, transfer: Transfer, work: Callable[[Transfer], Awaitable[None]]) -> None:
        try:
            await work(transfer)
        except errors.RelevoError as error:
            transfer.error = error
            log.info("%s of %s failed: %s", transfer.kind.value, transfer.path or transfer.content_id.hex(), error)
        except Exception:
            log.exception("%s of %s failed", transfer.kind.value, transfer.path or transfer.content_id.hex())
            transfer.error = errors.Defect("internal error; the daemon's log has the details")

    def _ended(self, transfer: Transfer, task: "asyncio.Task[None]") -> None:
        """Notes the end; not in the task itself, which never begins when it is cancelled at once."""
        if task.cancelled():
            transfer.state = State.CANCELLED
        else:
            transfer.state = State.FAILED if transfer.error else State.DONE
        transfer.end_time = self._wall()

    def _forget_oldest(self) -> None:
        if len(self._all) <= REMEMBERED:
            return
        for transfer in list(self._all.values()):
            if not transfer.running:
                self._forgotten_bytes += _received(transfer)
                del self._all[transfer.transfer_id]
                return


def _received(transfer: Transfer) -> int:
    return sum(source.bytes for source in transfer.progress.sources.values())
