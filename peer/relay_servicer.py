"""The PeerRelay service: decodes, makes one call, encodes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from core.addresses import observed
from core.callers import who_calls
from core.connections import Connections
from core.content import MAX_BLOCK
from core.errors import Busy, InvalidInput, NotPossible, RelevoError
from core.shares import Shares
from core.times import from_duration
from peer.block_answers import encoded
from peer.lines import BLOCK_KEY
from peer.sending import Share
from peer.serving import Serving, Wanted
from peer.settings import CARRIED, CARRIED_EACH
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

# Longest deadline of a call for a block, in seconds: downloads give a holder 121 at most, and clocks run unevenly.
LONGEST_WAIT = 130.0
# Longest that an ask waits for a block to come, in seconds.
LONGEST_PATIENCE = 60.0
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
    """PeerRelay over a serving and a carrier; errors become statuses in the server's interceptor."""

    def __init__(
        self,
        serving: Serving,
        carrier: Carrier,
        *,
        connections: Connections | None = None,
        carried: int = CARRIED,
        carried_each: int = CARRIED_EACH,
        prove: Callable[[bytes], bytes] = lambda _: b"",
    ) -> None:
        """Composes it.

        Args:
            serving: gives blocks.
            carrier: carries directory calls.
            connections: those that the blocks leave on.
            carried: most calls carried at once.
            carried_each: the same for one caller.
            prove: signs a nonce with this peer's key, which proves that it lives; by default nothing is proved.
        """
        self._serving = serving
        self._carrier = carrier
        self._connections = connections or Connections()
        self._carried = Shares(carried, carried_each)
        self._prove = prove

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

    async def GetManifest(self, request: pb2.GetManifestRequest, context: "Context") -> pb2.GetManifestResponse:
        page = await self._serving.page(request.content_id, request.page_index)
        await self._serving.sending.other(who_calls(context), len(page.page_digests) + len(page.block_digests))
        return pb2.GetManifestResponse(
            size_bytes=page.size,
            block_size_bytes=page.block_size,
            page_digests=page.page_digests,
            block_digests=page.block_digests,
        )

    async def GetBlock(self, request: pb2.GetBlockRequest, context: "Context") -> Any:  # it encodes its answer itself
        remaining = _remaining(context)
        who, peer = who_calls(context), context.peer()  # once the call has ended, asking gRPC for it kills the process
        patience = from_duration(request.patience)
        if not 0.0 <= patience <= LONGEST_PATIENCE:
            raise InvalidInput("patience", f"a caller waits {LONGEST_PATIENCE:g} s at most")
        gift = await self._serving.choose(who, request.content_id, _wanted(request), patience)
        if gift is None:
            return encoded(pb2.GetBlockResponse(), b"")
        sent = False

        def ended(_: object) -> None:
            self._serving.left(gift.ask, arrived=sent and not context.cancelled())
            self._connections.note(peer, self._serving.pace(who), alone=self._serving.alone(who))

        context.add_done_callback(ended)  # type: ignore[arg-type]
        # Its caller asks nobody else for this block from now on.
        await context.send_initial_metadata(((BLOCK_KEY, str(gift.index)),))
        share = await self._serving.sending.share(who, request.most_bytes, remaining)
        context.add_done_callback(lambda _: share.end())  # type: ignore[arg-type]
        data = share.piece(await self._serving.read(request.content_id, gift.index), request.offset_bytes)
        sent = True
        return encoded(pb2.GetBlockResponse(index=gift.index, first_hand=gift.first_hand), data)

    async def GetContents(self, request: pb2.GetContentsRequest, context: "Context") -> pb2.GetContentsResponse:
        share = await self._share(context, request.most_bytes or MAX_BLOCK)
        found = await self._serving.contents(request.content_ids, share.size)
        share.sent(sum(len(one) for one in found if isinstance(one, bytes)))
        return pb2.GetContentsResponse(contents=map(_given, found))

    async def Probe(self, request: pb2.ProbeRequest, context: "Context") -> pb2.ProbeResponse:
        return pb2.ProbeResponse(signature=self._prove(request.nonce))

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

    async def _share(self, context: "Context", most_bytes: int) -> Share:
        """Takes a slot until the call ends, and returns how much may be sent when it is the caller's turn."""
        remaining = _remaining(context)
        who = who_calls(context)
        self._serving.take_slot(who)
        context.add_done_callback(lambda _: self._serving.give_back(who))  # type: ignore[arg-type]  # the stub lacks it
        share = await self._serving.sending.share(who, most_bytes, remaining)
        context.add_done_callback(lambda _: share.end())  # type: ignore[arg-type]
        return share


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


def _wanted(request: pb2.GetBlockRequest) -> Wanted:
    match request.WhichOneof("wanted"):
        case "index":
            return Wanted(request.index, b"\1", only=True)
        case "lacking":
            return Wanted(request.lacking.first, request.lacking.bitmap, first_hand=request.first_hand)
    raise InvalidInput("wanted", "a request names a block, or the set that its caller lacks")


def _given(found: bytes | RelevoError) -> pb2.GivenContent:
    if isinstance(found, bytes):
        return pb2.GivenContent(data=found)
    large = isinstance(found, NotPossible)
    return pb2.GivenContent(problem=pb2.CONTENT_PROBLEM_TOO_LARGE if large else pb2.CONTENT_PROBLEM_NOT_HELD)
