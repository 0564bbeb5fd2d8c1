"""The library: every file that this peer offers, and its blocks.

What is promised: a file is offered only under the content id of bytes that were in it while its size, mtime and inode
rested; once they change it is withdrawn and hashed anew. A writer that changes bytes and puts size and mtime back is
noticed when the file is next opened for others, not before. `peer.library.selection` says what is never offered.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from core.content import MAX_SMALL
from core.errors import Busy, Corrupt, NotFound, NotPossible, RelevoError
from core.manifest import Manifest
from core.names import check_path, normal, printable
from peer.disk import rooted
from peer.disk.rooted import Stamp
from peer.library.blocks import BlockReader
from peer.library.copies import Copies, Finished, store_name
from peer.library.hashing import Hasher
from peer.library.holdings import Holdings, LibraryFile, Place, PlaceKind, Totals, Touched
from peer.library.index import Index
from peer.library.manifests import Manifests
from peer.library.put import Putter
from peer.library.record import Record
from peer.library.shared_directory import LibrarySettings, SharedDirectory
from peer.library.small import read_whole
from peer.library.worker import Worker

__all__ = ["Library", "LibraryFile", "LibrarySettings"]
log = logging.getLogger("relevo.library")
_READ_THREADS = 8
_CHECK_SECONDS = 5.0
# Checking takes at most about this part of the time, however many downloads there are.
_CHECK_SHARE = 10
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Library:
    """What one peer holds. One event loop; file and SQLite work runs in threads.

    Attributes:
        record: what central is known to hold of it.

    Args:
        shared: the shared directory; it may be missing for a while.
        home: the peer's home, which exists. It holds `index.db` and `store/`, and nothing in it is offered by name.
        clock: monotonic seconds.
        settings: how long to wait for what.
        hasher: what hashes; closed with the library.
    """

    def __init__(
        self,
        shared: Path,
        home: Path,
        clock: Callable[[], float],
        *,
        settings: LibrarySettings | None = None,
        hasher: Hasher | None = None,
    ) -> None:
        home = Path(os.path.realpath(home))
        self._shared = Path(os.path.realpath(shared))
        self._store = home / "store"
        self._clock = clock
        self._index = Index(home / "index.db")
        self._worker = Worker("relevo-index")
        self._hasher = hasher or Hasher()
        self._holdings = Holdings()
        self.record = Record(self._index, self._worker)
        self._manifests = Manifests(self._index, self._worker)
        self._readers = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="relevo-read")
        self._reader = BlockReader()
        self._news = asyncio.Event()
        self._told_version = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._directory = SharedDirectory(
            self._shared,
            home,
            index=self._index,
            worker=self._worker,
            holdings=self._holdings,
            hasher=self._hasher,
            clock=clock,
            notify=self._notify,
            settings=settings or LibrarySettings(),
        )
        self._copies = Copies(self._store, self._index, self._worker, self._holdings, self._hasher)
        self._putter = Putter(self._directory, self._holdings, self._hasher, home)

    async def start(self) -> None:
        """Opens the index, offers stored copies, and begins to look, watch and hash in the background.

        Raises:
            NotPossible: the index cannot be opened, or the home itself is to be shared.
        """
        if self._shared == self._store.parent:
            raise NotPossible("the peer's home cannot be the shared directory; share another one")
        await self._worker.run(self._index.open)
        recover = await self._copies.start()
        await self._putter.start()
        self._directory.start()
        self._notify()
        self._begin(recover())
        self._begin(self._check_now_and_then())

    async def close(self) -> None:
        """Stops everything; nothing may be called afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._directory.close()
        await self._hasher.close()
        await asyncio.to_thread(self._readers.shutdown)
        self._reader.close()
        await self._worker.run(self._index.close)
        await self._worker.close()

    async def wait_scanned(self) -> None:
        """Returns when the files that the first look found are hashed, refused, or have changed since."""
        await self._directory.scanned.wait()

    async def wait_looked(self) -> None:
        """Returns when the first look is over: what is remembered is offered, what is gone is known to be gone."""
        await self._directory.looked.wait()

    @property
    def shared(self) -> Path:
        """The shared directory, absolute, links resolved."""
        return self._shared

    @property
    def files(self) -> Mapping[str, LibraryFile]:
        """What is to be published, by catalogue path: the shared directory and finished downloads elsewhere.

        A snapshot. A download elsewhere stands back when the shared directory has its path.
        """
        return self._holdings.files

    @property
    def stored(self) -> Mapping[bytes, int]:
        """Copies kept for others, content id to size in bytes: a snapshot."""
        return self._holdings.stored

    def file(self, path: str) -> LibraryFile | None:
        """Returns what `files` has at a path."""
        return self._holdings.file(path)

    @property
    def totals(self) -> Totals:
        """How many files and bytes `files` and `stored` have at this moment."""
        return self._holdings.totals

    def stores(self, content_id: bytes) -> bool:
        """Tells whether `stored` has a content."""
        return self._holdings.stores(content_id)

    def take_touched(self) -> Touched:
        """Returns where `files` and `stored` may have changed since this was last called; for one caller."""
        return self._holdings.take_touched()

    @property
    def skipped(self) -> Mapping[str, str]:
        """Printable path to the reason, in one sentence, why a file or directory is not offered: a snapshot.

        Hidden files and those that `.relevoignore` keeps out are not listed.
        """
        elsewhere = {printable(location): reason for location, reason in self._holdings.conflicts.items()}
        return elsewhere | self._directory.skipped

    @property
    def unhashed_count(self) -> int:
        """Number of files that are found and not hashed yet, those that are still being written among them."""
        return self._directory.unhashed_count

    async def changed(self) -> None:
        """Returns when `files` or `stored` may differ from when this last returned; for one caller."""
        while self._holdings.version == self._told_version:
            self._news.clear()
            await self._news.wait()
        self._told_version = self._holdings.version

    async def manifest(self, content_id: bytes) -> Manifest:
        """Returns the manifest of a content that is held.

        Raises:
            NotFound: it is not held.
            Corrupt, NotPossible: the index is damaged or cannot be read.
        """
        if self._holdings.place(content_id) is None:
            raise NotFound(f"{content_id.hex()} is not held here")
        return await self._manifests.get(content_id)

    async def read_run(self, content_id: bytes, index: int, count: int = 1) -> bytes | memoryview:
        """Returns `count` blocks of a content from block `index` on, from wherever they still are as they were.

        A place that has changed or cannot be read is withdrawn and looked at again, and the next one is tried.

        Raises:
            NotFound: the content is not held.
            IndexError: it has no such blocks.
            Corrupt: it was held, and no place has it any more.
            Busy: this process can open no more files.
            NotPossible: the index cannot be read.
        """
        manifest = await self.manifest(content_id)
        loop = asyncio.get_running_loop()
        while (place := self._holdings.place(content_id)) is not None:
            try:
                cached = self._reader.at_hand(place, manifest, index, count)
                if cached is not None:  # the way to a thread and back would take longer
                    return cached
                return await loop.run_in_executor(self._readers, self._reader.read, place, manifest, index, count)
            except (OSError, RelevoError) as error:
                await self._not_read(content_id, place, error)
        raise Corrupt(f"{content_id.hex()} has changed or cannot be read, and is not held here any more")

    async def read_small(self, content_ids: Sequence[bytes], room: int) -> list[bytes | RelevoError]:
        """Returns for the first of these contents all their bytes, or NotFound, or NotPossible for one not small.

        It ends before the content with which there would be more than `room` bytes; it has one at least. A place that
        has changed or cannot be read is withdrawn, and the next one is tried, as by `read_run`.

        Raises:
            Busy: this process can open no more files.
        """
        wanted: dict[bytes, Place] = {}
        said: list[RelevoError | None] = []
        for content_id in content_ids:
            place = self._holdings.place(content_id)
            if place is None:
                said.append(NotFound(f"{content_id.hex()} is not held here"))
            elif place.stamp.size > MAX_SMALL:
                said.append(NotPossible(f"{content_id.hex()} is not small"))
            elif said and place.stamp.size > room:
                break
            else:
                room -= place.stamp.size
                wanted[content_id] = place
                said.append(None)
        loop = asyncio.get_running_loop()
        found: dict[bytes, bytes] = {}
        while wanted:
            read = await loop.run_in_executor(self._readers, read_whole, list(wanted.items()))
            again: dict[bytes, Place] = {}
            for (content_id, place), data in zip(wanted.items(), read, strict=True):
                if isinstance(data, bytes):
                    found[content_id] = data
                    continue
                await self._not_read(content_id, place, data)
                if (another := self._holdings.place(content_id)) is not None:
                    again[content_id] = another
            wanted = again
        gone = NotFound("the file has changed or cannot be read")
        return [
            found.get(content_id, gone) if problem is None else problem
            for content_id, problem in zip(content_ids, said, strict=False)
        ]

    async def _not_read(self, content_id: bytes, place: Place, error: OSError | RelevoError) -> None:
        """Withdraws a place that cannot be read as it was. Raises Busy when it may well be as it was."""
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            raise Busy("too many files are open; try again", 1.0) from error
        log.warning("%s is withdrawn: %s", printable(str(place.location)), error)
        await self._withdraw(content_id, place, changed=isinstance(error, Corrupt))

    def own_location(self, content_id: bytes) -> Path | None:
        """Returns where the user's own file with these bytes lies, shared or fetched; None when only a copy is kept."""
        place = self._holdings.place(content_id)
        return None if place is None or place.kind is PlaceKind.STORED else place.location

    async def find_local(self, content_id: bytes) -> Path | None:
        """Returns where a file with these bytes lies, absolute, for copying; None when there is none.

        Its size, mtime and inode have just been compared. Verify what is copied all the same.
        """
        while (place := self._holdings.place(content_id)) is not None:
            try:
                status = await asyncio.to_thread(rooted.status, place.root, place.disk)
            except OSError:
                status = None
            if status is not None and Stamp.of(status) == place.stamp:
                return place.location
            await self._withdraw(content_id, place, changed=status is not None)
        return None

    async def add_fetched(self, location: Path, path: str, manifest: Manifest) -> None:
        """Offers a finished download without hashing it again.

        Args:
            location: absolute. Inside the shared directory it is offered under its path there; elsewhere under `path`
                until it is moved or changed, which is remembered across restarts.
            path: path in the catalogue.
            manifest: of the bytes that were written.

        Raises:
            NotFound: no such file is there.
            Corrupt: it has another size than the manifest says.
            InvalidInput: `path` may not be a path in the catalogue.
            NotPossible: the index cannot be written.
        """
        await self.add_all_fetched([await asyncio.to_thread(Finished(location, path, manifest).stamped)])

    async def add_all_fetched(self, finished: Sequence[Finished]) -> None:
        """Offers finished downloads as `add_fetched` does, in one go; one that is gone or has changed is left out.

        Raises:
            InvalidInput: a path may not be a path in the catalogue.
            NotPossible: the index cannot be written.
        """
        for one in finished:
            check_path(one.path)
        inside, elsewhere = await asyncio.to_thread(_sorted_out, finished, self._shared)
        news = [one for one in elsewhere if not self._offers(one)]
        if news:
            await self._copies.add_fetched(news)
        if inside:
            await self._directory.offer_all(inside)
        self._notify()

    def _offers(self, finished: Finished) -> bool:
        known = self._holdings.fetched(finished.location)
        return known is not None and known[0].stamp == finished.stamp and known[1].path == finished.path

    def offered(self, location: Path) -> tuple[Stamp, bytes] | None:
        """Returns how the file at a location looks and which content it has, when that is offered; else None.

        `location` is absolute, links resolved.
        """
        if location.is_relative_to(self._shared):
            known = self._holdings.shared(normal(str(location.relative_to(self._shared))))
        else:
            known = self._holdings.fetched(location)
        return None if known is None else (known[0].stamp, known[1].content_id)

    async def add_stored(self, manifest: Manifest) -> None:
        """Offers a copy for others that stands at `store_path`; durable when it returns.

        Raises:
            NotFound: it does not stand there.
            Corrupt: it has another size than the manifest says.
            NotPossible: the index cannot be written.
        """
        await self._copies.add_stored(manifest)
        self._notify()

    async def drop_stored(self, content_id: bytes) -> None:
        """Withdraws and deletes a copy for others; one that is not there is dropped already.

        Raises:
            NotPossible: it cannot be removed, or the index cannot be written.
        """
        await self._copies.drop_stored(content_id)
        self._notify()

    def store_path(self, content_id: bytes) -> Path:
        """Returns where a copy for others lies: `store/<2 hex>/<64 hex>` in the home."""
        return self._store / store_name(content_id)

    async def share(self, source: Path) -> LibraryFile:
        """Shares a file that the local user names, and returns it as `files` has it.

        One inside the shared directory is offered where it is; one outside is copied to the top of it, under its own
        name, sharing blocks where the file system can.

        Raises:
            NotFound: there is no such file.
            AlreadyExists: the shared directory has other bytes under that name.
            NotPossible: it is not a regular file, is being written, or cannot be shared under its name.
        """
        return await self._putter.share(source)

    async def rescan(self) -> None:
        """Looks at everything now; returns when what has changed is withdrawn. New files are hashed afterwards."""
        await self._directory.look({""})
        await self._copies.check_fetched()
        self._notify()

    async def _withdraw(self, content_id: bytes, place: Place, *, changed: bool) -> None:
        """Withdraws a place and has it looked at again; when it has `changed`, what is remembered of it goes too."""
        self._reader.forget(place)
        if place.kind is PlaceKind.SHARED:
            await self._directory.doubt(place, changed=changed)
        elif place.kind is PlaceKind.STORED:
            self._holdings.drop_stored(content_id)
            self._begin(self._copies.recover(content_id))
        elif changed:
            await self._copies.forget(place)
        else:
            self._holdings.drop_fetched(place.location)
        self._notify()

    async def _check_now_and_then(self) -> None:
        pause = _CHECK_SECONDS
        while True:
            await asyncio.sleep(pause)
            self._reader.close_idle()
            began = self._clock()
            try:
                await self._copies.check_fetched()
            except RelevoError as error:
                log.warning("downloads outside the shared directory are not checked: %s", error)
            pause = max(_CHECK_SECONDS, _CHECK_SHARE * (self._clock() - began))
            self._notify()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the library is not kept up any more", exc_info=task.exception())
        self._notify()

    def _notify(self) -> None:
        if self._holdings.version != self._told_version:
            self._news.set()


def _sorted_out(finished: Sequence[Finished], shared: Path) -> tuple[dict[str, Finished], list[Finished]]:
    """Returns the downloads in the shared directory, by their paths on disk, and those elsewhere. Blocks."""
    parents: dict[Path, Path] = {}
    inside: dict[str, Finished] = {}
    elsewhere: list[Finished] = []
    for one in finished:
        parent = one.location.parent
        if parent not in parents:
            parents[parent] = Path(os.path.realpath(parent))
        location = parents[parent] / one.location.name
        try:
            there = replace(one, location=location).stamped()
        except (NotFound, Corrupt) as error:
            log.info("%s is not offered: %s", printable(str(location)), error)
            continue
        if location.is_relative_to(shared):
            inside[str(location.relative_to(shared))] = there
        else:
            elsewhere.append(there)
    return inside, elsewhere
