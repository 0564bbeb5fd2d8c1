"""How far a set of files is: files and bytes, what went wrong, and the files that are on their way one by one."""

from dataclasses import dataclass, field

from core.errors import RelevoError
from peer.fetching.progress import Progress, Source
from peer.fetching.reaching import How
from peer.links.contacts import Contact

# Problems that are remembered; of the others only the number is.
MOST_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """A file, or a selection, that could not be fetched."""

    path: str
    error: RelevoError


@dataclass(slots=True)
class SetProgress(Progress):
    """A set of files.

    Attributes:
        size: bytes of the files found so far.
        found: number of files found so far.
        listed: whether all are found.
        done: number of files that are in place.
        present_files: of these, those that stood there already.
        failed: number of files that cannot be fetched.
        problems: why not, the first of them.
        worst: of all errors, the one with the highest exit code.
        parts: by path, the large files that are on their way.
    """

    size: int = 0
    found: int = 0
    listed: bool = False
    done: int = 0
    present_files: int = 0
    failed: int = 0
    problems: list[Problem] = field(default_factory=list)
    worst: RelevoError | None = None
    parts: dict[str, "Part"] = field(default_factory=dict)

    def again(self) -> "SetProgress":
        """Returns the progress of another try, which lists and looks anew."""
        return SetProgress(sources=self.sources)

    def find(self, size: int) -> None:
        """Notes a file of `size` bytes."""
        self.found += 1
        self.size += size

    def fail(self, path: str, error: RelevoError) -> None:
        """Notes that something cannot be fetched."""
        self.failed += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(path, error))
        if self.worst is None or error.exit_code > self.worst.exit_code:
            self.worst = error


class Part(Progress):
    """One file of a set: what is noted here is noted of the set too.

    Attributes:
        was_present: whether the file stood there already.
    """

    def __init__(self, size: int, whole: SetProgress) -> None:
        """`size` in bytes, as the set has counted it."""
        super().__init__(size)
        self.was_present = False
        self._whole = whole

    def source(self, contact: Contact) -> Source:
        """Returns the record of a holder; the set gets one too."""
        self._whole.source(contact)
        return super().source(contact)

    def present(self, count: int) -> None:
        """Notes `count` bytes that stood at the target."""
        super().present(count)
        self.was_present = True
        self._whole.present(count)

    def resumed(self, count: int) -> None:
        """Notes `count` bytes that were on disk already."""
        super().resumed(count)
        self._whole.resumed(count)

    def copied(self, count: int) -> None:
        """Notes `count` bytes that were copied from a local file."""
        super().copied(count)
        self._whole.copied(count)

    def came(self, count: int, now: float) -> None:
        """Notes `count` bytes of a block that is not complete yet."""
        super().came(count, now)
        self._whole.came(count, now)

    def fetched(self, peer_id: str, count: int, now: float, how: How = How.DIRECT) -> None:
        """Notes `count` verified bytes from a holder at `now`, and which way they came."""
        super().fetched(peer_id, count, now, how)
        self._whole.fetched(peer_id, count, now, how)
