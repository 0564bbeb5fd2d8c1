"""Files that are still being written: a file is settled when its size and mtime have rested for a while. Pure.

The system reports changes, not that a writer is done, so that rest is all there is to go by. It also keeps files from
being hashed within the same tick of the file system's clock in which they were written, when a later write could leave
size and mtime as they were.
"""

from collections.abc import Iterable

from peer.library.scan import Found


class Settling:
    """Waits for files to rest.

    Args:
        rest: seconds without a change after which a file is settled.
    """

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._waiting: dict[str, tuple[Found, float]] = {}  # the longest unchanged first

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, path: str) -> bool:
        return path in self._waiting

    def seen(self, found: Found, now: float) -> None:
        """Notes how a file looks at `now`; it rests since then unless it looks as before."""
        known = self._waiting.get(found.path)
        if known is None or known[0] != found:
            self._waiting.pop(found.path, None)
            self._waiting[found.path] = (found, now)

    def forget(self, paths: Iterable[str]) -> None:
        """Drops files that are gone."""
        for path in paths:
            self._waiting.pop(path, None)

    def settled(self, now: float) -> list[Found]:
        """Removes and returns the files that have rested."""
        ready: list[Found] = []
        for found, since in self._waiting.values():
            if since + self._rest > now:
                break
            ready.append(found)
        self.forget(found.path for found in ready)
        return ready

    def next_time(self) -> float | None:
        """Returns when the next file is settled if it goes on resting; None when none waits."""
        first = next(iter(self._waiting.values()), None)
        return None if first is None else first[1] + self._rest
