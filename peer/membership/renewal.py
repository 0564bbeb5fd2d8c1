"""Keeps this peer's certificate fresh, and finds out why it is refused.

A refused peer sees only that nobody answers, so it asks Enrolment: the answer to a renewal is a fresh certificate, or
why there is none.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core import errors
from core.times import spoken
from core.tokens import JoinToken
from peer.directory.central_time import CentralTime
from peer.links.credentials import Credentials
from peer.membership.enrolling import Enrolling
from peer.membership.membership import Membership

log = logging.getLogger("relevo.identity")

_NOT_ENROLLED = (
    "central does not know this peer as a member; ask the operator for a token (relevo-central invite) "
    "and run relevo serve DIR --join TOKEN"
)
# Then nobody lets it in, were central there; and central may renew elsewhere by now.
_EXPIRED = "this peer's certificate has expired, and is renewed as soon as central can be asked"
_OTHER_PORT = "; if central runs, it is asked elsewhere now: a token tells where (relevo serve DIR --join TOKEN)"


@dataclass(frozen=True, slots=True)
class Pace:
    """How patiently Enrolment is asked; times in seconds.

    Attributes:
        failures: of central in a row before Enrolment is asked why.
        first: the earliest and the latest time of the first question after the first failure; peers that have lost
            central together do not ask together.
        again: from one question to the next; it doubles each time.
        longest: what it grows to.
        look: from one look at the own certificate to the next; a machine that slept is noticed within it.
    """

    failures: int = 3
    first: tuple[float, float] = (1.0, 3.0)
    again: float = 30.0
    longest: float = 600.0
    look: float = 30.0


class Renewal:
    """Renews the certificate at two thirds of its life, when the authority has changed, and when it is refused.

    Attributes:
        due: when the certificate is going to be renewed, in seconds since 1970.
    """

    def __init__(
        self,
        credentials: Credentials,
        enrolling: Enrolling,
        centrals: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float],
        time: CentralTime,
        name: str = "",
        token: JoinToken | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Makes it; `run` does the work.

        Args:
            credentials: what is renewed.
            enrolling: asks central.
            centrals: tells central's addresses in the order in which to try them.
            clock: monotonic seconds.
            time: central's.
            name: what the peer calls itself when it has to join anew.
            token: for joining anew when central does not know this peer any more.
            pace: how patiently to ask.
        """
        self._credentials = credentials
        self._enrolling = enrolling
        self._centrals = centrals
        self._clock = clock
        self._central = time
        self._name = name
        self._token = token
        self._pace = pace or Pace()
        self._one = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._asks = 0  # since central failed first, or refused first
        self._ask_after = 0.0
        self._refusal: errors.RelevoError | None = None
        self._off = self._told_off = False
        self.due = self._planned()

    def replan(self) -> None:
        """Says that the network may have a new authority, whose certificates are wanted soon."""
        self.due = self._planned()
        self._wanted.set()

    async def run(self) -> None:
        """Renews for ever, whenever it is time."""
        tries = 0
        while True:
            await self._sleep(self.due - self._central.now)
            self._look_at_clock()
            if self._central.now < self.due:
                continue
            before = self._credentials.membership
            try:
                await self._renew(before)
                tries = 0
                # A clock that is off, or a very short life, makes no storm of renewals.
                self.due = max(self.due, self._central.now + self._credentials.membership.life / 10)
            except errors.RelevoError as error:
                tries += 1
                pause = self._pause(error, tries)
                self.due = self._central.now + pause
                log.warning("the certificate is not renewed: %s; next try in %.1f s", error, pause)

    def _look_at_clock(self) -> None:
        """Says once that this machine's clock has jumped, and once that it is right again.

        At the second look that finds it so: a machine that has slept looks the same until it has logged in again.
        """
        off = bool(self._central.off)
        if off is self._off is not self._told_off:
            self._told_off = off
            log.warning("%s", self._central.said())
        self._off = off

    async def ready(self) -> None:
        """Renews before a login when the certificate has expired meanwhile: nobody would let it in.

        Raises:
            RelevoError: it cannot be renewed now, and why.
        """
        membership = self._credentials.membership
        if membership.expired(self._central.now):
            await self._renew(membership)

    async def explain(self, error: errors.RelevoError, failures: int) -> errors.RelevoError | None:
        """Returns what a failed call to central really means, or None when it is worth trying again at once.

        Args:
            error: what came of the call.
            failures: how many there have been in a row; 1 for the first.
        """
        if failures <= 1:
            self._asks = 0
            self._refusal = error if isinstance(error, errors.NotEnrolled) else None
            self._ask_after = self._clock() + random.uniform(*self._pace.first)  # noqa: S311 - spreads peers
        if isinstance(error, errors.Revoked):
            return errors.Revoked()
        if isinstance(error, errors.CertificateExpired) and self._asks == 0:
            return await self._ask(error)
        unclear = isinstance(error, errors.Unreachable | errors.CertificateExpired)
        if unclear and failures >= self._pace.failures and self._clock() >= self._ask_after:
            return await self._ask(error)
        return self._refusal if unclear and self._refusal else error

    async def _ask(self, error: errors.RelevoError) -> errors.RelevoError | None:
        self._asks += 1
        pause = min(self._pace.longest, self._pace.again * 2.0 ** min(self._asks - 1, 10))
        self._ask_after = self._clock() + random.uniform(1, 1.25) * pause  # noqa: S311 - spreads peers
        try:
            await self._renew(self._credentials.membership)
        except errors.Busy as busy:
            self._ask_after = max(self._ask_after, self._clock() + busy.retry_after)
            return self._refusal or error
        except errors.WrongIdentity as other:
            self._refusal = None
            return other
        except errors.Unreachable as away:  # central is away, as it looked
            expired = self._credentials.membership.expired(self._central.now)
            self._refusal = errors.Unreachable(f"{_EXPIRED}: {away}{_OTHER_PORT}") if expired else None
            return self._refusal or error
        except errors.RelevoError as refusal:
            self._refusal = refusal
            return refusal
        self._refusal = None
        return None

    async def _renew(self, before: Membership) -> None:
        """Gets a fresh certificate, unless somebody else got one since the membership was `before`.

        Raises:
            Revoked, NotEnrolled: this peer is refused; the words say what to do.
            RelevoError: central cannot be asked.
        """
        async with self._one:
            asked = self._credentials.membership
            if asked.certificates != before.certificates:
                return
            try:
                answer = await self._answer(asked)
            except errors.Revoked as error:
                raise errors.Revoked from error
            except errors.NotEnrolled as error:
                raise errors.NotEnrolled(_NOT_ENROLLED) from error
            self._credentials.renewed(answer, asked)
            self.due = self._planned()
            log.info("the certificate is renewed; it counts for %s", spoken(answer.life))

    async def _answer(self, asked: Membership) -> Membership:
        try:
            return await self._enrolling.renew(asked, self._centrals())
        except errors.NotEnrolled:
            if self._token is None:
                raise
            log.info("central does not know this peer any more; joining anew with the token")
            return await self._enrolling.enroll(self._token, self._name)

    def _planned(self) -> float:
        """Returns when to renew, a little later for each peer in its own way."""
        membership = self._credentials.membership
        spread = random.uniform(0, membership.spread())  # noqa: S311 - spreads peers
        due = membership.renew_time() + spread
        return due if membership.of_issuing_authority() else min(due, self._central.now + spread)

    def _pause(self, error: errors.RelevoError, tries: int) -> float:
        """Returns how long to wait after a renewal that failed: many tries fit into the life that is left."""
        life = self._credentials.membership.life
        if isinstance(error, errors.Busy):
            return error.retry_after + random.uniform(0, 1)  # noqa: S311 - spreads peers
        if isinstance(error, errors.Revoked | errors.NotEnrolled):
            return min(self._pace.longest, self._pace.again * 2.0 ** min(tries - 1, 10))
        return random.uniform(0.5, 1) * min(60.0, life / 20, 2.0 ** min(tries, 10))  # noqa: S311 - spreads peers

    async def _sleep(self, seconds: float) -> None:
        """Sleeps until it is time, at most until the next look, and not when there is something new to plan."""
        self._wanted.clear()
        try:
            async with asyncio.timeout(min(max(seconds, 0.0), self._pace.look)):
                await self._wanted.wait()
        except TimeoutError:
            return
