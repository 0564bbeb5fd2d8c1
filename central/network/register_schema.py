"""The SQLite database of a network's register: its file, its tables, its connections."""

import sqlite3
from pathlib import Path

from core.schemas import Schema, connected

FILE_NAME = "register.db"

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
    return connected(path, lambda db: _prepare(db, path, beside=beside))


def _prepare(db: sqlite3.Connection, path: Path, *, beside: bool) -> None:
    if beside:
        SCHEMA.check(db, path)
    else:
        SCHEMA.bring_up(db, path)
    for setting in ("synchronous = FULL", "journal_mode = WAL"):
        db.execute(f"PRAGMA {setting}")
