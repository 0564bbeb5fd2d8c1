"""What the peer has promised to fetch, and how it ended: a SQLite database in its home.

Everything is on disk when a call returns: what was accepted goes on after a power loss, what was cancelled does not.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from core.schemas import Schema
from peer.disk.database import open_database, told, transaction

# Ended downloads that are remembered.
REMEMBERED = 1000
_TABLES = """
CREATE TABLE accepted (number INTEGER PRIMARY KEY, transfer_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    request BLOB NOT NULL, transfer BLOB NOT NULL);
CREATE TABLE ended (number INTEGER PRIMARY KEY, transfer_id TEXT NOT NULL UNIQUE, transfer BLOB NOT NULL);
"""
# The first journals of version 1 had three columns in place of `transfer`, later ones of version 1 have it: where the
# table has none, the name means the constant beside it, a message that says no more than ordinary priority.
_STEPS = (
    """
CREATE TABLE accepted_anew (number INTEGER PRIMARY KEY, transfer_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    request BLOB NOT NULL, transfer BLOB NOT NULL);
INSERT INTO accepted_anew SELECT number, transfer_id, kind, request,
    (SELECT transfer FROM accepted AS same WHERE same.number = each.number)
    FROM accepted AS each, (SELECT x'980102' AS transfer);
DROP TABLE accepted;
ALTER TABLE accepted_anew RENAME TO accepted;
""",
)
_SCHEMA = Schema("relevo", _TABLES, _STEPS, 0x52454A4C)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A download that has not ended.

    Attributes:
        transfer_id: its own.
        kind: full name of the request's message.
        request: the message with which it was asked for, serialized.
        transfer: a serialized message that says how it stood when this was written.
    """

    transfer_id: str
    kind: str
    request: bytes
    transfer: bytes


class Journal:
    """The database. Its methods block; they may be called from any thread, one at a time.

    Raises:
        NotPossible: from every method, when the database cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: sqlite3.Connection | None = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            raise sqlite3.ProgrammingError("the journal is not open")
        return self._opened

    def open(self) -> None:
        """Opens the database, or makes it; nothing else may be called before. A damaged one is begun anew."""
        self._opened = open_database(self.path, _SCHEMA)

    @told
    def close(self) -> None:
        """Closes the database, if it is open; nothing may be called afterwards."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @told
    def accepted(self) -> list[Accepted]:
        """Returns the downloads that have not ended, in the order in which they were accepted."""
        rows = self._database.execute("SELECT transfer_id, kind, request, transfer FROM accepted ORDER BY number")
        return [Accepted(*row) for row in rows]

    @told
    def accept(self, download: Accepted) -> None:
        """Remembers a download; of one with the same id only how it stands is changed."""
        self._database.execute(
            "INSERT INTO accepted (transfer_id, kind, request, transfer) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (transfer_id) DO UPDATE SET transfer = excluded.transfer",
            (download.transfer_id, download.kind, download.request, download.transfer),
        )

    @told
    def end(self, transfer_id: str, transfer: bytes) -> None:
        """Remembers that a download has ended, and `transfer`, a serialized message that says how."""
        with transaction(self._database):
            self._database.execute("DELETE FROM accepted WHERE transfer_id = ?", (transfer_id,))
            self._database.execute(
                "INSERT OR REPLACE INTO ended (transfer_id, transfer) VALUES (?, ?)", (transfer_id, transfer)
            )
            self._database.execute(
                "DELETE FROM ended WHERE number <= (SELECT max(number) FROM ended) - ?", (REMEMBERED,)
            )

    @told
    def ended(self) -> list[bytes]:
        """Returns how the last downloads ended, the oldest first; at most REMEMBERED."""
        return [transfer for (transfer,) in self._database.execute("SELECT transfer FROM ended ORDER BY number")]
