"""How what a relay has is shared out: between those who ask through it, and those who are asked. Pure."""

from core.shares import Shares

# Beyond this part of all of it, whoever has a fair share already gets no more: the rest is for whoever comes next.
_OPEN = 3 / 4


class RelayShares:
    """So much of something, in all, for each asker and for each holder.

    While much of it is free, an asker may have as much as any may have. When it runs short, each gets what there would
    be for each if one more came: so one who comes late finds something too, however greedy the others are.
    """

    def __init__(self, most: int, each_asker: int, each_holder: int) -> None:
        """There are `most` in all."""
        self._most = most
        self._askers = Shares(most, each_asker)
        self._holders = Shares(most, each_holder)
        self._held: dict[str, int] = {}

    def take(self, asker: str, holder: str, amount: int = 1) -> bool:
        """Tells whether there is so much for what `asker` wants of `holder`, and counts it when there is."""
        held = self._held.get(asker, 0) + amount
        used = self._most - self._askers.free + amount
        others = len(self._held.keys() - {asker})
        # The first of what one takes is never too much for it: an answer may be larger than a share of very many.
        if used > _OPEN * self._most and held > amount and held > self._most // (others + 2):
            return False
        if not self._askers.take(asker, amount):
            return False
        if not self._holders.take(holder, amount):
            self._askers.give_back(asker, amount)
            return False
        self._held[asker] = held
        return True

    def give_back(self, asker: str, holder: str, amount: int = 1) -> None:
        """Takes back what was taken; once for each `take` that was granted."""
        self._askers.give_back(asker, amount)
        self._holders.give_back(holder, amount)
        self._held[asker] -= amount
        if not self._held[asker]:
            del self._held[asker]
