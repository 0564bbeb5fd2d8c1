"""The ways to a holder, which are all asked alike.

At its own addresses; by having it push, when it can dial this peer and not the other way round; through a relay.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from core.errors import Busy, Corrupt, InvalidInput, RelevoError, Unreachable
from core.status import from_rpc_error
from peer.fetching.block_answers import BlockAnswer, decoded
from peer.links.channels import RelayStub
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from peer.relays.relaying import Relaying
from relevo.v1 import peer_relay_pb2 as pb2

# Names the block that an answer is going to have, in the initial metadata of GetBlock.
BLOCK_KEY = "relevo-block"
# Digits of a block's index.
_LONGEST_INDEX = 12
# What the transport says of an answer that is longer than anything a holder has to send.
_TOO_LONG = "larger than max"
# An invited holder may take so long to come, in seconds; one that has not come is not invited again for a while.
COMING = 2.0
NOT_AGAIN = 60.0

Announced = Callable[[int], None]


def _to_nobody(index: int) -> None:
    del index


class How(Enum):
    """How bytes come from a holder."""

    DIRECT = auto()  # the holder is dialled
    REVERSED = auto()  # the holder has dialled this peer, and pushes
    RELAYED = auto()  # a relay hands on what the holder delivers to it


class Way(Protocol):
    """One way to one holder.

    Attributes:
        how: how bytes come by it.
        who: the peer that is trusted to tell the holder's words: the holder itself, or the relay.
    """

    how: How
    who: str

    async def block(self, request: pb2.GetBlockRequest, timeout: float, announced: Announced | None) -> BlockAnswer:
        """Answers PeerRelay.GetBlock, and tells before which block is going to come, when that is to be told.

        Raises RelevoError.
        """
        ...

    async def manifest(self, request: pb2.GetManifestRequest, timeout: float) -> pb2.GetManifestResponse:
        """Answers PeerRelay.GetManifest. Raises RelevoError."""
        ...

    async def contents(self, request: pb2.GetContentsRequest, timeout: float) -> pb2.GetContentsResponse:
        """Answers PeerRelay.GetContents. Raises RelevoError."""
        ...


class Dialled:
    """A way that begins with a call: to the holder itself, or to a relay that it is attached to."""

    def __init__(self, dialler: Dialler, address: str, who: str, holder: str = "") -> None:
        """Leads to the peer `who` at `host:port`, and by it to `holder`; empty: it is the holder."""
        self.how = How.RELAYED if holder else How.DIRECT
        self.who = who
        self._dialler = dialler
        self._address = address
        self._holder = holder

    async def block(self, request: pb2.GetBlockRequest, timeout: float, announced: Announced | None) -> BlockAnswer:
        """Answers PeerRelay.GetBlock."""
        asked = self._addressed(request)

        def call(stub: RelayStub) -> Any:
            if announced is None:
                return stub.GetBlock(asked, timeout=timeout)
            return _announced(stub.announced_block(asked, timeout=timeout), announced)

        answer: BlockAnswer = await self._call(call)
        return answer

    async def manifest(self, request: pb2.GetManifestRequest, timeout: float) -> pb2.GetManifestResponse:
        """Answers PeerRelay.GetManifest."""
        asked = self._addressed(request)
        answer: pb2.GetManifestResponse = await self._call(lambda stub: stub.GetManifest(asked, timeout=timeout))
        return answer

    async def contents(self, request: pb2.GetContentsRequest, timeout: float) -> pb2.GetContentsResponse:
        """Answers PeerRelay.GetContents."""
        asked = self._addressed(request)
        answer: pb2.GetContentsResponse = await self._call(lambda stub: stub.GetContents(asked, timeout=timeout))
        return answer

    def _addressed(self, request: Any) -> Any:
        if self.how is How.DIRECT:
            return request
        asked = type(request)()
        asked.CopyFrom(request)
        asked.holder_peer_id = self._holder
        return asked

    async def _call(self, call: Callable[[RelayStub], Any]) -> Any:
        stub = await self._dialler.peer(self._address, self.who)
        try:
            return await call(stub)
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, Busy) and _TOO_LONG in str(found):
                found = InvalidInput("", "it sent an answer that is longer than any that was asked for")
            raise found from error


class Pushed:
    """A way on which the holder, which is attached to this peer, delivers what it is asked for."""

    how = How.REVERSED

    def __init__(self, relaying: Relaying, holder: str, come: Callable[[], Any]) -> None:
        """`come` returns when the holder is attached, or raises Unreachable."""
        self.who = holder
        self._relaying = relaying
        self._come = come

    async def block(self, request: pb2.GetBlockRequest, timeout: float, announced: Announced | None) -> BlockAnswer:
        """Answers PeerRelay.GetBlock."""
        answer: BlockAnswer = await self._asked(pb2.Order(block=request), timeout, decoded, announced or _to_nobody)
        return answer

    async def manifest(self, request: pb2.GetManifestRequest, timeout: float) -> pb2.GetManifestResponse:
        """Answers PeerRelay.GetManifest."""
        read = pb2.GetManifestResponse.FromString
        answer: pb2.GetManifestResponse = await self._asked(pb2.Order(manifest=request), timeout, read)
        return answer

    async def contents(self, request: pb2.GetContentsRequest, timeout: float) -> pb2.GetContentsResponse:
        """Answers PeerRelay.GetContents."""
        read = pb2.GetContentsResponse.FromString
        answer: pb2.GetContentsResponse = await self._asked(pb2.Order(contents=request), timeout, read)
        return answer

    async def _asked(
        self, order: pb2.Order, timeout: float, read: Callable[[bytes], Any], announced: Announced = _to_nobody
    ) -> Any:
        await self._come()
        answer = await self._relaying.ask_here(self.who, order, timeout, announced)
        try:
            return read(answer)
        except DecodeError as error:
            raise Corrupt("these bytes are no answer") from error


class Reach:
    """Knows the ways to holders."""

    def __init__(
        self,
        dialler: Dialler,
        relaying: Relaying | None = None,
        own: Callable[[], Contact | None] = lambda: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Makes it.

        Args:
            dialler: to holders and relays.
            relaying: where holders attach; None: none does.
            own: this peer as others can dial it; None when they cannot.
            clock: monotonic seconds.
        """
        self._dialler = dialler
        self._relaying = relaying
        self._own = own
        self._clock = clock
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    def ways(self, holder: Contact, relays: Sequence[Contact]) -> list[Way]:
        """Returns the ways to a holder, in the order in which to try them.

        Those at its addresses, which may race; without an address, having it push, and then its relays.
        """
        if holder.addresses:
            return [Dialled(self._dialler, address, holder.peer_id) for address in holder.addresses]
        ways: list[Way] = []
        if self._relaying is not None and relays:
            ways.append(Pushed(self._relaying, holder.peer_id, lambda: self._come(holder.peer_id, relays)))
        own_id = self._relaying.self_id if self._relaying else ""
        for relay in relays:
            if relay.peer_id != own_id:
                ways += [Dialled(self._dialler, at, relay.peer_id, holder.peer_id) for at in relay.addresses]
        return ways

    async def _come(self, holder: str, relays: Sequence[Contact]) -> None:
        """Returns when the holder is attached here; has it invited when it is not, once for all who want it.

        Raises:
            Unreachable: nobody can dial this peer, or the holder does not come, or did not lately.
        """
        if self._relaying is None or self._relaying.is_here(holder):
            return
        own = self._own()
        if own is None or self._clock() < self._not_before.get(holder, float("-inf")):
            raise Unreachable("the holder cannot push to this peer")
        coming = self._coming.get(holder)
        if coming is None:
            coming = self._coming[holder] = asyncio.create_task(self._invite(self._relaying, own, holder, relays))
            coming.add_done_callback(lambda _: self._coming.pop(holder, None))
        await asyncio.shield(coming)

    async def _invite(self, relaying: Relaying, own: Contact, holder: str, relays: Sequence[Contact]) -> None:
        async def tell(invitation: str) -> None:
            failure: RelevoError = Unreachable("the holder has no relay")
            message = pb2.Invitation(host=own.to_info(), invitation=invitation)
            request = pb2.InviteRequest(holder_peer_id=holder, invitation=message)
            for relay in relays:
                for address in relay.addresses:
                    try:
                        stub = await self._dialler.peer(address, relay.peer_id)
                        await stub.Invite(request, timeout=COMING)
                        return
                    except grpc.RpcError as error:
                        failure = from_rpc_error(error)
                    except RelevoError as error:
                        failure = error
            raise failure

        try:
            await relaying.invite(holder, tell, COMING)
        except RelevoError as error:
            self._not_before[holder] = self._clock() + NOT_AGAIN
            raise Unreachable(f"the holder does not push to this peer: {error}") from error


async def _announced(call: Any, announced: Announced) -> BlockAnswer:
    """Returns the answer of a call for a block, after telling which block it is going to have."""
    try:
        for key, value in await call.initial_metadata() or ():
            if key == BLOCK_KEY and value.isdecimal() and len(value) < _LONGEST_INDEX:
                announced(int(value))
        answer = await call.read()
        if not isinstance(answer, BlockAnswer):
            raise Corrupt("it answered nothing at all")
        if await call.code() is not grpc.StatusCode.OK:
            await call.read()  # raises what it ended with
        return answer
    finally:
        call.cancel()  # also of one that is given up while it waits; of one that has ended it changes nothing
