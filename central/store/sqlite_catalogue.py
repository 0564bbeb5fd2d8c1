"""The catalogue in SQLite: what peers publish. Every function runs inside a transaction of its caller."""

import json
import sqlite3
from collections.abc import Iterable, Sequence, Set

from central.quotas import Held, Quotas, check_held
from central.store.sqlite_claims import follow
from central.store.sqlite_files import add_files, drop_unused, file_row
from central.store.sqlite_members import new_library
from central.store.store import Batch, Entry, FoundHolder, Page
from core.errors import NotFound, SessionUnknown, VersionConflict

COLLECT_ROWS = 1_000

_PEER = "SELECT library, catalogue_version, file_count, path_bytes, stored_count FROM peers WHERE peer_id = ?"
_NEXT = "UPDATE peers SET catalogue_version = ?, file_count = ?, path_bytes = ?, stored_count = ? WHERE peer_id = ?"
_ADD_ENTRY = """
INSERT INTO entries (library, path, file_id, modify_time, executable)
SELECT ?, path, id, ?, ? FROM files WHERE path = ? AND content_id = ? AND size = ?
ON CONFLICT (library, path) DO UPDATE
SET file_id = excluded.file_id, modify_time = excluded.modify_time, executable = excluded.executable
"""
_HOLDERS = """
SELECT live.peer_id, name, addresses FROM (
  SELECT library FROM files JOIN entries ON entries.file_id = files.id WHERE files.content_id = :content
  UNION SELECT library FROM stored WHERE content_id = :content
) JOIN live USING (library)
"""
_PUBLISHED = """
SELECT files.path, content_id, size, modify_time, executable
FROM entries JOIN files ON files.id = entries.file_id JOIN live USING (library)
WHERE entries.path = ? AND peer_id = ?
"""


def catalogue_version(db: sqlite3.Connection, peer_id: str) -> int:
    """Returns the version of what is held of a peer's library; 0 for nothing."""
    row = db.execute("SELECT catalogue_version FROM peers WHERE peer_id = ?", (peer_id,)).fetchone()
    return 0 if row is None else row[0]


def publish(db: sqlite3.Connection, peer_id: str, batch: Batch, now: float, quotas: Quotas) -> tuple[bytes, ...]:
    """Applies a batch to a peer's library, and returns the contents whose placements that has changed.

    Raises:
        SessionUnknown: the peer is not known.
        VersionConflict: the batch builds on another version.
        OverQuota: the peer would publish more than one may, and more than before.
    """
    row = db.execute(_PEER, (peer_id,)).fetchone()
    if row is None:
        raise SessionUnknown("central does not know this peer; log in anew")
    library, version, *counts = row
    if batch.base_version not in {0, version}:
        raise VersionConflict(
            f"built on version {batch.base_version}, but central holds {version}; publish everything anew",
            {"version": str(version)},
        )
    if batch.base_version == 0:
        library, counts = start_over(db, peer_id, library, now), [0, 0, 0]
    added = {entry.path: entry for entry in batch.added}
    held = _held(db, library, [*added, *batch.removed])
    removed = set(batch.removed) - added.keys()
    before = Held(*counts)
    after = before + _grown(added.keys() - held.keys(), removed & held.keys(), _store(db, library, peer_id, batch))
    check_held(quotas, before, after)
    db.executemany("DELETE FROM entries WHERE library = ? AND path = ?", [(library, path) for path in removed])
    _add(db, library, added.values(), now)
    followed = follow(db, peer_id, added.values(), now, quotas)
    drop_unused(db, held.values())
    db.execute(_NEXT, (batch.version, after.entries, after.path_bytes, after.copies, peer_id))
    _collect_older(db, peer_id, COLLECT_ROWS + 2 * len(added))
    return followed


def _grown(new: Set[str], gone: Set[str], copies: int) -> Held:
    size = sum(len(path.encode()) for path in new) - sum(len(path.encode()) for path in gone)
    return Held(len(new) - len(gone), size, copies)


def start_over(db: sqlite3.Connection, peer_id: str, library: int, now: float) -> int:
    """Gives the peer an empty library, and returns its number. The old one is collected later.

    Entries that are published again meanwhile find their `files` row, so that nothing is indexed anew.
    """
    new = new_library(db, peer_id)
    db.execute("UPDATE libraries SET abandoned = ? WHERE library = ?", (now, library))
    db.execute("UPDATE peers SET library = ? WHERE peer_id = ?", (new, peer_id))
    db.execute("UPDATE live SET library = ? WHERE library = ?", (new, library))
    return new


def _held(db: sqlite3.Connection, library: int, paths: Iterable[str]) -> dict[str, int]:
    query = "SELECT file_id FROM entries WHERE library = ? AND path = ?"
    held = {}
    for path in paths:
        row = db.execute(query, (library, path)).fetchone()
        if row is not None:
            held[path] = row[0]
    return held


def _add(db: sqlite3.Connection, library: int, entries: Iterable[Entry], now: float) -> None:
    # In the order of the indexes, which are cheaper to grow at one place.
    ordered = sorted(entries, key=lambda entry: entry.path)
    add_files(db, [file_row(e.path, e.content_id, e.size, now) for e in ordered])
    rows = [(library, e.modify_time, e.executable, e.path, e.content_id, e.size) for e in ordered]
    db.executemany(_ADD_ENTRY, rows)


def _store(db: sqlite3.Connection, library: int, peer_id: str, batch: Batch) -> int:
    """Records stored copies, and returns how many there are more; who drops or declines a copy is not chosen for it."""
    dropped = set(batch.dropped) - set(batch.stored)
    gone = db.executemany("DELETE FROM stored WHERE library = ? AND content_id = ?", [(library, c) for c in dropped])
    db.executemany(
        "DELETE FROM chosen WHERE peer_id = ? AND NOT declined AND placement IN"
        " (SELECT number FROM placements WHERE content_id = ?)",
        [(peer_id, content_id) for content_id in dropped],
    )
    db.executemany(
        "DELETE FROM dropping WHERE peer_id = ? AND content_id = ?", [(peer_id, content_id) for content_id in dropped]
    )
    new = db.executemany(
        "INSERT INTO stored (library, content_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(library, content_id) for content_id in batch.stored],
    )
    db.executemany(
        "UPDATE chosen SET declined = 1 WHERE peer_id = ? AND placement ="
        " (SELECT number FROM placements WHERE placement_id = ?)",
        [(peer_id, placement_id) for placement_id in batch.declined],
    )
    return max(new.rowcount, 0) - max(gone.rowcount, 0)  # -1 for a cursor that had nothing to do


def collect(db: sqlite3.Connection, abandoned_before: float) -> bool:
    """Clears some rows of a library that was abandoned before this time, and returns whether there was one."""
    query = "SELECT library FROM libraries WHERE abandoned IS NOT NULL AND abandoned < ? LIMIT 1"
    row = db.execute(query, (abandoned_before,)).fetchone()
    if row is not None:
        _collect(db, row[0], COLLECT_ROWS)
    return row is not None


def _collect_older(db: sqlite3.Connection, peer_id: str, limit: int) -> None:
    """Has a peer that starts over again and again clear up after itself, but for the library that it has just left."""
    query = "SELECT min(library) FROM libraries WHERE peer_id = ? AND abandoned IS NOT NULL HAVING count(*) > 1"
    for (library,) in db.execute(query, (peer_id,)).fetchall():
        _collect(db, library, limit)


def _collect(db: sqlite3.Connection, library: int, limit: int) -> None:
    rows = db.execute("SELECT path, file_id FROM entries WHERE library = ? LIMIT ?", (library, limit)).fetchall()
    db.executemany("DELETE FROM entries WHERE library = ? AND path = ?", [(library, path) for path, _ in rows])
    drop_unused(db, [file_id for _, file_id in rows])
    contents = db.execute("SELECT content_id FROM stored WHERE library = ? LIMIT ?", (library, limit)).fetchall()
    db.executemany("DELETE FROM stored WHERE library = ? AND content_id = ?", [(library, c) for (c,) in contents])
    if len(rows) < limit and len(contents) < limit:
        db.execute("DELETE FROM libraries WHERE library = ?", (library,))


def entry(db: sqlite3.Connection, peer_id: str, path: str) -> Entry | None:
    """Returns what a live peer publishes at a path, or None."""
    row = db.execute(_PUBLISHED, (path, peer_id)).fetchone()
    if row is None:
        return None
    found, content, size, modified, executable = row
    return Entry(found, content, size, modified, bool(executable))


def locate(db: sqlite3.Connection, content_id: bytes, after: str, limit: int) -> tuple[int, Page[FoundHolder]]:
    """Returns the size of a content and a page of its live holders, by peer id.

    Raises:
        NotFound: no live peer holds it.
    """
    sized = db.execute("SELECT size FROM files WHERE content_id = ? LIMIT 1", (content_id,)).fetchone()
    values = {"content": content_id, "after": after, "limit": limit + 1}
    if sized is None or db.execute(f"{_HOLDERS} LIMIT 1", values).fetchone() is None:
        raise NotFound(f"nobody who is logged in holds {content_id.hex()}; list the files to see what there is")
    rows = db.execute(f"{_HOLDERS} WHERE peer_id > :after ORDER BY peer_id LIMIT :limit", values).fetchall()
    holders = tuple(FoundHolder(row[0], row[1], tuple(json.loads(row[2]))) for row in rows[:limit])
    return sized[0], Page(holders, (holders[-1].peer_id,) if len(rows) > limit else None)


def locate_many(db: sqlite3.Connection, content_ids: Sequence[bytes], each: int) -> list[list[FoundHolder]]:
    """Returns live holders of each content, in the order asked: at most `each`, chosen at random."""
    # A peer that holds one of many files often holds them all: its addresses are decoded once.
    known: dict[str, FoundHolder] = {}
    found = []
    for content_id in content_ids:
        rows = db.execute(f"{_HOLDERS} ORDER BY random() LIMIT :each", {"content": content_id, "each": each})
        for peer_id, name, addresses in (of_one := rows.fetchall()):
            if peer_id not in known:
                known[peer_id] = FoundHolder(peer_id, name, tuple(json.loads(addresses)))
        found.append([known[peer_id] for peer_id, _, _ in of_one])
    return found


def holders_of(db: sqlite3.Connection, content_id: bytes) -> set[str]:
    """Returns the peer ids of all live holders."""
    return {row[0] for row in db.execute(_HOLDERS, {"content": content_id})}
