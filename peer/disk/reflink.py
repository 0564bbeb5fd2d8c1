"""Copies of whole files: shared blocks where the file system can, the kernel's copy where it can, else chunks.

The functions block and belong in a thread.
"""

import errno
import os
import sys
from collections.abc import Callable

if sys.platform == "linux":
    import fcntl

# ioctl that makes a file share the blocks of another (Linux, include/uapi/linux/fs.h).
_FICLONE = 0x40049409
_CHUNK = 16 * 1024 * 1024
# Answers that mean "not here", after which the next way is tried.
_NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)


def copy_file(source: int, target: int, size: int, stopped: Callable[[], bool] = lambda: False) -> int:
    """Copies `size` bytes from one open regular file to another, which is empty, and returns how many were copied.

    Fewer than `size` are copied when the source is shorter, or when `stopped`, asked between chunks of 16 MiB, says so.

    Raises:
        OSError: they cannot be read or written; no space is left.
    """
    if size and _clone(source, target):
        copied = os.fstat(target).st_size
        if copied > size:
            os.ftruncate(target, size)
        return min(copied, size)
    done = 0
    by_kernel = hasattr(os, "copy_file_range")
    while done < size and not stopped():
        wanted = min(_CHUNK, size - done)
        if by_kernel:
            try:
                moved = os.copy_file_range(source, target, wanted, done, done)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                by_kernel = False
                continue
        else:
            moved = _copy_chunk(source, target, min(wanted, 1024 * 1024), done)
        if moved == 0:
            break
        done += moved
    return done


def _clone(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return False
    return True


def _copy_chunk(source: int, target: int, length: int, offset: int) -> int:
    data = memoryview(os.pread(source, length, offset))
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], offset + written)
    return written
