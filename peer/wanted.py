"""The blocks that a download is still to ask for, in the order in which to ask."""

from collections.abc import Iterable, Set
from heapq import heapify, heappop, heappush


class Wanted:
    """A set of block indexes that yields the rarest first; among equals, those after a starting point come first.

    A block that was asked for in vain goes behind the others. Downloaders that start at different points fetch
    different blocks first, and can then help each other. Holders of everything make no block rarer than another, so
    only what partial holders have is counted.
    """

    def __init__(self, block_count: int, indexes: Iterable[int], start: int) -> None:
        """Wants `indexes` of a content of `block_count` blocks; `start` is reduced to that range."""
        self._count = max(block_count, 1)
        self._start = start % self._count
        self._members = set(indexes)
        self._holders: dict[int, int] = {}
        self._attempts: dict[int, int] = {}
        self._heap = [self._key(index) for index in self._members]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, index: int) -> bool:
        return index in self._members

    def put_back(self, index: int) -> None:
        """Wants `index` again, which nobody has given."""
        if index not in self._members:
            self._attempts[index] = self._attempts.get(index, 0) + 1
            self._members.add(index)
            heappush(self._heap, self._key(index))

    def remove(self, index: int) -> None:
        """Wants `index` no longer, for it has been asked for."""
        self._members.discard(index)

    def count(self, indexes: Iterable[int], change: int) -> None:
        """Notes that one more (`change` 1) or one less (-1) partial holder has `indexes`."""
        for index in indexes:
            self._holders[index] = self._holders.get(index, 0) + change
            if index in self._members:
                heappush(self._heap, self._key(index))

    def first(self) -> int | None:
        """Returns the block to ask of a holder of everything, or None when none is wanted."""
        while self._heap:
            index = (self._heap[0] % self._count + self._start) % self._count
            # Keys stay behind when a block is removed or its rarity changes; they are met here and thrown away.
            if index in self._members and self._heap[0] == self._key(index):
                return index
            heappop(self._heap)
        return None

    def first_of(self, blocks: Set[int]) -> int | None:
        """Returns the block to ask of a holder of `blocks`, or None when it has none that is wanted."""
        return min(self._members & blocks, key=self._key, default=None)

    def _key(self, index: int) -> int:
        rank = self._holders.get(index, 0) + self._attempts.get(index, 0)
        return rank * self._count + (index - self._start) % self._count
