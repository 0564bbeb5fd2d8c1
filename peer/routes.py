"""The way of directory calls: the primary neighbour, the backup, central, and friends when none of these answers.

Nobody waits for a neighbour: when one has not answered within `PATIENCE`, at any of its addresses, the next is tried
beside it, and the first answer counts. That is safe, since look-ups change nothing and mutations carry a request id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from core import errors
from core.status import from_rpc_error
from peer.channels import Channels
from peer.contacts import Contact, Holder
from peer.racing import first_success
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.content_pb2 import Neighbours
from relevo.v1.peer_control_pb2 import RouteKind

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

T = TypeVar("T")
PATIENCE = 0.5
TIMEOUT = 5.0
# A way that failed, or was silent while another answered, is tried last for this long.
REST = 10.0
# Pages of holders, of up to 1,000 each, that are read for one download; a neighbour that lies could go on for ever.
HOLDER_PAGES = 10
# What a neighbour passes on as central's own word; anything else is the way's failure.
_ANSWERS = (
    errors.InvalidInput,
    errors.NotFound,
    errors.Unauthenticated,
    errors.Refused,
    errors.AlreadyExists,
    errors.VersionConflict,
)
_UNREACHABLE = "neither a neighbour nor central answers; check the network, or that central runs, and try again"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to central: through a peer, or directly when `contact` is None."""

    kind: RouteKind
    address: str
    contact: Contact | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The way that an answer came, and how long it took in seconds."""

    way: Way
    seconds: float


class Routes:
    """Carries directory calls by the first way that answers.

    Attributes:
        neighbours: primary and backup, as the session last heard of them.
        central: `host:port` of the central in use.
        last: the way that the last answer came, or None.
    """

    def __init__(self, channels: Channels, central: str, friends: tuple[str, ...], clock: Callable[[], float]) -> None:
        self.neighbours = Neighbours()
        self.central = central
        self.last: Taken | None = None
        self._channels = channels
        self._friends = friends
        self._clock = clock
        self._resting: dict[str, float] = {}

    async def list_files(self, request: pb2.ListFilesRequest) -> tuple[pb2.ListFilesResponse, Taken]:
        """Answers CentralDirectory.ListFiles. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("ListFiles", request)

    async def locate_file(self, request: pb2.LocateFileRequest) -> tuple[pb2.LocateFileResponse, Taken]:
        """Answers CentralDirectory.LocateFile. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("LocateFile", request)

    async def place_file(self, request: pb2.PlaceFileRequest) -> tuple[pb2.PlaceFileResponse, Taken]:
        """Answers CentralDirectory.PlaceFile. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("PlaceFile", request)

    async def get_neighbours(self, request: pb2.GetNeighboursRequest) -> tuple[pb2.GetNeighboursResponse, Taken]:
        """Answers CentralDirectory.GetNeighbours. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("GetNeighbours", request)

    async def holders(self, content_id: bytes) -> list[Holder]:
        """Returns the holders that the network knows, more than a download can use; none is an empty list."""
        found: list[Holder] = []
        token = ""
        for _ in range(HOLDER_PAGES):
            request = pb2.LocateFileRequest(content_id=content_id, page_size=1000, page_token=token)
            try:
                response, _ = await self.locate_file(request)
            except errors.NotFound:
                break
            found.extend(Holder.from_message(holder) for holder in response.holders)
            token = response.next_page_token
            if not token:
                break
        return found

    async def at_central(self, call: Callable[["CentralDirectoryAsyncStub"], Awaitable[T]]) -> T:
        """Calls central directly: for what no neighbour carries, and for what is carried for others."""
        try:
            return await call(self._channels.central(self.central))
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, errors.Unreachable):
                found = errors.Unreachable(
                    f"central at {self.central} does not answer; check that it runs and that the network reaches it"
                )
            raise found from error

    def ways(self, now: float) -> list[Way]:
        """Returns the ways in the order in which to try them; those that failed lately come last."""
        self._resting = {address: until for address, until in self._resting.items() if until > now}
        return sorted(self._all_ways(), key=lambda way: way.address in self._resting)

    def _all_ways(self) -> Iterator[Way]:
        roles = (("primary", RouteKind.ROUTE_KIND_PRIMARY), ("backup", RouteKind.ROUTE_KIND_BACKUP))
        for field, kind in roles:
            if self.neighbours.HasField(field):
                contact = Contact.from_info(getattr(self.neighbours, field))
                yield from (Way(kind, address, contact) for address in contact.addresses)
        yield Way(RouteKind.ROUTE_KIND_CENTRAL, self.central)
        yield from (Way(RouteKind.ROUTE_KIND_FRIEND, friend) for friend in self._friends)

    async def _call(self, rpc: str, request: Message) -> tuple[Any, Taken]:
        began = self._clock()
        ways = [list(of_one) for _, of_one in groupby(self.ways(began), key=lambda way: way.kind)]
        attempts = [partial(self._attempts, of_one, rpc, request) for of_one in ways]
        try:
            answer, way = await first_success(attempts, PATIENCE, final=_ANSWERS)
        except _ANSWERS:
            raise
        except errors.RelevoError as error:
            raise errors.Unreachable(_UNREACHABLE) from error
        self._resting.pop(way.address, None)
        self.last = Taken(way, self._clock() - began)
        return answer, self.last

    async def _attempts(self, ways: list[Way], rpc: str, request: Message) -> tuple[Any, Way]:
        """Tries all addresses of a neighbour within the time that it has, however many it claims."""
        patience = PATIENCE / len(ways)
        attempts = [partial(self._attempt, way, rpc, request, patience) for way in ways]
        return await first_success(attempts, patience, final=_ANSWERS)

    async def _attempt(self, way: Way, rpc: str, request: Message, patience: float) -> tuple[Any, Way]:
        began = self._clock()
        try:
            if way.kind == RouteKind.ROUTE_KIND_CENTRAL:
                return await getattr(self._channels.central(way.address), rpc)(request, timeout=TIMEOUT), way
            envelope = getattr(relay_pb2, f"PeerRelay{rpc}Request")(request=request)
            carried = await getattr(self._channels.peer(way.address, way.contact.peer_id if way.contact else ""), rpc)(
                envelope, timeout=TIMEOUT
            )
            return carried.response, way
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if not isinstance(found, _ANSWERS):
                self._rest(way)
            raise found from error
        except asyncio.CancelledError:
            if self._clock() - began > 0.9 * patience:  # timers may be early
                self._rest(way)
            raise

    def _rest(self, way: Way) -> None:
        self._resting[way.address] = self._clock() + REST
