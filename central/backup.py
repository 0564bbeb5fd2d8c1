"""A copy of all that a central needs to go on elsewhere: one tar file, made while it serves or not.

It holds `central.db` and, of a network with members, `register.db`, `authorities/<generation>.pem`, `central-key.pem`
and `invitations.key`: unpacked into an empty directory, it is a data directory.
"""

import contextlib
import errno
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from central.network import register_schema
from central.network.enrolment import Enrolment
from central.store import sqlite_schema
from core.errors import AlreadyExists, NotPossible
from core.private_files import keep_private, sync_directory

# Members go by what has the highest version, so that of a restored register is higher than any that they have heard: so
# many changes may come between the backup and the loss.
LEAP = 1 << 20


def back_up(data: Path, target: Path) -> None:
    """Writes a backup of the data directory to `target`, 0600; it is durable when this returns.

    Both databases are as they were at one moment each, and the keys are those of the register; nothing that central
    does waits for more than the register's part of it.

    Raises:
        AlreadyExists: something stands at `target`; it stays as it is.
        NotPossible: there is no central in `data`, it cannot be read, is damaged, or is of another version, or `target`
            cannot be written; nothing is left at `target` then.
    """
    if not (data / sqlite_schema.FILE_NAME).exists():
        raise NotPossible(f"there is no central in {data}; name the directory that it uses with --data")
    try:
        with _reserved(target), TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as directory:
            packed = Path(directory, "backup")
            with os.fdopen(_private(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                with tarfile.open(fileobj=file, mode="w") as tar:
                    _pack(data, tar, Path(directory))
                file.flush()
                os.fsync(file.fileno())
            packed.rename(target)
            sync_directory(target.parent)
    except OSError as error:
        raise NotPossible(f"cannot write {target} ({error.strerror}); nothing is left of it") from error


def _pack(data: Path, tar: tarfile.TarFile, work: Path) -> None:
    with closing(sqlite_schema.connect(data, reader=True)) as db:
        _add_database(db, tar, work / sqlite_schema.FILE_NAME)
    if not (data / register_schema.FILE_NAME).exists():  # a central without members, in plaintext
        return
    with closing(Enrolment.open(data)) as network, network.register.changing():  # no authority changes meanwhile
        with closing(register_schema.connect(data, beside=True)) as db:
            _add_database(db, tar, work / register_schema.FILE_NAME, _leap)
        for path in network.key_files():
            tar.add(path, path.relative_to(data))


def _add_database(
    db: sqlite3.Connection, tar: tarfile.TarFile, copy: Path, change: Callable[[sqlite3.Connection], None] | None = None
) -> None:
    """Copies a database as its last commit left it, in one piece so that writers need not wait, and checks the copy.

    Raises:
        NotPossible: it is damaged, or cannot be read or written.
    """
    keep_private(copy)
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as copied:
            db.backup(copied)
            copied.execute("PRAGMA journal_mode = DELETE")  # one file
            if change:
                change(copied)
            (answer,) = copied.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise NotPossible(f"cannot copy {copy.name} ({error}); no backup is made") from error
    if answer != "ok":
        raise NotPossible(f"{copy.name} is damaged ({answer}); restore an older backup, this one is not made")
    tar.add(copy, copy.name)
    copy.unlink()


def _leap(register: sqlite3.Connection) -> None:
    register.execute("UPDATE state SET version = version + ?", (LEAP,))


@contextmanager
def _reserved(target: Path) -> Iterator[None]:
    """Holds the name with an empty file, which something is then renamed over; removes it when that fails."""
    try:
        os.close(_private(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise AlreadyExists(f"{target} is there already and stays as it is; give another name") from error
        raise
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        raise


def _private(path: str | Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
