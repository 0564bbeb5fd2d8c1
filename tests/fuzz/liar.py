"""A server that is central, neighbour and holder at once, and answers the truth except where it was told to lie."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from core.errors import SessionUnknown
from core.identity import Identity
from core.manifest import manifest_of
from core.status import to_status
from core.times import to_duration
from peer.fetching.block_sets import from_bitmap, lowest
from peer.fetching.reaching import BLOCK_KEY
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import content_pb2 as content
from relevo.v1 import peer_relay_pb2 as relay
from tests.fuzz.identities import MALLORY, SESSION
from tests.fuzz.messages import services

CONTENT = bytes(range(256)) * 600
MANIFEST = manifest_of(CONTENT)
PATH = "video.bin"
BEAT = 0.02
CENTRAL = "relevo.v1.CentralDirectory"
RELAY = "relevo.v1.PeerRelay"
_GET_BLOCK = f"{RELAY}/GetBlock"
_CODES = list(grpc.StatusCode)


def _chosen(body: bytes) -> int:
    """Returns the block that is given to a request."""
    request = relay.GetBlockRequest.FromString(body)
    count = MANIFEST.layout.block_count
    lacking = from_bitmap(request.lacking.first, request.lacking.bitmap, count)
    return lowest(lacking) if lacking else min(request.index, count - 1)


class Lie:
    """What is answered instead of the truth: bytes, or a status with bytes for its details."""

    def __init__(self, body: bytes, *, status: bool) -> None:
        self._body = body
        self._status = status

    def announced(self) -> str:
        """Returns which block is going to come: one that there may be, or nothing like a number."""
        if not self._body or self._body[-1] % 2:
            return str(len(self._body) % (MANIFEST.layout.block_count + 2))
        return "".join(chr(32 + byte % 95) for byte in self._body[-20:])

    async def tell(self, context: Any) -> bytes:
        """Returns the answer, or ends the call."""
        if not self._status:
            return self._body
        code = _CODES[self._body[0] % len(_CODES)] if self._body else grpc.StatusCode.ABORTED
        details = self._body[1:4000]
        if code is grpc.StatusCode.OK:
            code = grpc.StatusCode.DATA_LOSS
        trailing = ((rpc_status.GRPC_DETAILS_METADATA_KEY, details),)
        await context.abort(code, details.decode("ascii", "replace"), trailing)
        raise AssertionError("abort raises")


class Liar(grpc.GenericRpcHandler):
    """Serves CentralDirectory and PeerRelay.

    Attributes:
        lies: by `service/method`, what to answer instead of the truth until it is taken out.
        asked: how often each RPC was asked.
    """

    def __init__(self) -> None:
        self.lies: dict[str, Lie] = {}
        self.asked: Counter[str] = Counter()
        self._forgotten = asyncio.Event()
        self.port = 0
        patient = (("grpc.http2.min_ping_interval_without_data_ms", 1000), ("grpc.http2.max_ping_strikes", 0))
        self._server = grpc.aio.server(handlers=[self], options=patient)
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        """Serves on a port that the system chooses."""
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Ends every call, and serves no more."""
        await self._server.stop(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition on what was asked."""
        async with self._moved:
            await self._moved.wait_for(condition)

    async def beats(self, count: int = 2) -> None:
        """Waits for beats that are answered with the truth."""
        wanted = self.asked["beat"] + count
        await self.until(lambda: self.asked["beat"] >= wanted)

    def service(self, handler_call_details: Any) -> Any:
        """Returns the handler of any RPC."""
        name = handler_call_details.method.removeprefix("/")

        async def unary(body: bytes, context: Any) -> bytes:
            await self._count(name)
            lie = self.lies.get(name)
            if name == _GET_BLOCK:
                await context.send_initial_metadata(((BLOCK_KEY, lie.announced() if lie else str(_chosen(body))),))
            return await lie.tell(context) if lie else self.truth(name, body)

        if name.endswith("/Heartbeat"):
            return grpc.stream_stream_rpc_method_handler(self._heartbeat)
        return grpc.unary_unary_rpc_method_handler(unary)

    async def _count(self, name: str) -> None:
        self.asked[name] += 1
        async with self._moved:
            self._moved.notify_all()

    async def _heartbeat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        name = f"{CENTRAL}/Heartbeat"
        while (body := await self._next(requests)) is not None:
            lie = self.lies.pop(name, None)
            yield await lie.tell(context) if lie else self.truth(name, body)
            await self._count(name if lie else "beat")
        status = rpc_status.to_status(to_status(SessionUnknown("log in anew")))
        await context.abort(status.code, status.details, status.trailing_metadata)

    async def _next(self, requests: AsyncIterator[bytes]) -> bytes | None:
        """Returns the next beat; None when the session is forgotten before there is one."""
        beat = asyncio.ensure_future(anext(requests, None))
        forgotten = asyncio.ensure_future(self._forgotten.wait())
        done, left = await asyncio.wait([beat, forgotten], return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return beat.result() if beat in done else None

    def forget(self) -> None:
        """Ends streams of beats as a central does that does not know the session any more."""
        self._forgotten.set()
        self._forgotten = asyncio.Event()

    @property
    def myself(self) -> content.PeerInfo:
        """The liar as a peer."""
        return content.PeerInfo(peer_id=MALLORY.peer_id, name="mallory", addresses=[f"127.0.0.1:{self.port}"])

    def truth(self, name: str, body: bytes) -> bytes:
        """Returns an honest answer; an empty one where nobody cares."""
        service, _, rpc = name.partition("/")
        if service == RELAY and rpc in {"GetManifest", "GetBlock", "GetContents", "Probe"}:
            return self._held(rpc, body).SerializeToString()
        if service == RELAY and rpc not in services()[CENTRAL].methods_by_name:  # what only peers ask each other
            nothing: Message = GetMessageClass(services()[RELAY].methods_by_name[rpc].output_type)()
            return nothing.SerializeToString()
        if service == RELAY:
            inner = self.truth(f"{CENTRAL}/{rpc}", body)
            kind: Any = getattr(relay, f"PeerRelay{rpc}Response")
            answer = kind()
            answer.response.ParseFromString(inner)
            return bytes(answer.SerializeToString())
        return self._directory(rpc, body).SerializeToString()

    def _held(self, rpc: str, body: bytes) -> Message:
        layout = MANIFEST.layout
        if rpc == "GetManifest":
            return relay.GetManifestResponse(
                size_bytes=layout.size,
                block_size_bytes=layout.block_size,
                page_digests=MANIFEST.root.page_digests,
                block_digests=MANIFEST.page(0),
            )
        if rpc == "GetContents":
            return relay.GetContentsResponse(contents=[relay.GivenContent(data=CONTENT)])
        if rpc == "Probe":
            return relay.ProbeResponse(signature=bytes(70))
        index = _chosen(body)
        offset = layout.block_offset(index)
        return relay.GetBlockResponse(index=index, data=CONTENT[offset : offset + layout.block_length(index)])

    def _directory(self, rpc: str, body: bytes) -> Message:
        terms = content.LeaseTerms(beat_interval=to_duration(BEAT), lease=to_duration(7), grace=to_duration(2.5))
        placement = content.Placement(placement_id="0" * 32, content_id=MANIFEST.content_id, path=PATH, wanted_copies=1)
        size = len(CONTENT)
        file = content.CatalogueFile(path=PATH, content_id=MANIFEST.content_id, size_bytes=size, holder_count=1)
        truths: dict[str, Callable[[], Message]] = {
            "Login": lambda: pb2.LoginResponse(session_id=SESSION, terms=terms, protocol_version=1),
            "Heartbeat": lambda: pb2.HeartbeatResponse(
                sequence=pb2.HeartbeatRequest.FromString(body).sequence, terms=terms, catalogue_version=1
            ),
            "PublishFiles": lambda: pb2.PublishFilesResponse(catalogue_version=1),
            "ListFiles": lambda: pb2.ListFilesResponse(files=[file]),
            "ListPeers": lambda: pb2.ListPeersResponse(peers=[pb2.PeerListing(peer=self.myself)]),
            "LocateFile": lambda: pb2.LocateFileResponse(
                size_bytes=size, holders=[content.Holder(peer=self.myself, complete=True)]
            ),
            "LocateFiles": lambda: pb2.LocateFilesResponse(
                holders=[content.Holder(peer=self.myself, complete=True)], files=[pb2.LocatedFile(holders=[0])]
            ),
            "GetNeighbours": lambda: pb2.GetNeighboursResponse(neighbours=content.Neighbours(primary=self.myself)),
            "PlaceFile": lambda: pb2.PlaceFileResponse(placement=placement),
            "EndPlacement": lambda: pb2.EndPlacementResponse(placement=placement),
            "GetPlacement": lambda: pb2.GetPlacementResponse(placement=placement),
        }
        if rpc in truths:
            return truths[rpc]()
        method = services()[CENTRAL].methods_by_name[rpc]
        empty: Message = GetMessageClass(method.output_type)()
        return empty


def lookup_request() -> pb2.PlaceFileRequest:
    """Returns a request for copies that is well formed; nobody here looks at its signature."""
    return pb2.PlaceFileRequest(signed=content.SignedRequest(author=Identity.generate().peer_id))
