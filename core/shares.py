"""So much of something, in all and for each holder: one that takes its whole share leaves the rest to the others."""


class Shares:
    """Counts what holders have. Remembers only those that have something."""

    def __init__(self, most: int, each: int) -> None:
        """There are `most` in all, and nobody has more than `each` at once."""
        self._free = most
        self._each = each
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        """How many nobody has."""
        return self._free

    def take(self, who: str, amount: int = 1) -> bool:
        """Tells whether `who` gets so many more, and counts them as its own when it does."""
        held = self._held.get(who, 0) + amount
        if amount > self._free or held > self._each:
            return False
        self._free -= amount
        self._held[who] = held
        return True

    def give_back(self, who: str, amount: int = 1) -> None:
        """Takes back what `who` has taken; once for each `take` that was granted."""
        self._free += amount
        left = self._held[who] - amount
        if left:
            self._held[who] = left
        else:
            del self._held[who]
