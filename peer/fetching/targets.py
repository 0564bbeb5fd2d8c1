"""What stands where a download is to go. Everything here blocks: call it in threads."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from core.errors import AlreadyExists
from core.manifest import Manifest
from core.names import last_part, normal, printable
from peer.disk import rooted
from peer.disk.disk_errors import disk_error
from peer.disk.listed import listed_name
from peer.disk.rooted import Stamp
from peer.library.hashing import hash_file


def exists_already(location: Path) -> AlreadyExists:
    """Returns the error for a target at which other bytes stand."""
    return AlreadyExists(
        f"{printable(str(location))} is there already with other bytes, and nothing is overwritten; "
        "move it away, or choose another directory with --to"
    )


def _takes_for_one(standing: Path, name: str) -> AlreadyExists:
    return AlreadyExists(
        f"{printable(str(standing))} stands there, and this file system takes {printable(name)} for the same name; "
        "move it away, or choose another directory with --to"
    )


def existing_manifest(directory: Path, name: str, size: int) -> Manifest | None:
    """Returns the manifest of what stands at `name`; None when nothing does.

    Raises:
        AlreadyExists: it cannot be the wanted file: no regular file, not of `size` bytes, or of another name that the
            file system takes for this one.
        NotPossible: the directory is missing, or it cannot be read.
    """
    try:
        found = rooted.status(directory, name)
        listed = listed_name(directory, name)
        if normal(listed) != normal(last_part(name)):
            raise _takes_for_one((directory / name).with_name(listed), last_part(name))
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise exists_already(directory / name)
        return hash_file(directory, name, Stamp.of(found))
    except FileNotFoundError as error:
        if directory.is_dir():
            return None
        raise disk_error(error, directory) from error
    except OSError as error:
        raise disk_error(error, directory / name) from error


def remove_leftover(directory: Path, name: str, leftover: str) -> None:
    """Removes `leftover`, the other name of a file that has its final `name`: a crash may come between the two."""
    with suppress(OSError):
        if os.path.samestat(rooted.status(directory, leftover), rooted.status(directory, name)):
            rooted.remove(directory, leftover)
