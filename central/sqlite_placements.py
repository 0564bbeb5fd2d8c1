"""Placements in SQLite. Every function runs inside a transaction of its caller."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from central.quotas import Placed, Quotas, check_placed
from central.sqlite_catalogue import add_file, drop_unused
from central.store import Copy, PendingPage, PlacementRecord

# A copy is confirmed when its peer stores the content: one truth, which a peer changes by what it publishes.
_COPIES = """
SELECT live.peer_id, EXISTS (
  SELECT 1 FROM stored WHERE stored.library = live.library AND stored.content_id = :content
) FROM (
  SELECT peer_id FROM chosen WHERE placement = :number AND NOT declined
  UNION
  SELECT peer_id FROM stored CROSS JOIN live USING (library) WHERE content_id = :content
) AS held CROSS JOIN live USING (peer_id)
WHERE live.peer_id <> :author ORDER BY live.peer_id
"""
_PLACEMENTS = """
SELECT number, placement_id, author, placements.content_id, path, size, wanted
FROM placements JOIN files ON files.id = file_id
"""
_PENDING = """
WHERE wanted > (
  SELECT count(*) FROM stored CROSS JOIN live USING (library)
  WHERE stored.content_id = placements.content_id AND live.peer_id <> placements.author
) AND number > ? ORDER BY number LIMIT ?
"""
_PLACED = "SELECT count(*), coalesce(sum(bytes), 0) FROM placements WHERE author = ?"
# Time and executable bit travel with a copy when its author is gone.
_PLACE = """
INSERT INTO placements (placement_id, author, content_id, file_id, wanted, bytes, modify_time, executable)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (author, content_id) DO UPDATE SET file_id = excluded.file_id, wanted = excluded.wanted,
  bytes = excluded.bytes, modify_time = excluded.modify_time, executable = excluded.executable
"""
_AUTHORS_ENTRY = """
SELECT modify_time, executable FROM entries JOIN peers USING (library) WHERE file_id = ? AND peer_id = ?
"""
_CHOOSE = """
INSERT INTO chosen (placement, peer_id) SELECT number, ? FROM placements WHERE placement_id = ?
ON CONFLICT (placement, peer_id) DO UPDATE SET declined = 0
"""


def place(db: sqlite3.Connection, placement: PlacementRecord, now: float, quotas: Quotas) -> None:
    """Records a placement with its chosen copies, or changes the one of the same author and content.

    Raises:
        OverQuota: the author would have more placed than one may, and more than before.
    """
    author, content_id, wanted = placement.author, placement.content_id, placement.wanted
    query = "SELECT file_id, bytes FROM placements WHERE author = ? AND content_id = ?"
    before = db.execute(query, (author, content_id)).fetchall()
    claimed = placement.size * wanted
    placed = Placed(*db.execute(_PLACED, (author,)).fetchone())
    after = Placed(placed.placements + 1 - len(before), placed.placed_bytes + claimed - sum(row[1] for row in before))
    check_placed(quotas, placed, after)
    file_id = add_file(db, placement.path, content_id, placement.size, now)
    times = db.execute(_AUTHORS_ENTRY, (file_id, author)).fetchone() or (now, 0)
    db.execute(_PLACE, (placement.placement_id, author, content_id, file_id, wanted, claimed, *times))
    drop_unused(db, [row[0] for row in before if row[0] != file_id])
    choose(db, placement.placement_id, [copy.peer_id for copy in placement.copies])


def choose(db: sqlite3.Connection, placement_id: str, peer_ids: Sequence[str]) -> None:
    """Records chosen peers of a placement, also such that had declined; ignores an unknown placement."""
    db.executemany(_CHOOSE, [(peer_id, placement_id) for peer_id in peer_ids])


def placement(db: sqlite3.Connection, placement_id: str) -> PlacementRecord | None:
    """Returns a placement, or None."""
    row = db.execute(f"{_PLACEMENTS} WHERE placement_id = ?", (placement_id,)).fetchone()
    return None if row is None else _record(db, row)


def placement_of(db: sqlite3.Connection, author: str, content_id: bytes) -> PlacementRecord | None:
    """Returns the author's placement of a content, or None."""
    values = (author, content_id)
    row = db.execute(f"{_PLACEMENTS} WHERE author = ? AND placements.content_id = ?", values).fetchone()
    return None if row is None else _record(db, row)


def pending(db: sqlite3.Connection, after: int, limit: int) -> PendingPage:
    """Returns a page of the placements with fewer confirmed live copies than wanted, the oldest first."""
    rows = db.execute(_PLACEMENTS + _PENDING, (after, limit)).fetchall()
    return PendingPage(tuple(_record(db, row) for row in rows), rows[-1][0] if len(rows) == limit else None)


def _record(db: sqlite3.Connection, row: tuple[Any, ...]) -> PlacementRecord:
    number, placement_id, author, content_id, path, size, wanted = row
    rows = db.execute(_COPIES, {"number": number, "content": content_id, "author": author})
    copies = tuple(Copy(peer_id, bool(confirmed)) for peer_id, confirmed in rows)
    query = "SELECT peer_id FROM chosen WHERE placement = ? AND declined ORDER BY peer_id"
    declined = tuple(row[0] for row in db.execute(query, (number,)))
    return PlacementRecord(placement_id, author, content_id, path, size, wanted, copies, declined)
