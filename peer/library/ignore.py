"""What the user keeps out of the network: `.relevoignore` at the top of the shared directory, in gitignore's syntax."""

import os
from collections.abc import Iterable
from pathlib import Path

from pathspec import GitIgnoreSpec

from core.errors import RelevoError
from core.names import normal
from peer.disk import rooted

IGNORE_FILE = ".relevoignore"
_MAX_BYTES = 1024 * 1024


class IgnoreRules:
    """The patterns of one ignore file.

    Attributes:
        problem: what is wrong with the file, in one sentence; empty when nothing is. The other lines hold.
    """

    def __init__(self, lines: Iterable[str] = (), problem: str = "") -> None:
        good: list[str] = []
        for number, line in enumerate(lines, 1):
            try:
                GitIgnoreSpec.from_lines([line])
            except ValueError:
                problem = problem or f"line {number} is not a pattern, and is passed over"
            else:
                good.append(line)
        self.problem = problem
        self._spec = GitIgnoreSpec.from_lines(good)
        self._empty = not any(pattern.include is not None for pattern in self._spec.patterns)

    def ignores(self, path: str) -> bool:
        """Tells whether a path (NFC, relative) is kept out; a directory's path ends with `/`.

        A file in a directory that is kept out is not asked about: as in git it cannot be let in again.
        """
        return not self._empty and self._spec.match_file(path)


def read_rules(root: Path) -> IgnoreRules:
    """Returns the rules of a shared directory; none when it has no ignore file. Blocks.

    Patterns are brought to NFC, as the paths that they are compared with. An ignore file that is a link, larger than
    1 MiB or cannot be read gives no rules and a `problem`.
    """
    try:
        descriptor = rooted.open_file(root, IGNORE_FILE)
    except FileNotFoundError:
        return IgnoreRules()
    except (OSError, RelevoError) as error:
        return IgnoreRules(problem=f"it cannot be read, so nothing is kept out: {reason_of(error)}")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        return IgnoreRules(problem="it is larger than 1 MiB, so nothing is kept out")
    return IgnoreRules(normal(data.decode("utf-8-sig", "replace")).splitlines())


def reason_of(error: Exception) -> str:
    """Returns what the system says about a failure, without names of files."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
