"""Which downloads run: so many at once, the most urgent first. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """How urgent a download is; the greater comes first."""

    LOW = 1
    NORMAL = 2
    HIGH = 3

    @property
    def weight(self) -> float:
        """How much it gets of a limit that it shares with others; one that is normal gets 1."""
        return float(4 ** (self - Priority.NORMAL))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A download that could run now.

    Attributes:
        name: which one.
        priority: how urgent it is.
        runs: whether it runs already.
    """

    name: str
    priority: Priority
    runs: bool


def chosen(candidates: Iterable[Candidate], most: int) -> Sequence[str]:
    """Returns the names of those that are to run, at most `most`, the first first.

    `candidates` come in the order in which they were accepted. One of a higher priority takes the place of one of a
    lower, which waits until there is a place again; among equals, nobody who runs is made to wait.
    """
    return [one.name for one in sorted(candidates, key=lambda one: (-one.priority, not one.runs))[:most]]
