"""What each peer is to store and to drop, as it is told with every beat until it has done so. Kept in memory only.

All of it follows from what the store has, and is made anew from there after a restart.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import chain, islice

# Directives in one answer; the rest follow when these are done.
MAX_DIRECTIVES = 100


@dataclass(frozen=True, slots=True)
class StoreCopy:
    """A chosen peer is to store a content of `size` bytes for a placement."""

    placement_id: str
    content_id: bytes
    size: int


@dataclass(frozen=True, slots=True)
class DropCopy:
    """A peer is to delete its copy of a content, or to stop fetching it."""

    content_id: bytes


class Directives:
    """The directives of all peers.

    Args:
        poke: has a peer told the latest state at once.
    """

    def __init__(self, poke: Callable[[Iterable[str]], None]) -> None:
        self._poke = poke
        # By peer, content and placement: two owners may want the same content of a peer.
        self._stores: dict[str, dict[bytes, dict[str, StoreCopy]]] = {}
        self._drops: dict[str, dict[bytes, DropCopy]] = {}
        self._promised: Counter[str] = Counter()

    def of(self, peer_id: str) -> Sequence[StoreCopy | DropCopy]:
        """Returns what a peer is to do, at most 100 at once, the oldest first: what makes room before what takes it."""
        stores = chain.from_iterable(one.values() for one in self._stores.get(peer_id, {}).values())
        return tuple(islice(chain(self._drops.get(peer_id, {}).values(), stores), MAX_DIRECTIVES))

    def promised(self, peer_id: str) -> int:
        """Returns the bytes of all that a peer is still to store."""
        return self._promised[peer_id]

    def told(self, peer_id: str, content_id: bytes, placement_id: str) -> bool:
        """Tells whether a peer is told to store a content for a placement."""
        return placement_id in self._stores.get(peer_id, {}).get(content_id, {})

    def contents(self, peer_id: str) -> Set[bytes]:
        """Returns the contents that a peer is told to store."""
        return self._stores.get(peer_id, {}).keys()

    def all_contents(self) -> set[bytes]:
        """Returns the contents that any peer is told to store."""
        return {content_id for stores in self._stores.values() for content_id in stores}

    def store(self, peer_id: str, directive: StoreCopy) -> None:
        """Has a peer store a copy."""
        if self.told(peer_id, directive.content_id, directive.placement_id):
            return
        stores = self._stores.setdefault(peer_id, {})
        stores.setdefault(directive.content_id, {})[directive.placement_id] = directive
        self._promised[peer_id] += directive.size
        self._poke([peer_id])

    def drop(self, peer_id: str, content_id: bytes) -> None:
        """Has a peer drop a copy, and not store it any more."""
        self.stored(peer_id, content_id)
        drops = self._drops.setdefault(peer_id, {})
        if content_id not in drops:
            drops[content_id] = DropCopy(content_id)
            self._poke([peer_id])

    def stored(self, peer_id: str, content_id: bytes) -> None:
        """Notes that a peer has stored a content."""
        for placement_id in list(self._stores.get(peer_id, {}).get(content_id, {})):
            self._forget(peer_id, content_id, placement_id)

    def dropped(self, peer_id: str, content_id: bytes) -> None:
        """Notes that a peer has dropped a content."""
        drops = self._drops.get(peer_id, {})
        drops.pop(content_id, None)
        if not drops:
            self._drops.pop(peer_id, None)

    def declined(self, peer_id: str, placement_ids: Set[str]) -> set[bytes]:
        """Notes that a peer stores nothing for some placements; returns the contents that it was to store for them."""
        found = [
            (content_id, placement_id)
            for content_id, stores in self._stores.get(peer_id, {}).items()
            for placement_id in stores.keys() & placement_ids
        ]
        for content_id, placement_id in found:
            self._forget(peer_id, content_id, placement_id)
        return {content_id for content_id, _ in found}

    def lost(self, peer_id: str) -> set[bytes]:
        """Notes that a peer has left, and returns the contents that it was still to store."""
        self._drops.pop(peer_id, None)
        self._promised.pop(peer_id, None)
        return set(self._stores.pop(peer_id, {}))

    def keep_only(self, content_id: bytes, wanted: Set[tuple[str, str]]) -> None:
        """Takes back the store directives for a content but for these pairs of peer and placement."""
        for peer_id, stores in list(self._stores.items()):
            for placement_id in list(stores.get(content_id, {})):
                if (peer_id, placement_id) not in wanted:
                    self._forget(peer_id, content_id, placement_id)

    def _forget(self, peer_id: str, content_id: bytes, placement_id: str) -> None:
        stores = self._stores[peer_id]
        self._promised[peer_id] -= stores[content_id].pop(placement_id).size
        if not stores[content_id]:
            del stores[content_id]
        if not stores:
            del self._stores[peer_id], self._promised[peer_id]
