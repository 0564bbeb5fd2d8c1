"""Reads what the system has in memory. A file system that cannot tell, or a disk, is never waited for."""

import os

# Absent where the system has no such read.
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


def at_hand(descriptor: int, length: int, offset: int) -> memoryview | None:
    """Returns `length` bytes of an open file if all of them are in memory; else None, at once."""
    if _NOWAIT is None:
        return None
    data = bytearray(length)
    try:
        found = os.preadv(descriptor, [data], offset, _NOWAIT)
    except (
        OSError
    ):  # not in memory, or a file system that has no such read; who reads it otherwise learns what is wrong
        return None
    return memoryview(data) if found == length else None
