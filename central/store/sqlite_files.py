"""The rows of `files` in SQLite: made for what uses them, removed with the last use. In a transaction of the caller."""

import json
import sqlite3
from collections.abc import Iterable, Sequence

from core.names import folded, last_part

FileRow = tuple[str, str, str, bytes, int, float]

_ADD_FILE = """
INSERT INTO files (path, folded, folded_name, content_id, size, age) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_UNUSED = """
FROM files WHERE id IN (SELECT value FROM json_each(?))
  AND NOT EXISTS (SELECT 1 FROM entries WHERE file_id = files.id)
  AND NOT EXISTS (SELECT 1 FROM placements WHERE file_id = files.id)
"""


def file_row(path: str, content_id: bytes, size: int, now: float) -> FileRow:
    """Returns the row for a path, content and size that central hears of now."""
    compared = folded(path)
    return path, compared, last_part(compared), content_id, size, -now


def add_files(db: sqlite3.Connection, rows: Sequence[FileRow]) -> None:
    """Makes those rows of `files` that are not there, and indexes them."""
    last = db.execute("SELECT coalesce(max(id), 0) FROM files").fetchone()
    db.executemany(_ADD_FILE, rows)
    db.execute("INSERT INTO grams (rowid, folded) SELECT id, folded FROM files WHERE id > ?", last)


def add_file(db: sqlite3.Connection, path: str, content_id: bytes, size: int, now: float) -> int:
    """Returns the row of `files` for a path, content and size, which is made when it is not there."""
    add_files(db, [file_row(path, content_id, size, now)])
    query = "SELECT id FROM files WHERE path = ? AND content_id = ? AND size = ?"
    row = db.execute(query, (path, content_id, size)).fetchone()
    return int(row[0])


def drop_unused(db: sqlite3.Connection, file_ids: Iterable[int]) -> None:
    """Removes those of the rows of `files` that no library and no placement uses any more."""
    values = (json.dumps(sorted(set(file_ids))),)
    db.execute(f"INSERT INTO grams (grams, rowid, folded) SELECT 'delete', id, folded {_UNUSED}", values)
    db.execute(f"DELETE {_UNUSED}", values)
