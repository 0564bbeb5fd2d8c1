"""Logins: what a peer says of itself, signed, and asked again as it was until central has answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from core import errors
from core.identity import Identity
from core.signing import WINDOW_SECONDS, sign_request
from peer.directory.central_time import CentralTime
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import LeaseTerms, SignedRequest

log = logging.getLogger("relevo.session")

LOGIN_METHOD = "/relevo.v1.CentralDirectory/Login"
PROTOCOL_VERSION = 1
# What leaves open whether central has heard.
_NO_ANSWERS = (errors.Unreachable, errors.Defect, errors.Cancelled, errors.Corrupt)


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
class Login:
    """A session as central granted it.

    Attributes:
        session_id: its secret id, or what names it to central when calls are carried.
        terms: when to beat.
        central: `host:port` of the central in use.
        addresses: at which this peer has said that it is.
        carried: whether its calls are carried by other peers.
    """

    session_id: str = field(repr=False)
    terms: LeaseTerms
    central: str
    addresses: tuple[str, ...]
    carried: bool = False


class Logins:
    """Logs this peer in.

    A login whose answer was lost may still arrive, much later when somebody carries it, and would then end the session
    that a newer one has begun. So the same one is asked until central answers, and changes nothing when it comes again.
    """

    def __init__(
        self, identity: Identity, introduction: Introduction, time: CentralTime, now: Callable[[], float]
    ) -> None:
        """`time` is central's, `now` tells monotonic seconds."""
        self._identity = identity
        self._introduction = introduction
        self._time = time
        self._now = now
        self._open: SignedRequest | None = None
        self._open_since = 0.0

    @property
    def unanswered(self) -> bool:
        """Whether a login is under way of which central may have heard."""
        return self._open is not None and self._now() - self._open_since < WINDOW_SECONDS

    async def log_in(
        self,
        send: Callable[[pb2.LoginRequest], Awaitable[pb2.LoginResponse]],
        central: str,
        towards: str,
        *,
        carried: bool = False,
    ) -> tuple[Login, pb2.LoginResponse]:
        """Returns the session that central grants.

        Args:
            send: calls central, and raises RelevoError.
            central: `host:port` of the central in use.
            towards: the first machine on the way there, whose route decides at which addresses this peer is.
            carried: whether others carry what `send` sends.

        Raises:
            RelevoError: what came of it.
        """
        addresses = await asyncio.to_thread(self._introduction.addresses, towards)
        details = pb2.LoginDetails(
            name=self._introduction.name,
            addresses=addresses,
            min_protocol_version=PROTOCOL_VERSION,
            max_protocol_version=PROTOCOL_VERSION,
            free_bytes=self._introduction.free_bytes(),
        ).SerializeToString()
        try:
            response = await self._settle(send, details)
        except errors.ClockSkew as error:
            log.warning("%s", self._time.correct(error))
            response = await self._settle(send, details)
        return Login(response.session_id, response.terms, central, addresses, carried), response

    async def _settle(
        self, send: Callable[[pb2.LoginRequest], Awaitable[pb2.LoginResponse]], details: bytes
    ) -> pb2.LoginResponse:
        if self._open is not None and self.unanswered:
            before = self._open
            response = await self._send(send, before)
            if before.payload == details:
                return response
        self._open_since = self._now()
        return await self._send(send, sign_request(self._identity, LOGIN_METHOD, details, self._time.now))

    async def _send(
        self, send: Callable[[pb2.LoginRequest], Awaitable[pb2.LoginResponse]], signed: SignedRequest
    ) -> pb2.LoginResponse:
        self._open = signed
        try:
            response = await send(pb2.LoginRequest(signed=signed, public_key=self._identity.public_key))
        except _NO_ANSWERS:
            raise
        except errors.RelevoError:
            self._open = None
            raise
        self._open = None
        return response
