"""Files beneath a root: the one place where names meet the file system.

Every function takes a root, which the local user chose, and a path relative to it, which may come from anywhere. The
path is walked part by part with directory descriptors, and no symbolic link is followed on the way or at its end, so
that neither a name nor a link that is swapped in at the wrong moment leads out of the root. The root itself may be a
link.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import AlreadyExists, InvalidInput, NotPossible

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What file systems without hard links answer to link().
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is still the one that was read: size in bytes, mtime in nanoseconds, inode."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Returns the stamp in a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @property
    def modify_time(self) -> float:
        """The mtime in seconds since 1970."""
        seconds, nanoseconds = divmod(self.mtime_ns, 1_000_000_000)
        return seconds + nanoseconds / 1e9


def parts_of(relative: str) -> list[str]:
    """Returns the parts of a relative path; none for the root itself, which is the empty path.

    Raises:
        InvalidInput: a part is empty, `.`, `..`, or holds NUL.
    """
    parts = relative.split("/") if relative else []
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise InvalidInput("path", f"{relative!r} does not stay beneath a directory")
    return parts


def open_directory(root: Path, relative: str = "") -> int:
    """Returns a descriptor of a directory beneath `root`; the caller closes it.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        OSError: it is not there, a part of it is a link or no directory, or it cannot be opened.
    """
    parts = parts_of(relative)
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            deeper = os.open(part, _DIRECTORY, dir_fd=current)
        finally:
            os.close(current)
        current = deeper
    return current


@contextmanager
def parent_of(root: Path, relative: str) -> Iterator[tuple[int, str]]:
    """Gives a descriptor of the directory that holds `relative`, open within the block, and the last part.

    Raises:
        InvalidInput: the path is the root, or does not stay beneath it.
        OSError: as open_directory.
    """
    above, _, name = relative.rpartition("/")
    if not name:
        raise InvalidInput("path", "the path names no file")
    parts_of(relative)
    descriptor = open_directory(root, above)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def status(root: Path, relative: str) -> os.stat_result:
    """Returns what stands at a path, links not followed; for the empty path, the root.

    Raises:
        InvalidInput, OSError: as open_directory.
    """
    if not relative:
        return root.stat()
    with parent_of(root, relative) as (directory, name):
        return os.stat(name, dir_fd=directory, follow_symlinks=False)


def open_file(root: Path, relative: str) -> int:
    """Returns a descriptor for reading a regular file beneath `root`; the caller closes it.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        NotPossible: it is not a regular file.
        OSError: it is not there, a link is in the way, or it may not be read.
    """
    with parent_of(root, relative) as (directory, name):
        descriptor = os.open(name, _READ, dir_fd=directory)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotPossible(f"{name!r} is not a regular file")


def create_file(root: Path, relative: str, mode: int = 0o666) -> int:
    """Returns a descriptor for writing and reading a file that was not there before; the umask applies to `mode`.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        FileExistsError: something stands there.
        OSError: as open_directory; or it cannot be written.
    """
    with parent_of(root, relative) as (directory, name):
        return os.open(name, _CREATE, mode, dir_fd=directory)


def make_directories(root: Path, relative: str, mode: int = 0o777) -> None:
    """Makes a directory beneath `root` and those that lead to it, where they are missing.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        OSError: something else stands there, or they cannot be made.
    """
    parts = parts_of(relative)
    for count in range(1, len(parts) + 1):
        with parent_of(root, "/".join(parts[:count])) as (directory, name):
            try:
                os.mkdir(name, mode, dir_fd=directory)
            except FileExistsError:
                continue
            os.fsync(directory)
    os.close(open_directory(root, relative))


def move_into_place(root: Path, temporary: str, target: str) -> None:
    """Gives a finished file its name, and syncs the directories; never replaces anything.

    Where the file system has no hard links the name is first taken by an empty file, which is then replaced.

    Raises:
        AlreadyExists: something stands at the target; the temporary file stays.
        InvalidInput: a path does not stay beneath the root.
        OSError: as open_directory; or it cannot be written.
    """
    with parent_of(root, temporary) as (source, old), parent_of(root, target) as (directory, new):
        try:
            os.link(old, new, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            os.unlink(old, dir_fd=source)
        except FileExistsError as error:
            raise AlreadyExists(f"something stands at {new!r} already; nothing is overwritten") from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _take_name(directory, new)
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)
        os.fsync(directory)
        os.fsync(source)


def _take_name(directory: int, name: str) -> None:
    try:
        os.close(os.open(name, _CREATE, dir_fd=directory))
    except FileExistsError as error:
        raise AlreadyExists(f"something stands at {name!r} already; nothing is overwritten") from error


def remove(root: Path, relative: str) -> None:
    """Removes a file or a link beneath `root`; what is not there is removed already.

    Raises:
        InvalidInput, OSError: as open_directory; or it may not be removed.
    """
    try:
        with parent_of(root, relative) as (directory, name):
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
