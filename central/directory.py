"""The directory: what central knows and does, without gRPC and without a particular storage engine."""

import logging
import time
from collections.abc import Callable
from random import Random, SystemRandom

from central.catalogue.catalogue import Catalogue
from central.catalogue.reports import Reports
from central.catalogue.reputation import Reputation
from central.copies.placements import Placements
from central.copies.upkeep import Upkeep
from central.mutations import Mutations
from central.sessions.membership import Membership
from central.sessions.neighbours import Neighbours
from central.sessions.probing import Probing
from central.sessions.roster import Roster
from central.sessions.sessions import Sessions
from central.sessions.suspects import Suspects
from central.settings import Settings
from central.store.store import Store
from core.signing import WINDOW_SECONDS

log = logging.getLogger("relevo.central")
# A request signed with a clock that is a whole window ahead stays acceptable for two.
_RECEIPTS_KEPT = 2 * WINDOW_SECONDS
# Absences of central that are shorter, in seconds, break no stream: pings wait for 5 s.
_BREAKS_STREAMS = 4.0


class Directory:
    """All use cases and what they share.

    Attributes:
        roster: the live peers.
        sessions, suspects, catalogue, placements, reports: the use cases.
        upkeep: keeps what placements promise.
        clock: monotonic seconds, for leases.
        wall: seconds since 1970, for signatures and records.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        """Composes the directory; `restore` must follow."""
        random = random or SystemRandom()
        self._store = store
        self.settings = settings or Settings()
        self.clock = clock
        self.wall = wall
        leases = Membership(self.settings.beat_interval, self.settings.grace, self.settings.max_beats)
        self.roster = Roster(leases, Neighbours(self.settings.relay_cap))
        self._mutations = Mutations(store)
        quotas = self.settings.quotas
        reputation = Reputation(quotas)
        self.upkeep = Upkeep(
            store=store,
            roster=self.roster,
            doubted=lambda peer_id: reputation.doubted(peer_id, clock()),
            clock=clock,
            random=random,
            grace=self.settings.replace_after,
        )
        self.placements = Placements(
            store=store,
            roster=self.roster,
            mutations=self._mutations,
            upkeep=self.upkeep,
            quotas=quotas,
            wall=wall,
        )
        self.sessions = Sessions(
            store=store,
            roster=self.roster,
            mutations=self._mutations,
            placements=self.placements,
            clock=clock,
            wall=wall,
        )
        self.suspects = Suspects(self.roster, Probing(random, self.settings.probe), clock)
        self.reports = Reports(self.sessions, reputation, clock)
        self.catalogue = Catalogue(
            store=store,
            roster=self.roster,
            mutations=self._mutations,
            sessions=self.sessions,
            placements=self.placements,
            reports=self.reports,
            quotas=quotas,
            wall=wall,
            random=random,
        )

    async def restore(self) -> None:
        """Takes up what the store has: everybody who was live gets a whole lease and goes on as before."""
        peers = await self._store.live_peers()
        changes = self.roster.restore(peers, self.clock())
        if changes:
            await self._store.set_neighbours([(peer_id, a.primary, a.backup) for peer_id, a in changes.items()])
        self.upkeep.restored()
        await self.upkeep.refill()
        if peers:
            log.info("%d peers were logged in; each has a fresh lease", len(peers))

    async def sweep(self) -> None:
        """Withdraws peers whose lease is over, has suspects looked for, and sees to copies that are missed."""
        await self.sessions.expire()
        self.suspects.look_for()
        self.upkeep.passed(self.clock())

    def opened(self) -> None:
        """Says that central can be reached from now on: whoever was live before gets the time to come back."""
        if self.roster:
            self.roster.leases.returned(self.clock())

    def was_away(self, now: float, seconds: float) -> None:
        """Says that central did nothing for so long until `now`: peers get the time to come back that they need."""
        log.warning("central was stopped or starved for %.1f s, which counts as nobody's silence", seconds)
        if seconds >= _BREAKS_STREAMS:
            self.roster.leases.returned(now)

    async def purge(self) -> None:
        """Removes what is too old to be of use, and looks again for peers that pending placements lack."""
        now = self.wall()
        await self._store.purge(now - _RECEIPTS_KEPT, now - self.settings.forget_after)
        self.upkeep.look_everywhere()

    async def refill_when_wanted(self) -> None:
        """Waits until there is something to be done about copies, and does it."""
        await self.upkeep.wanted.wait()
        await self.upkeep.refill()

    async def drained(self) -> None:
        """Waits for all mutations that have begun."""
        await self._mutations.drained()
