"""The session with central: login, heartbeat, and coming back by itself after whatever went wrong."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from core import errors
from core.identity import Identity
from core.signing import new_request_id, sign_request
from core.status import from_rpc_error
from core.times import from_duration
from peer.backoff import jittered, login_pause
from peer.channels import Channels
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import LeaseTerms, Neighbours

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.session")

LOGIN_METHOD = "/relevo.v1.CentralDirectory/Login"
PROTOCOL_VERSION = 1
TIMEOUT = 5.0
# A broken stream is opened again after these pauses, in seconds, while central's grace runs.
REOPEN = (0.1, 0.2, 0.4, 0.5)
# What ends a stream and says nothing of the session.
_STREAM_BROKE = (errors.Unreachable, errors.Defect, errors.Cancelled, errors.Busy)
# After so many failures in a row the pauses grow like those of a login, and the next of several centrals is tried.
REOPEN_TRIES = 20
# Whatever central says, beats are not sent faster than this, in seconds.
SHORTEST_BEAT = 0.01


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a peer says of itself when it logs in.

    Attributes:
        name: what its user calls it.
        addresses: found for a central at each login, since routes change; called in a thread, since it may look up
            names.
        free_bytes: what it offers for copies at this moment.
    """

    name: str
    addresses: Callable[[str], tuple[str, ...]]
    free_bytes: Callable[[], int]


@dataclass(slots=True)
class Listeners:
    """Who hears what comes from central; each is called in the event loop and returns at once."""

    neighbours: Callable[[Neighbours], None] = lambda _: None
    directives: Callable[[list[pb2.Directive]], None] = lambda _: None
    catalogue_version: Callable[[int], None] = lambda _: None
    logged_in: Callable[[str, int], None] = lambda _central, _catalogue_version: None


@dataclass(slots=True)
class Login:
    """A session as central granted it."""

    session_id: str
    terms: LeaseTerms
    central: str
    addresses: tuple[str, ...]


class Session:
    """Keeps this peer logged in while `run` runs.

    Attributes:
        login: the session, or None while there is none.
        problem: why there is none, or why beats are not answered; empty when all is well.
        since: when `live` last changed, in seconds since 1970.
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
        self._wall = wall
        self._clock = clock
        # Between this machine's monotonic clock and central's time: a step of the wall clock changes nothing meanwhile.
        self._ahead = wall() - clock()
        self._live = asyncio.Event()
        self._turn = 0
        self._failures = 0  # since central last answered a beat

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
    def now(self) -> float:
        """Central's time as far as this peer knows it, in seconds since 1970: what requests are signed with."""
        return self._clock() + self._ahead

    async def wait_live(self) -> Login:
        """Returns the session as soon as central answers its beats."""
        while True:
            await self._live.wait()
            if self.login is not None:
                return self.login

    def lost(self) -> None:
        """Says that central does not know the session any more: the next beat finds out the same and logs in anew."""
        self._set_live(live=False, problem="central has forgotten this peer; logging in anew")

    async def run(self) -> None:
        """Logs in and beats for ever.

        Raises:
            SessionSuperseded: the same home logged in elsewhere; this peer has to stop.
        """
        while True:
            try:
                if self.login is None:
                    self.login = await self._log_in()
                await self._beat(self.login)
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
                pause = login_pause(error, self._failures)
                log.warning("not logged in: %s; next try in %.1f s", error, pause)
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
        stub = self._channels.central(central)
        addresses = await asyncio.to_thread(self._introduction.addresses, central)
        self._ahead = self._wall() - self._clock()
        try:
            response = await self._send_login(stub, central, addresses)
        except errors.ClockSkew as error:
            # This machine's clock is off: sign by central's time from now on.
            told = _told_time(error, self._wall())
            log.warning("this machine's clock is %.0f s behind central's; signing by central's", told - self._wall())
            self._ahead = told - self._clock()
            response = await self._send_login(stub, central, addresses)
        self.listeners.logged_in(central, response.catalogue_version)
        self.listeners.neighbours(response.neighbours)
        return Login(response.session_id, response.terms, central, addresses)

    async def _send_login(
        self, stub: "CentralDirectoryAsyncStub", central: str, addresses: tuple[str, ...]
    ) -> pb2.LoginResponse:
        details = pb2.LoginDetails(
            name=self._introduction.name,
            addresses=addresses,
            min_protocol_version=PROTOCOL_VERSION,
            max_protocol_version=PROTOCOL_VERSION,
            free_bytes=self._introduction.free_bytes(),
        )
        signed = sign_request(self._identity, LOGIN_METHOD, details.SerializeToString(), self.now)
        try:
            return await stub.Login(
                pb2.LoginRequest(signed=signed, public_key=self._identity.public_key), timeout=TIMEOUT
            )
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, errors.Unreachable):
                found = errors.Unreachable(f"central at {central} does not answer")
            raise found from error

    async def _beat(self, login: Login) -> None:
        """Keeps heartbeat streams open until the session is lost; opens a broken one again while the grace runs."""
        tries = 0
        while True:
            try:
                async for _ in self._stream(login):
                    tries = 0
                problem = "central ended the heartbeat"
            except _STREAM_BROKE as error:
                problem = str(error)
            self._set_live(live=False, problem=problem)
            if tries >= REOPEN_TRIES and len(self._centrals) > 1:
                raise errors.Unreachable(f"central at {login.central} does not answer")
            soon = REOPEN[min(tries, len(REOPEN) - 1)]
            await asyncio.sleep(soon if tries < REOPEN_TRIES else jittered(tries - REOPEN_TRIES))
            tries += 1

    async def _stream(self, login: Login) -> AsyncIterator[pb2.HeartbeatResponse]:
        """Yields central's answers on one stream, having told the listeners."""
        call = self._channels.central(login.central).Heartbeat()
        beats = asyncio.create_task(self._send_beats(call, login))
        try:
            # One read is outstanding at any time: a read that is given up cancels the whole stream.
            async for response in call:
                login.terms = response.terms
                self._set_live(live=True)
                self.listeners.neighbours(response.neighbours)
                self.listeners.catalogue_version(response.catalogue_version)
                if response.directives:
                    self.listeners.directives(list(response.directives))
                yield response
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise from_rpc_error(error) from error
        finally:
            beats.cancel()
            call.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _send_beats(
        self, call: "grpc.aio.StreamStreamCall[pb2.HeartbeatRequest, pb2.HeartbeatResponse]", login: Login
    ) -> None:
        sequence = 0
        try:
            while True:
                sequence += 1
                await call.write(
                    pb2.HeartbeatRequest(
                        peer_id=self.peer_id,
                        session_id=login.session_id,
                        sequence=sequence,
                        free_bytes=self._introduction.free_bytes(),
                    )
                )
                await asyncio.sleep(max(SHORTEST_BEAT, from_duration(login.terms.beat_interval)))
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end, with its reason

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


def _told_time(error: errors.ClockSkew, now: float) -> float:
    """Returns central's time in seconds since 1970, or `now` when what it told is no time."""
    try:
        told = float(error.metadata.get("central_time", ""))
    except ValueError:
        return now
    return told if math.isfinite(told) else now
