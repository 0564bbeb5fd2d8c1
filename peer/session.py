"""The session with central: login, heartbeat, and coming back by itself after whatever went wrong."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from core import errors
from core.identity import Identity
from core.signing import new_request_id, sign_request
from core.status import from_rpc_error
from core.times import from_duration
from core.trust import Trust
from peer.backoff import jittered, login_pause
from peer.central_errors import central_error
from peer.central_time import CentralTime
from peer.channels import Channels
from peer.heartbeat import STREAM_BROKE, Heartbeat, kept_open
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import LeaseTerms, Neighbours

log = logging.getLogger("relevo.session")

LOGIN_METHOD = "/relevo.v1.CentralDirectory/Login"
PROTOCOL_VERSION = 1
TIMEOUT = 5.0
# A broken stream is opened again after these pauses, in seconds, while central's grace runs.
REOPEN = (0.1, 0.2, 0.4, 0.5)
# After so many failures in a row the pauses grow like those of a login, and the next of several centrals is tried.
REOPEN_TRIES = 20
# Whatever central says, beats are not sent faster than this, in seconds.
SHORTEST_BEAT = 0.01
# Contents being fetched that central takes note of.
_MOST_FETCHING = 64


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a peer says of itself when it logs in.

    Attributes:
        name: what its user calls it.
        addresses: found for a central at each login, since routes change; called in a thread, since it may look up
            names.
        free_bytes: what it offers for copies at this moment.
        trust_version: of the trust that it goes by at this moment; 0 for none.
        fetching: the contents that it is fetching at this moment, and gives what it has of.
    """

    name: str
    addresses: Callable[[str], tuple[str, ...]]
    free_bytes: Callable[[], int]
    trust_version: Callable[[], int] = lambda: 0
    fetching: Callable[[], Sequence[bytes]] = tuple


@dataclass(slots=True)
class Listeners:
    """Who hears what comes from central; each is called in the event loop and returns at once."""

    neighbours: Callable[[Neighbours], None] = lambda _: None
    directives: Callable[[list[pb2.Directive]], None] = lambda _: None
    catalogue_version: Callable[[int], None] = lambda _: None
    logged_in: Callable[[str, int], None] = lambda _central, _catalogue_version: None
    trust: Callable[[Trust], None] = lambda _: None


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


@dataclass(slots=True)
class Login:
    """A session as central granted it."""

    session_id: str = field(repr=False)
    terms: LeaseTerms
    central: str
    addresses: tuple[str, ...]


class Session:
    """Keeps this peer logged in while `run` runs.

    Attributes:
        login: the session, or None while there is none.
        problem: why there is none, or why beats are not answered; empty when all is well.
        since: when `live` last changed, in seconds since 1970.
        time: central's time as far as this peer knows it.
        guard: keeps the peer's certificate good.
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
        self._wall = wall
        self._live = asyncio.Event()
        self._moving = asyncio.Event()
        self._anew = asyncio.Event()
        self._turn = 0
        self._heartbeat: Heartbeat | None = None
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
                await self._until_introduced_again(self._beat(self.login))
                self._set_live(live=False, problem="logging in anew, since others reach this peer otherwise now")
                self.login = None
            except errors.SessionSuperseded:
                self._set_live(live=False, problem="the same home has logged in elsewhere")
                raise
            except errors.RelevoError as error:
                self._set_live(live=False, problem=str(error))
                self._failures += 1
                self.login = None
                if isinstance(error, errors.SessionUnknown) and self._failures == 1:
                    continue
                if isinstance(error, errors.Unreachable):
                    self._turn += 1
                cause = await self.guard.explain(error, self._failures)
                if cause is None:
                    continue
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
            await self._channels.central(login.central).Logout(request, timeout=2.0)
        except grpc.RpcError as error:
            log.info("central did not confirm the logout: %s", from_rpc_error(error))
            return False
        return True

    async def _log_in(self) -> Login:
        central = self.central
        addresses = await asyncio.to_thread(self._introduction.addresses, central)
        self.time.trust_own_clock()
        await self.guard.ready()
        try:
            response = await self._send_login(central, addresses)
        except errors.ClockSkew as error:
            behind = self.time.correct(error)
            log.warning("this machine's clock is %.0f s behind central's; signing by central's", behind)
            response = await self._send_login(central, addresses)
        self.listeners.logged_in(central, response.catalogue_version)
        self.listeners.neighbours(response.neighbours)
        return Login(response.session_id, response.terms, central, addresses)

    async def _send_login(self, central: str, addresses: tuple[str, ...]) -> pb2.LoginResponse:
        details = pb2.LoginDetails(
            name=self._introduction.name,
            addresses=addresses,
            min_protocol_version=PROTOCOL_VERSION,
            max_protocol_version=PROTOCOL_VERSION,
            free_bytes=self._introduction.free_bytes(),
        )
        signed = sign_request(self._identity, LOGIN_METHOD, details.SerializeToString(), self.now)
        request = pb2.LoginRequest(signed=signed, public_key=self._identity.public_key)
        try:
            return await self._channels.central(central).Login(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            raise central_error(error, central) from error

    async def _until_introduced_again(self, beats: Coroutine[Any, Any, None]) -> None:
        """Beats until there is something new to say at a login; the stream of before has ended then."""
        beating, anew = asyncio.ensure_future(beats), asyncio.ensure_future(self._anew.wait())
        try:
            await asyncio.wait({beating, anew}, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
        finally:
            beating.cancel()
            anew.cancel()
            await asyncio.gather(beating, anew, return_exceptions=True)

    async def _beat(self, login: Login) -> None:
        """Keeps heartbeat streams open until the session is lost; opens a broken one again while the grace runs."""
        self._broken = 0
        while True:
            problem: errors.RelevoError = errors.Unreachable("central ended the heartbeat")
            try:
                self._moving.clear()
                await kept_open(lambda: self._open(login), self._moving)
            except STREAM_BROKE as error:
                problem = error
            self._set_live(live=False, problem=str(problem))
            tries, self._broken = self._broken, self._broken + 1
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

    def _open(self, login: Login) -> Heartbeat:
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

        self._heartbeat = Heartbeat(self._channels.central(login.central), beat, interval, hear)
        return self._heartbeat

    def _tell(self, response: pb2.HeartbeatResponse) -> None:
        if response.HasField("trust"):
            try:
                self.listeners.trust(Trust.from_message(response.trust))
            except errors.InvalidInput as error:
                log.warning("what central says of whom to trust is not understood: %s", error)
        self.listeners.neighbours(response.neighbours)
        self.listeners.catalogue_version(response.catalogue_version)
        if response.directives:
            self.listeners.directives(list(response.directives))

    def _set_live(self, *, live: bool, problem: str = "") -> None:
        if live != self.live:
            self.since = self._wall()
            if live:
                log.info("central at %s answers", self.central)
            else:
                log.info("not live: %s", problem)
        self.problem = problem
        if live:
            self._failures = 0
            self._live.set()
        else:
            self._live.clear()
