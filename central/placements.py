"""Use cases of placements: choosing who stores a copy, telling them, and noting what became of it."""

import asyncio
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

from central import decode, encode
from central.decode import Wish
from central.mutations import Mutations
from central.placement import Candidate, Directive, choose
from central.quotas import Quotas
from central.roster import Roster
from central.store import Batch, Copy, PlacementRecord, Receipt, Store
from core.errors import NotFound
from core.names import printable
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Placement, SignedRequest

log = logging.getLogger("relevo.central")
# Directives in one answer; the rest follow when these are done.
MAX_DIRECTIVES = 100
# Pending placements that are read at once: there may be millions, and others write between two pages.
REFILL_PAGE = 500


class Placements:
    """Placements, and the directives that follow from them, which are kept in memory and can be rebuilt at any time.

    Attributes:
        wanted: set when a placement may find further peers; `refill` then looks for them.
    """

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        mutations: Mutations,
        quotas: Quotas,
        doubted: Callable[[str], bool],
        wall: Callable[[], float],
        random: Random,
    ) -> None:
        self._store = store
        self._roster = roster
        self._mutations = mutations
        self._quotas = quotas
        self._doubted = doubted
        self._wall = wall
        self._random = random
        self._directives: defaultdict[str, dict[str, Directive]] = defaultdict(dict)
        # How many directives wait for each author's placements: new bytes at a path end the one for the old bytes.
        self._awaited: Counter[str] = Counter()
        self._promised: Counter[str] = Counter()  # bytes of each peer's directives
        self._order = asyncio.Lock()
        self.wanted = asyncio.Event()

    def directives(self, peer_id: str) -> Sequence[Directive]:
        """Returns what a peer is to store, the oldest first, at most 100 at once."""
        if peer_id not in self._directives:
            return ()
        return tuple(self._directives[peer_id].values())[:MAX_DIRECTIVES]

    async def place_file(self, signed: SignedRequest) -> bytes:
        """Chooses storing peers and returns the serialized PlaceFileResponse.

        Raises:
            Unauthenticated: the signature is not the author's, or too old or too new.
            NotFound: the author is not logged in, or does not publish the content.
            OverQuota: the author would have more placed than one peer may, and more than before.
        """
        decode.envelope(signed)
        live = self._roster.get(signed.author)
        public_key = live.public_key if live else await self._store.public_key(signed.author)
        if public_key is None:
            raise _not_logged_in(signed.author)
        wish = decode.wish(signed, public_key, self._wall())
        return await self._mutations.run(wish.author, wish.request_id, lambda: self._place(wish))

    async def _place(self, wish: Wish) -> bytes:
        if wish.author not in self._roster:
            raise _not_logged_in(wish.author)
        entry = await self._store.entry(wish.author, wish.path)
        if entry is None or entry.content_id != wish.content_id:
            raise NotFound(
                f"peer {wish.author} does not publish content {wish.content_id.hex()} there; publish it first"
            )
        async with self._order:
            known = await self._store.placement_of(wish.author, wish.content_id)
            placement = PlacementRecord(
                placement_id=known.placement_id if known else secrets.token_hex(16),
                author=wish.author,
                content_id=wish.content_id,
                path=wish.path,
                size=entry.size,
                wanted=wish.replicas,
                copies=known.copies if known else (),
                declined=known.declined if known else (),
            )
            chosen = await self._choose(placement)
            placement = replace(placement, copies=(*placement.copies, *map(Copy, chosen)))
            answer = pb2.PlaceFileResponse(placement=encode.placement(placement, self._roster)).SerializeToString()
            receipt = Receipt(wish.author, wish.request_id, answer, self._wall())
            await self._store.place(placement, receipt, self._quotas)
            self._direct(placement, chosen)
        return answer

    async def get_placement(self, placement_id: str) -> Placement:
        """Returns how far a placement is.

        Raises:
            NotFound: there is no such placement.
        """
        record = await self._store.placement(placement_id)
        if record is None:
            raise NotFound(f"there is no placement {placement_id}")
        return encode.placement(record, self._roster)

    def joined(self) -> None:
        """Notes that a peer has logged in or beats again, and may be chosen."""
        self.wanted.set()

    def lost(self, peer_id: str) -> None:
        """Notes that a peer has left: whatever it was still to store needs another one."""
        for placement_id in tuple(self._directives.get(peer_id, ())):
            self._undirect(peer_id, placement_id)
            self.wanted.set()

    @asynccontextmanager
    async def publishing(self, peer_id: str, batch: Batch) -> AsyncIterator[None]:
        """Surrounds the commit of a batch; afterwards notes which copies it confirms, declines, drops or ends."""
        if batch.stored or batch.dropped or batch.declined or batch.base_version == 0:
            async with self._order:
                yield
                self._published(peer_id, batch)
        else:
            yield
        if batch.added and self._awaited[peer_id]:
            self.wanted.set()

    def _published(self, peer_id: str, batch: Batch) -> None:
        stored = set(batch.stored)
        for directive in tuple(self._directives.get(peer_id, {}).values()):
            if directive.content_id in stored or directive.placement_id in batch.declined:
                self._undirect(peer_id, directive.placement_id)
        for placement_id, reason in batch.declined.items():
            log.info("peer %s declines a copy for placement %s: %s", peer_id, placement_id, printable(reason))
        if batch.dropped:
            log.info("peer %s drops %d copies", peer_id, len(batch.dropped))
        if batch.declined or batch.dropped or batch.base_version == 0:
            self.wanted.set()

    async def refill(self) -> None:
        """Chooses peers for every placement with too few, and sees that exactly those who are to store are told.

        A confirmed copy whose peer left is replaced as well when something sets `wanted`; its leaving alone does not,
        since a peer mostly comes back with its copies.
        """
        self.wanted.clear()
        told = {placement_id for directives in self._directives.values() for placement_id in directives}
        after: int | None = 0
        while after is not None:
            page = await self._store.pending_placements(after, REFILL_PAGE)
            after = page.next
            for placement in page.items:
                told.discard(placement.placement_id)
                if len(placement.copies) < placement.wanted or self._untold(placement):
                    await self._review_in_turn(placement.placement_id)
        for placement_id in sorted(told):  # of placements that are kept by now, or have ended
            await self._review_in_turn(placement_id)

    async def _review_in_turn(self, placement_id: str) -> None:
        async with self._order:
            await self._review(placement_id)

    async def _review(self, placement_id: str) -> None:
        placement = await self._store.placement(placement_id)
        waiting = {copy.peer_id for copy in placement.copies if not copy.confirmed} if placement else set()
        for peer_id in [peer for peer, directives in self._directives.items() if placement_id in directives]:
            if peer_id not in waiting:
                self._undirect(peer_id, placement_id)
        if placement is None:
            return
        self._direct(placement, self._untold(placement))
        chosen = await self._choose(placement)
        if chosen:
            await self._store.add_copies(placement_id, chosen)
            self._direct(placement, chosen)

    async def _choose(self, placement: PlacementRecord) -> list[str]:
        """Returns further peers for a placement; none when nobody is there to fetch the content from."""
        missing = placement.wanted - len(placement.copies)
        candidates = [
            Candidate(peer.peer_id, peer.free_bytes - self._promised[peer.peer_id])
            for peer in self._roster.beating()
            if not self._doubted(peer.peer_id)
        ]
        if missing <= 0 or not candidates:
            return []
        holders = await self._store.holders_of(placement.content_id)
        if not holders:
            return []
        chosen = (copy.peer_id for copy in placement.copies)
        excluded = {placement.author, *holders, *chosen, *placement.declined}
        return choose(candidates, placement.size, missing, excluded, self._random)

    def _untold(self, placement: PlacementRecord) -> list[str]:
        """Returns the chosen peers that have not confirmed and are not being told."""
        return [
            copy.peer_id
            for copy in placement.copies
            if not copy.confirmed and placement.placement_id not in self._directives.get(copy.peer_id, ())
        ]

    def _direct(self, placement: PlacementRecord, peer_ids: Iterable[str]) -> None:
        directive = Directive(placement.placement_id, placement.author, placement.content_id, placement.size)
        for peer_id in peer_ids:
            if peer_id not in self._roster:  # it left while it was being chosen
                self.wanted.set()
                continue
            if placement.placement_id in self._directives[peer_id]:
                continue
            self._directives[peer_id][placement.placement_id] = directive
            self._awaited[placement.author] += 1
            self._promised[peer_id] += placement.size
            self._roster.poke([peer_id])

    def _undirect(self, peer_id: str, placement_id: str) -> None:
        directive = self._directives[peer_id].pop(placement_id)
        self._awaited[directive.author] -= 1
        self._promised[peer_id] -= directive.size
        if not self._awaited[directive.author]:
            del self._awaited[directive.author]
        if not self._directives[peer_id]:
            del self._directives[peer_id], self._promised[peer_id]


def _not_logged_in(author: str) -> NotFound:
    return NotFound(f"peer {author} is not logged in; log in before placing files")
