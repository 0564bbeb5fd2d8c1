"""Whether others can dial this peer, judged by what its neighbours have found when they tried. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

# One that does not answer may just be busy: only so many failures in a row count.
FAILURES = 2


class Reachability(Enum):
    """Whether others can dial a peer."""

    UNKNOWN = auto()  # nobody has tried: it counts as if they could
    DIALABLE = auto()
    HIDDEN = auto()


@dataclass(frozen=True, slots=True)
class Found:
    """What one neighbour has found: how many addresses it tried, and whether one worked."""

    tried: int
    worked: bool


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds until the next try: after a failure that does not count yet, when nobody answers, else by the verdict."""

    doubtful: float = 1.5
    unanswered: float = 5.0
    unknown: float = 300.0
    dialable: float = 300.0
    hidden: float = 120.0


class Judge:
    """Judges one experiment after the other.

    Attributes:
        verdict: the latest.
    """

    def __init__(self, *, named: bool, pauses: Pauses | None = None) -> None:
        """`named` when this peer's user has said where others reach it, rather than that it was found."""
        self.verdict = Reachability.UNKNOWN
        self._named = named
        self._pauses = pauses or Pauses()
        self._failures = 0

    def hear(self, found: Sequence[Found]) -> float:
        """Takes what neighbours have found; none when none has answered. Returns the seconds until the next try.

        A neighbour that had no address to try sees this peer at another one than those that it knows of: a translator
        stands between, and nobody gets in. But where others reach it the user knows better.
        """
        pauses = self._pauses
        if any(one.worked for one in found):
            self.verdict, self._failures = Reachability.DIALABLE, 0
            return pauses.dialable
        if not found:
            return pauses.unanswered
        if not any(one.tried or not self._named for one in found):
            return pauses.unknown
        self._failures += 1
        if self._failures < FAILURES:
            return pauses.doubtful
        self.verdict = Reachability.HIDDEN
        return pauses.hidden
