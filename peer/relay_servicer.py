"""The PeerRelay service: decodes, makes one call, encodes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from core import checks
from core.access import caller
from core.addresses import observed
from core.callers import who_calls
from core.connections import Connections
from core.errors import Busy, InvalidInput
from core.shares import Shares
from peer import checked
from peer.fetching.reaching import BLOCK_KEY
from peer.giving.answering import Answering
from peer.giving.serving import Serving
from peer.relays.dial_back import DialBack
from peer.relays.relaying import Relaying
from peer.settings import CARRIED, CARRIED_EACH, RelayLimits
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

# Longest deadline of a call for a block, in seconds: downloads give a holder 121 at most, and clocks run unevenly.
LONGEST_WAIT = 130.0
# Whoever has too many calls carried is to come back after so many seconds.
_RETRY_AFTER = 0.5


class Carrier(Protocol):
    """Carries directory calls to central for other peers; raises central's errors, or Unreachable."""

    async def list_files(self, request: central_pb2.ListFilesRequest) -> central_pb2.ListFilesResponse:
        """Carries CentralDirectory.ListFiles."""
        ...

    async def locate_file(self, request: central_pb2.LocateFileRequest) -> central_pb2.LocateFileResponse:
        """Carries CentralDirectory.LocateFile."""
        ...

    async def locate_files(self, request: central_pb2.LocateFilesRequest) -> central_pb2.LocateFilesResponse:
        """Carries CentralDirectory.LocateFiles."""
        ...

    async def place_file(self, request: central_pb2.PlaceFileRequest) -> central_pb2.PlaceFileResponse:
        """Carries CentralDirectory.PlaceFile."""
        ...

    async def end_placement(self, request: central_pb2.EndPlacementRequest) -> central_pb2.EndPlacementResponse:
        """Carries CentralDirectory.EndPlacement."""
        ...

    async def get_neighbours(self, request: central_pb2.GetNeighboursRequest) -> central_pb2.GetNeighboursResponse:
        """Carries CentralDirectory.GetNeighbours."""
        ...

    async def carry(self, request: central_pb2.CarryRequest) -> central_pb2.CarryResponse:
        """Carries CentralDirectory.Carry."""
        ...


class RelayServicer(PeerRelayServicer):
    """PeerRelay over what each part of it does; errors become statuses in the server's interceptor."""

    def __init__(
        self,
        serving: Serving,
        carrier: Carrier,
        *,
        relaying: Relaying | None = None,
        dial_back: DialBack | None = None,
        connections: Connections | None = None,
        carried: int = CARRIED,
        carried_each: int = CARRIED_EACH,
        prove: Callable[[bytes], bytes] = lambda _: b"",
    ) -> None:
        """Composes it.

        Args:
            serving: gives blocks.
            carrier: carries directory calls.
            relaying: asks peers that are attached to this one; None: nobody attaches.
            dial_back: dials callers; None: nobody is dialled.
            connections: those that the blocks leave on.
            carried: most calls carried at once.
            carried_each: the same for one caller.
            prove: signs a nonce with this peer's key, which proves that it lives; by default nothing is proved.
        """
        self._answering = Answering(serving, prove)
        self._relaying = relaying or Relaying("", lambda: 0.0, limits=RelayLimits(attached=0))
        self._dial_back = dial_back
        self._carrier = carrier
        self._connections = connections or Connections()
        self._carried = Shares(carried, carried_each)

    async def ListFiles(
        self, request: pb2.PeerRelayListFilesRequest, context: "Context"
    ) -> pb2.PeerRelayListFilesResponse:
        with self._carrying(context):
            return pb2.PeerRelayListFilesResponse(response=await self._carrier.list_files(request.request))

    async def LocateFile(
        self, request: pb2.PeerRelayLocateFileRequest, context: "Context"
    ) -> pb2.PeerRelayLocateFileResponse:
        with self._carrying(context):
            return pb2.PeerRelayLocateFileResponse(response=await self._carrier.locate_file(request.request))

    async def LocateFiles(
        self, request: pb2.PeerRelayLocateFilesRequest, context: "Context"
    ) -> pb2.PeerRelayLocateFilesResponse:
        with self._carrying(context):
            return pb2.PeerRelayLocateFilesResponse(response=await self._carrier.locate_files(request.request))

    async def PlaceFile(
        self, request: pb2.PeerRelayPlaceFileRequest, context: "Context"
    ) -> pb2.PeerRelayPlaceFileResponse:
        with self._carrying(context):
            return pb2.PeerRelayPlaceFileResponse(response=await self._carrier.place_file(request.request))

    async def EndPlacement(
        self, request: pb2.PeerRelayEndPlacementRequest, context: "Context"
    ) -> pb2.PeerRelayEndPlacementResponse:
        with self._carrying(context):
            return pb2.PeerRelayEndPlacementResponse(response=await self._carrier.end_placement(request.request))

    async def GetNeighbours(
        self, request: pb2.PeerRelayGetNeighboursRequest, context: "Context"
    ) -> pb2.PeerRelayGetNeighboursResponse:
        with self._carrying(context):
            return pb2.PeerRelayGetNeighboursResponse(response=await self._carrier.get_neighbours(request.request))

    async def Carry(self, request: pb2.PeerRelayCarryRequest, context: "Context") -> pb2.PeerRelayCarryResponse:
        with self._carrying(context):
            asked = request.request
            asked.observed_address = observed(context.peer())
            return pb2.PeerRelayCarryResponse(response=await self._carrier.carry(asked))

    async def GetManifest(self, request: pb2.GetManifestRequest, context: "Context") -> Any:
        who = who_calls(context)
        if self._is_anothers(request):
            remaining = min(context.time_remaining() or LONGEST_WAIT, LONGEST_WAIT)
            return await self._relaying.ask(request.holder_peer_id, who, pb2.Order(manifest=request), remaining)
        return await self._answering.manifest(who, request)

    async def GetBlock(self, request: pb2.GetBlockRequest, context: "Context") -> Any:
        call = _GrpcCall(context, self._note)
        if self._is_anothers(request):
            return await self._relayed(call, request.holder_peer_id, pb2.Order(block=request))
        return await self._answering.block(call, request)

    async def GetContents(self, request: pb2.GetContentsRequest, context: "Context") -> Any:
        call = _GrpcCall(context)
        if self._is_anothers(request):
            return await self._relayed(call, request.holder_peer_id, pb2.Order(contents=request))
        return await self._answering.contents(call, request)

    async def Probe(self, request: pb2.ProbeRequest, context: "Context") -> pb2.ProbeResponse:
        return self._answering.probe(request)

    async def DialBack(self, request: pb2.DialBackRequest, context: "Context") -> pb2.DialBackResponse:
        if self._dial_back is None:
            return pb2.DialBackResponse()
        return await self._dial_back.answer(request, who_calls(context), caller().peer_id, context.peer())

    async def Attach(  # type: ignore[override]  # it writes its answers itself
        self, requests: AsyncIterator[pb2.AttachRequest], context: "Context"
    ) -> None:
        await self._relaying.serve(requests, context)

    async def Deliver(self, request: pb2.DeliverRequest, context: "Context") -> pb2.DeliverResponse:
        caller().check_is(checks.peer_id(request.peer_id, "peer_id"))
        self._relaying.deliver(request)
        return pb2.DeliverResponse()

    async def Invite(self, request: pb2.InviteRequest, context: "Context") -> pb2.InviteResponse:
        holder = checks.peer_id(request.holder_peer_id, "holder_peer_id")
        invitation = checked.invitation(request.invitation)
        caller().check_is(invitation.host.peer_id)
        self._relaying.forward_invitation(holder, invitation)
        return pb2.InviteResponse()

    def _is_anothers(self, request: Any) -> bool:
        named: str = request.holder_peer_id
        return bool(named) and checks.peer_id(named, "holder_peer_id") != self._relaying.self_id

    async def _relayed(self, call: "_GrpcCall", holder: str, wanted: pb2.Order) -> bytes:
        """Returns what an attached peer answers; its own bytes, which nobody reads here."""
        chosen: list[asyncio.Task[None]] = []
        try:
            return await self._relaying.ask(
                holder,
                call.who,
                wanted,
                call.remaining,
                lambda index: chosen.append(asyncio.create_task(call.chosen(index, tell=True))),
            )
        finally:
            await asyncio.gather(*chosen, return_exceptions=True)

    def _note(self, peer: str, who: str) -> None:
        serving = self._answering.serving
        self._connections.note(peer, serving.pace(who), alone=serving.alone(who))

    @contextmanager
    def _carrying(self, context: "Context") -> Iterator[None]:
        """Counts a call that goes on to central: under this peer's name, so that it comes out of this peer's share."""
        who = who_calls(context)
        if not self._carried.take(who):
            raise Busy("too many calls are carried here; ask another peer, or central", _RETRY_AFTER)
        try:
            yield
        finally:
            self._carried.give_back(who)


class _GrpcCall:
    """A call as `Answering` takes it."""

    def __init__(self, context: "Context", note: Callable[[str, str], None] | None = None) -> None:
        """`note` is told of the connection and the caller when a block that was chosen has left.

        Raises:
            InvalidInput: the call has no deadline, or one that is too far away.
        """
        self.remaining = _remaining(context)
        self.who = who_calls(context)
        self._peer = context.peer()  # once the call has ended, asking gRPC for it kills the process
        self._context = context
        self._note = note

    async def chosen(self, index: int, *, tell: bool) -> None:
        note = self._note
        if note is not None:
            self._context.add_done_callback(lambda _: note(self._peer, self.who))  # type: ignore[arg-type]
        if tell:
            await self._context.send_initial_metadata(((BLOCK_KEY, str(index)),))

    def when_ended(self, then: Callable[[bool], None]) -> None:
        context = self._context
        context.add_done_callback(lambda _: then(not context.cancelled()))  # type: ignore[arg-type]  # the stub lacks it


def _remaining(context: "Context") -> float:
    """Returns the seconds until the caller's deadline.

    A caller that never reads its answer holds a slot until then, since gRPC enforces it here too.

    Raises:
        InvalidInput: there is none, or it is too far away.
    """
    remaining = context.time_remaining()
    if remaining is None or remaining > LONGEST_WAIT:
        raise InvalidInput("", f"a call for a block needs a deadline, of {LONGEST_WAIT:g} s at most")
    return remaining
