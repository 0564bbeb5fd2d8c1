"""Whom one download may ask: the holders that are known, what each is asked for first, and how many at once. Pure."""

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
        spreads: whether each complete holder is asked for its own share first.
        others: whether anybody is known who fetches the content too.
        crowded: whether these are very many.
    """

    def __init__(self, blocks: int, limits: PaceLimits) -> None:
        """Knows nobody yet; the content has so many blocks, and `limits` bound every single holder."""
        self.holders: dict[str, Holder] = {}
        self.spreads = self.others = self.crowded = False
        self._blocks = blocks
        self._limits = limits
        self._banned: set[str] = set()

    def join(self, name: str, *, complete: bool) -> bool:
        """Takes up a holder, or notes that it is complete now; returns whether it may be asked."""
        if name in self._banned:
            return False
        holder = self.holders.get(name)
        if holder is None:
            self.holders[name] = Holder(name, Pace(self._limits), complete)
        elif complete:
            holder.complete = True
        self._share_out()
        return True

    def leave(self, name: str) -> Holder | None:
        """Forgets a holder and returns it; None when it is not known."""
        holder = self.holders.pop(name, None)
        if holder is not None:
            self._share_out()
        return holder

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

    def complete(self) -> list[Holder]:
        """Returns the holders that have every block."""
        return [holder for holder in self.holders.values() if holder.complete]

    def asked(self, now: float) -> list[Holder]:
        """Returns the holders that are asked: of a crowd that fetches the content too, the first that do not rest."""
        if not self.crowded:
            return list(self.holders.values())
        partial = [each for each in self.holders.values() if not each.complete and each.pace.rests_until <= now]
        return self.complete() + partial[:_ASKED_OF_CROWD]

    def rest_ends(self) -> list[float]:
        """Returns when each holder's rest ends."""
        return [holder.pace.rests_until for holder in self.holders.values()]

    def _share_out(self) -> None:
        """Gives each complete holder its share of the blocks: the same one, whoever shares them out."""
        complete = sorted(self.complete(), key=lambda holder: holder.name)
        partial = len(self.holders) - len(complete)
        self.spreads = len(complete) < max(2, len(self.holders))
        self.others, self.crowded = partial > 0, partial > _CROWD
        for rank, holder in enumerate(complete):
            holder.share = every(self._blocks, len(complete), rank)
