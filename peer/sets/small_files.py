"""Small files that get their names together: written without one, made durable by one sync, then named.

`kill -9` leaves a file under its final name, whole and on disk, or nothing at all. Where the file system has no files
without names (not Linux, NFS), each is finished by itself, as a large one is. Everything here blocks.
"""

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from core.errors import AlreadyExists, RelevoError
from core.manifest import Manifest
from peer.disk import rooted
from peer.disk.disk_errors import disk_error
from peer.disk.rooted import Stamp
from peer.fetching.partial import Partial
from peer.fetching.targets import existing_manifest, exists_already

T = TypeVar("T")
# What fails for one file will fail for every other.
_FOR_ALL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file to write.

    Attributes:
        path: relative, beneath the root; the directories on the way are made.
        data: all its bytes.
        manifest: of these bytes.
        content_id: of the manifest.
        modify_time: to give to the file, in seconds since 1970; None leaves the time of writing.
        executable: whether those who may read it may execute it.
    """

    path: str
    data: bytes
    manifest: Manifest
    content_id: bytes
    modify_time: float | None = None
    executable: bool = False


def write_small(root: Path, files: Sequence[SmallFile]) -> list[Stamp | RelevoError]:
    """Writes files beneath `root`, and returns how each looks now or why it is not there; durable when it returns.

    Where the same bytes stand already, that is as good.

    Raises:
        NotPossible: the disk is full or fails; some files may stand there, and none may be relied on.
    """
    with ExitStack() as opened:
        try:
            return _Batch(root, opened).write(files)
        except OSError as error:
            raise disk_error(error, root) from error


class _Batch:
    """Files on their way; what is opened is closed by whoever gave `opened`."""

    def __init__(self, root: Path, opened: ExitStack) -> None:
        self._root = root
        self._opened = opened
        self._parents: dict[str, int] = {}

    def write(self, files: Sequence[SmallFile]) -> list[Stamp | RelevoError]:
        written = [self._told(file, partial(self._write, file)) for file in files]
        rooted.sync_together(one for one in written if isinstance(one, int))
        named = [
            self._told(file, partial(self._name, file, one)) if isinstance(one, int) else one
            for file, one in zip(files, written, strict=True)
        ]
        rooted.sync_together(self._parents.values())
        return named

    def _told(self, file: SmallFile, work: Callable[[], T]) -> T | RelevoError:
        """Returns what `work` returns, or what is wrong with this file alone."""
        try:
            return work()
        except RelevoError as error:
            return error
        except OSError as error:
            if error.errno in _FOR_ALL:
                raise
            return disk_error(error, self._root / file.path)

    def _write(self, file: SmallFile) -> int | Stamp:
        """Returns a descriptor of a file without a name, or how it looks where there are none."""
        parent = file.path.rpartition("/")[0]
        if parent not in self._parents:
            rooted.make_directories(self._root, parent, sync=False)
            self._parents[parent] = rooted.open_directory(self._root, parent)
            self._opened.callback(os.close, self._parents[parent])
        descriptor = rooted.create_nameless(self._root, parent)
        if descriptor is None:
            return self._finish_alone(file)
        self._opened.callback(os.close, descriptor)
        rest = memoryview(file.data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if file.executable:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, mode | (mode & 0o444) >> 2)
        if file.modify_time is not None:
            nanoseconds = round(file.modify_time * 1_000_000) * 1000
            with suppress(OverflowError):  # a year that no file system knows is not worth a download
                os.utime(descriptor, ns=(nanoseconds, nanoseconds))
        return descriptor

    def _name(self, file: SmallFile, descriptor: int) -> Stamp:
        try:
            rooted.name_nameless(self._root, descriptor, file.path)
        except AlreadyExists:
            return self._standing(file)
        return Stamp.of(os.fstat(descriptor))

    def _standing(self, file: SmallFile) -> Stamp:
        """Returns how the file looks that came there meanwhile. Raises AlreadyExists when it has other bytes."""
        there = existing_manifest(self._root, file.path, len(file.data))
        if there is None or there.content_id != file.content_id:
            raise exists_already(self._root / file.path)
        return Stamp.of(rooted.status(self._root, file.path))

    def _finish_alone(self, file: SmallFile) -> Stamp:
        layout = file.manifest.layout
        progress = Partial(self._root, file.content_id, layout, beneath=file.path.rpartition("/")[0])
        progress.open()
        try:
            for index in range(layout.block_count):
                offset = layout.block_offset(index)
                progress.write(file.manifest, index, file.data[offset : offset + layout.block_size])
            progress.finish(file.path, file.modify_time, executable=file.executable)
        except AlreadyExists:
            progress.discard()
            return self._standing(file)
        finally:
            progress.close()
        return Stamp.of(rooted.status(self._root, file.path))
