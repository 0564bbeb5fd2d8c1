"""The SQLite database of a data directory: its lock, its tables, its connections."""

import logging
import sqlite3
from pathlib import Path

from core.own_directory import claim
from core.schemas import Schema, connected

log = logging.getLogger("relevo.central")
FILE_NAME = "central.db"

# A peer's published entries and stored copies belong to its library, and only a library in `live` is visible. So a
# withdrawal deletes one row of `live`, and starting over takes a new library; what is left behind is `abandoned` and
# collected in small steps. `files` has one row for each path, content and size that any library or placement uses: only
# one size of a content is true, but central cannot tell which, and a lie must not stand for what others publish.
# `age` is -publish_time, so that one ascending index serves "newest first, then path". `grams` is kept in step by code:
# a trigger would have FTS5 write a segment for each row, at five times the cost of a batch. A placement with a
# `successor` waits for that one, which is for newer bytes at its path. `dropping` has what peers are to delete.
_TABLES = """
CREATE TABLE receipts (
  author TEXT NOT NULL, request_id TEXT NOT NULL, answer BLOB NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (author, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_time ON receipts (time);

CREATE TABLE libraries (
  library INTEGER PRIMARY KEY AUTOINCREMENT, peer_id TEXT NOT NULL, abandoned REAL
) STRICT;
CREATE INDEX libraries_abandoned ON libraries (peer_id, library) WHERE abandoned IS NOT NULL;

CREATE TABLE peers (
  peer_id TEXT PRIMARY KEY, public_key BLOB NOT NULL,
  library INTEGER NOT NULL UNIQUE REFERENCES libraries,
  catalogue_version INTEGER NOT NULL DEFAULT 0, file_count INTEGER NOT NULL DEFAULT 0,
  path_bytes INTEGER NOT NULL DEFAULT 0, stored_count INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE live (
  library INTEGER PRIMARY KEY REFERENCES libraries, peer_id TEXT NOT NULL UNIQUE REFERENCES peers,
  session_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, addresses TEXT NOT NULL, joined INTEGER NOT NULL,
  login_time REAL NOT NULL, free_bytes INTEGER NOT NULL,
  primary_peer TEXT NOT NULL, backup_peer TEXT NOT NULL
) STRICT;

CREATE TABLE ended_sessions (
  session_id TEXT PRIMARY KEY, peer_id TEXT NOT NULL, ended_as TEXT NOT NULL, time REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ended_sessions_by_peer ON ended_sessions (peer_id, time);

CREATE TABLE files (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL, folded TEXT NOT NULL, folded_name TEXT NOT NULL,
  content_id BLOB NOT NULL, size INTEGER NOT NULL, age REAL NOT NULL,
  UNIQUE (content_id, path, size)
) STRICT;
CREATE INDEX files_by_age ON files (age, path, content_id, size);
CREATE INDEX files_by_folded ON files (folded);
CREATE INDEX files_by_folded_name ON files (folded_name);

CREATE TABLE entries (
  library INTEGER NOT NULL REFERENCES libraries, path TEXT NOT NULL, file_id INTEGER NOT NULL REFERENCES files,
  modify_time REAL NOT NULL, executable INTEGER NOT NULL,
  PRIMARY KEY (library, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_file ON entries (file_id, library, modify_time, executable);

CREATE TABLE stored (
  library INTEGER NOT NULL REFERENCES libraries, content_id BLOB NOT NULL,
  PRIMARY KEY (library, content_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX stored_by_content ON stored (content_id, library);

CREATE TABLE placements (
  number INTEGER PRIMARY KEY, placement_id TEXT NOT NULL UNIQUE, author TEXT NOT NULL, content_id BLOB NOT NULL,
  file_id INTEGER NOT NULL REFERENCES files, wanted INTEGER NOT NULL, bytes INTEGER NOT NULL,
  modify_time REAL NOT NULL, executable INTEGER NOT NULL, successor INTEGER,
  UNIQUE (author, content_id)
) STRICT;
CREATE INDEX placements_by_file ON placements (file_id);
CREATE INDEX placements_by_author ON placements (author, successor, bytes);
CREATE INDEX placements_by_successor ON placements (successor) WHERE successor IS NOT NULL;
CREATE INDEX placements_by_content ON placements (content_id);

CREATE TABLE chosen (
  placement INTEGER NOT NULL REFERENCES placements ON DELETE CASCADE, peer_id TEXT NOT NULL,
  declined INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (placement, peer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX chosen_by_peer ON chosen (peer_id);

CREATE TABLE dropping (
  content_id BLOB NOT NULL, peer_id TEXT NOT NULL,
  PRIMARY KEY (content_id, peer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dropping_by_peer ON dropping (peer_id);

CREATE VIRTUAL TABLE grams USING fts5 (
  folded, content = 'files', content_rowid = 'id', detail = none, columnsize = 0,
  tokenize = 'trigram case_sensitive 1'
);
"""
# The first databases of version 1 had one size for each content and path, later ones of version 1 have several: `files`
# is made anew for both.
_STEPS = (
    """
CREATE TABLE files_anew (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL, folded TEXT NOT NULL, folded_name TEXT NOT NULL,
  content_id BLOB NOT NULL, size INTEGER NOT NULL, age REAL NOT NULL,
  UNIQUE (content_id, path, size)
) STRICT;
INSERT INTO files_anew SELECT id, path, folded, folded_name, content_id, size, age FROM files;
DROP TABLE files;
ALTER TABLE files_anew RENAME TO files;
CREATE INDEX files_by_age ON files (age, path, content_id, size);
CREATE INDEX files_by_folded ON files (folded);
CREATE INDEX files_by_folded_name ON files (folded_name);

ALTER TABLE peers ADD COLUMN path_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE peers ADD COLUMN stored_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE placements ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE peers SET
  path_bytes = (SELECT coalesce(sum(length(CAST(path AS BLOB))), 0) FROM entries WHERE entries.library = peers.library),
  stored_count = (SELECT count(*) FROM stored WHERE stored.library = peers.library);
UPDATE placements SET bytes = wanted * (SELECT size FROM files WHERE files.id = file_id);
CREATE INDEX placements_by_author ON placements (author, bytes);
""",
    """
ALTER TABLE placements ADD COLUMN successor INTEGER;
DROP INDEX placements_by_author;
CREATE INDEX placements_by_author ON placements (author, successor, bytes);
CREATE INDEX placements_by_successor ON placements (successor) WHERE successor IS NOT NULL;
CREATE TABLE dropping (
  content_id BLOB NOT NULL, peer_id TEXT NOT NULL,
  PRIMARY KEY (content_id, peer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dropping_by_peer ON dropping (peer_id);
""",
)
SCHEMA = Schema("relevo-central", _TABLES, _STEPS)


def lock(data: Path) -> int:
    """Makes `data` a directory for its owner only, and returns a descriptor that holds its lock until it is closed.

    Raises:
        NotPossible: another central runs on it, it cannot be written, or it holds somebody else's files.
    """
    busy = f"another central runs on {data}; stop it, or give another data directory"
    return claim(data, marks=(FILE_NAME,), busy=busy)


def connect(data: Path, *, reader: bool) -> sqlite3.Connection:
    """Returns a connection in autocommit mode that any one thread at a time may use.

    Commits are synced to disk before they return. The caller closes it, and has the lock unless it is a reader.

    Raises:
        NotPossible: the database cannot be opened, or a newer version has written it; for a reader, also when an older
            one has, since whoever has the lock may be that.
    """
    path = data / FILE_NAME
    return connected(path, lambda db: _prepare(db, path, reader=reader))


def _prepare(db: sqlite3.Connection, path: Path, *, reader: bool) -> None:
    # What was written by a newer version is not touched: it is looked at before anything is set that stays in the file.
    if reader:
        SCHEMA.check(db, path)
        settings = ["cache_size = -16384", "query_only = ON"]
    else:
        found = SCHEMA.bring_up(db, path)
        if 0 < found < SCHEMA.version:
            log.info("%s is brought from schema %d to %d", path, found, SCHEMA.version)
        # Batches touch many pages, and many of the same: with 32 MiB between checkpoints each is copied once for many.
        settings = ["cache_size = -65536", "journal_mode = WAL", "wal_autocheckpoint = 8192"]
    for setting in ("foreign_keys = ON", "synchronous = FULL", "temp_store = MEMORY", "secure_delete = OFF", *settings):
        db.execute(f"PRAGMA {setting}")
