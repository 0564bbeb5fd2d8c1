"""What is measured of a swarm, on hosts or in a simulation, and what came out, beside the least time of any scheme."""

import statistics
from dataclasses import dataclass, field

MBIT = 1e6
PATIENCE = 300.0


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: says it in a few words.
        downloaders: how many.
        mib: size of the file.
        mbit: rate of every link, each way.
        slow: part of that which the last downloader's link sends.
        apart: seconds from one downloader's start to the next one's.
        kill: whether the first holder is killed as soon as the others have every block together.
        chain: whether it is no swarm at all: each host hands on to the next, by gRPC alone (bench/chain.py).
    """

    name: str
    downloaders: int
    mib: int
    mbit: float
    slow: float = 1.0
    apart: float = 0.0
    kill: bool = False
    chain: bool = False


@dataclass
class Result:
    """What came out.

    Attributes:
        bound: least seconds in which the last could have finished, or each newcomer of those who come one by one.
        seconds: of each downloader, in the order in which they began.
        copies: of the file that the first holder sent.
        busy: part of the machine's processors that was used meanwhile: near 1 the machine is slower than the links are.
    """

    case: Case
    rate: float
    bound: float
    seconds: list[float] = field(default_factory=list)
    copies: float = 0.0
    busy: float = 0.0

    @property
    def ratio(self) -> float:
        """The slowest downloader's time to the bound."""
        return max(self.seconds) / self.bound


def least_time(size: float, up: float, ups: list[float], downs: list[float]) -> float:
    """Returns the seconds before which no scheme ends; rates in bytes a second."""
    return max(size / up, size / min(downs), len(ups) * size / (up + sum(ups)))


HEAD = ("case", "file, links", "least time", "last", "ratio", "median", "copies by the first holder", "processors busy")


def row(result: Result) -> tuple[str, ...]:
    """Returns a result as a row of the table."""
    case = result.case
    return (
        case.name,
        f"{case.mib} MiB, {case.mbit:.0f} Mbit/s",
        f"{result.bound:.1f} s",
        f"{max(result.seconds):.1f} s",
        f"{result.ratio:.2f}",
        f"{statistics.median(result.seconds) / result.bound:.2f}",
        f"{result.copies:.2f}",
        f"{100 * result.busy:.0f} %",
    )
