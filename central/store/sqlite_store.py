"""The storage engine on SQLite: every method is one transaction in a thread, and returns when it is committed."""

import asyncio
import os
import queue
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from central.quotas import Quotas
from central.store import sqlite_catalogue as catalogue
from central.store import sqlite_claims as claims
from central.store import sqlite_members as members
from central.store import sqlite_placements as placements
from central.store import sqlite_search as search
from central.store.sqlite_forgetting import forget
from central.store.sqlite_patience import Patience
from central.store.sqlite_schema import connect, lock
from central.store.store import (
    LONGEST_SEARCH,
    Batch,
    Entry,
    FileQuery,
    FoundFile,
    FoundHolder,
    Outcome,
    Page,
    PeerRecord,
    PlacedContent,
    PlacementRecord,
    Receipt,
    SessionEnd,
    UnsettledPage,
)
from core.errors import Unreachable

T = TypeVar("T")

READERS = 4
# What the disk is to blame for: the same request may succeed when there is room or quiet again.
_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY}


class SqliteStore:
    """`central.store.store.Store` on a data directory, which belongs to it until `close`.

    One thread writes, because SQLite has one writer at a time; a few others read the last committed state meanwhile.

    Every method raises `Unreachable` when the disk is full or fails; nothing has changed then.
    """

    def __init__(
        self, handle: int, writer: sqlite3.Connection, readers: Sequence[sqlite3.Connection], patience: Patience
    ) -> None:
        self._lock = handle
        self._patience = patience
        self._watch = asyncio.create_task(patience.watch())
        self._connections = [writer, *readers]
        self._writer = writer
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for reader in readers:
            self._idle.put(reader)
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._reading = ThreadPoolExecutor(len(readers), "store-reader")

    @classmethod
    async def open(cls, data: Path, longest_search: float = LONGEST_SEARCH) -> "SqliteStore":
        """Returns the store in directory `data`, which is made (0700) when it is not there.

        Args:
            data: where it is.
            longest_search: seconds after which a search is given up.

        Raises:
            NotPossible: another central runs on it, a newer version has written it, or it cannot be used.
        """
        return cls(*await asyncio.to_thread(cls._open, data), Patience(longest_search))

    @staticmethod
    def _open(data: Path) -> tuple[int, sqlite3.Connection, list[sqlite3.Connection]]:
        handle = lock(data)
        opened: list[sqlite3.Connection] = []
        try:
            opened.append(connect(data, reader=False))
            opened.extend(connect(data, reader=True) for _ in range(READERS))
        except BaseException:
            _close(opened, handle)
            raise
        return handle, opened[0], opened[1:]

    async def close(self) -> None:
        """Waits for running work, closes the database and gives up the directory."""
        await asyncio.to_thread(self._close)
        self._watch.cancel()

    def _close(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        _close(reversed(self._connections), self._lock)

    async def answer(self, author: str, request_id: str) -> bytes | None:
        """Returns the answer that was given to a request id, or None."""
        return await self._read(lambda db: members.answer(db, author, request_id))

    async def live_peers(self) -> list[PeerRecord]:
        """Returns every live peer, the earliest joined first."""
        return await self._read(members.live_peers)

    async def session_end(self, session_id: str) -> tuple[str, SessionEnd] | None:
        """Returns whose session this was and how it ended; None when it is live or was never known."""
        return await self._read(lambda db: members.session_end(db, session_id))

    async def login(self, peer: PeerRecord, receipt: Receipt) -> Outcome:
        """Makes the peer live under a new session; an older live session of it ends as superseded."""
        return await self._mutate(receipt, lambda db: members.login(db, peer, receipt.time))

    async def public_key(self, peer_id: str) -> bytes | None:
        """Returns the key of a peer that has logged in within the purge age, or None."""
        return await self._read(lambda db: members.public_key(db, peer_id))

    async def catalogue_version(self, peer_id: str) -> int:
        """Returns the version of what is held of a peer's library; 0 for nothing."""
        return await self._read(lambda db: catalogue.catalogue_version(db, peer_id))

    async def end_sessions(
        self, sessions: Sequence[str], end: SessionEnd, now: float, receipt: Receipt | None
    ) -> Outcome:
        """Ends live sessions, whatever their peers' number of files; the answer is empty without a receipt."""
        if receipt is not None:
            return await self._mutate(receipt, lambda db: members.end_sessions(db, sessions, end, now))
        await self._write(lambda db: members.end_sessions(db, sessions, end, now))
        return Outcome(b"")

    async def set_neighbours(self, changes: Iterable[tuple[str, str, str]]) -> None:
        """Records (peer id, primary or empty, backup or empty) for live peers."""
        await self._write(lambda db: members.set_neighbours(db, changes))

    async def publish(self, peer_id: str, batch: Batch, receipt: Receipt, quotas: Quotas) -> Outcome:
        """Applies a batch.

        Raises:
            SessionUnknown: the peer is not known (any more).
            VersionConflict: the batch builds on another version.
            OverQuota: the peer would publish too much.
        """
        return await self._mutate(receipt, lambda db: catalogue.publish(db, peer_id, batch, receipt.time, quotas))

    async def list_files(self, query: FileQuery) -> Page[FoundFile]:
        """Returns a page of files.

        Raises:
            InvalidInput: the text, the reference or the key cannot be searched for, or not in the time that there is.
        """

        def found(db: sqlite3.Connection) -> Page[FoundFile]:
            with self._patience.bounding(db):
                return search.list_files(db, query)

        return await self._read(found)

    async def locate(self, content_id: bytes, after: str, limit: int) -> tuple[int, Page[FoundHolder]]:
        """Returns the size and a page of live holders, by peer id.

        Raises:
            NotFound: no live peer holds it.
        """
        return await self._read(lambda db: catalogue.locate(db, content_id, after, limit))

    async def locate_many(self, content_ids: Sequence[bytes], each: int) -> list[list[FoundHolder]]:
        """Returns live holders of each content, in the order asked: at most `each`, chosen at random."""
        return await self._read(lambda db: catalogue.locate_many(db, content_ids, each))

    async def entry(self, peer_id: str, path: str) -> Entry | None:
        """Returns what a live peer publishes at a path, or None."""
        return await self._read(lambda db: catalogue.entry(db, peer_id, path))

    async def place(self, placement: PlacementRecord, receipt: Receipt, quotas: Quotas) -> Outcome:
        """Records a placement with its chosen copies.

        Raises:
            OverQuota: the author would have too much placed.
        """
        return await self._mutate(receipt, lambda db: claims.place(db, placement, receipt.time, quotas))

    async def add_copies(self, placement_id: str, peer_ids: Sequence[str]) -> None:
        """Records further chosen peers of a placement."""
        await self._write(lambda db: placements.choose(db, placement_id, peer_ids))

    async def drop_copies(self, content_id: bytes, peer_ids: Sequence[str]) -> None:
        """Records that these peers are to drop a content."""
        await self._write(lambda db: placements.drop(db, content_id, peer_ids))

    async def end_placement(self, author: str, content_id: bytes, receipt: Receipt) -> Outcome:
        """Ends the author's placement of a content, and those that wait for it; none is fine too."""
        return await self._mutate(receipt, lambda db: claims.end_of(db, author, content_id))

    async def retire(self, placement_id: str) -> list[bytes]:
        """Ends the placements that wait for this one, and returns their contents."""
        return await self._write(lambda db: claims.retire(db, placement_id))

    async def placement(self, placement_id: str) -> PlacementRecord | None:
        """Returns a placement, or None."""
        return await self._read(lambda db: placements.placement(db, placement_id))

    async def placement_of(self, author: str, content_id: bytes) -> PlacementRecord | None:
        """Returns the author's placement of a content, or None."""
        return await self._read(lambda db: placements.placement_of(db, author, content_id))

    async def holders_of(self, content_id: bytes) -> set[str]:
        """Returns the peer ids of all live holders, published or stored."""
        return await self._read(lambda db: catalogue.holders_of(db, content_id))

    async def placed_content(self, content_id: bytes) -> PlacedContent:
        """Returns what is to be known of the copies of a content."""
        return await self._read(lambda db: placements.placed_content(db, content_id))

    async def to_drop(self, peer_id: str) -> list[bytes]:
        """Returns the contents that a peer is to drop, whether it is live or not."""
        return await self._read(lambda db: placements.to_drop(db, peer_id))

    async def unsettled_placements(self, after: int, limit: int) -> UnsettledPage:
        """Returns a page of the placements that are to be looked at, the oldest first."""
        return await self._read(lambda db: placements.unsettled(db, after, limit))

    async def purge(self, receipts_before: float, ended_before: float) -> None:
        """Removes what is older than these times, in small steps between which others may write."""
        await self._write(lambda db: forget(db, receipts_before, ended_before))
        while await self._write(lambda db: catalogue.collect(db, receipts_before)):
            pass

    async def _mutate(
        self, receipt: Receipt, effect: Callable[[sqlite3.Connection], tuple[bytes, ...] | None]
    ) -> Outcome:
        return await self._write(lambda db: members.once(db, receipt, lambda: effect(db)))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # A caller that gives up stops nothing: what has begun is committed.
        return await asyncio.wrap_future(self._writing.submit(_transact, self._writer, "BEGIN IMMEDIATE", work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.wrap_future(self._reading.submit(self._read_idle, work))

    def _read_idle(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db = self._idle.get()
        try:
            return _transact(db, "BEGIN", work)
        finally:
            self._idle.put(db)


def _transact(db: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        db.execute(begin)
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _DISK:
            raise Unreachable(f"central cannot use its disk ({error}); try again when that is mended") from error
        raise
    return result


def _close(connections: Iterable[sqlite3.Connection], handle: int) -> None:
    for db in connections:
        db.close()
    os.close(handle)
