"""The way of directory calls: the primary neighbour, the backup, central, and friends when none of these answers.

Nobody waits for a neighbour: when one has not answered within `PATIENCE`, at any of its addresses, the next is tried
beside it, and the first answer counts. That is safe, since look-ups change nothing and mutations carry a request id.

Nobody has to believe a neighbour either: that there is nothing, that central refuses, and that central will keep copies
is asked again of central itself (docs/decisions/0008-a-neighbours-no-is-asked-again.md).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from core import errors
from core.names import printable
from core.status import from_rpc_error
from peer.directory.judging import Worth, worth
from peer.directory.ways import Said, Taken, Way
from peer.links.channels import Channels
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from peer.links.racing import first_success
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.content_pb2 import Neighbours
from relevo.v1.peer_control_pb2 import RouteKind

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.routes")

T = TypeVar("T")
PATIENCE = 0.5
TIMEOUT = 5.0
# A way that failed, or was silent while another answered, is tried last for this long.
REST = 10.0
# A neighbour whose answer central contradicts is tried last for this long.
LONG_REST = 300.0
# What a neighbour passes on as central's own word; anything else is the way's failure.
_ANSWERS = (
    errors.InvalidInput,
    errors.NotFound,
    errors.Unauthenticated,
    errors.Refused,
    errors.AlreadyExists,
    errors.VersionConflict,
    errors.OverQuota,
)
# What central itself says is the end of it, but for these: another way may still lead to an answer. That this peer's
# certificate has expired everybody says who is asked, of himself; it is renewed as soon as central is reached.
_NO_ANSWERS = (errors.Unreachable, errors.Cancelled, errors.Defect, errors.CertificateExpired)
_UNREACHABLE = (
    "neither a neighbour nor central answers (`relevo status` says why); check the network, or that central runs, "
    "and try again"
)


class Routes:
    """Carries directory calls by the first way that answers.

    Attributes:
        neighbours: primary and backup, as the session last heard of them.
        central: `host:port` of the central in use.
        central_stub: gives what calls it: directly, or carried by other peers.
        dialler: dials peers as the ways are dialled.
        last: the way that the last answer came, or None.
    """

    def __init__(self, channels: Channels, central: str, friends: tuple[str, ...], clock: Callable[[], float]) -> None:
        """`friends` are `PEER_ID@HOST:PORT` or `HOST:PORT`. Raises InvalidInput for one that is neither."""
        self.neighbours = Neighbours()
        self.central = central
        self.dialler = Dialler(channels, lambda: self.central, clock)
        self.last: Taken | None = None
        self.central_stub: Callable[[], CentralDirectoryAsyncStub] = self._direct_stub
        self._channels = channels
        self._friends = tuple(map(Contact.from_friend, friends))
        self._clock = clock
        self._resting: dict[str, float] = {}

    async def list_files(
        self, request: pb2.ListFilesRequest, *, directly: bool = False
    ) -> tuple[pb2.ListFilesResponse, Taken]:
        """Answers CentralDirectory.ListFiles, by central itself if it can be reached when `directly`.

        Raises its errors, or Unreachable when nobody answers.
        """
        return await self._call("ListFiles", request, directly=directly)

    async def locate_file(
        self, request: pb2.LocateFileRequest, *, directly: bool = False
    ) -> tuple[pb2.LocateFileResponse, Taken]:
        """Answers CentralDirectory.LocateFile, by central itself if it can be reached when `directly`.

        Raises its errors, or Unreachable when nobody answers.
        """
        return await self._call("LocateFile", request, directly=directly)

    async def locate_files(
        self, request: pb2.LocateFilesRequest, *, directly: bool = False
    ) -> tuple[pb2.LocateFilesResponse, Taken]:
        """Answers CentralDirectory.LocateFiles, by central itself if it can be reached when `directly`.

        Raises its errors, or Unreachable when nobody answers.
        """
        return await self._call("LocateFiles", request, directly=directly)

    async def place_file(self, request: pb2.PlaceFileRequest) -> tuple[pb2.PlaceFileResponse, Taken]:
        """Answers CentralDirectory.PlaceFile. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("PlaceFile", request)

    async def end_placement(self, request: pb2.EndPlacementRequest) -> tuple[pb2.EndPlacementResponse, Taken]:
        """Answers CentralDirectory.EndPlacement. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("EndPlacement", request)

    async def get_neighbours(self, request: pb2.GetNeighboursRequest) -> tuple[pb2.GetNeighboursResponse, Taken]:
        """Answers CentralDirectory.GetNeighbours. Raises its errors, or Unreachable when nobody answers."""
        return await self._call("GetNeighbours", request)

    async def at_central(self, call: Callable[["CentralDirectoryAsyncStub"], Awaitable[T]]) -> T:
        """Calls central: for what no neighbour carries, and for what is carried for others."""
        return await self._at(self.central_stub(), call)

    async def at_central_itself(self, call: Callable[["CentralDirectoryAsyncStub"], Awaitable[T]]) -> T:
        """Calls central directly, also when this peer's own calls are carried."""
        return await self._at(self._direct_stub(), call)

    def _direct_stub(self) -> "CentralDirectoryAsyncStub":
        return self._channels.central(self.central)

    async def _at(
        self, stub: "CentralDirectoryAsyncStub", call: Callable[["CentralDirectoryAsyncStub"], Awaitable[T]]
    ) -> T:
        try:
            return await call(stub)
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, errors.Unreachable):
                found = errors.Unreachable(
                    f"central at {self.central} does not answer; check that it runs and that the network reaches it"
                )
            raise found from error

    def ways(self, now: float) -> list[Way]:
        """Returns the ways in the order in which to try them; those that failed lately come last."""
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        return sorted(self._all_ways(), key=lambda way: way.address in self._resting or way.who in self._resting)

    def distrust(self, way: Way, rpc: str) -> None:
        """Has a neighbour asked last for a good while: what it answered to `rpc` is not what central answers."""
        who, where = printable(way.who), printable(way.address)
        log.warning("%s at %s answers %s otherwise than central does; it is asked last for now", who, where, rpc)
        self._resting[way.who] = self._clock() + LONG_REST

    def _all_ways(self) -> Iterator[Way]:
        roles = (("primary", RouteKind.ROUTE_KIND_PRIMARY), ("backup", RouteKind.ROUTE_KIND_BACKUP))
        for field, kind in roles:
            if self.neighbours.HasField(field):
                contact = Contact.from_info(getattr(self.neighbours, field))
                yield from (Way(kind, address, contact) for address in contact.addresses)
        yield Way(RouteKind.ROUTE_KIND_CENTRAL, self.central)
        for friend in self._friends:
            yield Way(RouteKind.ROUTE_KIND_FRIEND, friend.addresses[0], friend)

    async def _call(self, rpc: str, request: Message, *, directly: bool = False) -> tuple[Any, Taken]:
        began = self._clock()
        ways = self.ways(began)
        if directly:
            ways.sort(key=lambda way: not way.direct)
        try:
            said = await self._first(ways, rpc, request)
        except errors.RelevoError as error:
            raise errors.Unreachable(_UNREACHABLE) from error
        if not said.will_do():
            said = await self._asked_again(said, ways, rpc, request)
        if said.error is not None:
            raise said.error
        self._resting.pop(said.way.address, None)
        self.last = Taken(said.way, self._clock() - began)
        return said.answer, self.last

    async def _asked_again(self, first: Said, ways: list[Way], rpc: str, request: Message) -> Said:
        """Returns what central says to what one neighbour alone has said; if it cannot be reached, what two say."""
        others = sorted((way for way in ways if way.who != first.way.who), key=lambda way: not way.direct)
        heard = [first]
        while others:
            try:
                said = await self._first(others, rpc, request)
            except errors.RelevoError:
                break
            if said.way.direct:
                for one in heard:
                    if not said.agrees(one):
                        self.distrust(one.way, rpc)
            if said.will_do() or any(said.agrees(one) for one in heard):
                return said
            heard.append(said)
            others = [way for way in others if not way.direct and way.who != said.way.who]
        # Nobody else can be asked, and the placement shows what becomes of it.
        if first.worth is Worth.PROMISE and len(heard) == 1:
            return first
        says = f"one peer alone answers, and says: {first.error or 'there is nothing'}"
        raise errors.Unreachable(
            f"{says if len(heard) == 1 else 'the peers that answer disagree'}; try again when central can be reached"
        )

    async def _first(self, ways: list[Way], rpc: str, request: Message) -> Said:
        """Returns what the first of the ways says; raises the failure of all."""
        by_peer = [list(of_one) for _, of_one in groupby(ways, key=lambda way: way.who)]
        return await first_success([partial(self._attempts, of_one, rpc, request) for of_one in by_peer], PATIENCE)

    async def _attempts(self, ways: list[Way], rpc: str, request: Message) -> Said:
        """Tries all addresses of a neighbour within the time that it has, however many it claims."""
        patience = PATIENCE / len(ways)
        return await first_success([partial(self._attempt, way, rpc, request, patience) for way in ways], patience)

    async def _attempt(self, way: Way, rpc: str, request: Message, patience: float) -> Said:
        began = self._clock()
        try:
            answer = await self._ask(way, rpc, request)
            return Said(way, worth(rpc, request, answer), answer)
        except (grpc.RpcError, errors.RelevoError) as error:
            found = from_rpc_error(error)
            if not isinstance(found, _NO_ANSWERS) and (way.direct or isinstance(found, _ANSWERS)):
                return Said(way, Worth.UNFIT, error=found)
            self._rest(way)
            raise found from error
        except asyncio.CancelledError:
            if self._clock() - began > 0.9 * patience:  # timers may be early
                self._rest(way)
            raise

    async def _ask(self, way: Way, rpc: str, request: Message) -> Any:
        if way.contact is None:
            return await getattr(self.central_stub(), rpc)(request, timeout=TIMEOUT)
        envelope = getattr(relay_pb2, f"PeerRelay{rpc}Request")(request=request)
        if way.kind == RouteKind.ROUTE_KIND_FRIEND:  # whom this machine's user has named may be anywhere
            peer = self._channels.peer(way.address, way.contact.peer_id)
        else:
            peer = await self.dialler.peer(way.address, way.contact.peer_id)
        return (await getattr(peer, rpc)(envelope, timeout=TIMEOUT)).response

    def _rest(self, way: Way) -> None:
        until = self._clock() + REST
        self._resting[way.address] = max(until, self._resting.get(way.address, until))
