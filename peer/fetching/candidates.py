"""Whom one download may ask: the holders that are known, what each is asked for first, and how many at once. Pure."""

from collections.abc import Iterable
from itertools import islice

from peer.fetching.asks import Holder
from peer.fetching.block_sets import every
from peer.fetching.pace import Pace, PaceLimits

# Of more peers than this that fetch the content too, so many are asked, and for blocks of any hand: what came to one of
# very many first hand would be late everywhere if nobody else passed it on.
_CROWD = 20
_ASKED_OF_CROWD = 10


class Candidates:
    """The holders of one download.

    Attributes:
        holders: by name.
    """

    def __init__(self, blocks: int, limits: PaceLimits) -> None:
        """Knows nobody yet; the content has so many blocks, and `limits` bound every single holder."""
        self.holders: dict[str, Holder] = {}
        self._complete: dict[str, Holder] = {}
        self._shares: dict[str, int] = {}
        self._blocks = blocks
        self._limits = limits
        self._banned: set[str] = set()

    @property
    def spreads(self) -> bool:
        """Whether each complete holder is asked for its own share first."""
        return len(self._complete) < max(2, len(self.holders))

    @property
    def others(self) -> bool:
        """Whether anybody is known who fetches the content too."""
        return len(self.holders) > len(self._complete)

    @property
    def crowded(self) -> bool:
        """Whether these are very many."""
        return len(self.holders) - len(self._complete) > _CROWD

    def join(self, name: str, *, complete: bool, steady_rate: float = 0.0) -> bool:
        """Takes up a holder, or notes that it is complete now; returns whether it may be asked."""
        if name in self._banned:
            return False
        holder = self.holders.get(name)
        if holder is None:
            holder = self.holders[name] = Holder(name, Pace(self._limits, steady_rate), complete)
        holder.complete |= complete
        if holder.complete and name not in self._complete:
            self._complete[name] = holder
            self._shares.clear()
        return True

    def leave(self, name: str) -> Holder | None:
        """Forgets a holder and returns it; None when it is not known."""
        if self._complete.pop(name, None):
            self._shares.clear()
        return self.holders.pop(name, None)

    def ban(self, name: str) -> None:
        """Never takes up a holder again."""
        self._banned.add(name)

    def has(self, holder: Holder) -> bool:
        """Tells whether a holder has not left meanwhile."""
        return self.holders.get(holder.name) is holder

    def is_banned(self, holder: Holder) -> bool:
        """Tells whether a holder is never taken up again."""
        return holder.name in self._banned

    def goes_last(self, holder: Holder) -> None:
        """Has the others of a crowd come before a holder."""
        if self.has(holder):
            self.holders[holder.name] = self.holders.pop(holder.name)
            if holder.complete:
                self._complete[holder.name] = self._complete.pop(holder.name)

    def complete(self) -> Iterable[Holder]:
        """Returns the holders that have every block."""
        return self._complete.values()

    def share(self, holder: Holder) -> int:
        """Returns a complete holder's share of the blocks: the same one, whoever shares them out."""
        if not self._shares:
            count = len(self._complete)
            self._shares = {name: every(self._blocks, count, rank) for rank, name in enumerate(sorted(self._complete))}
        return self._shares[holder.name]

    def asked(self, now: float) -> list[Holder]:
        """Returns the holders that are asked: of a crowd that fetches the content too, the first that do not rest."""
        if not self.crowded:
            return list(self.holders.values())
        partial = (each for each in self.holders.values() if not each.complete and each.pace.rests_until <= now)
        return [*self.complete(), *islice(partial, _ASKED_OF_CROWD)]

    def rest_ends(self) -> list[float]:
        """Returns when each holder's rest ends."""
        return [holder.pace.rests_until for holder in self.holders.values()]
