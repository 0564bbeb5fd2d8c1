"""What central has acknowledged of this peer, kept in the index: after a restart only what has changed is published.

The record is worth something only while central holds the very version that it was made at; so it need not be durable,
and what a crash takes of it costs no more than publishing everything once.
"""

import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from core.errors import RelevoError
from peer.library.collecting import collecting_rarely
from peer.library.holdings import LibraryFile
from peer.library.index import Index
from peer.library.worker import Worker

log = logging.getLogger("relevo.library")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the central at `central` held at `version`: entries by path, and contents stored for others."""

    central: str = ""
    version: int = 0
    files: dict[str, LibraryFile] = field(default_factory=dict)
    stored: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Step:
    """What central has acknowledged at once, and the version since then. `anew`: it held nothing before."""

    central: str
    version: int
    anew: bool
    added: Iterable[LibraryFile] = ()
    removed: Iterable[str] = ()
    stored: Iterable[bytes] = ()
    dropped: Iterable[bytes] = ()


class Record:
    """The record in an index. It follows central step by step; after a step that it missed it waits for a new start."""

    def __init__(self, index: Index, worker: Worker) -> None:
        self._index = index
        self._worker = worker
        self._follows = False

    async def load(self) -> Recorded:
        """Returns what was noted last; version 0 when there is nothing."""
        try:
            with collecting_rarely():
                recorded = await self._worker.run(self._index.within, _load)
        except RelevoError as error:
            log.warning("everything is published anew: %s", error)
            return Recorded()
        self._follows = bool(recorded.version)
        return recorded

    async def note(self, step: Step) -> None:
        """Takes a step over."""
        if not (self._follows or step.anew):
            return
        try:
            await self._worker.run(self._index.within, lambda db: _note(db, step))
        except RelevoError as error:
            self._follows = False
            log.warning("what is published is not remembered, and will be published anew after a restart: %s", error)
        else:
            self._follows = True


def _load(db: sqlite3.Connection) -> Recorded:
    row = db.execute("SELECT central, version FROM published").fetchone()
    if row is None:
        return Recorded()
    files = db.execute("SELECT path, content_id, size, modify_time, executable FROM published_files")
    return Recorded(
        row[0],
        row[1],
        {path: LibraryFile(path, content, size, modified, bool(run)) for path, content, size, modified, run in files},
        {content for (content,) in db.execute("SELECT content_id FROM published_copies")},
    )


def _note(db: sqlite3.Connection, step: Step) -> None:
    if step.anew:
        db.execute("DELETE FROM published_files")
        db.execute("DELETE FROM published_copies")
    db.execute("DELETE FROM published")
    db.execute("INSERT INTO published VALUES (?, ?)", (step.central, step.version))
    db.executemany("DELETE FROM published_files WHERE path = ?", [(path,) for path in step.removed])
    db.executemany(
        "INSERT OR REPLACE INTO published_files VALUES (?, ?, ?, ?, ?)",
        [(file.path, file.content_id, file.size, file.modify_time, file.executable) for file in step.added],
    )
    db.executemany("DELETE FROM published_copies WHERE content_id = ?", [(content,) for content in step.dropped])
    db.executemany("INSERT OR IGNORE INTO published_copies VALUES (?)", [(content,) for content in step.stored])
