"""The record says what central acknowledged last, or nothing."""

import sqlite3

import pytest

from peer.library.holdings import LibraryFile
from peer.library.index import Index
from peer.library.record import Record, Recorded, Step
from peer.library.worker import Worker

COPY, OTHER = b"c" * 32, b"o" * 32


def _file(path, content=b"1" * 32):
    return LibraryFile(path, content, 1 << 40, 1_500_000_000.123456, True)


@pytest.fixture
async def opened(tmp_path):
    """Gives a record on the same file each time, as after a restart."""
    worker, indexes = Worker("test"), []

    async def again():
        index = Index(tmp_path / "index.db")
        await worker.run(index.open)
        indexes.append(index)
        return Record(index, worker), index

    yield again
    for index in indexes:
        await worker.run(index.close)
    await worker.close()


async def test_there_is_nothing_to_begin_with(opened):
    record, _ = await opened()
    assert await record.load() == Recorded()


async def test_steps_add_up_and_are_there_after_a_restart(opened):
    record, _ = await opened()
    await record.note(Step("c:1", 7, anew=True, added=(_file("a"), _file("ñ/空")), stored=(COPY, OTHER)))
    await record.note(Step("c:1", 8, anew=False, added=(_file("a", b"2" * 32),), removed=("ñ/空",), dropped=(OTHER,)))
    record, _ = await opened()
    assert await record.load() == Recorded("c:1", 8, {"a": _file("a", b"2" * 32)}, {COPY})


async def test_a_new_start_forgets_what_was(opened):
    record, _ = await opened()
    await record.note(Step("c:1", 7, anew=True, added=(_file("a"),), stored=(COPY,)))
    await record.note(Step("c:2", 1, anew=True, added=(_file("b"),)))
    assert await record.load() == Recorded("c:2", 1, {"b": _file("b")})


async def test_a_record_that_missed_a_step_stays_behind_until_a_new_start(opened, caplog):
    record, index = await opened()
    await record.note(Step("c:1", 7, anew=True, added=(_file("a"),)))
    before = await record.load()
    index._database.execute("PRAGMA query_only = ON")
    await record.note(Step("c:1", 8, anew=False, added=(_file("missed"),)))
    index._database.execute("PRAGMA query_only = OFF")
    await record.note(Step("c:1", 9, anew=False, added=(_file("b"),)))
    assert await record.load() == before
    assert "published anew after a restart" in caplog.text
    await record.note(Step("c:1", 10, anew=True, added=(_file("all"),)))
    assert (await record.load()).version == 10


async def test_a_step_without_a_start_is_not_noted(opened):
    record, _ = await opened()
    await record.note(Step("c:1", 8, anew=False, added=(_file("a"),)))
    assert await record.load() == Recorded()


async def test_a_record_that_cannot_be_read_is_none(opened, monkeypatch):
    record, _ = await opened()
    await record.note(Step("c:1", 7, anew=True, added=(_file("a"),)))

    def broken(_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("peer.library.record._load", broken)
    assert await record.load() == Recorded()
