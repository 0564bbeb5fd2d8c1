"""Files that only their owner may read: keys, certificates, what a home remembers of its network."""

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
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
