"""What the peer holds outside its shared directory: copies stored for others, and finished downloads elsewhere."""

import asyncio
import logging
import os
import re
import stat
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import Corrupt, NotFound, NotPossible, RelevoError
from core.manifest import Manifest
from core.names import printable
from peer.disk import rooted
from peer.disk.rooted import Stamp
from peer.library.hashing import Hasher
from peer.library.holdings import Holdings, LibraryFile, Place, PlaceKind
from peer.library.index import Index, Remembered
from peer.library.worker import Worker

log = logging.getLogger("relevo.library")
_NAME = re.compile(r"[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{2}")
# Downloads that are looked at together; between two such lots the event loop has other things to do.
_LOOK_AT = 1000
_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished download.

    Attributes:
        location: absolute.
        path: in the catalogue.
        manifest: of the bytes that were written.
        stamp: how the file looked when it was finished; None when nobody has looked.
    """

    location: Path
    path: str
    manifest: Manifest
    stamp: Stamp | None = None

    def stamped(self) -> "Finished":
        """Returns the same with how the file looks now, if nobody has looked. Blocks.

        Raises:
            NotFound: it is not there.
            Corrupt: it is not a regular file of the manifest's size.
        """
        if self.stamp is not None:
            return self
        return replace(self, stamp=finished_stamp(self.location.parent, self.location.name, self.manifest.layout.size))


def store_name(content_id: bytes) -> str:
    """Returns where in the store a copy lies: `<2 hex>/<64 hex>`."""
    name = content_id.hex()
    return f"{name[:2]}/{name}"


class Copies:
    """Keeps holdings and index in step with the store and with downloads elsewhere."""

    def __init__(self, store: Path, index: Index, worker: Worker, holdings: Holdings, hasher: Hasher) -> None:
        self._store = store
        self._index = index
        self._worker = worker
        self._holdings = holdings
        self._hasher = hasher

    async def start(self) -> Callable[[], Coroutine[None, None, None]]:
        """Offers what is as it was remembered; returns the work that is left: hashing copies that are not."""
        stored = await self._worker.run(self._index.stored)
        there = await asyncio.to_thread(_survey, self._store)
        doubtful: list[bytes] = []
        for content_id, stamp in there.items():
            if stored.get(content_id) == stamp:
                self._holdings.put_stored(content_id, self._stored_place(content_id, stamp))
            else:
                doubtful.append(content_id)
        for content_id in stored.keys() - there.keys():
            log.warning("the stored copy %s is gone from %s", content_id.hex(), self._store)
            await self._worker.run(self._index.forget_stored, content_id)
        await self.check_fetched()

        async def recover() -> None:
            for content_id in doubtful:
                await self.recover(content_id)

        return recover

    async def recover(self, content_id: bytes) -> None:
        """Hashes a copy that is not as it was remembered: keeps it when it is what its name says, else removes it."""
        name = store_name(content_id)
        try:
            stamp = Stamp.of(await asyncio.to_thread(rooted.status, self._store, name))
            manifest = await self._hasher.hash_file(self._store, name, stamp)
            if manifest.content_id == content_id:
                await self._keep(content_id, stamp, manifest)
                return
            log.warning("the stored copy %s is damaged, and is removed", content_id.hex())
            await asyncio.to_thread(rooted.remove, self._store, name)
            await self._worker.run(self._index.forget_stored, content_id)
        except (OSError, RelevoError) as error:
            log.warning("the stored copy %s cannot be offered: %s", content_id.hex(), error)

    async def add_stored(self, manifest: Manifest) -> None:
        """Offers a copy that stands in the store; durable when it returns.

        Raises:
            NotFound: it does not stand there.
            Corrupt: it has another size.
            NotPossible: the index cannot be written.
        """
        content_id = manifest.content_id
        stamp = await asyncio.to_thread(finished_stamp, self._store, store_name(content_id), manifest.layout.size)
        await self._keep(content_id, stamp, manifest)

    async def _keep(self, content_id: bytes, stamp: Stamp, manifest: Manifest) -> None:
        await self._worker.run(self._index.put_stored, content_id, stamp, manifest)
        self._holdings.put_stored(content_id, self._stored_place(content_id, stamp))

    async def drop_stored(self, content_id: bytes) -> None:
        """Withdraws and deletes a copy; one that is not there is dropped already.

        Raises:
            NotPossible: the file cannot be removed, or the index cannot be written.
        """
        self._holdings.drop_stored(content_id)
        # The file first: a crash in between leaves a row without a file, which the next start forgets.
        try:
            await asyncio.to_thread(_remove_durably, self._store, store_name(content_id))
        except OSError as error:
            raise NotPossible(f"{content_id.hex()} cannot be removed from {self._store}: {error.strerror}") from error
        await self._worker.run(self._index.forget_stored, content_id)

    async def add_fetched(self, finished: Sequence[Finished]) -> None:
        """Offers finished downloads outside the shared directory, which all have a stamp; durable when it returns.

        Raises:
            NotPossible: the index cannot be written.
        """
        downloads = [
            Remembered(one.location, one.path, one.stamp, one.manifest.content_id) for one in finished if one.stamp
        ]
        manifests = [one.manifest for one in finished]
        await self._worker.run(self._index.put_fetched, list(zip(downloads, manifests, strict=True)))
        looks = await asyncio.to_thread(_looks, downloads)
        for download, status in zip(downloads, looks, strict=True):
            await self._check(download, status)

    async def check_fetched(self) -> None:
        """Withdraws downloads elsewhere that were moved or changed, and offers those that are back."""
        last: Path | None = None
        while downloads := await self._worker.run(self._index.fetched, last, _LOOK_AT):
            last = downloads[-1].location
            # One trip to a thread for many of them: ten thousand trips take seconds.
            looks = await asyncio.to_thread(_looks, downloads)
            for download, status in zip(downloads, looks, strict=True):
                await self._check(download, status)

    async def forget(self, place: Place) -> None:
        """Stops to offer a download elsewhere whose bytes are not what they were."""
        self._holdings.drop_fetched(place.location)
        await self._worker.run(self._index.forget_fetched, place.location)

    async def _check(self, download: Remembered, status: os.stat_result | None) -> None:
        location = download.location
        if status is None:
            self._holdings.drop_fetched(location)
            if await asyncio.to_thread(location.parent.is_dir):  # moved or deleted, not on a disk that is away
                await self._worker.run(self._index.forget_fetched, location)
            return
        place = Place(PlaceKind.FETCHED, location.parent, location.name, download.stamp)
        if Stamp.of(status) != download.stamp:
            await self.forget(place)
            return
        size, modify_time = download.stamp.size, download.stamp.modify_time
        executable = bool(status.st_mode & _ANY_EXECUTE)
        self._holdings.put_fetched(
            place, LibraryFile(download.path, download.content_id, size, modify_time, executable)
        )

    def _stored_place(self, content_id: bytes, stamp: Stamp) -> Place:
        return Place(PlaceKind.STORED, self._store, store_name(content_id), stamp)


def _looks(downloads: Iterable[Remembered]) -> list[os.stat_result | None]:
    """Returns how each download looks now, None for one that cannot be looked at."""
    looks: list[os.stat_result | None] = []
    for download in downloads:
        try:
            looks.append(rooted.status(download.location.parent, download.location.name))
        except OSError:
            looks.append(None)
    return looks


def _survey(store: Path) -> dict[bytes, Stamp]:
    """Returns the finished copies in the store; files under other names are somebody else's business."""
    found: dict[bytes, Stamp] = {}
    with suppress(FileNotFoundError):
        for short, directory in rooted.entries(store).items():
            if not (_SHORT.fullmatch(short) and stat.S_ISDIR(directory.st_mode)):
                continue
            for name, status in rooted.entries(store, short).items():
                if _NAME.fullmatch(name) and name[:2] == short and stat.S_ISREG(status.st_mode):
                    found[bytes.fromhex(name)] = Stamp.of(status)
    return found


def finished_stamp(root: Path, disk: str, size: int) -> Stamp:
    """Returns the stamp of a file of `size` bytes. Blocks.

    Raises:
        NotFound: it is not there.
        Corrupt: it is not a regular file of that size.
    """
    try:
        status = rooted.status(root, disk)
    except OSError as error:
        raise NotFound(f"{printable(str(root / disk))} is not there") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise Corrupt(f"{printable(str(root / disk))} is not the file that was fetched")
    return Stamp.of(status)


def _remove_durably(store: Path, name: str) -> None:
    rooted.remove(store, name)
    try:
        directory = rooted.open_directory(store, name.partition("/")[0])
    except FileNotFoundError:
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
