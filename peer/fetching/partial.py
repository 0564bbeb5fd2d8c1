"""A file in progress: hidden beside its target, holding verified blocks, moved into place when it is whole.

There is no journal. What a crash left on disk is trusted for nothing: it is hashed against the manifest again, which
is simpler than recording what is there, and cannot be wrong. Holes are not read. All of it blocks: call it in threads.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.content import Layout
from core.errors import AlreadyExists, Busy, NotPossible
from core.manifest import Manifest
from core.names import printable
from peer.disk import rooted
from peer.disk.disk_errors import disk_error
from peer.disk.kernel import start_writing
from peer.disk.reflink import copy_file
from peer.disk.rooted import Stamp
from peer.fetching.targets import exists_already
from peer.library.hashing import hash_file
from peer.library.selection import OWN_BEGIN

# Blocks that one call of `verified` hashes at most, so that whoever waits for it can stop between two.
SLICE = 64
# The system begins to write to the disk when so many bytes have come: then the sync at the end has little left to do.
WRITE_OUT = 16 * 1024 * 1024
_STAT_BLOCK = 512
_STOPPED = "the download was stopped"


def partial_name(content_id: bytes, beneath: str = "") -> str:
    """Returns the name of the file in progress for a content, in a directory whose relative path is `beneath`."""
    name = f"{OWN_BEGIN}{content_id.hex()[:32]}.part"
    return f"{beneath}/{name}" if beneath else name


def taken_bytes(directory: Path, content_id: bytes, beneath: str = "") -> int:
    """Returns the disk space that the file in progress of a content takes; 0 when there is none. Raises OSError."""
    try:
        return rooted.status(directory, partial_name(content_id, beneath)).st_blocks * _STAT_BLOCK
    except FileNotFoundError:
        return 0


class Partial:
    """The file in progress of one content in one directory. Safe for use from many threads."""

    def __init__(self, directory: Path, content_id: bytes, layout: Layout, beneath: str = "") -> None:
        """Describes the file in progress of a content of this layout; touches nothing yet.

        It stands in `directory`, or in the directory whose path relative to that is `beneath`, and which is there.
        """
        self.directory = directory
        self.name = partial_name(content_id, beneath)
        self._beneath = beneath
        self._content_id = content_id
        self.layout = layout
        self._mutex = threading.Lock()
        self._descriptor = -1
        self._closed = False
        # Whether the partial name is this file's; a close removes the name while nothing of use stands under it.
        self._named = False
        self._unsynced = 0

    def open(self) -> None:
        """Opens and locks what an earlier try left, or a new file.

        Raises:
            NotPossible: the directory is missing or cannot be written to, has not enough room, or something that
                relevo did not make stands in the way.
            Busy: another program fetches the same content into this directory.
        """
        with self._disk(), self._mutex:
            if self._closed:
                raise NotPossible(_STOPPED)
            self._check_room()
            self._descriptor = self._open()
            self._named = True
            if os.fstat(self._descriptor).st_size != self.layout.size:
                os.ftruncate(self._descriptor, self.layout.size)

    def is_filled(self) -> bool:
        """Tells whether every byte has been written at some time, rightly or not."""
        with self._locked() as descriptor:
            if not hasattr(os, "SEEK_HOLE") or not self.layout.size:
                return True
            try:
                return os.lseek(descriptor, 0, os.SEEK_HOLE) >= self.layout.size
            except OSError as error:
                return error.errno != errno.ENXIO

    def verified(self, manifest: Manifest, first: int) -> tuple[list[int], int]:
        """Returns which blocks are on disk, out of the next 64 from block `first` on that are not in a hole.

        The second value is the block to go on with: the block count when there are no more.
        """
        found: list[int] = []
        index, end = first, self.layout.block_count
        with self._locked() as descriptor:
            for _ in range(SLICE):
                index = self._next_data(descriptor, index)
                if index >= end:
                    return found, end
                offset, length = self.layout.block_offset(index), self.layout.block_length(index)
                if manifest.verifies(index, os.pread(descriptor, length, offset)):
                    found.append(index)
                index += 1
        return found, index

    def write(self, manifest: Manifest, index: int, data: bytes | memoryview) -> bool:
        """Writes blocks from block `index` on when `data` are these blocks; returns whether they are.

        Raises:
            NotPossible: the disk is full or fails; what was written before stays.
        """
        if not manifest.verifies_run(index, data):
            return False
        rest, offset = memoryview(data), self.layout.block_offset(index)
        with self._locked() as descriptor:
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                rest, offset = rest[written:], offset + written
            self._unsynced += len(data)
            if self._unsynced >= WRITE_OUT:
                self._unsynced = 0
                start_writing(descriptor)  # where it cannot, the sync takes longer
        return True

    def copy_from(self, source: Path, stopped: Callable[[], bool]) -> None:
        """Replaces everything by the bytes of a local file, unchecked; stops early when `stopped` says so.

        Args:
            source: absolute, links resolved: none is followed any more.
            stopped: is asked now and then.

        Raises:
            NotPossible: the source cannot be read, or the copy not written.
        """
        with self._disk():
            original = rooted.open_file(Path(source.anchor), str(source.relative_to(source.anchor)))
        try:
            with self._locked() as descriptor:
                os.ftruncate(descriptor, 0)
                copy_file(original, descriptor, self.layout.size, stopped)
                os.ftruncate(descriptor, self.layout.size)
        finally:
            os.close(original)

    def manifest(self) -> Manifest:
        """Returns the manifest of what is in the file now."""
        with self._locked() as descriptor:
            return hash_file(self.directory, self.name, Stamp.of(os.fstat(descriptor)))

    def finish(self, name: str, modify_time: float | None, *, executable: bool) -> Path:
        """Makes the file durable and moves it to `name`; returns where it stands.

        Args:
            name: relative to the directory, beside the file in progress.
            modify_time: seconds since 1970 to give to the file; None leaves the time of writing.
            executable: whether those who may read it may execute it.

        Raises:
            AlreadyExists: something stands there; nothing is overwritten and the file in progress stays.
            NotPossible: the disk fails. What it failed to make durable is removed: pages that could not be written may
                look clean afterwards, so a second sync would lie.
        """
        location = self.directory / name
        with self._locked() as descriptor:
            if executable:
                mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
                os.fchmod(descriptor, mode | (mode & 0o444) >> 2)
            if modify_time is not None:
                nanoseconds = round(modify_time * 1_000_000) * 1000
                with suppress(OverflowError):  # a year that no file system knows is not worth a download
                    os.utime(descriptor, ns=(nanoseconds, nanoseconds))
            try:
                os.fsync(descriptor)
            except OSError:
                self._remove()
                raise
            try:
                rooted.move_into_place(self.directory, self.name, name)
                self._named = False
            except AlreadyExists as error:
                raise exists_already(location) from error
            if not os.path.samestat(rooted.status(self.directory, name), os.fstat(descriptor)):
                raise NotPossible(f"{printable(str(location))} was replaced while it was finished; look at it")
        return location

    def offer(self, take: Callable[[int], bool]) -> bool:
        """Returns what `take` says of the file's descriptor, which stays open while it looks at it."""
        with self._locked() as descriptor:
            return take(descriptor)

    def discard(self) -> None:
        """Removes the file in progress and closes it."""
        with self._locked():
            self._remove()
        self.close()

    def close(self) -> None:
        """Closes and unlocks; what was written stays for the next try, an empty file goes. May be called twice."""
        with self._mutex:
            self._closed = True
            if self._descriptor < 0:
                return
            if self._named and self._next_data(self._descriptor, 0) >= self.layout.block_count:
                with suppress(OSError):  # an empty file that stays behind harms nobody
                    self._remove()
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Gives the descriptor while it cannot be closed: a late write must never meet another file of its number."""
        with self._disk(), self._mutex:
            if self._descriptor < 0:
                raise NotPossible(_STOPPED)
            yield self._descriptor

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, self.directory) from error

    def _remove(self) -> None:
        self._named = False
        rooted.remove(self.directory, self.name)

    def _check_room(self) -> None:
        allocated = taken_bytes(self.directory, self._content_id, self._beneath)
        disk = os.statvfs(self.directory)
        free = disk.f_bavail * disk.f_frsize
        # Some network file systems do not tell their size at all.
        if disk.f_blocks and self.layout.size - allocated > free:
            raise NotPossible(
                f"cannot write to {printable(str(self.directory))}: the file needs {self.layout.size - allocated} "
                f"bytes more and {free} are free; make room and try again"
            )

    def _open(self) -> int:
        while True:
            self._check_ours()
            descriptor = rooted.resume_file(self.directory, self.name)
            try:
                if self._is_ours(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _check_ours(self) -> None:
        """Refuses what relevo did not make: links, directories, pipes, sockets, devices, files of another user."""
        with suppress(FileNotFoundError):
            found = rooted.status(self.directory, self.name)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise NotPossible(f"{printable(str(self.directory / self.name))} is in the way; remove it")

    def _is_ours(self, descriptor: int) -> bool:
        """Locks; returns False when the name has come to mean another file, so that it has to be opened again."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"another program fetches this file into {printable(str(self.directory))}; wait for it"
            ) from error
        self._check_ours()  # again: it may have been another when it was opened
        opened = os.fstat(descriptor)
        try:
            named = rooted.status(self.directory, self.name)
        except FileNotFoundError:
            return False
        if not os.path.samestat(opened, named):
            return False
        if opened.st_nlink > 1:
            # It got its final name, and a crash came before this one was removed: those bytes are the user's.
            rooted.remove(self.directory, self.name)
            return False
        return True

    def _next_data(self, descriptor: int, index: int) -> int:
        """Returns the first block from `index` on that is not wholly in a hole; the block count when there is none."""
        if index >= self.layout.block_count or not hasattr(os, "SEEK_DATA"):
            return index
        try:
            offset = os.lseek(descriptor, self.layout.block_offset(index), os.SEEK_DATA)
        except OSError as error:
            return self.layout.block_count if error.errno == errno.ENXIO else index
        return max(index, offset // self.layout.block_size)
