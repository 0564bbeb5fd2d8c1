"""Whether promised copies are there: how many more a placement needs, which copies of a content nobody needs. Pure.

A copy is *confirmed* when its peer says that it is on disk. What a peer that has just left had confirmed still counts
for a grace, since most come back with all that they had; what it was still to fetch does not. Copies are dropped only
when those that certainly stay are enough for every owner of the content: confirmed, on peers whose heartbeat has been
in order for a while. So no copy that is dropped is missed afterwards.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """An owner of a content and how many copies it wants beside its own."""

    author: str
    wanted: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy on a peer that is logged in.

    Attributes:
        confirmed: whether it is on disk, as far as central has been told.
        steady: whether the peer's heartbeat is in order and it has been there long enough to have told otherwise.
    """

    peer_id: str
    confirmed: bool
    steady: bool


def missing(wanted: int, present: int, away: Iterable[float], grace: float, now: float) -> int:
    """Returns how many more peers are to be chosen for a placement.

    Args:
        wanted: copies that were promised.
        present: copies on peers that are logged in, confirmed or being made.
        away: since when peers that had confirmed a copy are not logged in, in seconds.
        grace: how long such a copy counts all the same, in seconds.
        now: on the clock of `away`.
    """
    returning = sum(now - since < grace for since in away)
    return max(0, wanted - present - returning)


def spare(claims: Sequence[Claim], copies: Sequence[Kept]) -> list[str]:
    """Returns the peers whose copy no owner needs, the first of `copies` first.

    An owner's own copy never counts for itself. Those that are still being made go before confirmed ones, and those on
    peers that are not steady before others. Without an owner nothing is spare: that a content is not wanted any more
    has to be said by who wanted it, since central may have lost its store.
    """
    if not claims:
        return []
    sure = {copy.peer_id for copy in copies if copy.confirmed and copy.steady}
    dropped = []
    for copy in sorted(copies, key=lambda copy: (copy.confirmed, copy.steady)):
        rest = sure - {copy.peer_id}
        if all(_enough(claim, rest) for claim in claims):
            dropped.append(copy.peer_id)
            sure = rest
    return dropped


def _enough(claim: Claim, peers: Set[str]) -> bool:
    return len(peers - {claim.author}) >= claim.wanted
