"""What only the SQLite engine promises: its directory, its file, and that no kill loses what it acknowledged."""

import asyncio
import os
import sqlite3
import sys
from dataclasses import replace

import pytest

from central.quotas import Quotas
from central.store.sqlite_schema import FILE_NAME, SCHEMA
from central.store.sqlite_store import SqliteStore
from central.store.store import Batch, Copy, Entry, FileQuery, PeerRecord, PlacementRecord, Receipt, SessionEnd
from core.errors import NotPossible, Unreachable

ANA, BEA = "a" * 52, "b" * 52
X, Y, Z = (bytes([number]) * 32 for number in (0x0A, 0xBB, 0xCC))


def entry(path, content=X):
    return Entry(path, content, 10, 5.0)


async def join(store, *peer_ids):
    for joined, one in enumerate(peer_ids):
        await store.login(
            PeerRecord(one, b"key", "name", (), one[0] * 32, joined, 1.0), Receipt(one, "login", b"", 1.0)
        )


async def publish(store, peer_id, *added, base=None, **changes):
    version = await store.catalogue_version(peer_id)
    receipt = Receipt(peer_id, os.urandom(16).hex(), b"", 1.0)
    await store.publish(peer_id, Batch(version if base is None else base, added=added, **changes), receipt, Quotas())


@pytest.fixture
def data(tmp_path):
    return tmp_path / "deep" / "data"


@pytest.fixture
async def store(data):
    opened = await SqliteStore.open(data)
    yield opened
    await opened.close()


def rows(data, query):
    db = sqlite3.connect(data / FILE_NAME)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


async def test_the_directory_is_for_its_owner_only(data):
    data.mkdir(0o755, parents=True)
    await (await SqliteStore.open(data)).close()
    assert data.stat().st_mode & 0o777 == 0o700


async def test_a_second_central_on_the_directory_is_refused(data, store):
    with pytest.raises(NotPossible, match="another central runs on"):
        await SqliteStore.open(data)


async def test_the_directory_is_free_again_after_closing(data):
    for _ in range(2):
        store = await SqliteStore.open(data)
        await store.close()


async def test_a_newer_schema_is_refused(data):
    await (await SqliteStore.open(data)).close()
    rows(data, f"PRAGMA user_version = {SCHEMA.version + 1}")
    for _ in range(2):  # and the lock is given up
        with pytest.raises(NotPossible, match="newer relevo-central"):
            await SqliteStore.open(data)


async def test_a_file_that_is_no_database_is_refused(data):
    data.mkdir(parents=True)
    (data / FILE_NAME).write_bytes(b"this is not a database" * 100)
    with pytest.raises(NotPossible, match="restore the file from a backup"):
        await SqliteStore.open(data)


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotPossible, match="give another directory"):
        await SqliteStore.open(tmp_path / "file" / "data")


async def test_a_full_disk_is_said_to_be_full_and_changes_nothing(data, store):
    await join(store, ANA)
    await publish(store, ANA, entry("before"))
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unreachable, match="full"):
        await publish(store, ANA, *[entry(f"{at:04}" * 50) for at in range(1000)])
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert [file.path for file in (await store.list_files(FileQuery())).items] == ["before"]
    await publish(store, ANA, entry("after"))
    assert await store.catalogue_version(ANA) == 2


async def test_a_mutation_that_fails_half_way_leaves_nothing(store):
    await join(store, ANA)
    twin = PeerRecord(BEA, b"key", "name", (), "a" * 32, 2, 1.0)
    with pytest.raises(sqlite3.IntegrityError):
        await store.login(twin, Receipt(BEA, "login", b"", 1.0))
    assert await store.public_key(BEA) is None
    assert await store.answer(BEA, "login") is None


async def test_files_that_nobody_uses_leave_no_rows(data, store):
    async def kept():
        await store.purge(1000.0, 1000.0)
        assert rows(data, "SELECT count(*) FROM libraries") == [(2,)]
        assert rows(data, "PRAGMA foreign_key_check") == []
        store._writer.execute("INSERT INTO grams (grams, rank) VALUES ('integrity-check', 1)")
        return [path for (path,) in rows(data, "SELECT path FROM files ORDER BY path")]

    await join(store, ANA, BEA)
    await publish(store, ANA, entry("one"), entry("two"), entry("both"))
    await publish(store, BEA, entry("both"), entry("two", Y), stored=(X,))
    await publish(store, ANA, entry("one", Z), removed=("two",))
    assert await kept() == ["both", "one", "two"]
    for _ in range(4):
        await publish(store, ANA, entry("three"), base=0)
    assert rows(data, "SELECT count(*) FROM libraries WHERE abandoned IS NOT NULL") == [(1,)]
    assert await kept() == ["both", "three", "two"]
    placed = PlacementRecord("1" * 32, ANA, X, "three", 10, 1, (Copy(BEA),))
    await store.place(placed, Receipt(ANA, "place", b"", 1.0), Quotas())
    await publish(store, ANA, removed=("three",))
    assert await kept() == ["both", "three", "two"]
    await publish(store, ANA, entry("three", Y))
    await publish(store, ANA, removed=("three",))
    assert await kept() == ["both", "three", "three", "two"]  # the placement went on to the new bytes
    await store.end_placement(ANA, Y, Receipt(ANA, "end", b"", 1.0))
    assert await kept() == ["both", "two"]
    await publish(store, ANA, entry("four"))
    await store.place(replace(placed, path="four"), Receipt(ANA, "place again", b"", 1.0), Quotas())
    await publish(store, ANA, removed=("four",))
    await store.place(replace(placed, path="both"), Receipt(ANA, "place anew", b"", 1.0), Quotas())
    assert await kept() == ["both", "two"]
    await store.end_sessions(["b" * 32], SessionEnd.EXPIRED, 10.0, None)
    await store.purge(1000.0, 1000.0)
    assert rows(data, "SELECT path FROM files") == [("both",)]
    assert rows(data, "SELECT count(*) FROM libraries") == [(2,)], "what the other stores is still wanted"
    await store.end_placement(ANA, X, Receipt(ANA, "end it", b"", 1.0))
    await store.purge(1000.0, 1000.0)
    assert rows(data, "SELECT count(*) FROM libraries") == [(1,)]
    assert rows(data, "SELECT count(*) FROM stored") == [(0,)]


PUBLISHER = """
import asyncio, sys
from pathlib import Path
from central.quotas import Quotas
from central.store.sqlite_store import SqliteStore
from central.store.store import Batch, Entry, PeerRecord, Receipt

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    base = await store.catalogue_version("a")
    receipt = Receipt("a", f"f{base:031x}", b"", 1.0)  # no publish below has such a number
    await store.login(PeerRecord("a", b"k", "a", (), f"session {base}", 1, 1.0), receipt)
    while True:
        added = tuple(Entry(f"{base:06}/{n:03}", bytes(32), 1, 1.0) for n in range(50))
        await store.publish("a", Batch(base, added=added), Receipt("a", f"{base:032x}", b"", 1.0), Quotas())
        base += 1
        print(base, flush=True)

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_lost_when_central_is_killed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for wanted in (3, 18):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PUBLISHER, tmp_path, stdout=asyncio.subprocess.PIPE, env=environment
        )
        said = [await child.stdout.readline() for _ in range(wanted)]
        child.kill()
        said += (await child.stdout.read()).splitlines()
        await child.wait()
        acknowledged = int(said[-1])
        store = await SqliteStore.open(tmp_path)
        try:
            version = await store.catalogue_version("a")
            assert version in {acknowledged, acknowledged + 1}
            assert (await store.live_peers())[0].file_count == 50 * version
            for number in range(acknowledged):
                page = await store.list_files(FileQuery(text=f"{number:06}/"))
                assert len(page.items) == 50
                assert await store.answer("a", f"{number:032x}") == b""
        finally:
            await store.close()
        assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
