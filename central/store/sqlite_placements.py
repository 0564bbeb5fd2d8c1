"""Placements in SQLite: their copies, and who is chosen. Every function runs inside a transaction of its caller."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from central.store.store import Copy, PlacedContent, PlacementRecord, UnsettledPage

# A copy is confirmed when its peer stores the content: one truth, which a peer changes by what it publishes.
_COPIES = """
SELECT live.peer_id, EXISTS (
  SELECT 1 FROM stored WHERE stored.library = live.library AND stored.content_id = :content
) FROM (
  SELECT peer_id FROM chosen WHERE placement = :number AND NOT declined
  UNION
  SELECT peer_id FROM stored CROSS JOIN live USING (library) WHERE content_id = :content
) AS held CROSS JOIN live USING (peer_id)
WHERE live.peer_id <> :author
  AND NOT EXISTS (SELECT 1 FROM dropping WHERE content_id = :content AND dropping.peer_id = live.peer_id)
ORDER BY live.peer_id
"""
_AWAY = """
SELECT peer_id FROM stored CROSS JOIN peers USING (library)
WHERE content_id = :content AND peer_id <> :author
  AND NOT EXISTS (SELECT 1 FROM live WHERE live.peer_id = peers.peer_id)
  AND NOT EXISTS (SELECT 1 FROM dropping WHERE content_id = :content AND dropping.peer_id = peers.peer_id)
ORDER BY peer_id
"""
_PLACEMENTS = """
SELECT number, placement_id, author, placements.content_id, path, size, wanted,
  EXISTS (SELECT 1 FROM placements AS older WHERE older.successor = placements.number)
FROM placements JOIN files ON files.id = file_id
"""
_CONFIRMED = """
SELECT count(*) FROM stored CROSS JOIN live USING (library)
WHERE stored.content_id = placements.content_id AND live.peer_id <> placements.author AND NOT EXISTS (
  SELECT 1 FROM dropping WHERE dropping.content_id = stored.content_id AND dropping.peer_id = live.peer_id
)
"""
_UNSETTLED = f"""
WHERE number > ? AND (
  wanted <> ({_CONFIRMED}) OR EXISTS (SELECT 1 FROM placements AS older WHERE older.successor = placements.number)
) ORDER BY number LIMIT ?
"""  # noqa: S608 - constants
_CHOOSE = """
INSERT INTO chosen (placement, peer_id) SELECT number, ? FROM placements WHERE placement_id = ?
ON CONFLICT (placement, peer_id) DO UPDATE SET declined = 0
"""


def choose(db: sqlite3.Connection, placement_id: str, peer_ids: Sequence[str]) -> None:
    """Records chosen peers of a placement, also such that had declined; ignores an unknown placement."""
    db.executemany(_CHOOSE, [(peer_id, placement_id) for peer_id in peer_ids])


def drop(db: sqlite3.Connection, content_id: bytes, peer_ids: Sequence[str]) -> None:
    """Records that peers are to drop a content, and that they are not chosen for it any more."""
    db.executemany(
        "INSERT INTO dropping (content_id, peer_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(content_id, peer_id) for peer_id in peer_ids],
    )
    db.executemany(
        "DELETE FROM chosen WHERE placement IN (SELECT number FROM placements WHERE content_id = ?) AND peer_id = ?",
        [(content_id, peer_id) for peer_id in peer_ids],
    )


def is_kept(db: sqlite3.Connection, number: int) -> bool:
    """Tells whether as many copies as wanted are confirmed on live peers."""
    query = f"SELECT wanted <= ({_CONFIRMED}) FROM placements WHERE number = ?"  # noqa: S608 - constants
    return bool(db.execute(query, (number,)).fetchone()[0])


def is_stored(db: sqlite3.Connection, content_id: bytes) -> bool:
    """Tells whether any peer, live or not, stores a content, as far as is remembered."""
    query = "SELECT 1 FROM stored JOIN peers USING (library) WHERE content_id = ? LIMIT 1"
    return db.execute(query, (content_id,)).fetchone() is not None


def placement(db: sqlite3.Connection, placement_id: str) -> PlacementRecord | None:
    """Returns a placement, or None."""
    row = db.execute(f"{_PLACEMENTS} WHERE placement_id = ?", (placement_id,)).fetchone()
    return None if row is None else _record(db, row)


def placement_of(db: sqlite3.Connection, author: str, content_id: bytes) -> PlacementRecord | None:
    """Returns the author's placement of a content, or None."""
    values = (author, content_id)
    row = db.execute(f"{_PLACEMENTS} WHERE author = ? AND placements.content_id = ?", values).fetchone()
    return None if row is None else _record(db, row)


def placed_content(db: sqlite3.Connection, content_id: bytes) -> PlacedContent:
    """Returns what is to be known of the copies of a content."""
    query = f"{_PLACEMENTS} WHERE placements.content_id = ? ORDER BY number"
    placements = tuple(_record(db, row) for row in db.execute(query, (content_id,)).fetchall())
    dropping = "SELECT peer_id FROM dropping CROSS JOIN live USING (peer_id) WHERE content_id = ? ORDER BY peer_id"
    of_nobody = {"number": 0, "content": content_id, "author": ""}
    return PlacedContent(
        placements,
        stored=tuple(peer_id for peer_id, _ in db.execute(_COPIES, of_nobody)),
        away=tuple(peer_id for (peer_id,) in db.execute(_AWAY, of_nobody)),
        dropping=tuple(peer_id for (peer_id,) in db.execute(dropping, (content_id,))),
    )


def to_drop(db: sqlite3.Connection, peer_id: str) -> list[bytes]:
    """Returns the contents that a peer is to drop."""
    query = "SELECT content_id FROM dropping WHERE peer_id = ? ORDER BY content_id"
    return [content_id for (content_id,) in db.execute(query, (peer_id,))]


def unsettled(db: sqlite3.Connection, after: int, limit: int) -> UnsettledPage:
    """Returns a page of the placements that are to be looked at, the oldest first."""
    rows = db.execute(_PLACEMENTS + _UNSETTLED, (after, limit)).fetchall()
    return UnsettledPage(tuple(_record(db, row) for row in rows), rows[-1][0] if len(rows) == limit else None)


def _record(db: sqlite3.Connection, row: tuple[Any, ...]) -> PlacementRecord:
    number, placement_id, author, content_id, path, size, wanted, supersedes = row
    values = {"number": number, "content": content_id, "author": author}
    copies = tuple(Copy(peer_id, bool(confirmed)) for peer_id, confirmed in db.execute(_COPIES, values))
    query = "SELECT peer_id FROM chosen WHERE placement = ? AND declined ORDER BY peer_id"
    return PlacementRecord(
        placement_id,
        author,
        content_id,
        path,
        size,
        wanted,
        copies,
        declined=tuple(peer_id for (peer_id,) in db.execute(query, (number,))),
        away=tuple(peer_id for (peer_id,) in db.execute(_AWAY, values)),
        supersedes=bool(supersedes),
    )
