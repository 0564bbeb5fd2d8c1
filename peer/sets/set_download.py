"""Fetches a set of files: the small ones many at a time, the large ones each by a download of its own.

A small file counts as done when it stands under its name and both are on disk. Files are written in batches, as many as
have come while the last batch was synced, so that a slow disk makes larger batches and a fast one earlier files.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from core.content import MAX_SMALL
from core.errors import AlreadyExists, InvalidInput, NotFound, NotPossible, RelevoError
from core.manifest import Manifest, manifest_of
from peer.disk import rooted
from peer.disk.disk_errors import disk_error
from peer.disk.rooted import Stamp
from peer.fetching.pieces import Allowance
from peer.fetching.targets import existing_manifest, exists_already
from peer.fetching.transfer import Downloader, FetchRequest
from peer.library.copies import Finished
from peer.links.contacts import Holder
from peer.sets.gatherer import FindMany, Gathered, Gatherer
from peer.sets.selections import Entry, Selection
from peer.sets.set_progress import Part, SetProgress
from peer.sets.small_files import SmallFile, write_small

log = logging.getLogger("relevo.downloads")
T = TypeVar("T")

# Small files that are looked up together.
CHUNK = 256
# Small files, and bytes of them, that are on their way at once.
MOST_OPEN, MOST_BYTES = 1024, 8 * 1024 * 1024
# Small files that get their names together.
BATCH = 512
# Large files that are fetched at the same time.
LARGE_AT_ONCE = 4
# Files of so many bytes at most, and so many bytes of them, are looked up together. What takes longer to come looks for
# itself: central then names those who are fetching it too.
LOCATED_EACH, LOCATED_BYTES = 4 * 1024 * 1024, 16 * 1024 * 1024
# What was fetched is offered to others at least so often, in seconds: each time costs a transaction.
OFFER_SECONDS = 1.0
_EMPTY = manifest_of(b"")
# What a selection stands for, some files at a time; an error for each path that has several contents.
Listing = AsyncIterator[list[Entry | AlreadyExists]]


class Shelf(Protocol):
    """What a set takes from the library, and offers in it."""

    def offered(self, location: Path) -> tuple[Stamp, bytes] | None:
        """Returns how the file at a location looks and which content it has, when that is offered; else None."""
        ...

    async def read_small(self, content_ids: Sequence[bytes], room: int) -> list[bytes | RelevoError]:
        """Returns for the first of these contents all their bytes, `room` bytes at most, or why they are not here."""
        ...

    async def add_all_fetched(self, finished: Sequence[Finished]) -> None:
        """Offers finished downloads without hashing them again. Raises NotPossible."""
        ...


@dataclass(frozen=True, slots=True)
class _Come:
    """A content that has come, and where it is to go."""

    entries: tuple[Entry, ...]
    data: bytes
    manifest: Manifest
    given: Gathered | None


class SetDownload:
    """One set of files on its way into `root`."""

    def __init__(
        self,
        root: Path,
        progress: SetProgress,
        *,
        gatherer: Gatherer,
        downloader: Downloader,
        find_many: FindMany,
        shelf: Shelf,
        clock: Callable[[], float],
        allowance: Allowance | None = None,
    ) -> None:
        """`gatherer` fetches small contents for this set alone, `downloader` the others, within `allowance`.

        `find_many` asks who holds each of many contents; it may raise RelevoError.

        Links in `root` itself are resolved.
        """
        self._root = root
        self._progress = progress
        self._gatherer = gatherer
        self._downloader = downloader
        self._find_many = find_many
        self._shelf = shelf
        self._clock = clock
        self._allowance = allowance
        self._small: asyncio.Queue[Entry] = asyncio.Queue()
        self._large: asyncio.Queue[Entry] = asyncio.Queue()
        self._located: asyncio.Queue[tuple[Entry, tuple[Holder, ...]]] = asyncio.Queue(1)
        self._come: asyncio.Queue[_Come] = asyncio.Queue()
        self._waiting: dict[bytes, list[Entry]] = {}
        self._open = 0  # entries that have not ended
        self._all_ended = asyncio.Event()
        self._under_way = _Room(MOST_OPEN, MOST_BYTES)
        self._finished: list[Finished] = []
        self._offered_at = clock()

    async def run(self, listings: Sequence[tuple[Selection, Listing]]) -> None:
        """Returns when every file that is listed stands at its place, or cannot be had.

        Raises:
            NotPossible: the disk is full or fails.
            RelevoError: some files could not be fetched; the kind is that of the worst of their errors.
        """
        try:
            async with asyncio.TaskGroup() as group:
                works = [self._gatherer.run(), self._look_up(), self._write(), self._offer_now_and_then()]
                works.append(self._locate_large())
                works += [self._fetch_large() for _ in range(LARGE_AT_ONCE)]
                tasks = [group.create_task(work) for work in works]
                for selection, listing in listings:
                    await self._list(selection, listing)
                self._progress.listed = True
                self._note_end(0)
                await self._all_ended.wait()
                for task in tasks:
                    task.cancel()
        except ExceptionGroup as failures:
            error = failures.exceptions[0]
            if isinstance(error, RelevoError):
                self._progress.fail("", error)
            raise error from None
        finally:
            await self._offer()
        self._conclude()

    def _conclude(self) -> None:
        failed, worst = self._progress.failed, self._progress.worst
        if worst is None:
            return
        first = self._progress.problems[0]
        what = str(worst) if failed == 1 else f"{failed} are missing, the first of them {first.path}: {first.error}"
        raise InvalidInput("", what) if isinstance(worst, InvalidInput) else type(worst)(what)

    async def _list(self, selection: Selection, listing: Listing) -> None:
        found = self._progress.found
        try:
            async for some in listing:
                for one in some:
                    self._found(one)
        except RelevoError as error:
            self._progress.fail(selection.name, error)
            return
        if self._progress.found == found:
            missing = NotFound(f"no live peer offers {selection.name!r}; `relevo ls` shows what there is")
            self._progress.fail(selection.name, missing)

    def _found(self, one: Entry | AlreadyExists) -> None:
        if isinstance(one, AlreadyExists):
            self._progress.find(0)
            self._progress.fail("", one)
            return
        self._progress.find(one.size)
        self._open += 1
        (self._small if one.size <= MAX_SMALL else self._large).put_nowait(one)

    def _ended(self, entry: Entry, error: RelevoError | None = None) -> None:
        if error is None:
            self._progress.done += 1
        else:
            self._progress.fail(entry.path, error)
        self._note_end(1)

    def _note_end(self, count: int) -> None:
        self._open -= count
        if self._progress.listed and not self._open:
            self._all_ended.set()

    # Small files

    async def _look_up(self) -> None:
        """Takes small files as they are listed: those that are there already, and those that are to come."""
        while True:
            chunk = [await self._small.get()]
            while len(chunk) < CHUNK and not self._small.empty():
                chunk.append(self._small.get_nowait())
            offered = [self._shelf.offered(self._root / entry.target) for entry in chunk]
            looks = await asyncio.to_thread(self._look, chunk, offered)
            absent = [entry for entry, look in zip(chunk, looks, strict=True) if not self._is_settled(entry, look)]
            while absent:
                count = await self._under_way.enter([entry.size for entry in absent])
                await self._begin(absent[:count])
                absent = absent[count:]

    def _is_settled(self, entry: Entry, look: Finished | RelevoError | bool) -> bool:
        """Tells whether nothing is to be done for a file: it is there already, or cannot come."""
        if look is False:
            return False
        if isinstance(look, RelevoError):
            self._ended(entry, look)
            return True
        if isinstance(look, Finished):
            self._finished.append(look)
        self._progress.present(entry.size)
        self._progress.present_files += 1
        self._ended(entry)
        return True

    def _look(
        self, entries: Sequence[Entry], offered: Sequence[tuple[Stamp, bytes] | None]
    ) -> list[Finished | RelevoError | bool]:
        """Returns for each file whether it is there and offered, what to offer, or what else is there. Blocks."""
        return [self._stands(entry, known) for entry, known in zip(entries, offered, strict=True)]

    def _stands(self, entry: Entry, known: tuple[Stamp, bytes] | None) -> Finished | RelevoError | bool:
        try:
            if known is not None and known[1] == entry.content_id and self._looks_like(entry, known[0]):
                return True  # the library has seen to its bytes
            there = existing_manifest(self._root, entry.target, entry.size)
        except RelevoError as error:
            return error
        if there is None:
            return False
        if there.content_id != entry.content_id:
            return exists_already(self._root / entry.target)
        return Finished(self._root / entry.target, entry.path, there)

    def _looks_like(self, entry: Entry, stamp: Stamp) -> bool:
        try:
            return Stamp.of(rooted.status(self._root, entry.target)) == stamp
        except OSError:
            return False

    async def _begin(self, entries: Sequence[Entry]) -> None:
        """Takes from the library what it has, and wants the rest from others."""
        rest = list(entries)
        sizes: dict[bytes, int] = {}
        while rest:
            read = await self._shelf.read_small([entry.content_id for entry in rest], MOST_BYTES)
            for entry, found in zip(rest, read, strict=False):
                data = b"" if entry.content_id == _EMPTY.content_id else found
                if isinstance(data, bytes):
                    self._come.put_nowait(_Come((entry,), data, manifest_of(data), None))
                elif (others := self._waiting.get(entry.content_id)) is not None:
                    others.append(entry)
                else:
                    self._waiting[entry.content_id] = [entry]
                    sizes[entry.content_id] = entry.size
            rest = rest[len(read) :]
        for content_id, future in self._gatherer.want(sizes).items():
            future.add_done_callback(partial(self._gathered, content_id))

    def _gathered(self, content_id: bytes, done: "asyncio.Future[Gathered]") -> None:
        if done.cancelled():
            return
        entries = self._waiting.pop(content_id)
        try:
            gathered = done.result()
            if len(gathered.data) != entries[0].size:
                raise NotPossible("it is listed with another size than it has")
        except RelevoError as error:
            for entry in entries:
                self._under_way.leave(entry.size)
                if isinstance(error, NotPossible):
                    self._large.put_nowait(entry)
                else:
                    self._ended(entry, error)
            return
        self._come.put_nowait(_Come(tuple(entries), gathered.data, gathered.manifest, gathered))

    async def _write(self) -> None:
        while True:
            batch = [await self._come.get()]
            while sum(len(come.entries) for come in batch) < BATCH and not self._come.empty():
                batch.append(self._come.get_nowait())
            files = [
                SmallFile(entry.target, come.data, come.manifest, entry.content_id, entry.modify_time, entry.executable)
                for come in batch
                for entry in come.entries
            ]
            written = await _to_the_end(partial(write_small, self._root, files))
            outcomes = iter(written)
            for come in batch:
                for at, entry in enumerate(come.entries):
                    self._under_way.leave(entry.size)
                    self._written(come, entry, next(outcomes), first=at == 0)

    def _written(self, come: _Come, entry: Entry, outcome: Stamp | RelevoError, *, first: bool) -> None:
        size = len(come.data)
        if come.given is not None and first:
            self._progress.source(come.given.giver)
            self._progress.fetched(come.given.giver.peer_id, size, self._clock(), come.given.how)
        elif size:
            self._progress.copied(size)
        if isinstance(outcome, RelevoError):
            self._ended(entry, outcome)
            return
        self._finished.append(Finished(self._root / entry.target, entry.path, come.manifest, outcome))
        self._ended(entry)

    # Large files

    async def _locate_large(self) -> None:
        """Looks up who holds files that are not very large, for many in one call."""
        while True:
            chunk = [await self._large.get()]
            while sum(entry.size for entry in chunk) < LOCATED_BYTES and not self._large.empty():
                chunk.append(self._large.get_nowait())
            together = [entry.content_id for entry in chunk if entry.size <= LOCATED_EACH]
            try:
                found = await self._find_many(together) if together else {}
            except RelevoError:  # each is looked up again, and told why that fails
                found = {}
            for entry in chunk:
                await self._located.put((entry, tuple(found.get(entry.content_id, ()))))

    async def _fetch_large(self) -> None:
        while True:
            entry, holders = await self._located.get()
            part = Part(entry.size, self._progress)
            self._progress.parts[entry.path] = part
            try:
                await asyncio.to_thread(self._make_directory, entry)
                request = FetchRequest(
                    content_id=entry.content_id,
                    size=entry.size,
                    directory=self._root,
                    name=entry.target,
                    modify_time=entry.modify_time,
                    executable=entry.executable,
                    holders=holders,
                )
                fetched = await self._downloader.fetch(request, part, self._allowance)
            except RelevoError as error:
                self._ended(entry, error)
            else:
                self._progress.present_files += part.was_present
                self._finished.append(Finished(fetched.location, entry.path, fetched.manifest, None))
                self._ended(entry)
            finally:
                self._progress.size += part.size - entry.size
                del self._progress.parts[entry.path]

    def _make_directory(self, entry: Entry) -> None:
        try:
            rooted.make_directories(self._root, entry.target.rpartition("/")[0])
        except OSError as error:
            raise disk_error(error, self._root / entry.target) from error

    # The library

    async def _offer_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(OFFER_SECONDS)
            await self._offer()

    async def _offer(self) -> None:
        finished, self._finished = self._finished, []
        try:
            await self._shelf.add_all_fetched(finished)
        except asyncio.CancelledError:  # the set ends meanwhile: what it offers then has these too
            self._finished = finished + self._finished
            raise
        except RelevoError as error:  # the index fails: the files are there all the same
            log.warning("%d files are fetched, but not offered to others: %s", len(finished), error)


class _Room:
    """How much may be under way: a number of files, and of bytes. One that is larger than all room goes alone."""

    def __init__(self, files: int, size: int) -> None:
        self._files = files
        self._bytes = size
        self._open_files = 0
        self._open_bytes = 0
        self._left = asyncio.Event()

    async def enter(self, sizes: Sequence[int]) -> int:
        """Waits until there is room for the first file, takes it for as many as there is room for; returns how many."""
        count = 0
        while not count:
            for size in sizes:
                full = self._open_files >= self._files or self._open_bytes + size > self._bytes
                if full and self._open_files:
                    break
                count += 1
                self._open_files += 1
                self._open_bytes += size
            if not count:
                self._left.clear()
                await self._left.wait()
        return count

    def leave(self, size: int) -> None:
        """Gives the room of a file back."""
        self._open_files -= 1
        self._open_bytes -= size
        self._left.set()


async def _to_the_end(work: Callable[[], T]) -> T:
    """Runs `work` in a thread and returns what it returns; when this is cancelled, after the work has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
