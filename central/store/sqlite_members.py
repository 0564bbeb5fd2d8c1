"""Receipts, peers and sessions in SQLite. Every function runs inside a transaction of its caller."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence

from central.store.store import Outcome, PeerRecord, Receipt, SessionEnd

MAX_INTEGER = (1 << 63) - 1

_RECEIPT = "SELECT answer FROM receipts WHERE author = ? AND request_id = ?"
_LIVE = """
SELECT live.peer_id, public_key, name, addresses, session_id, joined, login_time, free_bytes, primary_peer,
       backup_peer, catalogue_version, file_count
FROM live JOIN peers USING (peer_id) ORDER BY joined, peer_id
"""
_LOGIN = """
INSERT INTO live (library, peer_id, session_id, name, addresses, joined, login_time, free_bytes, primary_peer,
                  backup_peer)
SELECT library, peer_id, ?, ?, ?, ?, ?, ?, ?, ? FROM peers WHERE peer_id = ?
"""
_END = "INSERT INTO ended_sessions (session_id, peer_id, ended_as, time) SELECT session_id, peer_id, ?, ? FROM live"


def answer(db: sqlite3.Connection, author: str, request_id: str) -> bytes | None:
    """Returns the answer that was given to a request id, or None."""
    row = db.execute(_RECEIPT, (author, request_id)).fetchone()
    return None if row is None else row[0]


def once(db: sqlite3.Connection, receipt: Receipt, effect: Callable[[], tuple[bytes, ...] | None]) -> Outcome:
    """Causes `effect` and keeps the receipt, unless the request id has been answered before.

    `effect` returns the contents whose placements it has changed, if any.
    """
    given = answer(db, receipt.author, receipt.request_id)
    if given is not None:
        return Outcome(given, repeated=True)
    contents = effect() or ()
    row = (receipt.author, receipt.request_id, receipt.answer, receipt.time)
    db.execute("INSERT INTO receipts (author, request_id, answer, time) VALUES (?, ?, ?, ?)", row)
    return Outcome(receipt.answer, contents=contents)


def new_library(db: sqlite3.Connection, peer_id: str) -> int:
    """Returns the number of a new, empty library, which was never used before."""
    library = db.execute("INSERT INTO libraries (peer_id) VALUES (?)", (peer_id,)).lastrowid
    if library is None:
        raise sqlite3.InternalError("an insert gave no row number")
    return library


def login(db: sqlite3.Connection, peer: PeerRecord, now: float) -> None:
    """Makes the peer live; an older live session of it ends as superseded, and what it had declined is forgotten."""
    known = db.execute("SELECT 1 FROM peers WHERE peer_id = ?", (peer.peer_id,)).fetchone()
    if known is None:
        row = (peer.peer_id, peer.public_key, new_library(db, peer.peer_id))
        db.execute("INSERT INTO peers (peer_id, public_key, library) VALUES (?, ?, ?)", row)
    db.execute(f"{_END} WHERE peer_id = ?", (SessionEnd.SUPERSEDED, now, peer.peer_id))
    db.execute("DELETE FROM live WHERE peer_id = ?", (peer.peer_id,))
    db.execute("DELETE FROM chosen WHERE peer_id = ? AND declined", (peer.peer_id,))
    addresses = json.dumps(peer.addresses)
    free = min(peer.free_bytes, MAX_INTEGER)
    session = (peer.session_id, peer.name, addresses, peer.joined, peer.login_time, free)
    db.execute(_LOGIN, (*session, peer.primary, peer.backup, peer.peer_id))


def end_sessions(db: sqlite3.Connection, sessions: Sequence[str], end: SessionEnd, now: float) -> None:
    """Ends live sessions; unknown ones are ignored. What their peers published stays, invisible."""
    for session in sessions:
        db.execute(f"{_END} WHERE session_id = ?", (end, now, session))
        db.execute("DELETE FROM live WHERE session_id = ?", (session,))


def live_peers(db: sqlite3.Connection) -> list[PeerRecord]:
    """Returns every live peer, the earliest joined first."""
    return [
        PeerRecord(peer_id, public_key, name, tuple(json.loads(addresses)), *rest)
        for peer_id, public_key, name, addresses, *rest in db.execute(_LIVE)
    ]


def session_end(db: sqlite3.Connection, session_id: str) -> tuple[str, SessionEnd] | None:
    """Returns whose session this was and how it ended; None when it is live or unknown."""
    query = "SELECT peer_id, ended_as FROM ended_sessions WHERE session_id = ?"
    row = db.execute(query, (session_id,)).fetchone()
    return None if row is None else (row[0], SessionEnd(row[1]))


def public_key(db: sqlite3.Connection, peer_id: str) -> bytes | None:
    """Returns the key of a peer that is not forgotten, or None."""
    row = db.execute("SELECT public_key FROM peers WHERE peer_id = ?", (peer_id,)).fetchone()
    return None if row is None else row[0]


def set_neighbours(db: sqlite3.Connection, changes: Iterable[tuple[str, str, str]]) -> None:
    """Records (peer id, primary or empty, backup or empty) for live peers."""
    rows = [(primary, backup, peer_id) for peer_id, primary, backup in changes]
    db.executemany("UPDATE live SET primary_peer = ?, backup_peer = ? WHERE peer_id = ?", rows)
