"""What central forgets in SQLite, and what it does not. Every function runs inside a transaction of its caller.

A peer that is gone for long is forgotten with all that it had published. But what it stores for others, as long as
somebody wants that, and what it is to drop are remembered until it says otherwise: when it comes back, its copies are
promised ones or are given back, however long it was away.
"""

import sqlite3

from central.store.sqlite_catalogue import start_over

_GONE = """
SELECT peer_id, library, file_count FROM peers
WHERE NOT EXISTS (SELECT 1 FROM live WHERE live.peer_id = peers.peer_id)
  AND NOT EXISTS (SELECT 1 FROM ended_sessions WHERE ended_sessions.peer_id = peers.peer_id)
"""
_WANTED = """
SELECT content_id FROM stored
WHERE library = ? AND EXISTS (SELECT 1 FROM placements WHERE placements.content_id = stored.content_id)
"""
# The peer cannot have heard of such a version: it says anew what it has, if that is nothing too.
_NOTHING_BUT_COPIES = """
UPDATE peers SET catalogue_version = catalogue_version + 1, file_count = 0, path_bytes = 0, stored_count = ?
WHERE peer_id = ?
"""


def forget(db: sqlite3.Connection, receipts_before: float, ended_before: float) -> None:
    """Removes receipts and ended sessions older than these times, and forgets peers that have no session left."""
    db.execute("DELETE FROM receipts WHERE time < ?", (receipts_before,))
    db.execute("DELETE FROM ended_sessions WHERE time < ?", (ended_before,))
    for peer_id, library, file_count in db.execute(_GONE).fetchall():
        wanted = [content_id for (content_id,) in db.execute(_WANTED, (library,))]
        if not wanted:
            db.execute("UPDATE libraries SET abandoned = 0 WHERE peer_id = ?", (peer_id,))
            db.execute("DELETE FROM peers WHERE peer_id = ?", (peer_id,))
        elif file_count:
            copies = start_over(db, peer_id, library, 0.0)
            rows = [(copies, content_id) for content_id in wanted]
            db.executemany("INSERT INTO stored (library, content_id) VALUES (?, ?)", rows)
            db.execute(_NOTHING_BUT_COPIES, (len(rows), peer_id))
