"""Brings a file from elsewhere into the shared directory, whole or not at all, and never over another file. Blocks."""

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.errors import NotFound, NotPossible, RelevoError
from core.names import printable
from peer.disk import reflink, rooted
from peer.disk.rooted import Stamp
from peer.library.ignore import reason_of
from peer.library.selection import OWN_BEGIN

_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def regular_status(location: Path) -> os.stat_result:
    """Returns the status of a file that the local user named.

    Raises:
        NotFound: it is not there.
        NotPossible: it is not a regular file, or cannot be looked at.
    """
    shown = printable(str(location))
    try:
        status = rooted.status(location.parent, location.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{shown} is not there") from error
    except OSError as error:
        raise NotPossible(f"{shown} cannot be read: {reason_of(error)}") from error
    if stat.S_ISLNK(status.st_mode):
        raise NotPossible(f"{shown} is a symbolic link; name the file that it leads to")
    if not stat.S_ISREG(status.st_mode):
        raise NotPossible(f"{shown} is not a regular file; name files, one by one")
    return status


def temporary_prefix(home: Path) -> str:
    """Returns how the names of this peer's unfinished copies begin; other peers may share the same directory."""
    return f"{OWN_BEGIN}put-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}-"


def remove_leftovers(root: Path, prefix: str) -> None:
    """Removes unfinished copies that a crash left at the top of the shared directory."""
    with suppress(OSError):
        for name in rooted.entries(root):
            if name.startswith(prefix):
                rooted.remove(root, name)


def copy_beside(source: Path, root: Path, prefix: str, stopped: Callable[[], bool]) -> tuple[str, Stamp]:
    """Copies a file to a hidden name at the top of `root`, with mtime and executable bit, and syncs it.

    Returns:
        The hidden name and the stamp of the copy.

    Raises:
        NotFound, NotPossible: it is not a regular file that can be read, it changes meanwhile, or the copy cannot be
            written; nothing is left behind.
    """
    name = prefix + secrets.token_hex(8)
    status = regular_status(source)
    try:
        original = rooted.open_file(source.parent, source.name)
        try:
            return name, _copy(original, status, root, name, stopped)
        finally:
            os.close(original)
    except OSError as error:
        _discard(root, name)
        raise NotPossible(f"{printable(str(source))} cannot be copied: {reason_of(error)}") from error
    except RelevoError:
        _discard(root, name)
        raise


def _copy(original: int, status: os.stat_result, root: Path, name: str, stopped: Callable[[], bool]) -> Stamp:
    copy = rooted.create_file(root, name, 0o777 if status.st_mode & _ANY_EXECUTE else 0o666)
    try:
        copied = reflink.copy_file(original, copy, status.st_size, stopped)
        if copied != status.st_size or Stamp.of(os.fstat(original)) != Stamp.of(status):
            raise NotPossible("the file changed while it was copied; put it again when it is complete")
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(copy)
        return Stamp.of(os.fstat(copy))
    finally:
        os.close(copy)


def _discard(root: Path, name: str) -> None:
    with suppress(OSError):
        rooted.remove(root, name)
