"""A line to one holder: its addresses in order, the one that works remembered."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from core.errors import Busy, InvalidInput
from core.status import from_rpc_error
from peer.block_answers import BlockAnswer
from peer.contacts import Contact
from peer.dialling import Dialler
from peer.racing import first_success
from relevo.v1.peer_relay_pb2 import (
    GetBlockRequest,
    GetContentsRequest,
    GetContentsResponse,
    GetManifestRequest,
    GetManifestResponse,
)

if TYPE_CHECKING:
    from relevo.v1.peer_relay_pb2_grpc import PeerRelayAsyncStub

T = TypeVar("T")

# What the transport says of an answer that is longer than anything a holder has to send.
_TOO_LONG = "larger than max"


class Line:
    """Calls one holder. An address that fails is given up for the next; the one that answered is used from then on."""

    def __init__(self, dialler: Dialler, contact: Contact, patience: float) -> None:
        """`patience` is how many seconds an untried address may be silent before the next is tried beside it."""
        self.contact = contact
        self._dialler = dialler
        self._patience = patience
        self._working = ""

    async def get_block(self, request: GetBlockRequest, timeout: float) -> BlockAnswer:
        """Answers PeerRelay.GetBlock.

        Raises:
            Corrupt: its file has changed.
            InvalidInput: the answer is over every limit: nothing more is to be expected of it.
            RelevoError: what the holder answered; Unreachable when it does not, at any address.
        """
        return await self._call(
            lambda holder: cast("Awaitable[BlockAnswer]", holder.GetBlock(request, timeout=timeout))
        )

    async def get_manifest(self, request: GetManifestRequest, timeout: float) -> GetManifestResponse:
        """Answers PeerRelay.GetManifest; raises as get_block."""
        return await self._call(lambda holder: holder.GetManifest(request, timeout=timeout))

    async def get_contents(self, request: GetContentsRequest, timeout: float) -> GetContentsResponse:
        """Answers PeerRelay.GetContents; raises as get_block."""
        return await self._call(lambda holder: holder.GetContents(request, timeout=timeout))

    async def _call(self, call: Callable[["PeerRelayAsyncStub"], Awaitable[T]]) -> T:
        async def at(address: str) -> T:
            holder = await self._dialler.peer(address, self.contact.peer_id)
            try:
                answer = await call(holder)
            except grpc.RpcError as error:
                if self._working == address:
                    self._working = ""
                found = from_rpc_error(error)
                if isinstance(found, Busy) and _TOO_LONG in str(found):
                    found = InvalidInput("", "it sent an answer that is longer than any that was asked for")
                raise found from error
            self._working = self._working or address
            return answer

        addresses = (self._working,) if self._working else self.contact.addresses
        if len(addresses) == 1:
            return await at(addresses[0])
        return await first_success([partial(at, address) for address in addresses], self._patience)
