"""Files that only their owner may read: keys, certificates, what a home remembers of its network, databases."""

import contextlib
import os
import secrets
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, 0600, in place of what was there.

    It is written beside, synced and moved into place, so that a crash leaves the old file or the new one, whole.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Returns when the names in a directory are durable.

    Raises:
        OSError: the disk has failed.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_private(database: Path) -> None:
    """Makes an SQLite database its owner's only (0600): a new one, and one that is there, with what stands beside it.

    SQLite gives its journals the mode of the database. What is there is not opened: closing it again would drop the
    locks that this process has on it by way of SQLite.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + end).chmod(0o600)
