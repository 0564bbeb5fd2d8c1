"""Keeps what is offered in step with the shared directory: looks, waits until files settle, has them hashed, offers."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import Corrupt, RelevoError
from core.manifest import Manifest
from core.names import normal, printable
from peer.disk.listed import as_listed
from peer.library.collecting import collecting_rarely
from peer.library.copies import Finished
from peer.library.hash_queue import HashQueue
from peer.library.hashing import Hashed, Hasher
from peer.library.holdings import Holdings, LibraryFile, Place, PlaceKind
from peer.library.ignore import IGNORE_FILE, IgnoreRules, read_rules, reason_of
from peer.library.index import Index
from peer.library.scan import Found, Scanner
from peer.library.selection import ancestors, outermost
from peer.library.settling import Settling
from peer.library.tree import Changes, Tree
from peer.library.watch import RootWatch
from peer.library.worker import Worker

log = logging.getLogger("relevo.library")
# Looking at everything takes at most this part of the time.
_LOOK_SHARE = 10
# So many files are looked up in the index at once.
_ASK_FILES = 2_000


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """Times in seconds.

    Attributes:
        rest: how long a file has to be unchanged before it is hashed.
        tick: how often the root is checked, and everything looked at while the system reports no changes.
        rescan: how often everything is looked at while it does report them.
    """

    rest: float = 0.5
    tick: float = 1.0
    rescan: float = 60.0


class SharedDirectory:
    """The shared directory as the library sees it.

    Attributes:
        looked: set once everything has been looked at.
        scanned: set once the files of the first look are hashed, are refused, or have changed since.
        tree: what was last seen.
        rules: the ignore rules in force.
    """

    def __init__(
        self,
        root: Path,
        home: Path,
        *,
        index: Index,
        worker: Worker,
        holdings: Holdings,
        hasher: Hasher,
        clock: Callable[[], float],
        notify: Callable[[], None],
        settings: LibrarySettings,
    ) -> None:
        self.root = root
        self.tree = Tree()
        self.rules = IgnoreRules()
        self.looked = asyncio.Event()
        self.scanned = asyncio.Event()
        self._scanner = Scanner(root, [home])
        self._index = index
        self._worker = worker
        self._holdings = holdings
        self._clock = clock
        self._notify = notify
        self._settings = settings
        self._settling = Settling(settings.rest)
        self._queue = HashQueue(root, hasher, self._hashed)
        self._unreadable: dict[str, str] = {}  # catalogue path to reason
        self._doubted: set[str] = set()  # catalogue paths
        self._first: dict[str, Found] | None = None
        self._dirty: set[str] = {""}
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._rested_until = 0.0  # before this time everything is not looked at again
        self._watch: RootWatch | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def unhashed_count(self) -> int:
        """Number of files that are found and not hashed yet."""
        return len(self._settling) + len(self._queue)

    @property
    def skipped(self) -> dict[str, str]:
        """Printable path to reason."""
        unreadable = {printable(path): reason for path, reason in self._unreadable.items()}
        return unreadable | {printable(disk): reason for disk, reason in self.tree.skipped.items()}

    def start(self) -> None:
        """Begins to look, watch and hash in the background."""
        loop = asyncio.get_running_loop()

        def report(scopes: set[str]) -> None:
            with suppress(RuntimeError):  # the loop has ended before the watcher did
                loop.call_soon_threadsafe(self.look_later, scopes)

        self._watch = RootWatch(self.root, report)
        self._tasks = [asyncio.create_task(self._run(self._watch)), asyncio.create_task(self._queue.run())]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def close(self) -> None:
        """Stops everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watch is not None:
            await asyncio.to_thread(self._watch.stop)

    def look_later(self, scopes: Iterable[str]) -> None:
        """Has some paths on disk looked at soon; the empty one stands for everything."""
        self._dirty.update(scopes)
        self._wake.set()

    async def look(self, scopes: set[str]) -> None:
        """Looks at some paths on disk now, withdraws what has changed, and offers what was hashed before."""
        async with self._lock:
            scopes = outermost(scopes)
            if IGNORE_FILE in scopes:
                scopes = {""}
            started = self._clock()
            self._forget_doubted()
            with collecting_rarely():
                scopes, changes = await asyncio.to_thread(self._compare, scopes)
                wanted = self._apply(changes)
                if "" in scopes:
                    now = self._clock()
                    self._rested_until = now + _LOOK_SHARE * (now - started)
                    wanted += [self.tree.found[path] for path in self._unreadable if path in self.tree.found]
                await self._offer_known(wanted)
            if "" in scopes and self.tree.found:
                await self._prune()
            if "" in scopes and self._first is None:
                self.looked.set()
                self._first = {found.path: found for found in wanted if found.path in self._settling}
                self._first_are_done([])
        self._notify()

    async def find(self, disk: str) -> Found | None:
        """Looks at one path on disk and returns the file that may be offered from there."""
        await self.look({disk})
        found = self.tree.found.get(normal(disk))
        return found if found is not None and await self._is_at(found, disk) else None

    async def _is_at(self, found: Found, disk: str) -> bool:
        """Tells whether a path leads to a file: some file systems list names in another form than they were given."""
        return found.disk == disk or found.disk == await asyncio.to_thread(as_listed, self.root, disk)

    def refusal_of(self, disk: str) -> str:
        """Returns why a path on disk, or a directory above it, is skipped; empty when it has no line of its own."""
        return next((self.tree.skipped[each] for each in [*ancestors(disk), disk] if each in self.tree.skipped), "")

    async def offer(self, found: Found, content_id: bytes, manifest: Manifest) -> None:
        """Offers a file whose manifest is known, without waiting or hashing, if it still looks as it was found.

        Raises:
            NotPossible: the index cannot be written.
        """
        await self._hashed([Hashed(found, manifest, content_id)], patient=False)

    async def offer_all(self, finished: Mapping[str, Finished]) -> None:
        """Offers files by their paths on disk, without waiting or hashing, if they still look as they were finished.

        Raises:
            NotPossible: the index cannot be written.
        """
        await self.look(set(finished))
        hashed = []
        for disk, one in finished.items():
            found = self.tree.found.get(normal(disk))
            if found is not None and found.stamp == one.stamp and await self._is_at(found, disk):
                hashed.append(Hashed(found, one.manifest, one.manifest.content_id))
        await self._hashed(hashed, patient=False)

    async def doubt(self, place: Place, *, changed: bool) -> None:
        """Withdraws a file that could not be read as it was, and has it looked at again.

        When its bytes have `changed` it is hashed again even if it looks the same.

        Raises:
            NotPossible: the index cannot be written.
        """
        path = normal(place.disk)
        offered = self._holdings.shared(path)
        if offered is not None and offered[0] == place:
            self._holdings.drop_shared(path)
        if changed:
            await self._worker.run(self._index.forget_file, place.disk)
        self._doubted.add(path)
        self.look_later({place.disk})

    async def _run(self, watch: RootWatch) -> None:
        while True:
            await self._round(watch)
            with suppress(TimeoutError):  # asyncio.wait_for of Python 3.11 may swallow a cancellation here
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()

    async def _round(self, watch: RootWatch) -> None:
        self._wake.clear()
        another = await asyncio.to_thread(watch.check)
        since_full = self._settings.rescan if watch.working else self._settings.tick
        scopes, self._dirty = self._dirty, set()
        if another or self._clock() >= self._rested_until + since_full:
            scopes = {""}
        if scopes:
            await self.look(scopes)
        self._queue.put(self._settling.settled(self._clock()))

    def _pause(self) -> float:
        """Returns how long there is nothing to do, in seconds."""
        settled = self._settling.next_time()
        until = self._settings.tick if settled is None else settled - self._clock()
        return min(max(until, 0.001), self._settings.tick)

    def _forget_doubted(self) -> None:
        """Makes the next look at doubted files the first: a look at everything passes over what looks as before."""
        for path in self._doubted:
            self.tree.found.pop(path, None)
            self._holdings.drop_shared(path)
        self._doubted.clear()

    def _compare(self, scopes: set[str]) -> tuple[set[str], Changes]:
        """Looks, on a thread; only `look` changes the tree, under its lock, so it may be read here."""
        if "" in scopes:
            self.rules = read_rules(self.root)
        sight = self._scanner.look(scopes, self.rules)
        if sight.problem:
            scopes = {""}
        return scopes, self.tree.compare(scopes, sight)

    def _apply(self, changes: Changes) -> list[Found]:
        """Takes the changes over, withdraws what is not as it was, and returns the files that need a content id."""
        self.tree.apply(changes)
        for path in changes.gone:
            self._holdings.drop_shared(path)
            self._settling.forget([path])
            self._queue.forget(path)
            self._unreadable.pop(path, None)
        self._dirty |= changes.again
        wanted: list[Found] = []
        for found in changes.new:
            self._unreadable.pop(found.path, None)
            offered = self._holdings.shared(found.path)
            if offered is not None and offered[0] == self._place(found):
                self._holdings.put_shared(offered[0], _file(found, offered[1].content_id))
            elif not self._queue.has(found):
                self._holdings.drop_shared(found.path)
                self._queue.forget(found.path)
                wanted.append(found)
        first = self._first or {}
        self._first_are_done([*changes.gone, *(each.path for each in changes.new if first.get(each.path) != each)])
        return wanted

    async def _offer_known(self, wanted: list[Found]) -> None:
        """Offers files that the index knows as they are; the others wait until they have settled."""
        for start in range(0, len(wanted), _ASK_FILES):  # in pieces, between which others get their turn
            some = wanted[start : start + _ASK_FILES]
            try:
                known = await self._worker.run(self._index.known, [found.disk for found in some])
            except RelevoError as error:
                log.warning("files are hashed again: %s", error)
                known = {}
            now = self._clock()
            for found in some:
                stamp, content_id = known.get(found.disk, (None, b""))
                if stamp == found.stamp:
                    self._settling.forget((found.path,))
                    self._holdings.put_shared(self._place(found), _file(found, content_id))
                else:
                    self._settling.seen(found, now)

    async def _prune(self) -> None:
        paths = frozenset(self.tree.found)
        try:
            await self._worker.run(self._index.prune, lambda disk: normal(disk) in paths, len(paths))
        except RelevoError as error:
            log.warning("the index is not tidied: %s", error)

    async def _hashed(self, outcomes: list[Hashed], *, patient: bool = True) -> None:
        """Remembers and offers what was hashed, unless it looks otherwise by now."""
        rows = [
            (each.found.disk, each.found.stamp, each.content_id, each.manifest) for each in outcomes if each.manifest
        ]
        problem: RelevoError | None = None
        try:
            await self._worker.run(self._index.put_files, rows)
        except RelevoError as error:
            if not patient:
                raise
            problem = error
        for each in outcomes:
            if self.tree.found.get(each.found.path) == each.found:
                self._settle_outcome(each.found, each.content_id, each.problem or problem)
        self._first_are_done(each.found.path for each in outcomes)
        self._notify()

    def _settle_outcome(self, found: Found, content_id: bytes, problem: OSError | RelevoError | None) -> None:
        if problem is None:
            self._settling.forget([found.path])
            self._queue.forget(found.path)
            self._unreadable.pop(found.path, None)
            self._holdings.put_shared(self._place(found), _file(found, content_id))
        elif isinstance(problem, Corrupt | FileNotFoundError):
            self.look_later({found.disk})
        else:
            self._unreadable[found.path] = f"it cannot be hashed: {reason_of(problem)}"

    def _first_are_done(self, paths: Iterable[str]) -> None:
        """Notes which files of the first look need no more waiting for."""
        if self._first is not None:
            for path in paths:
                self._first.pop(path, None)
            if not self._first:
                self.scanned.set()

    def _place(self, found: Found) -> Place:
        return Place(PlaceKind.SHARED, self.root, found.disk, found.stamp)


def _file(found: Found, content_id: bytes) -> LibraryFile:
    return LibraryFile(found.path, content_id, found.stamp.size, found.stamp.modify_time, found.executable)


def _tell(task: asyncio.Task[None]) -> None:
    """Logs what no task should end with."""
    if not task.cancelled() and task.exception() is not None:
        log.error("the shared directory is not kept up any more", exc_info=task.exception())
