"""The network as a running central has it: in memory what every call asks for, in a thread what the register does."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from central.network.enrolment import Enrolment
from core.errors import Revoked
from core.signing import AnswerSigner
from core.tls import Material
from core.trust import Trust

T = TypeVar("T")
# A certificate is replaced when this part of its life is over.
RENEW_AT = 2 / 3


class Network:
    """Whom central trusts and what it shows of itself.

    `trust` and `material` answer from memory, since every call and every handshake asks; `refresh` keeps them up with
    the register, which the command line changes too.

    Attributes:
        created: whether the network was made just now.
    """

    def __init__(self, data: Path, life: float, wall: Callable[[], float]) -> None:
        """Composes it; `open` must follow. `life` of certificates in seconds; `wall` tells seconds since 1970."""
        self.created = False
        self._data = data
        self._life = life
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, "register")
        self._enrolment: Enrolment | None = None
        self._told = Trust()
        self._trust = Trust()
        self._material = Material(b"", b"", b"")
        self._signer: AnswerSigner | None = None
        self._renew_at = 0.0

    async def open(self) -> None:
        """Takes up the network in the data directory, or makes one.

        Raises:
            NotPossible: it cannot be used.
        """
        self._enrolment, self.created = await self._in_thread(
            partial(Enrolment.open_or_create, self._data, self._wall())
        )
        await self.refresh()

    async def close(self) -> None:
        """Waits for running work and closes the register."""
        if self._enrolment:
            await self._in_thread(self._enrolment.close)
        self._thread.shutdown()

    @property
    def network_id(self) -> str:
        """The network's id."""
        return self._told.network_id

    def now(self) -> float:
        """Returns the time of day, in seconds since 1970."""
        return self._wall()

    def trust(self) -> Trust:
        """Returns whom central trusts. Whoever was ever revoked stays so, were the clock to go back."""
        return self._trust

    def told(self) -> Trust:
        """Returns whom members are to trust; the version is the same."""
        return self._told

    def material(self) -> Material:
        """Returns what central shows in a handshake, and accepts."""
        return self._material

    def signer(self) -> AnswerSigner:
        """Returns what signs answers, by the certificate that central shows."""
        if self._signer is None:
            raise RuntimeError("the network is not open")
        return self._signer

    async def check_member(self, peer_id: str) -> None:
        """Checks that a key which came without its certificate is a member's all the same.

        Raises:
            NotEnrolled: it never was.
            Revoked: it is not any more.
        """
        if peer_id in self._trust.revoked:
            raise Revoked
        await self.run(lambda enrolment: enrolment.check_member(peer_id))

    async def refresh(self) -> bool:
        """Takes up what has changed, renews central's certificate when it is time; tells whether the trust changed."""
        return await self.run(self._refresh)

    async def run(self, work: Callable[[Enrolment], T]) -> T:
        """Returns what `work` returns, which alone uses the network meanwhile; a caller that gives up stops nothing."""
        if self._enrolment is None:
            raise RuntimeError("the network is not open")
        return await self._in_thread(partial(work, self._enrolment))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(work))

    def _refresh(self, enrolment: Enrolment) -> bool:
        now = self._wall()
        enrolment.register.retire(now)
        changed = enrolment.register.version() != self._told.version
        if changed:
            told = enrolment.trust()
            self._trust = Trust(told.version, told.authorities, frozenset(enrolment.register.ever_revoked()))
            self._told = told
        if changed or now >= self._renew_at:
            self._material = enrolment.own_material(now, self._life)
            self._signer = AnswerSigner.from_material(self._material)
            self._renew_at = now + self._life * RENEW_AT
        return changed
