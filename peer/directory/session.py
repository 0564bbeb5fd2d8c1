"""The session with central: login, heartbeat, and coming back by itself after whatever went wrong."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from core import errors
from core.identity import Identity
from core.signing import new_request_id
from core.status import from_rpc_error
from core.times import from_duration
from core.trust import Trust
from peer.directory.carried_heartbeat import CarriedHeartbeat
from peer.directory.central_errors import central_error
from peer.directory.central_time import CentralTime
from peer.directory.detour import Detour
from peer.directory.heartbeat import STREAM_BROKE, Beating, Heartbeat, kept_open
from peer.directory.logins import Introduction, Login, Logins
from peer.links.backoff import jittered, login_pause
from peer.links.channels import Channels
from peer.links.contacts import Contact
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Neighbours

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.session")

TIMEOUT = 5.0
# A broken stream is opened again after these pauses, in seconds, while central's grace runs.
REOPEN = (0.1, 0.2, 0.4, 0.5)
# After so many failures in a row the pauses grow like those of a login, and the next of several centrals is tried.
REOPEN_TRIES = 20
# After so many failures in a row other peers are asked to carry this peer's calls: within the grace, so that nobody
# notices that the session was another for a while.
DETOUR_TRIES = 4
# Without any answer for so many tries, a carried session is given up.
CARRIED_TRIES = 8
# Whatever central says, beats are not sent faster than this, in seconds.
SHORTEST_BEAT = 0.01
# Contents being fetched that central takes note of.
_MOST_FETCHING = 64


@dataclass(slots=True)
class Listeners:
    """Who hears what comes from central; each is called in the event loop and returns at once."""

    neighbours: Callable[[Neighbours], None] = lambda _: None
    directives: Callable[[list[pb2.Directive]], None] = lambda _: None
    catalogue_version: Callable[[int], None] = lambda _: None
    logged_in: Callable[[str, int], None] = lambda _central, _catalogue_version: None
    trust: Callable[[Trust], None] = lambda _: None
    enrolment_port: Callable[[int], None] = lambda _: None


class Guard(Protocol):
    """Keeps the peer's certificate good, and knows what central's silence means."""

    async def ready(self) -> None:
        """Makes ready for a login. Raises the RelevoError for which there is no use in trying."""
        ...

    async def explain(self, error: errors.RelevoError, failures: int) -> errors.RelevoError | None:
        """Returns what the error of `failures` calls in a row really means; None: try again at once."""
        ...


class Unguarded:
    """In plaintext there is nothing to keep, and errors are what they seem."""

    async def ready(self) -> None:
        """Does nothing."""

    async def explain(self, error: errors.RelevoError, failures: int) -> errors.RelevoError | None:
        """Returns the error."""
        del failures
        return error


class Session:
    """Keeps this peer logged in while `run` runs.

    Attributes:
        login: the session, or None while there is none.
        problem: why there is none, or why beats are not answered; empty when all is well.
        since: when `live` last changed, in seconds since 1970.
        time: central's time as far as this peer knows it.
        guard: keeps the peer's certificate good.
        detour: the way through other peers, for when central is not reached itself; None: nobody is asked.
    """

    def __init__(
        self,
        identity: Identity,
        channels: Channels,
        centrals: tuple[str, ...],
        introduction: Introduction,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.detour: Detour | None = None
        self.listeners = Listeners()
        self.login: Login | None = None
        self.problem = "logging in"
        self.since = wall()
        self._identity = identity
        self._channels = channels
        self._centrals = centrals
        self._introduction = introduction
        self.time = CentralTime(clock, wall)
        self.guard: Guard = Unguarded()
        self._logins = Logins(identity, introduction, self.time, clock)
        self._wall = wall
        self._live = asyncio.Event()
        self._moving = asyncio.Event()
        self._anew = asyncio.Event()
        self._turn = 0
        self._heartbeat: Beating | None = None
        self._failures = 0  # logins, since central last answered a beat
        self._broken = 0  # streams, since central last answered a beat

    @property
    def live(self) -> bool:
        """Whether central answers this peer's beats at this moment."""
        return self._live.is_set()

    @property
    def peer_id(self) -> str:
        """This peer's id."""
        return self._identity.peer_id

    @property
    def central(self) -> str:
        """`host:port` of the central in use, or to be tried next."""
        return self._centrals[self._turn % len(self._centrals)]

    @property
    def centrals(self) -> tuple[str, ...]:
        """All centrals, the one in use first."""
        at = self._turn % len(self._centrals)
        return self._centrals[at:] + self._centrals[:at]

    @property
    def carrier(self) -> Contact | None:
        """Who carries this peer's calls to central, at one address; None when it is reached directly, or not at all."""
        return self.detour.carrier if self.detour and self.login and self.login.carried else None

    def central_stub(self, login: Login | None = None) -> "CentralDirectoryAsyncStub":
        """Returns what calls central, in the session `login` or that of now; calls raise grpc.RpcError, or RelevoError.

        Whatever has a session's id goes by that session's way, so that no secret passes a neighbour.
        """
        session = login or self.login
        if session is None:
            return self._channels.central(self.central)
        if self.detour and session.carried:
            return self.detour.central.stub()
        return self._channels.central(session.central)

    @property
    def now(self) -> float:
        """Central's time as far as this peer knows it, in seconds since 1970: what requests are signed with."""
        return self.time.now

    async def wait_live(self) -> Login:
        """Returns the session as soon as central answers its beats."""
        while True:
            await self._live.wait()
            if self.login is not None:
                return self.login

    def lost(self) -> None:
        """Says that central does not know the session any more: the next beat finds out the same and logs in anew."""
        self._set_live(live=False, problem="central has forgotten this peer; logging in anew")

    def beat_soon(self) -> None:
        """Has central told at once what has changed of this peer, rather than with the next beat."""
        if self._heartbeat is not None:
            self._heartbeat.beat_soon()

    def move(self) -> None:
        """Has the heartbeat go on by a new connection, since that of before is going to end; nothing is lost by it."""
        self._moving.set()

    def introduce_again(self) -> None:
        """Logs in anew, since this peer's introduction has changed: what it has published stays."""
        self._anew.set()

    async def run(self) -> None:
        """Logs in and beats for ever.

        Raises:
            SessionSuperseded: the same home logged in elsewhere; this peer has to stop.
        """
        while True:
            try:
                if self.login is None:
                    self._anew.clear()
                    self.login = await self._log_in()
                if await self._introduced_again(self._beat(self.login)):
                    self._set_live(live=False, problem="logging in anew, since others reach this peer otherwise now")
                    self.login = None
            except errors.SessionSuperseded:
                if self._logins.unanswered:  # by this peer itself, it may be: that login is asked again
                    self._set_live(live=False, problem="a login of this peer has ended its session")
                    self.login = None
                    continue
                self._set_live(live=False, problem="the same home has logged in elsewhere")
                raise
            except errors.RelevoError as error:
                await self._failed(error)

    async def _failed(self, error: errors.RelevoError) -> None:
        """Finds another way after a login has failed, or a session was lost; waits before the next try."""
        self._set_live(live=False, problem=str(error))
        self._failures += 1
        lost, self.login = self.login, None
        if isinstance(error, errors.SessionUnknown) and self._failures == 1:
            if lost is not None and lost.carried:
                await self._take_detour()
            return
        if isinstance(error, errors.Unreachable):
            self._turn += 1
            if self._failures >= len(self._centrals) and await self._take_detour():
                return
        cause = await self.guard.explain(error, self._failures)
        if cause is None:
            return
        self.problem = str(cause)
        pause = login_pause(cause, self._failures)
        log.warning("not logged in: %s; next try in %.1f s", cause, pause)
        await asyncio.sleep(pause)

    async def log_out(self) -> bool:
        """Ends the session; returns whether central confirmed. Call it when `run` has been stopped."""
        if self.login is None:
            return False
        login, self.login = self.login, None
        self._set_live(live=False, problem="logged out")
        request = pb2.LogoutRequest(peer_id=self.peer_id, session_id=login.session_id, request_id=new_request_id())
        try:
            await self.central_stub(login).Logout(request, timeout=2.0)
        except (grpc.RpcError, errors.RelevoError) as error:
            log.info("central did not confirm the logout: %s", from_rpc_error(error))
            return False
        return True

    async def _log_in(self) -> Login:
        central = self.central

        async def send(request: pb2.LoginRequest) -> pb2.LoginResponse:
            try:
                return await self._channels.central(central).Login(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                raise central_error(error, central) from error

        self.time.trust_own_clock()
        await self.guard.ready()
        login, response = await self._logins.log_in(send, central, central)
        self._tell_of(login, response)
        return login

    async def _take_detour(self) -> bool:
        """Logs in by way of another peer, when there is one that reaches central; tells whether it has."""
        if self.detour is None:
            return False
        self.time.trust_own_clock()
        found = await self.detour.log_in(self._logins, self.central)
        if found is None:
            return False
        self.login, response = found
        self._tell_of(self.login, response)
        return True

    def _tell_of(self, login: Login, response: pb2.LoginResponse) -> None:
        if self.detour:
            self.detour.reset()
        self.listeners.logged_in(login.central, response.catalogue_version)
        self.listeners.neighbours(response.neighbours)

    async def _introduced_again(self, beats: Coroutine[Any, Any, None]) -> bool:
        """Beats until the end, or until there is something new to say at a login; tells whether there is."""
        beating, anew = asyncio.ensure_future(beats), asyncio.ensure_future(self._anew.wait())
        try:
            await asyncio.wait({beating, anew}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
            return not beating.done()
        finally:
            beating.cancel()
            anew.cancel()
            await asyncio.gather(beating, anew, return_exceptions=True)

    async def _beat(self, login: Login) -> None:
        """Beats until the session is lost; goes on with a broken heartbeat while the grace runs.

        Returns when there is a better way to central than that of this session.
        """
        self._broken = 0
        while True:
            problem: errors.RelevoError = errors.Unreachable("central ended the heartbeat")
            try:
                self._moving.clear()
                if await self._returned(login, kept_open(lambda: self._open(login), self._moving)):
                    self._set_live(live=False, problem="central can be reached again; logging in there")
                    self.login = None
                    return
            except STREAM_BROKE as error:
                problem = error
            self._set_live(live=False, problem=str(problem))
            tries, self._broken = self._broken, self._broken + 1
            if login.carried and tries >= CARRIED_TRIES:
                raise errors.Unreachable("no other peer reaches central for this one any more")
            if not login.carried and self._broken >= DETOUR_TRIES and await self._take_detour():
                return
            if tries >= REOPEN_TRIES and len(self._centrals) > 1:
                raise errors.Unreachable(f"central at {login.central} does not answer")
            cause = await self.guard.explain(problem, self._broken)
            if cause is None:
                continue
            if not isinstance(cause, STREAM_BROKE):
                raise cause
            self.problem = str(cause)
            soon = REOPEN[min(tries, len(REOPEN) - 1)]
            await asyncio.sleep(soon if tries < REOPEN_TRIES else jittered(tries - REOPEN_TRIES))

    async def _returned(self, login: Login, beating: Coroutine[Any, Any, None]) -> bool:
        """Runs `beating` to its end; of a carried session until central is reached directly, and tells whether it is.

        Raises:
            RelevoError: as `beating`.
        """
        if self.detour is None or not login.carried:
            await beating
            return False
        back = self.detour.until_reached(self._next_central, self.peer_id)
        beats, reached = asyncio.create_task(beating), asyncio.create_task(back)
        try:
            await asyncio.wait({beats, reached}, return_when=asyncio.FIRST_COMPLETED)
            if not beats.done():
                return True
            await beats
            return False
        finally:
            for task in (beats, reached):
                task.cancel()
            await asyncio.gather(beats, reached, return_exceptions=True)

    def _next_central(self) -> "CentralDirectoryAsyncStub":
        self._turn += 1
        return self._channels.central(self.central)

    def _open(self, login: Login) -> Beating:
        def beat(sequence: int) -> pb2.HeartbeatRequest:
            return pb2.HeartbeatRequest(
                peer_id=self.peer_id,
                session_id=login.session_id,
                sequence=sequence,
                free_bytes=self._introduction.free_bytes(),
                trust_version=self._introduction.trust_version(),
                fetching_content_ids=self._introduction.fetching()[:_MOST_FETCHING],
            )

        def interval() -> float:
            return max(SHORTEST_BEAT, from_duration(login.terms.beat_interval))

        def hear(response: pb2.HeartbeatResponse) -> None:
            login.terms = response.terms
            self._broken = 0
            self._set_live(live=True)
            self._tell(response)

        kind = CarriedHeartbeat if login.carried else Heartbeat
        self._heartbeat = kind(self.central_stub(login), beat, interval, hear)
        return self._heartbeat

    def _tell(self, response: pb2.HeartbeatResponse) -> None:
        if response.HasField("trust"):
            try:
                self.listeners.trust(Trust.from_message(response.trust))
            except errors.InvalidInput as error:
                log.warning("what central says of whom to trust is not understood: %s", error)
        self.listeners.enrolment_port(response.enrolment_port)
        self.listeners.neighbours(response.neighbours)
        self.listeners.catalogue_version(response.catalogue_version)
        if response.directives:
            self.listeners.directives(list(response.directives))

    def _set_live(self, *, live: bool, problem: str = "") -> None:
        if live != self.live:
            self.since = self._wall()
            if live:
                log.info("central at %s answers%s", self.central, " through another peer" if self.carrier else "")
            else:
                log.info("not live: %s", problem)
        self.problem = problem
        if live:
            self._failures = 0
            self._live.set()
        else:
            self._live.clear()
