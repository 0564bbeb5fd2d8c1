"""The PeerRelay service: decodes, makes one call, encodes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from core.callers import who_calls
from core.content import MAX_BLOCK
from core.errors import Busy, InvalidInput, NotPossible, RelevoError
from core.shares import Shares
from peer.block_answers import encoded
from peer.sending import Share
from peer.serving import Serving
from peer.settings import CARRIED, CARRIED_EACH
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

    async def get_neighbours(self, request: central_pb2.GetNeighboursRequest) -> central_pb2.GetNeighboursResponse:
        """Carries CentralDirectory.GetNeighbours."""
        ...


class RelayServicer(PeerRelayServicer):
    """PeerRelay over a serving and a carrier; errors become statuses in the server's interceptor."""

    def __init__(
        self, serving: Serving, carrier: Carrier, *, carried: int = CARRIED, carried_each: int = CARRIED_EACH
    ) -> None:
        """Composes it; `carried` is the most calls carried at once, `carried_each` the same for one caller."""
        self._serving = serving
        self._carrier = carrier
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

    async def GetNeighbours(
        self, request: pb2.PeerRelayGetNeighboursRequest, context: "Context"
    ) -> pb2.PeerRelayGetNeighboursResponse:
        with self._carrying(context):
            return pb2.PeerRelayGetNeighboursResponse(response=await self._carrier.get_neighbours(request.request))

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
        share = await self._share(context, request.most_bytes)
        match request.WhichOneof("wanted"):
            case "index":
                given = await self._serving.block(request.content_id, request.index)
            case "lacking":
                lacking = request.lacking
                given = await self._serving.any_block(request.content_id, lacking.first, lacking.bitmap)
            case _:
                raise InvalidInput("wanted", "a request names a block, or the set that its caller lacks")
        # What a library holds is complete; the log of a partial holder begins with this epoch.
        known = request.HasField("known")
        holdings = pb2.Holdings(epoch=self._serving.epoch, complete=True) if known else None
        data = share.piece(given.data, request.offset_bytes)
        return encoded(pb2.GetBlockResponse(index=given.index, holdings=holdings), data)

    async def GetContents(self, request: pb2.GetContentsRequest, context: "Context") -> pb2.GetContentsResponse:
        share = await self._share(context, request.most_bytes or MAX_BLOCK)
        found = await self._serving.contents(request.content_ids, share.size)
        share.sent(sum(len(one) for one in found if isinstance(one, bytes)))
        return pb2.GetContentsResponse(contents=map(_given, found))

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
        # A caller that never reads its answer holds a slot until its own deadline, which gRPC enforces here too.
        remaining = context.time_remaining()
        if remaining is None or remaining > LONGEST_WAIT:
            raise InvalidInput("", f"a call for a block needs a deadline, of {LONGEST_WAIT:g} s at most")
        who = who_calls(context)
        self._serving.take_slot(who)
        context.add_done_callback(lambda _: self._serving.give_back(who))  # type: ignore[arg-type]  # the stub lacks it
        share = await self._serving.sending.share(who, most_bytes, remaining)
        context.add_done_callback(lambda _: share.end())  # type: ignore[arg-type]
        return share


def _given(found: bytes | RelevoError) -> pb2.GivenContent:
    if isinstance(found, bytes):
        return pb2.GivenContent(data=found)
    large = isinstance(found, NotPossible)
    return pb2.GivenContent(problem=pb2.CONTENT_PROBLEM_TOO_LARGE if large else pb2.CONTENT_PROBLEM_NOT_HELD)
