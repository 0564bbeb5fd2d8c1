"""A directory that belongs to one running program: a peer's home, central's data."""

import fcntl
import os
from pathlib import Path

from core.errors import NotPossible

LOCK = "lock"


def claim(directory: Path, *, marks: tuple[str, ...], busy: str) -> int:
    """Makes `directory` its owner's only (0700), and returns a descriptor that holds its lock until it is closed.

    Args:
        directory: made with its parents when it is not there.
        marks: names of which one is there in every directory that the program has used before.
        busy: what to say when another program has it.

    Raises:
        NotPossible: another program has it, it cannot be written, or it holds somebody's files; it stays as it was.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = {path.name for path in directory.iterdir()}
        if names and names.isdisjoint({LOCK, *marks}):
            raise NotPossible(f"{directory} holds other files; give a directory that is empty or not there yet")
        directory.chmod(0o700)
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotPossible(f"cannot use {directory} ({error.strerror}); give another directory") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise NotPossible(busy) from error
    return handle
