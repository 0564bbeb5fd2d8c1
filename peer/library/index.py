"""What the peer remembers of its files: a SQLite database in its home.

The part about the shared directory is a cache: a file whose path, size, mtime and inode are as remembered is not read
again. It forgets nothing that is only out of sight, so that an unmounted disk costs nothing when it returns, until
there are more rows than twice the files. The part about copies stored for others, and about downloads outside the
shared directory, is acknowledged to others and synced before a call returns.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.content import Layout
from core.errors import Corrupt, NotFound
from core.manifest import Manifest
from core.schemas import Schema
from peer.disk.database import open_database, told, transaction
from peer.disk.rooted import Stamp

_SLACK = 10_000
_ASK = 500
_TABLES = """
CREATE TABLE manifests (content_id BLOB PRIMARY KEY, size INTEGER NOT NULL, digests BLOB NOT NULL);
CREATE TABLE files (disk TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, content_id BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE fetched (location BLOB PRIMARY KEY, path TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, content_id BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stored (content_id BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE published (central TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE published_files (path TEXT PRIMARY KEY, content_id BLOB NOT NULL, size INTEGER NOT NULL,
    modify_time REAL NOT NULL, executable INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE published_copies (content_id BLOB PRIMARY KEY) WITHOUT ROWID;
"""
# The first databases of version 1 lack what was published; later ones of version 1 have it.
_STEPS = (
    """
CREATE TABLE IF NOT EXISTS published (central TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS published_files (path TEXT PRIMARY KEY, content_id BLOB NOT NULL, size INTEGER NOT NULL,
    modify_time REAL NOT NULL, executable INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS published_copies (content_id BLOB PRIMARY KEY) WITHOUT ROWID;
""",
)
_SCHEMA = Schema("relevo", _TABLES, _STEPS, 0x52454C56)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A finished download outside the shared directory; `path` is its path in the catalogue."""

    location: Path
    path: str
    stamp: Stamp
    content_id: bytes


class Index:
    """The database. Its methods block; they may be called from any thread, one at a time.

    An index that is damaged is set aside as `index.db.damaged` and begun anew: files are
    then hashed again, and copies for others are found again in the store.

    Raises:
        NotPossible: from every method, when the database cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: sqlite3.Connection | None = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            raise sqlite3.ProgrammingError("the index is not open")
        return self._opened

    def open(self) -> None:
        """Opens the database, or makes it; nothing else may be called before.

        Raises:
            NotPossible: it cannot be opened, for a reason other than damage.
        """
        self._opened = open_database(self.path, _SCHEMA)

    @told
    def close(self) -> None:
        """Closes the database, if it is open; nothing may be called afterwards."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @told
    def within(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Returns what `work` returns, done in one transaction: all of it or nothing, not durable."""
        with self._transaction():
            return work(self._database)

    @told
    def known(self, disks: Sequence[str]) -> dict[str, tuple[Stamp, bytes]]:
        """Returns stamp and content id of those files of the shared directory that were hashed before."""
        found: dict[str, tuple[Stamp, bytes]] = {}
        for start in range(0, len(disks), _ASK):
            some = disks[start : start + _ASK]
            marks = ",".join("?" * len(some))
            query = f"SELECT disk, size, mtime_ns, inode, content_id FROM files WHERE disk IN ({marks})"  # noqa: S608
            for disk, size, mtime_ns, inode, content_id in self._database.execute(query, some):
                found[disk] = (Stamp(size, mtime_ns, _unsigned(inode)), content_id)
        return found

    @told
    def put_files(self, files: Iterable[tuple[str, Stamp, bytes, Manifest]]) -> None:
        """Remembers hashed files of the shared directory: path on disk, stamp, content id, manifest."""
        with self._transaction():
            for disk, stamp, content_id, manifest in files:
                self._put_manifest(content_id, manifest)
                self._database.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (disk, *_row(stamp), content_id)
                )

    @told
    def forget_file(self, disk: str) -> None:
        """Forgets a file of the shared directory, so that it is hashed again."""
        with self._transaction():
            self._database.execute("DELETE FROM files WHERE disk = ?", (disk,))

    @told
    def prune(self, live: Callable[[str], bool], count: int) -> None:
        """Forgets files that are not live when there are many of them, and manifests that nothing leads to.

        Args:
            live: tells whether a path on disk is there.
            count: how many are.
        """
        (rows,) = self._database.execute("SELECT count(*) FROM files").fetchone()
        if rows <= 2 * count + _SLACK:
            return
        dead = [row for row in self._database.execute("SELECT disk FROM files") if not live(row[0])]
        with self._transaction():
            self._database.executemany("DELETE FROM files WHERE disk = ?", dead)
            self._database.execute(
                "DELETE FROM manifests WHERE content_id NOT IN (SELECT content_id FROM files UNION "
                "SELECT content_id FROM fetched UNION SELECT content_id FROM stored)"
            )

    @told
    def manifest(self, content_id: bytes) -> Manifest:
        """Returns a manifest that was remembered with a file.

        Raises:
            NotFound: there is none.
            Corrupt: the disk gave back something else.
        """
        query = "SELECT size, digests FROM manifests WHERE content_id = ?"
        row = self._database.execute(query, (content_id,)).fetchone()
        if row is None:
            raise NotFound(f"the manifest of {content_id.hex()} is not here")
        try:
            manifest = Manifest(Layout(row[0]), row[1])
        except ValueError as error:
            raise Corrupt(f"{self.path} holds a damaged manifest") from error
        if manifest.content_id != content_id:
            raise Corrupt(f"{self.path} holds a damaged manifest")
        return manifest

    @told
    def fetched(self, after: Path | None = None, most: int = -1) -> list[Remembered]:
        """Returns finished downloads outside the shared directory, in the order of their locations.

        Those `after` a location, when it is given, and `most` at once; negative: all.
        """
        query = "SELECT * FROM fetched WHERE location > ? ORDER BY location LIMIT ?"
        rows = self._database.execute(query, (os.fsencode(after) if after else b"", most))
        return [
            Remembered(Path(os.fsdecode(location)), path, Stamp(size, mtime_ns, _unsigned(inode)), content_id)
            for location, path, size, mtime_ns, inode, content_id in rows
        ]

    @told
    def put_fetched(self, downloads: Iterable[tuple[Remembered, Manifest]]) -> None:
        """Remembers finished downloads outside the shared directory; durable when it returns."""
        with self._transaction(durable=True):
            for download, manifest in downloads:
                self._put_manifest(download.content_id, manifest)
                self._database.execute(
                    "INSERT OR REPLACE INTO fetched VALUES (?, ?, ?, ?, ?, ?)",
                    (os.fsencode(download.location), download.path, *_row(download.stamp), download.content_id),
                )

    @told
    def forget_fetched(self, location: Path) -> None:
        """Forgets a download that was moved or changed."""
        with self._transaction():
            self._database.execute("DELETE FROM fetched WHERE location = ?", (os.fsencode(location),))

    @told
    def stored(self) -> dict[bytes, Stamp]:
        """Returns the copies kept for others: content id to stamp."""
        rows = self._database.execute("SELECT content_id, size, mtime_ns, inode FROM stored")
        return {content_id: Stamp(size, mtime_ns, _unsigned(inode)) for content_id, size, mtime_ns, inode in rows}

    @told
    def put_stored(self, content_id: bytes, stamp: Stamp, manifest: Manifest) -> None:
        """Remembers a copy kept for others; durable when it returns."""
        with self._transaction(durable=True):
            self._put_manifest(content_id, manifest)
            self._database.execute("INSERT OR REPLACE INTO stored VALUES (?, ?, ?, ?)", (content_id, *_row(stamp)))

    @told
    def forget_stored(self, content_id: bytes) -> None:
        """Forgets a copy that was kept for others; durable when it returns."""
        with self._transaction(durable=True):
            self._database.execute("DELETE FROM stored WHERE content_id = ?", (content_id,))

    def _put_manifest(self, content_id: bytes, manifest: Manifest) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO manifests VALUES (?, ?, ?)",
            (content_id, manifest.layout.size, manifest.block_digests),
        )

    def _transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        return transaction(self._database)


def _row(stamp: Stamp) -> tuple[int, int, int]:
    """SQLite's integers are signed; inodes of some file systems use the 64th bit."""
    inode = stamp.inode - (1 << 64) if stamp.inode >= 1 << 63 else stamp.inode
    return stamp.size, stamp.mtime_ns, inode


def _unsigned(inode: int) -> int:
    return inode + (1 << 64) if inode < 0 else inode
