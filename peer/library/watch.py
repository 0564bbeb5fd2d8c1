"""Hears of changes beneath the shared directory from the system, and admits when it cannot.

watchfiles reports changes within fractions of a second, but it may lose some (a full queue, a watch limit, an unmounted
disk, a name that is not UTF-8, which ends it), and it says nothing about what happened before it was ready. So this
watcher reports doubts too: the empty path means that everything is to be looked at again.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from watchfiles import watch

from peer.library.selection import OWN_BEGIN

log = logging.getLogger("relevo.library")
_STEP_MS = 50
_MOST_MS = 250
_IDLE_MS = 1000
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_QUIET_ROUNDS = 10  # idle rounds after which an earlier failure counts no more


class Watcher:
    """Watches on a thread of its own, which also walks the directory when it begins.

    Args:
        root: what to watch, resolved.
        report: called on the watcher's thread with relative paths as on disk; the empty one stands for everything.
    """

    def __init__(self, root: Path, report: Callable[[set[str]], None]) -> None:
        self._root = root
        self._prefix = str(root).rstrip("/") + "/"
        self._report = report
        self._stop = threading.Event()
        self._working = threading.Event()
        self._pause = _FIRST_PAUSE
        self._thread = threading.Thread(target=self._run, name="relevo-watch", daemon=True)

    @property
    def working(self) -> bool:
        """Whether changes are being reported; when they are not, look for yourself."""
        return self._working.is_set()

    def start(self) -> None:
        """Begins to watch; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, within a fraction of a second once the watch is set up, and waits for it. Blocks."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except (OSError, RuntimeError) as error:
                if self._root.is_dir():
                    log.warning("changes in %s are found by looking from time to time: %s", self._root, error)
            self._working.clear()
            self._stop.wait(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _watch(self) -> None:
        changes = watch(
            self._root,
            watch_filter=None,
            debounce=_MOST_MS,
            step=_STEP_MS,
            rust_timeout=_IDLE_MS,
            yield_on_timeout=True,
            stop_event=self._stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        quiet = 0
        for some in changes:
            quiet = 0 if some else quiet + 1
            if quiet == _QUIET_ROUNDS:
                self._pause = _FIRST_PAUSE
            scopes = self.scopes_of(path for _, path in some)
            if not self._working.is_set():
                self._working.set()
                scopes = {""}
            if scopes:
                self._report(scopes)

    def scopes_of(self, paths: Iterable[str]) -> set[str]:
        """Returns the relative paths to look at; a name that was garbled on its way becomes its directory.

        What this program has in progress is none: it is written to all the time, and is another name when it is done.
        """
        scopes: set[str] = set()
        for path in paths:
            if path.rpartition("/")[2].startswith(OWN_BEGIN):
                continue
            relative = path.removeprefix(self._prefix) if path.startswith(self._prefix) else ""
            while "\N{REPLACEMENT CHARACTER}" in relative:
                relative = relative.rpartition("/")[0]
            scopes.add(relative)
        return scopes


class RootWatch:
    """Watches a directory that may go away and come back, as a mount point does."""

    def __init__(self, root: Path, report: Callable[[set[str]], None]) -> None:
        self._root = root
        self._report = report
        self._watcher: Watcher | None = None
        self._identity: tuple[int, int] | None = None
        # A look that is under way when everything stops goes on in its thread.
        self._turn = threading.Lock()
        self._stopped = False

    @property
    def working(self) -> bool:
        """Whether changes are being reported."""
        watcher = self._watcher
        return watcher is not None and watcher.working

    def check(self) -> bool:
        """Returns whether another directory (or none) stands there than before, and watches the new one. Blocks."""
        try:
            status = self._root.stat()
        except OSError:
            identity = None
        else:
            identity = (status.st_dev, status.st_ino)
        with self._turn:
            if identity == self._identity or self._stopped:
                return False
            self._end()
            self._identity = identity
            if identity is not None:
                self._watcher = Watcher(self._root, self._report)
                self._watcher.start()
            return True

    def stop(self) -> None:
        """Ends watching, for good. Blocks."""
        with self._turn:
            self._stopped = True
            self._end()

    def _end(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
