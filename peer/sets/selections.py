"""Which files a set is made of, and where each is to stand. Pure."""

from dataclasses import dataclass

from core.names import last_part

_SPECIAL = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Selection:
    """Files of the catalogue: those beneath a directory, or those that a shell pattern finds; one of them is empty.

    Attributes:
        directory: under the rules of a path.
        pattern: as `ListFilesRequest.query` has it.
    """

    directory: str = ""
    pattern: str = ""

    @property
    def name(self) -> str:
        """What the user typed: `photos/`, or the pattern."""
        return f"{self.directory}/" if self.directory else self.pattern

    def target(self, path: str) -> str:
        """Returns where the file at `path` of the catalogue is to stand, relative to the directory that was chosen.

        What lies beneath a directory goes beneath its last part. What a pattern finds keeps its place below the
        directories with which the pattern begins: for `a/b/*.txt`, `a/b/c/x.txt` goes to `c/x.txt`.
        """
        if self.directory:
            return f"{last_part(self.directory)}{path[len(self.directory) :]}"
        # Patterns fold case, so these directories are counted, not compared.
        parts = path.split("/")
        return "/".join(parts[min(fixed_parts(self.pattern), len(parts) - 1) :])


def fixed_parts(pattern: str) -> int:
    """Returns with how many directories a pattern begins that stand for themselves only."""
    parts = pattern.split("/")[:-1]
    return next((at for at, part in enumerate(parts) if _SPECIAL & set(part)), len(parts))


def is_pattern(text: str) -> bool:
    """Tells whether a name may be meant as a shell pattern."""
    return "*" in text or "?" in text or "]" in text.partition("[")[2]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a set.

    Attributes:
        path: in the catalogue.
        target: where it is to stand, relative.
        content_id: 32 bytes.
        size: in bytes, as it is listed.
        modify_time: to give to the file, in seconds since 1970; None leaves the time of writing.
        executable: whether those who may read it may execute it.
    """

    path: str
    target: str
    content_id: bytes
    size: int
    modify_time: float | None
    executable: bool
