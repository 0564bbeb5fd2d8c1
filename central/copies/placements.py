"""Use cases of placements: an author wants copies of a file, asks how far they are, and gives them up."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from central import decode, encode
from central.copies.directives import DropCopy, StoreCopy
from central.copies.upkeep import Upkeep
from central.decode import Farewell, Wish
from central.mutations import Mutations
from central.quotas import Quotas
from central.sessions.roster import Roster
from central.store.store import Batch, Copy, Outcome, PlacedContent, PlacementRecord, Receipt, Store
from core.errors import NotFound
from core.names import printable
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Placement, SignedRequest

log = logging.getLogger("relevo.central")
# Other owners of a content that are named to who has no claim to it.
_NAMED = 5


class Placements:
    """What authors ask of their copies, and what storing peers say of them.

    Attributes:
        upkeep: keeps what is promised here.
    """

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        mutations: Mutations,
        upkeep: Upkeep,
        quotas: Quotas,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._roster = roster
        self._mutations = mutations
        self.upkeep = upkeep
        self._quotas = quotas
        self._wall = wall

    def directives(self, peer_id: str) -> Sequence[StoreCopy | DropCopy]:
        """Returns what a peer is to store and to drop, at most 100 at once."""
        return self.upkeep.directives.of(peer_id)

    def joined(self) -> None:
        """Notes that a peer beats again, and may be chosen."""
        self.upkeep.look_everywhere()

    async def place_file(self, signed: SignedRequest) -> bytes:
        """Chooses storing peers and returns the serialized PlaceFileResponse.

        Raises:
            Unauthenticated: the signature is not the author's, or too old or too new.
            NotFound: the author is not logged in, or does not publish the content.
            OverQuota: the author would have more placed than one peer may, and more than before.
        """
        wish = decode.wish(signed, await self._key_of(signed), self._wall())
        return await self._mutations.run(wish.author, wish.request_id, lambda: self._place(wish))

    async def _place(self, wish: Wish) -> bytes:
        self._check_logged_in(wish.author)
        entry = await self._store.entry(wish.author, wish.path)
        if entry is None or entry.content_id != wish.content_id:
            raise NotFound(
                f"peer {wish.author} does not publish content {wish.content_id.hex()} there; publish it first"
            )
        async with self.upkeep.order:
            content = await self._store.placed_content(wish.content_id)
            known = _placement_of(content, wish.author)
            if known is None:
                known = PlacementRecord(
                    placement_id=secrets.token_hex(16),
                    author=wish.author,
                    content_id=wish.content_id,
                    path=wish.path,
                    size=entry.size,
                    wanted=wish.replicas,
                    copies=tuple(Copy(peer, confirmed=True) for peer in content.stored if peer != wish.author),
                    away=tuple(peer for peer in content.away if peer != wish.author),
                )
            placement = replace(known, path=wish.path, size=entry.size, wanted=wish.replicas)
            chosen = await self.upkeep.choose(placement, content)
            placement = replace(placement, copies=(*placement.copies, *map(Copy, chosen)))
            answer = pb2.PlaceFileResponse(placement=encode.placement(placement, self._roster)).SerializeToString()
            receipt = Receipt(wish.author, wish.request_id, answer, self._wall())
            outcome = await self._store.place(placement, receipt, self._quotas)
            await self.upkeep.look_at(wish.content_id)
        self.upkeep.look(outcome.contents)
        return answer

    async def end_placement(self, signed: SignedRequest) -> bytes:
        """Gives up the author's claim to copies of a content and returns the serialized EndPlacementResponse.

        Raises:
            Unauthenticated: the signature is not the author's, or too old or too new.
            NotFound: the author is not logged in, or wants no copies of the content; the message says who does.
        """
        farewell = decode.farewell(signed, await self._key_of(signed), self._wall())
        return await self._mutations.run(farewell.author, farewell.request_id, lambda: self._end(farewell))

    async def _end(self, farewell: Farewell) -> bytes:
        self._check_logged_in(farewell.author)
        async with self.upkeep.order:
            content = await self._store.placed_content(farewell.content_id)
            placement = _placement_of(content, farewell.author)
            if placement is None:
                raise self._no_claim(farewell, content)
            others = [one.wanted for one in content.placements if one is not placement]
            answer = pb2.EndPlacementResponse(
                placement=encode.placement(placement, self._roster), wanted_copies=max(others, default=0)
            ).SerializeToString()
            receipt = Receipt(farewell.author, farewell.request_id, answer, self._wall())
            outcome = await self._store.end_placement(farewell.author, farewell.content_id, receipt)
            await self.upkeep.look_at(farewell.content_id)
        self.upkeep.look(outcome.contents)
        return answer

    def _no_claim(self, farewell: Farewell, content: PlacedContent) -> NotFound:
        what = f"this peer has not asked for copies of {farewell.content_id.hex()}"
        owners = [
            live.name if (live := self._roster.get(one.author)) else f"peer {one.author}" for one in content.placements
        ]
        if not owners:
            return NotFound(f"{what}, and neither has anybody else")
        more = f" and {len(owners) - _NAMED} more" if len(owners) > _NAMED else ""
        names = ", ".join(map(printable, owners[:_NAMED]))
        return NotFound(f"{what}; {names}{more} did, and only who has asked for copies can give them up")

    async def get_placement(self, placement_id: str) -> Placement:
        """Returns how far a placement is.

        Raises:
            NotFound: there is no such placement.
        """
        record = await self._store.placement(placement_id)
        if record is None:
            raise NotFound(f"there is no placement {placement_id}")
        return encode.placement(record, self._roster)

    @asynccontextmanager
    async def publishing(self, peer_id: str, batch: Batch) -> AsyncIterator[None]:
        """Surrounds the commit of a batch that says something of copies, and notes what it says."""
        if batch.stored or batch.dropped or batch.declined or batch.base_version == 0:
            async with self.upkeep.order:
                yield
                self._published(peer_id, batch)
        else:
            yield

    def published(self, outcome: Outcome) -> None:
        """Notes whose placements follow what a batch has published."""
        self.upkeep.look(outcome.contents)

    def _published(self, peer_id: str, batch: Batch) -> None:
        directives = self.upkeep.directives
        self.upkeep.look(directives.contents(peer_id) & set(batch.stored))
        for content_id in batch.stored:
            directives.stored(peer_id, content_id)
        for content_id in batch.dropped:
            directives.dropped(peer_id, content_id)
        self.upkeep.look(batch.dropped)
        self.upkeep.look(directives.declined(peer_id, batch.declined.keys()))
        for placement_id, reason in batch.declined.items():
            log.info("peer %s declines a copy for placement %s: %s", peer_id, placement_id, printable(reason))
        if batch.dropped:
            log.info("peer %s drops %d copies", peer_id, len(batch.dropped))
        if batch.base_version == 0:
            self.upkeep.look_everywhere()

    async def _key_of(self, signed: SignedRequest) -> bytes:
        decode.envelope(signed)
        live = self._roster.get(signed.author)
        public_key = live.public_key if live else await self._store.public_key(signed.author)
        if public_key is None:
            raise _not_logged_in(signed.author)
        return public_key

    def _check_logged_in(self, author: str) -> None:
        if author not in self._roster:
            raise _not_logged_in(author)


def _placement_of(content: PlacedContent, author: str) -> PlacementRecord | None:
    return next((one for one in content.placements if one.author == author), None)


def _not_logged_in(author: str) -> NotFound:
    return NotFound(f"peer {author} is not logged in; log in before placing files")
