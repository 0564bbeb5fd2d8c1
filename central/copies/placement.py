"""The choice of peers that are to store a copy. Pure: chance is handed in."""

import heapq
from collections.abc import Iterable, Set
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live peer and the bytes that it offers for copies and has not used or promised."""

    peer_id: str
    free_bytes: int


def choose(candidates: Iterable[Candidate], size: int, wanted: int, excluded: Set[str], random: Random) -> list[str]:
    """Returns up to `wanted` distinct peers that can store `size` bytes, drawn at random.

    A peer's chance is in proportion to its free space, so that disks fill evenly. Those that must not be chosen, such
    as the author, the holders and whoever declined, are `excluded`. Fewer than wanted, or none, when no more have room.

    The draw is a race: each peer's time is exponential with its free space as rate, and the fastest win, which is
    sampling by weight without replacement (Efraimidis and Spirakis, 2006).
    """
    if wanted <= 0:
        return []
    race = (
        (random.expovariate(max(candidate.free_bytes, 1)), candidate.peer_id)
        for candidate in candidates
        if candidate.free_bytes >= size and candidate.peer_id not in excluded
    )
    return [peer_id for _, peer_id in heapq.nsmallest(wanted, race)]
