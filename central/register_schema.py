"""The SQLite database of a network's register: its file, its tables, its connections."""

import sqlite3
from pathlib import Path

from core.errors import NotPossible
from core.private_files import keep_private

FILE_NAME = "register.db"
VERSION = 1
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


def connect(data: Path) -> sqlite3.Connection:
    """Returns a connection in autocommit mode to the register in `data`, which is made, 0600, when it is not there.

    Commits are synced to disk before they return. The caller closes it; any one thread at a time may use it.

    Raises:
        NotPossible: it cannot be used, or a newer version has written it.
    """
    path = data / FILE_NAME
    try:
        keep_private(path)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise NotPossible(f"cannot open {path} ({error}); check the directory's permissions") from error
    try:
        _prepare(db, path)
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


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    for setting in ("synchronous = FULL", "journal_mode = WAL"):
        db.execute(f"PRAGMA {setting}")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise NotPossible(
            f"{path} was written by a newer relevo-central (schema {version}, this one knows {VERSION}); upgrade"
        )
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
