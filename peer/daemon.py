"""The daemon: puts the parts of a peer together, runs them, and takes them down in order."""

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from core import errors
from core.access import OWN_SOCKET, PLAINTEXT, Certificates
from core.connections import Connections
from core.identity import Identity
from core.life import prove
from core.limits import Limits
from core.listening import bind
from core.own_directory import claim
from core.reachable import advertised
from core.rpc import CONTROL_MESSAGE, DELIVER, PEER_DELIVERY, PEER_REQUEST, Server
from core.tls import server_credentials
from peer.control_servicer import ControlServicer, Parts
from peer.directory.carried_central import CarriedCentral
from peer.directory.carriers import Carriers
from peer.directory.central_time import CentralTime
from peer.directory.detour import Detour
from peer.directory.last_neighbours import LastNeighbours
from peer.directory.logins import Introduction
from peer.directory.publishing import Publisher
from peer.directory.reporting import Reporter
from peer.directory.routes import Routes
from peer.directory.session import Session
from peer.fetching.holders import Holders
from peer.fetching.reaching import Reach
from peer.fetching.transfer import Downloader
from peer.giving.answering import Answering
from peer.giving.sending import Sending
from peer.giving.serving import Serving
from peer.giving.unfinished import Unfinished
from peer.library import Library
from peer.links.channels import Channels
from peer.links.contacts import Contact, addresses
from peer.links.credentials import Credentials
from peer.links.limiter import Limiter
from peer.links.meeting import Meeting
from peer.membership.enrolling import Enrolling, at_port
from peer.membership.entrance import Entrance
from peer.membership.joining import Joined, joined
from peer.membership.renewal import Renewal
from peer.relay_servicer import RelayServicer
from peer.relays.attaching import Attaching
from peer.relays.carrying import DirectCarrier
from peer.relays.dial_back import DialBack
from peer.relays.experiment import Experiment
from peer.relays.probing import Prober
from peer.relays.reachability import Judge, Reachability
from peer.relays.relaying import Relaying
from peer.sets.sets import Sets
from peer.settings import ServeSettings, control_address, control_socket
from peer.work.downloads import Downloads
from peer.work.journal import Journal
from peer.work.keeping import Keeping
from peer.work.storing import Storing
from peer.work.transfers import Transfers
from peer.work.uploads import Uploads
from relevo.v1.central_directory_pb2 import Directive
from relevo.v1.content_pb2 import Neighbours
from relevo.v1.peer_control_pb2_grpc import add_PeerControlServicer_to_server
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

log = logging.getLogger("relevo.peer")

RELAY = "relevo.v1.PeerRelay"
CONTROL = "relevo.v1.PeerControl"
DRAIN = 2.0
# Whoever can reach the own socket is the daemon's user, who may hold on to a connection as long as they like.
_OWN_LIMITS = Limits(idle=math.inf)
_LARGER = {DELIVER: PEER_DELIVERY}


class Peer:
    """A running peer.

    Attributes:
        credentials: what it shows and accepts in handshakes; None in plaintext.
        renewal: keeps them fresh; None in plaintext.
        stopped: done when the peer has to stop; raises why, or returns None after a logout.
    """

    def __init__(
        self,
        settings: ServeSettings,
        identity: Identity,
        member: Joined | None,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Puts it together; without a membership (`member`) it serves and calls in plaintext."""
        self.settings = settings
        self.identity = identity
        self.credentials = Credentials(identity, settings.home, member.membership) if member else None
        self.stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.server = _server(self.credentials, settings.limits, wall)
        self.control = Server(CONTROL_MESSAGE, way_in=OWN_SOCKET, limits=_OWN_LIMITS)
        self.channels = Channels(self.credentials)
        self.library = Library(settings.shared, settings.home, clock)
        self.routes = Routes(self.channels, settings.centrals[0], settings.friends, clock)
        self.session = Session(
            self.identity,
            self.channels,
            settings.centrals,
            Introduction(
                settings.name,
                self._dialable_addresses,
                self._free_bytes,
                self._trust_version,
                lambda: self.unfinished.content_ids,
            ),
            clock=clock,
            wall=wall,
        )
        self.entrance = Entrance(self._enrolment, clock)
        self.last_neighbours = LastNeighbours(settings.home)
        self.session.detour = Detour(self._carried(clock), clock)
        self.routes.central_stub = self.session.central_stub
        self.renewal = self._renewal(member, clock)
        self.unfinished = Unfinished()
        self.unfinished.changed = self.session.beat_soon
        self.serving = Serving(
            self.library,
            clock,
            self.unfinished,
            slots=settings.slots,
            slots_each=settings.slots_each,
            sending=Sending(Limiter(clock, settings.upload_limit)),
        )
        self.relaying = Relaying(identity.peer_id, clock, limits=settings.relay, sending=self.serving.sending)
        dialler = self.routes.dialler
        self._prove = partial(prove, identity)
        self.attaching = Attaching(identity.peer_id, Answering(self.serving, self._prove), dialler, clock)
        judge = Judge(named=bool(settings.advertise))
        self.experiment = Experiment(dialler, judge, lambda: self._addresses(*self.settings.centrals))
        self.experiment.changed = self._settle
        reach = Reach(dialler, self.relaying, self._dialable_contact, clock)
        self.keeping = Keeping(Journal(settings.home / "journal.db"))
        self.transfers = Transfers(
            wall,
            limiter=Limiter(clock, settings.download_limit),
            keeper=self.keeping,
            at_once=settings.max_downloads,
        )
        self.publisher = Publisher(self.library, self.session)
        holders = Holders(self.routes)
        self.reporter = Reporter(holders, self.session, clock)
        self.downloader = Downloader(
            holders.find,
            reach,
            self.library.find_local,
            self.identity.peer_id,
            clock,
            accuse=self.reporter.accuse,
            unfinished=self.unfinished,
        )
        self.storing = Storing(
            library=self.library,
            downloader=self.downloader,
            publisher=self.publisher,
            transfers=self.transfers,
            quota=settings.store_quota,
            home=settings.home,
        )
        self.prober = Prober(self.routes, self.relaying)
        self.downloads = Downloads(self.downloader, self.library, self.transfers)
        self.sets = Sets(
            routes=self.routes,
            reach=reach,
            find_many=holders.find_many,
            downloader=self.downloader,
            library=self.library,
            transfers=self.transfers,
            self_id=self.identity.peer_id,
            clock=clock,
            accuse=self.reporter.accuse,
        )
        self.uploads = Uploads(
            identity=self.identity,
            library=self.library,
            publisher=self.publisher,
            session=self.session,
            routes=self.routes,
            transfers=self.transfers,
        )
        self._clock = clock
        self._host = ""
        self._tasks: list[asyncio.Task[Any]] = []

    def contact(self) -> Contact:
        """Returns this peer as it introduces itself."""
        login = self.session.login
        # Before the first login no central's name is looked up: that may take long, and not even succeed.
        addresses = login.addresses if login else self._addresses()
        return Contact(self.identity.peer_id, self.settings.name, addresses)

    async def start(self) -> None:
        """Binds, serves, and begins to log in, scan and publish.

        Raises:
            NotPossible: an address cannot be bound.
        """
        self._hear_central()
        connections = Connections()
        relay = RelayServicer(
            self.serving,
            DirectCarrier(self.routes, lambda: self.session.live and not self.session.carrier),
            relaying=self.relaying,
            dial_back=DialBack(self._clock, self.routes.dialler.look_up, self.channels.reaches),
            connections=connections,
            carried=self.settings.carried,
            carried_each=self.settings.carried_each,
            prove=self._prove,
        )
        add_PeerRelayServicer_to_server(relay, self.server.server)
        add_PeerControlServicer_to_server(ControlServicer(self._parts()), self.control.server)
        self._host = bind(self.server, self.settings.listen)
        connections.listening(self.server.port)
        if self.credentials and self.settings.entrance:
            await self.entrance.open(self.settings.entrance, self.credentials.membership.enrolment_port)
        socket = control_socket(self.settings.home)
        socket.unlink(missing_ok=True)
        self.control.listen(control_address(self.settings.home))
        await self.library.start()
        await self.keeping.restore(self.transfers, self.downloads.ways() | self.sets.ways())
        await self.server.start(RELAY)
        await self.control.start(CONTROL)
        self._run(self.session.run(), self.publisher.run(), self.reporter.run())
        self._run(self.last_neighbours.run(), self.experiment.run())
        if self.renewal:
            self._run(self.renewal.run())

    async def stop(self) -> None:
        """Logs out when that has not been done, and takes everything down; nothing is lost on disk."""
        async with contextlib.AsyncExitStack() as steps:  # the last one is taken first, and none is left out
            steps.callback(control_socket(self.settings.home).unlink, missing_ok=True)
            if self.credentials:
                steps.push_async_callback(self.credentials.close)
            steps.push_async_callback(self.channels.close)
            steps.push_async_callback(self.prober.close)
            steps.push_async_callback(self.keeping.close)
            steps.push_async_callback(self.library.close)
            steps.push_async_callback(self.control.stop, DRAIN)
            steps.push_async_callback(self.server.stop, DRAIN)
            steps.callback(self.relaying.stop)
            steps.push_async_callback(self.entrance.close)
            steps.push_async_callback(self.attaching.close)
            steps.callback(self.unfinished.close)
            steps.push_async_callback(self.transfers.close)
            steps.push_async_callback(self.storing.close)
            steps.push_async_callback(self.control.not_serving)
            steps.push_async_callback(self.server.not_serving)
            await self.leave()

    async def leave(self) -> bool:
        """Logs out and lets the daemon stop; returns whether central confirmed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        confirmed = await self.session.log_out()
        self.stop_soon()
        return confirmed

    def stop_soon(self) -> None:
        """Lets the daemon stop, as a signal does."""
        if not self.stopped.done():
            self.stopped.set_result(None)

    def _hear_central(self) -> None:
        def logged_in(central: str, version: int) -> None:
            self.routes.central = central
            self.publisher.logged_in(version)
            self.transfers.try_again()

        def neighbours(found: Neighbours) -> None:
            self.routes.neighbours = found
            self.last_neighbours.hear(found)
            self.experiment.ask_again(self._neighbours())
            self._settle()

        def directives(found: list[Directive]) -> None:
            self.storing.obey(found)
            self.prober.obey(found)

        listeners = self.session.listeners
        listeners.logged_in = logged_in
        listeners.neighbours = neighbours
        listeners.directives = directives
        listeners.catalogue_version = self.publisher.central_has
        if self.credentials:
            listeners.trust = self.credentials.hear
            listeners.enrolment_port = self.credentials.renewed_at
            self.credentials.on_change = self._reconnect

    def _neighbours(self) -> list[Contact]:
        """Returns those neighbours that there are, the primary first."""
        found = self.routes.neighbours
        return [Contact.from_info(getattr(found, role)) for role in ("primary", "backup") if found.HasField(role)]

    def _settle(self) -> None:
        """Has central know whether others can dial this peer, and attaches it to its neighbours when they cannot."""
        hidden, login = self.experiment.verdict is Reachability.HIDDEN, self.session.login
        if login is not None and bool(login.addresses) is hidden:
            self.session.introduce_again()
        self.attaching.keep(self._neighbours() if hidden else ())

    def _reconnect(self) -> None:
        """Has everything go on by connections that show and accept what counts now."""
        self.channels.renew()
        self.session.move()
        if self.renewal:
            self.renewal.replan()

    def _renewal(self, member: Joined | None, clock: Callable[[], float]) -> Renewal | None:
        if member is None or self.credentials is None:
            return None
        renewal = Renewal(
            self.credentials,
            Enrolling(
                self.identity,
                self.session.time,
                entrances=addresses((*self.settings.via, *self.settings.friends)),
                carried=self.session.detour.central if self.session.detour else None,
            ),
            lambda: self.session.centrals,
            clock=clock,
            time=self.session.time,
            name=self.settings.name,
            token=member.token,
        )
        self.session.guard = renewal
        return renewal

    def _carried(self, clock: Callable[[], float]) -> CarriedCentral:
        credentials, settings = self.credentials, self.settings
        carriers = Carriers(
            self.channels,
            self.routes.dialler,
            Meeting(credentials.material if credentials else None),
            chosen=(*settings.via, *settings.friends),
            neighbours=lambda: self.last_neighbours.contacts,
            clock=clock,
        )
        trust = credentials.trust if credentials else None
        return CarriedCentral(
            self.identity,
            carriers,
            self.session.time,
            trust,
            central=lambda: self.channels.central(self.session.central),
        )

    def _enrolment(self) -> list[str]:
        """Returns where Enrolment is at each central, the one in use first."""
        return at_port(self.session.centrals, self.credentials.membership.enrolment_port) if self.credentials else []

    def _trust_version(self) -> int:
        return self.credentials.trust().version if self.credentials else 0

    def _run(self, *works: Any) -> None:
        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or self.stopped.done():
                return
            error = task.exception() or errors.Defect("a part of the daemon ended by itself")
            self.stopped.set_exception(error)

        for work in works:
            task = asyncio.create_task(work)
            task.add_done_callback(ended)
            self._tasks.append(task)

    def _addresses(self, *centrals: str) -> tuple[str, ...]:
        return advertised(self._host, self.server.port, centrals, self.settings.advertise)

    def _dialable_addresses(self, central: str) -> tuple[str, ...]:
        """Returns what others are told to dial: nothing, when that has been found to be in vain."""
        return () if self.experiment.verdict is Reachability.HIDDEN else self._addresses(central)

    def _dialable_contact(self) -> Contact | None:
        found = self.contact()
        hidden = self.experiment.verdict is Reachability.HIDDEN  # central may not have heard of it yet
        return found if found.addresses and not hidden else None

    def _free_bytes(self) -> int:
        return self.storing.free_bytes()

    def _parts(self) -> Parts:
        return Parts(
            contact=self.contact,
            home=self.settings.home,
            library=self.library,
            publisher=self.publisher,
            session=self.session,
            routes=self.routes,
            transfers=self.transfers,
            downloads=self.downloads,
            sets=self.sets,
            uploads=self.uploads,
            storing=self.storing,
            serving=self.serving,
            relaying=self.relaying,
            attaching=self.attaching,
            entrance=self.entrance,
            experiment=self.experiment,
            clock=self._clock,
            credentials=self.credentials,
            renewal=self.renewal,
            leave=self.leave,
            version=metadata.version("relevo"),
        )


def _server(credentials: Credentials | None, limits: Limits, wall: Callable[[], float]) -> Server:
    """Returns the server for other peers: only members get in, or anybody in plaintext."""
    if credentials is None:
        return Server(max_request=PEER_REQUEST, larger=_LARGER, way_in=PLAINTEXT, limits=limits)
    way_in = Certificates(credentials.trust, wall)
    made = server_credentials(credentials.material)
    return Server(max_request=PEER_REQUEST, larger=_LARGER, way_in=way_in, credentials=made, limits=limits)


def _identity(home: Path) -> Identity:
    """Returns who this peer is: the key in its home, made at its first start.

    Raises:
        NotPossible: the key cannot be used, or is gone although the home is a member's.
    """
    path = home / "key.pem"
    if (home / "network").exists() and not path.exists():
        raise errors.NotPossible(
            f"{path}, the key of this peer, is gone: restore it, or remove {home / 'network'} too "
            "and join again with a token, as another peer"
        )
    return Identity.load_or_create(path)


@contextlib.contextmanager
def _locked(home: Path) -> Any:
    """Holds the home for this daemon alone.

    Raises:
        NotPossible: another daemon has it, it cannot be written, or it holds somebody else's files.
    """
    busy = (
        f"another daemon runs with the home {home}; stop it with `relevo --home {home} logout`, "
        "or choose another home with --home"
    )
    handle = claim(home, marks=("key.pem",), busy=busy)
    try:
        yield
    finally:
        os.close(handle)


@contextlib.asynccontextmanager
async def running_peer(
    settings: ServeSettings, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
) -> AsyncIterator[Peer]:
    """Runs a peer in this event loop while the context is open.

    Raises:
        InvalidInput: the settings contradict each other, or the token is damaged.
        NotPossible: the home, its key or an address cannot be used, or the peer is no member and has no token.
        RelevoError: it has to join, and central refuses or is not reached.
    """
    settings.check()
    with _locked(settings.home):
        identity = _identity(settings.home)
        member = None
        if settings.insecure:
            log.warning("PLAINTEXT: nothing is encrypted, and nobody has to prove who they are")
        else:
            member = await joined(settings, identity, CentralTime(clock, wall))
        peer = Peer(member.settings if member else settings, identity, member, clock, wall)
        try:
            await peer.start()
            yield peer
        finally:
            await peer.stop()
