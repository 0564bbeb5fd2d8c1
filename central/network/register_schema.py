"""The SQLite database of a network's register: its file, its tables, its connections."""

import sqlite3
from pathlib import Path

from core.errors import NotPossible
from core.private_files import keep_private
from core.schemas import Schema

FILE_NAME = "register.db"
BUSY_SECONDS = 5.0

# `link` is the certificate by which the predecessor vouches. `last_end` is when the last certificate ends that the
# authority has issued. `lapsed`: the certificates of a revoked member have expired, so that nobody need hear of it.
_TABLES = """
CREATE TABLE state (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1), version INTEGER NOT NULL,
  address TEXT NOT NULL, enrolment_port INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 1, '', 0);

CREATE TABLE authorities (
  generation INTEGER PRIMARY KEY, certificate BLOB NOT NULL, link BLOB NOT NULL,
  last_end REAL NOT NULL DEFAULT 0, retired INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE invitations (
  id BLOB PRIMARY KEY, secret_hash BLOB NOT NULL, expires REAL NOT NULL, uses_left INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
  peer_id TEXT PRIMARY KEY, name TEXT NOT NULL, joined REAL NOT NULL,
  certificate_end REAL NOT NULL DEFAULT 0, revoked REAL, lapsed INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
"""
SCHEMA = Schema("relevo-central", _TABLES)


def connect(data: Path, *, beside: bool) -> sqlite3.Connection:
    """Returns a connection in autocommit mode to the register in `data`.

    Commits are synced to disk before they return. The caller closes it; any one thread at a time may use it.

    Args:
        data: the directory; the register is made in it, 0600, when it is not there.
        beside: opened without the directory's lock, so that a central may be using it.

    Raises:
        NotPossible: it cannot be used, or a newer version has written it; `beside`, also when an older one has.
    """
    path = data / FILE_NAME
    try:
        keep_private(path)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise NotPossible(f"cannot open {path} ({error}); check the directory's permissions") from error
    try:
        _prepare(db, path, beside=beside)
    except sqlite3.Error as error:
        db.close()
        raise NotPossible(
            f"cannot use {path} ({error}); see that the disk is neither full nor read-only, "
            "and restore the file from a backup otherwise"
        ) from error
    except NotPossible:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, *, beside: bool) -> None:
    if beside:
        SCHEMA.check(db, path)
    else:
        SCHEMA.bring_up(db, path)
    for setting in ("synchronous = FULL", "journal_mode = WAL"):
        db.execute(f"PRAGMA {setting}")
