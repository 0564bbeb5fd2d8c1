"""What a trial took: time, processor time and memory of both sides, as the system counts them. Linux only."""

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

GB = 1e9
_MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a transfer: processor seconds, its children's among them, and most bytes of memory at once."""

    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One file brought from one side to the other: bytes, seconds, and what each side took."""

    size: int
    seconds: float
    giving: Side
    taking: Side

    @property
    def rate(self) -> float:
        """MB a second."""
        return self.size / 1e6 / self.seconds

    @property
    def cpu(self) -> float:
        """Processor seconds of both sides together for each GB."""
        return (self.giving.cpu + self.taking.cpu) / (self.size / GB)


class Watched:
    """A process from now on: what it takes until `side` is asked. Its peak of memory begins anew."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = used(pid)
        Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")

    def side(self) -> Side:
        """Returns what it has taken since."""
        return Side(used(self._pid) - self._before, peak(self._pid))


def used(pid: int) -> float:
    """Returns the processor seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def peak(pid: int) -> int:
    """Returns the most bytes that a process has had in memory at once; 0 when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def processors() -> tuple[int, int]:
    """Returns the time that all processors have worked, and all their time, in ticks."""
    times = [int(field) for field in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
    idle = times[3] + times[4]
    return sum(times) - idle, sum(times)


def busy(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Returns the part of the machine's processors that was used between two readings of `processors`, 0 to 1."""
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def fault_in(size: int) -> None:
    """Has the system's next `size` bytes of free memory be real ones.

    The host of a virtual machine takes back what its guest does not use, and whoever is given such memory first pays
    for its return: up to two seconds a GB, which would be a matter of chance between contenders.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass


Reading = Callable[[Trial], float]
READINGS: tuple[tuple[str, str, Reading], ...] = (
    ("MB a second", ".0f", lambda trial: trial.rate),
    ("CPU seconds a GB, both sides", ".2f", lambda trial: trial.cpu),
    ("giving side's peak, MiB", ".0f", lambda trial: trial.giving.peak / _MIB),
    ("taking side's peak, MiB", ".0f", lambda trial: trial.taking.peak / _MIB),
)


def medians(trials: dict[str, list[Trial]]) -> str:
    """Returns the medians of each contender as a Markdown table."""
    lines = [_row("", *(text for text, _, _ in READINGS)), "|---" * (len(READINGS) + 1) + "|"]
    for name, rounds in trials.items():
        lines.append(_row(name, *(f"{median(map(read, rounds)):{form}}" for _, form, read in READINGS)))
    return "\n".join(lines)


def ratios(trials: dict[str, list[Trial]], pairs: Sequence[tuple[str, str, str, Reading]]) -> str:
    """Returns what one contender is as a multiple of another, round by round, as a Markdown table.

    Args:
        trials: rounds of each contender, in the order in which they were run.
        pairs: what is compared, the two contenders, and how a trial is read.
    """
    lines = [_row("", "median", "least", "most"), "|---|---|---|---|"]
    for text, one, other, read in pairs:
        found = [read(mine) / read(theirs) for mine, theirs in zip(trials[one], trials[other], strict=True)]
        lines.append(_row(text, *(f"{value:.2f}" for value in (median(found), min(found), max(found)))))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
