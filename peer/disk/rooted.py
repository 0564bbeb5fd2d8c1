"""Files beneath a root: the one place where names meet the file system.

Every function takes a root, which the local user chose, and a path relative to it, which may come from anywhere. The
path is resolved beneath a descriptor of the root, and no symbolic link is followed on the way or at its end, so that
neither a name nor a link that is swapped in at the wrong moment leads out of the root. The root itself may be a link.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from core.errors import AlreadyExists, InvalidInput, NotPossible
from core.names import printable
from peer.disk import kernel
from peer.disk.beneath import open_beneath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
# Without waiting: opening a pipe would wait for its other end.
_READ = os.O_RDONLY | os.O_NONBLOCK
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_RESUME = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
# What file systems without hard links answer to link().
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# The flag for files without a name: 0 where the system has none, or no /proc by which to name them.
_NAMELESS = getattr(os, "O_TMPFILE", 0) if os.path.exists("/proc/self/fd") else 0  # noqa: PTH110 - no Path at import
# What kernels and file systems answer that have none.
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
# What systems and file systems answer that cannot rename without replacing.
_NO_RENAME = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


class Stamp(NamedTuple):
    """What tells that a file is still the one that was read: size in bytes, mtime in nanoseconds, inode.

    A tuple, as is whatever a library has one of for each file: made and compared several times as fast as a dataclass.
    """

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
    parts_of(relative)
    top = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    if not relative:
        return top
    try:
        return open_beneath(top, relative, _DIRECTORY)
    finally:
        os.close(top)


def _open(root: Path, relative: str, flags: int, mode: int = 0) -> int:
    """Opens what is not the root itself."""
    if not parts_of(relative):
        raise InvalidInput("path", "the path names no file")
    top = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(top, relative, flags, mode)
    finally:
        os.close(top)


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
    try:
        descriptor = _open(root, relative, _READ)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _not_regular(relative) from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _not_regular(relative)


def _not_regular(relative: str) -> NotPossible:
    return NotPossible(f"{printable(relative)} is not a regular file")


def create_file(root: Path, relative: str, mode: int = 0o666) -> int:
    """Returns a descriptor for writing and reading a file that was not there before; the umask applies to `mode`.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        FileExistsError: something stands there.
        OSError: as open_directory; or it cannot be written.
    """
    return _open(root, relative, _CREATE, mode)


def resume_file(root: Path, relative: str, mode: int = 0o666) -> int:
    """Returns a descriptor for writing and reading what stands at a path, or a new file; does not wait for pipes.

    What was opened may be anything but a link: whoever calls looks at it before writing.

    Raises:
        InvalidInput, OSError: as create_file.
    """
    return _open(root, relative, _RESUME, mode)


def entries(root: Path, relative: str = "") -> dict[str, os.stat_result]:
    """Returns what a directory beneath `root` holds, name to how it looks, links not followed.

    Raises:
        InvalidInput, OSError: as open_directory.
    """
    descriptor = open_directory(root, relative)
    found: dict[str, os.stat_result] = {}
    try:
        with os.scandir(descriptor) as entries_there:
            for entry in entries_there:
                with suppress(FileNotFoundError):  # it went meanwhile
                    found[entry.name] = entry.stat(follow_symlinks=False)
    finally:
        os.close(descriptor)
    return found


def create_nameless(root: Path, relative: str, mode: int = 0o666) -> int | None:
    """Returns a descriptor of a new file without a name in a directory beneath `root`, or None where there are none.

    A crash leaves nothing of it. `name_nameless` gives it a name; the umask applies to `mode`.

    Raises:
        InvalidInput, OSError: as open_directory; or the directory cannot be written to.
    """
    if not _NAMELESS:
        return None
    directory = open_directory(root, relative)
    try:
        return os.open(".", os.O_RDWR | _NAMELESS | os.O_CLOEXEC, mode, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_NAMELESS:
            return None
        raise
    finally:
        os.close(directory)


def name_nameless(root: Path, descriptor: int, target: str) -> None:
    """Gives a file of `create_nameless` its name; syncs nothing, and never replaces anything.

    Raises:
        AlreadyExists: something stands at the target.
        InvalidInput: the path does not stay beneath the root.
        OSError: as open_directory; or it cannot be written.
    """
    with parent_of(root, target) as (directory, name):
        try:
            os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError as error:
            raise AlreadyExists(f"something stands at {printable(name)} already; nothing is overwritten") from error


def sync_together(descriptors: Iterable[int]) -> None:
    """Makes what was written to open files and directories durable: by one call a file system, else one by one.

    Raises:
        OSError: the disk fails: nothing that was written to any of them can be relied on.
    """
    by_device: dict[int, list[int]] = {}
    for descriptor in descriptors:
        by_device.setdefault(os.fstat(descriptor).st_dev, []).append(descriptor)
    for together in by_device.values():
        problem = kernel.syncfs(together[0])
        if problem == errno.ENOSYS:
            for descriptor in together:
                os.fsync(descriptor)
        elif problem:
            raise OSError(problem, os.strerror(problem))


def make_directories(root: Path, relative: str, mode: int = 0o777, *, sync: bool = True) -> None:
    """Makes a directory beneath `root` and those that lead to it, where they are missing.

    They are durable when this returns, unless whoever calls does without `sync`.

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
            if sync:
                os.fsync(directory)
    os.close(open_directory(root, relative))


def move_into_place(root: Path, temporary: str, target: str) -> None:
    """Gives a finished file its name, and syncs the directories; never replaces anything.

    Raises:
        AlreadyExists: something stands at the target; the temporary file stays.
        InvalidInput: a path does not stay beneath the root.
        OSError: as open_directory; or it cannot be written.
    """
    with parent_of(root, temporary) as (source, old), parent_of(root, target) as (directory, new):
        try:
            _name_anew(source, old, directory, new)
        except FileExistsError as error:
            raise AlreadyExists(f"something stands at {printable(new)} already; nothing is overwritten") from error
        os.fsync(directory)
        os.fsync(source)


def _name_anew(source: int, old: str, directory: int, new: str) -> None:
    """Renames unless something stands at the new name, in the first way that the file system has."""
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(old, dir_fd=source)
        return
    problem = kernel.rename_new(source, os.fsencode(old), directory, os.fsencode(new))
    if problem in _NO_RENAME:
        # The last resort: the name is taken by an empty file, which is then replaced.
        os.close(open_beneath(directory, new, _CREATE, 0o666))
        os.rename(old, new, src_dir_fd=source, dst_dir_fd=directory)
    elif problem:
        raise OSError(problem, os.strerror(problem), new)


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
