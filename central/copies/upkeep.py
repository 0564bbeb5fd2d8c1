"""Keeps what was promised: sees that every placement has its copies, and that nobody stores what is not wanted.

Whatever happens marks contents, or everything, to be looked at; `refill` looks, one content after the other. What it
decides is recorded before anybody is told, so that a crash changes no decision.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from random import Random

from central.copies.directives import Directives, StoreCopy
from central.copies.placement import Candidate, choose
from central.copies.promises import Claim, Kept, missing, spare
from central.sessions.roster import Roster
from central.store.store import PlacedContent, PlacementRecord, Store

# Placements that are read at once: there may be millions, and others write between two pages.
REFILL_PAGE = 500
_FOR_GOOD = float("-inf")


class Upkeep:
    """Chooses peers, has copies dropped, and tells peers so.

    Attributes:
        wanted: set when there is something to look at.
        order: held by whoever changes placements or their copies.
        directives: what each peer is told.
    """

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        doubted: Callable[[str], bool],
        clock: Callable[[], float],
        random: Random,
        grace: float,
    ) -> None:
        """Composes it; `grace` is how long a lost copy is waited for, in seconds."""
        self._store = store
        self._roster = roster
        self._doubted = doubted
        self._clock = clock
        self._random = random
        self._grace = grace
        self._contents: set[bytes] = set()
        self._everything = True
        self._came: set[str] = set()
        # Since when each peer is live, or is not; whoever is not in it has been so since central began.
        self._since: dict[str, float] = {}
        self._began = clock()
        self._due: deque[float] = deque()  # when graces are over, the earliest first
        self.wanted = asyncio.Event()
        self.order = asyncio.Lock()
        self._looking = asyncio.Lock()
        self.directives = Directives(roster.poke)

    def look(self, content_ids: Iterable[bytes]) -> None:
        """Has some contents looked at."""
        self._contents.update(content_ids)
        if self._contents:
            self.wanted.set()

    def look_everywhere(self) -> None:
        """Has all placements looked at: somebody may be chosen now who could not before, or is missing for good."""
        self._everything = True
        self.wanted.set()

    def came(self, peer_id: str) -> None:
        """Notes that a peer has logged in: it may be chosen, and may have what nobody wants any more."""
        self._since[peer_id] = self._clock()
        self._came.add(peer_id)
        self._look_later()
        self.look_everywhere()

    def lost(self, peer_id: str, *, for_good: bool = False) -> None:
        """Notes that a peer has left: what it was to store needs another one at once, what it has stored later."""
        self._since[peer_id] = _FOR_GOOD if for_good else self._clock()
        self._came.discard(peer_id)
        self.look(self.directives.lost(peer_id))
        self._look_later()
        if for_good:
            self.look_everywhere()

    def passed(self, now: float) -> None:
        """Has everything looked at when a grace is over."""
        while self._due and self._due[0] <= now:
            self._due.popleft()
            self.look_everywhere()

    def restored(self) -> None:
        """Notes that the roster has everybody who was live before a restart: each is as if it had just come."""
        self._began = self._clock()
        self._came.update(peer.peer_id for peer in self._roster)
        self._look_later()
        self.look_everywhere()

    def _look_later(self) -> None:
        self._due.append(self._clock() + self._grace)

    async def refill(self) -> None:
        """Looks at all that was marked until then."""
        self.wanted.clear()
        async with self._looking:
            came, self._came = self._came, set()
            for peer_id in came:
                await self._have_dropped(peer_id)
            if self._everything:
                self._everything = False
                await self._look_at_everything()
            while self._contents:
                content_id = self._contents.pop()
                async with self.order:
                    await self.look_at(content_id)

    async def _have_dropped(self, peer_id: str) -> None:
        """Tells a peer that has come what it is to drop."""
        for content_id in await self._store.to_drop(peer_id):
            if peer_id in self._roster:
                self.directives.drop(peer_id, content_id)

    async def _look_at_everything(self) -> None:
        told = self.directives.all_contents()
        candidates = sorted(self._candidates(), key=lambda candidate: -candidate.free_bytes)
        after: int | None = 0
        while after is not None:
            page = await self._store.unsettled_placements(after, REFILL_PAGE)
            after = page.next
            for placement in page.items:
                told.discard(placement.content_id)
                if self._asks_for_a_look(placement, candidates):
                    async with self.order:
                        await self.look_at(placement.content_id)
        self._contents |= told  # of placements that are kept by now, or have ended

    def _asks_for_a_look(self, placement: PlacementRecord, roomiest_first: Sequence[Candidate]) -> bool:
        if placement.supersedes or placement.confirmed > placement.wanted or self._untold(placement):
            return True
        known = {placement.author, *placement.declined, *(copy.peer_id for copy in placement.copies)}
        fitting = takewhile(lambda candidate: candidate.free_bytes >= placement.size, roomiest_first)
        return self._missing(placement) > 0 and any(candidate.peer_id not in known for candidate in fitting)

    async def look_at(self, content_id: bytes) -> None:
        """Sees to the copies of one content; its caller holds `order`."""
        content = await self._store.placed_content(content_id)
        making = {(peer, one.placement_id) for one in content.placements for peer in _unconfirmed(one)}
        self.directives.keep_only(content_id, making)
        for placement in content.placements:
            self._direct(placement, self._untold(placement))
            chosen = await self.choose(placement, content)
            if chosen:
                await self._store.add_copies(placement.placement_id, chosen)
                self._direct(placement, chosen)
            if placement.supersedes and placement.confirmed >= placement.wanted:
                self.look(await self._store.retire(placement.placement_id))
        needless = spare([Claim(one.author, one.wanted) for one in content.placements], self._copies(content))
        if needless:
            await self._store.drop_copies(content_id, needless)
        for peer_id in (*content.dropping, *needless):
            if peer_id in self._roster:
                self.directives.drop(peer_id, content_id)

    def _copies(self, content: PlacedContent) -> list[Kept]:
        """Returns the copies of a content, first those that can best be done without."""
        confirmed: dict[str, bool] = {}
        for placement in content.placements:
            for copy in placement.copies:
                confirmed[copy.peer_id] = copy.confirmed
        beating = {peer.peer_id: peer.free_bytes for peer in self._roster.beating()}
        long_ago = self._clock() - self._grace
        ordered = sorted(confirmed, key=lambda peer_id: (not self._doubted(peer_id), beating.get(peer_id, 0), peer_id))
        return [
            Kept(peer_id, confirmed[peer_id], steady=peer_id in beating and self._since_when(peer_id) <= long_ago)
            for peer_id in ordered
        ]

    def _since_when(self, peer_id: str) -> float:
        return self._since.get(peer_id, self._began)

    def _missing(self, placement: PlacementRecord) -> int:
        away = map(self._since_when, placement.away)
        return missing(placement.wanted, len(placement.copies), away, self._grace, self._clock())

    async def choose(self, placement: PlacementRecord, content: PlacedContent) -> list[str]:
        """Returns further peers for a placement; none when nobody is there to fetch the content from.

        First those that are fetching the same for another owner, then others at random.
        """
        wanted = self._missing(placement)
        if wanted <= 0:
            return []
        holders = await self._store.holders_of(placement.content_id)
        if not holders:
            return []
        mine = {copy.peer_id for copy in placement.copies}
        owners = {one.author for one in content.placements}
        excluded = {placement.author, *owners, *mine, *placement.declined, *content.dropping}
        fetching = [peer for one in content.placements if one.size == placement.size for peer in _unconfirmed(one)]
        shared = sorted(set(fetching) - excluded)[:wanted]
        excluded |= {*holders, *shared}
        more = choose(self._candidates(), placement.size, wanted - len(shared), excluded, self._random)
        return [*shared, *more]

    def _candidates(self) -> Iterator[Candidate]:
        for peer in self._roster.beating():
            if not self._doubted(peer.peer_id):
                yield Candidate(peer.peer_id, peer.free_bytes - self.directives.promised(peer.peer_id))

    def _untold(self, placement: PlacementRecord) -> list[str]:
        """Returns the chosen peers that have not confirmed and are not being told."""
        content_id, placement_id = placement.content_id, placement.placement_id
        return [peer for peer in _unconfirmed(placement) if not self.directives.told(peer, content_id, placement_id)]

    def _direct(self, placement: PlacementRecord, peer_ids: Iterable[str]) -> None:
        directive = StoreCopy(placement.placement_id, placement.content_id, placement.size)
        for peer_id in peer_ids:
            if peer_id in self._roster:
                self.directives.store(peer_id, directive)
            else:  # it left while it was being chosen
                self.look([placement.content_id])


def _unconfirmed(placement: PlacementRecord) -> list[str]:
    return [copy.peer_id for copy in placement.copies if not copy.confirmed]
