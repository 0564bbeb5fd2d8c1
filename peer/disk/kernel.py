"""System calls of Linux that Python does not have, by ctypes. Where a call is missing it answers ENOSYS."""

import ctypes
import errno
import functools
import sys
from typing import Any

# The same number on every architecture (include/uapi/asm-generic/unistd.h); so are the flags (linux/openat2.h, fs.h).
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
# Offset and length of a range that is the whole file.
_WHOLE = ctypes.c_int64(0)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_NUMBER = ctypes.c_long(_SYS_OPENAT2)
_HOW_BYTES = ctypes.c_size_t(ctypes.sizeof(_How))


def openat2(directory: int, path: bytes, flags: int, mode: int) -> tuple[int, int]:
    """Opens a path beneath a directory, by way of no link; returns a descriptor and 0, or -1 and the error number."""
    syscall = _function("syscall")
    if syscall is None:
        return -1, errno.ENOSYS
    descriptor: int = syscall(_NUMBER, directory, path, _how(flags, mode), _HOW_BYTES)
    return descriptor, ctypes.get_errno() if descriptor < 0 else 0


def rename_new(source: int, old: bytes, directory: int, new: bytes) -> int:
    """Renames unless something stands at the new name; returns 0 or the error number."""
    renameat2 = _function("renameat2")
    if renameat2 is None:
        return errno.ENOSYS
    return ctypes.get_errno() if renameat2(source, old, directory, new, _RENAME_NOREPLACE) else 0


def syncfs(descriptor: int) -> int:
    """Makes everything durable that was written to the file system of an open file; returns 0 or the error number."""
    function = _function("syncfs")
    if function is None:
        return errno.ENOSYS
    return ctypes.get_errno() if function(descriptor) else 0


def start_writing(descriptor: int) -> int:
    """Has the system begin to write what an open file has in memory only; returns 0 or the error number.

    It waits for nothing, and makes nothing durable: a sync that comes later has less to do.
    """
    function = _function("sync_file_range")
    if function is None:
        return errno.ENOSYS
    return ctypes.get_errno() if function(descriptor, _WHOLE, _WHOLE, _SYNC_FILE_RANGE_WRITE) else 0


@functools.lru_cache(maxsize=64)
def _how(flags: int, mode: int) -> Any:
    """Returns a pointer to the arguments, which the kernel only reads: making one takes as long as the call."""
    return ctypes.pointer(_How(flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS))


@functools.cache
def _function(name: str) -> Any:
    """Returns a function of the C library; None on other systems, and where the library is older than the function."""
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
    return function
