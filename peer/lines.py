"""A line to one holder: its addresses in order, the one that works remembered."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

import grpc

from core.errors import Busy, Corrupt, InvalidInput
from core.status import from_rpc_error
from peer.block_answers import BlockAnswer
from peer.channels import RelayStub
from peer.contacts import Contact, Holder
from peer.dialling import Dialler
from peer.racing import first_success
from relevo.v1.peer_relay_pb2 import (
    BlockSet,
    GetBlockRequest,
    GetContentsRequest,
    GetContentsResponse,
    GetManifestRequest,
    GetManifestResponse,
)

T = TypeVar("T")

# Names the block that an answer is going to have, in the initial metadata of GetBlock.
BLOCK_KEY = "relevo-block"
# Digits of a block's index.
_LONGEST_INDEX = 12
# What the transport says of an answer that is longer than anything a holder has to send.
_TOO_LONG = "larger than max"


class Line:
    """Calls one holder. An address that fails is given up for the next; the one that answered is used from then on."""

    def __init__(self, dialler: Dialler, contact: Contact, patience: float, *, complete: bool = True) -> None:
        """Describes a line to a peer that has every block when `complete`, else is fetching the content too.

        `patience` is how many seconds an untried address may be silent before the next is tried beside it.
        """
        self.contact = contact
        self.complete = complete
        self._dialler = dialler
        self._patience = patience
        self._working = ""

    def differs(self, holder: Holder) -> bool:
        """Tells whether a holder is to be asked otherwise than by this line: elsewhere, or for more."""
        return holder.contact.addresses != self.contact.addresses or (holder.complete and not self.complete)

    async def get_block(
        self, request: GetBlockRequest, timeout: float, announced: Callable[[int], None] | None = None
    ) -> BlockAnswer:
        """Answers PeerRelay.GetBlock.

        `announced` is told which block is going to come, as soon as the holder has said so.

        Raises:
            Corrupt: its file has changed.
            InvalidInput: the answer is over every limit: nothing more is to be expected of it.
            RelevoError: what the holder answered; Unreachable when it does not, at any address.
        """
        if not self._working and len(self.contact.addresses) > 1:
            # An ask that waits is as silent as an address at which nobody is: this one is answered at once.
            nothing = GetBlockRequest(content_id=request.content_id, lacking=BlockSet())
            await self._call(lambda holder: cast("Awaitable[BlockAnswer]", holder.GetBlock(nothing, timeout=timeout)))
        return await self._call(lambda holder: _announced(holder.announced_block(request, timeout=timeout), announced))

    async def get_manifest(self, request: GetManifestRequest, timeout: float) -> GetManifestResponse:
        """Answers PeerRelay.GetManifest; raises as get_block."""
        return await self._call(lambda holder: holder.GetManifest(request, timeout=timeout))

    async def get_contents(self, request: GetContentsRequest, timeout: float) -> GetContentsResponse:
        """Answers PeerRelay.GetContents; raises as get_block."""
        return await self._call(lambda holder: holder.GetContents(request, timeout=timeout))

    async def _call(self, call: Callable[[RelayStub], Awaitable[T]]) -> T:
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


async def _announced(call: Any, announced: Callable[[int], None] | None) -> BlockAnswer:
    """Returns the answer of a call for a block, after telling which block it is going to have."""
    try:
        for key, value in await call.initial_metadata() or ():
            if announced is not None and key == BLOCK_KEY and value.isdecimal() and len(value) < _LONGEST_INDEX:
                announced(int(value))
        answer = await call.read()
        if not isinstance(answer, BlockAnswer):
            raise Corrupt("it answered nothing at all")
        await call.read()  # the end
        return answer
    finally:
        call.cancel()  # also of one that is given up while it waits; of one that has ended it changes nothing
