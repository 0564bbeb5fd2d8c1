"""Claims in SQLite: what authors want copies of, by asking for them, by new bytes at the path, and until they say so.

Every function runs inside a transaction of its caller.
"""

import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from central.quotas import Placed, Quotas, check_placed
from central.store.sqlite_files import add_file, drop_unused
from central.store.sqlite_placements import choose, is_kept, is_stored
from central.store.store import Entry, PlacementRecord
from core.errors import OverQuota
from core.names import folded

# Placements that wait for newer bytes are no further ones, but their copies are there.
_PLACED = "SELECT count(*) FILTER (WHERE successor IS NULL), coalesce(sum(bytes), 0) FROM placements WHERE author = ?"
# Time and executable bit travel with a copy when its author is gone.
_PLACE = """
INSERT INTO placements (placement_id, author, content_id, file_id, wanted, bytes, modify_time, executable)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (author, content_id) DO UPDATE SET file_id = excluded.file_id, wanted = excluded.wanted,
  bytes = excluded.bytes, modify_time = excluded.modify_time, executable = excluded.executable, successor = NULL
"""
_AUTHORS_ENTRY = """
SELECT modify_time, executable FROM entries JOIN peers USING (library) WHERE file_id = ? AND peer_id = ?
"""
# Everybody who may have a copy or is about to, live or not.
_INVOLVED = """
INSERT INTO dropping (content_id, peer_id)
SELECT :id, peer_id FROM stored JOIN peers USING (library) WHERE content_id = :id
UNION SELECT :id, peer_id FROM chosen JOIN placements ON number = placement WHERE content_id = :id AND NOT declined
ON CONFLICT DO NOTHING
"""
# By the path: an author may have thousands of placements, and publishes as many entries at once.
_AT_PATH = """
SELECT number, placements.content_id, wanted FROM files CROSS JOIN placements ON file_id = files.id
WHERE author = ? AND successor IS NULL AND placements.content_id <> ? AND folded = ? AND path = ?
"""
_SAME = """
SELECT placement_id, wanted, path FROM placements JOIN files ON files.id = file_id
WHERE author = ? AND placements.content_id = ?
"""
# Number, content id, wanted copies.
_Older = tuple[int, bytes, int]


def place(db: sqlite3.Connection, placement: PlacementRecord, now: float, quotas: Quotas) -> tuple[bytes, ...]:
    """Records a placement with its chosen copies, or changes the one of the same author and content.

    Returns the contents whose placements that has changed: this one's, and those of older bytes at the path.

    Raises:
        OverQuota: the author would have more placed than one may, and more than before.
    """
    author, content_id = placement.author, placement.content_id
    file_id = add_file(db, placement.path, content_id, placement.size, now)
    modified, executable = db.execute(_AUTHORS_ENTRY, (file_id, author)).fetchone() or (now, 0)
    entry = Entry(placement.path, content_id, placement.size, modified, bool(executable))
    older = len(_older(db, author, entry))
    wanted = placement.wanted
    claim(db, placement.placement_id, author, entry, wanted=wanted, instead_of=older, now=now, quotas=quotas)
    changed = succeed(db, author, entry)
    choose(db, placement.placement_id, [copy.peer_id for copy in placement.copies])
    return tuple(changed)


def claim(
    db: sqlite3.Connection,
    placement_id: str,
    author: str,
    entry: Entry,
    *,
    wanted: int,
    instead_of: int,
    now: float,
    quotas: Quotas,
) -> None:
    """Records that an author wants copies of what stands at a path of its own, whatever it wanted of it before.

    `instead_of` placements of older bytes are going to wait for it.

    Raises:
        OverQuota: the author would have more placed than one may, and more than before.
    """
    query = "SELECT file_id, bytes, successor FROM placements WHERE author = ? AND content_id = ?"
    before = db.execute(query, (author, entry.content_id)).fetchone()
    placed = Placed(*db.execute(_PLACED, (author,)).fetchone())
    claimed = entry.size * wanted
    further = before is None or before[2] is not None
    after = Placed(
        placed.placements + further - instead_of, placed.placed_bytes + claimed - (before[1] if before else 0)
    )
    check_placed(quotas, placed, after)
    file_id = add_file(db, entry.path, entry.content_id, entry.size, now)
    row = (placement_id, author, entry.content_id, file_id, wanted, claimed, entry.modify_time, entry.executable)
    db.execute(_PLACE, row)
    if before is not None and before[0] != file_id:
        drop_unused(db, [before[0]])


def follow(
    db: sqlite3.Connection, author: str, entries: Iterable[Entry], now: float, quotas: Quotas
) -> tuple[bytes, ...]:
    """Has an author's placements follow what it publishes now; returns the contents whose placements changed.

    Where the limits do not allow it, a placement stays as it is: copies of the older bytes are better than none.
    """
    if db.execute("SELECT 1 FROM placements WHERE author = ? LIMIT 1", (author,)).fetchone() is None:
        return ()
    changed: dict[bytes, None] = {}
    for entry in entries:
        older = _older(db, author, entry)
        if older:
            try:
                _claim_as_many(db, author, entry, older, now=now, quotas=quotas)
            except OverQuota:
                continue
            changed |= dict.fromkeys(succeed(db, author, entry))
    return tuple(changed)


def succeed(db: sqlite3.Connection, author: str, entry: Entry) -> list[bytes]:
    """Has an author's older placements at a path wait for the one of the entry; returns the contents of all of them.

    Of several only the last that was kept stays, and none that nobody stores.
    """
    (successor,) = db.execute(
        "SELECT number FROM placements WHERE author = ? AND content_id = ?", (author, entry.content_id)
    ).fetchone()
    changed = [entry.content_id]
    for number, content_id, _ in _older(db, author, entry):
        changed.append(content_id)
        waiting = db.execute("SELECT count(*) FROM placements WHERE successor = ?", (number,)).fetchone()[0]
        if waiting and is_kept(db, number):
            changed += end_waiting(db, number)
            waiting = 0
        if waiting or not is_stored(db, content_id):
            db.execute("UPDATE placements SET successor = ? WHERE successor = ?", (successor, number))
            end(db, number)
        else:
            db.execute("UPDATE placements SET successor = ? WHERE number = ?", (successor, number))
    return changed


def _older(db: sqlite3.Connection, author: str, entry: Entry) -> list[_Older]:
    values = (author, entry.content_id, folded(entry.path), entry.path)
    return db.execute(_AT_PATH, values).fetchall()


def _claim_as_many(
    db: sqlite3.Connection, author: str, entry: Entry, older: list[_Older], *, now: float, quotas: Quotas
) -> None:
    """Claims as many copies of an entry as of the older bytes; as many as of its content before, if these are more."""
    placement_id, wanted = secrets.token_hex(16), max(wanted for _, _, wanted in older)
    same = db.execute(_SAME, (author, entry.content_id)).fetchone()
    if same is not None:  # at another path of the author's, or at this one some time ago
        placement_id, before, path = same
        entry, wanted = replace(entry, path=path), max(wanted, before)
    claim(db, placement_id, author, entry, wanted=wanted, instead_of=len(older), now=now, quotas=quotas)


def end_of(db: sqlite3.Connection, author: str, content_id: bytes) -> tuple[bytes, ...]:
    """Ends an author's placement of a content, with those that wait for it; returns the contents of all of them."""
    query = "SELECT number FROM placements WHERE author = ? AND content_id = ?"
    row = db.execute(query, (author, content_id)).fetchone()
    return () if row is None else (*end_waiting(db, row[0]), end(db, row[0]))


def retire(db: sqlite3.Connection, placement_id: str) -> list[bytes]:
    """Ends the placements that wait for this one, and returns their contents."""
    row = db.execute("SELECT number FROM placements WHERE placement_id = ?", (placement_id,)).fetchone()
    return [] if row is None else end_waiting(db, row[0])


def end_waiting(db: sqlite3.Connection, number: int) -> list[bytes]:
    """Ends the placements that wait for the one of this number, and returns their contents."""
    rows = db.execute("SELECT number FROM placements WHERE successor = ?", (number,)).fetchall()
    return [end(db, older) for (older,) in rows]


def end(db: sqlite3.Connection, number: int) -> bytes:
    """Ends one placement, and returns its content; when nobody else wants that, whoever has it is to drop it."""
    row = db.execute("SELECT content_id, file_id FROM placements WHERE number = ?", (number,)).fetchone()
    content_id: bytes = row[0]
    others = "SELECT 1 FROM placements WHERE content_id = ? AND number <> ?"
    if db.execute(others, (content_id, number)).fetchone() is None:
        db.execute(_INVOLVED, {"id": content_id})
    db.execute("DELETE FROM placements WHERE number = ?", (number,))
    drop_unused(db, [row[1]])
    return content_id
