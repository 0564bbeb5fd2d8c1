"""Data directories and homes of the oldest version are opened, and everything that they held is there.

What stands in tests/data/schemas was written by the first version of each database.
"""

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from central.network import register_schema
from central.network.enrolment import Enrolment
from central.network.register import Register
from central.quotas import Quotas
from central.store import sqlite_schema
from central.store.sqlite_store import SqliteStore
from central.store.store import Batch, Copy, Entry, FileQuery, Receipt
from core.errors import NotPossible
from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library.index import Index
from peer.work.journal import Accepted, Journal
from relevo.v1.peer_control_pb2 import TRANSFER_PRIORITY_NORMAL, Transfer

OLDEST = Path(__file__).parent / "data" / "schemas"
ANA, BEA = "a" * 52, "b" * 52
X, Y = b"\x0a" * 32, b"\xbb" * 32


def wrote(directory, name):
    """Puts a database of the oldest version into a directory."""
    with changed(directory / f"{name}.db") as db:
        db.executescript((OLDEST / f"{name}-1.sql").read_text("utf-8"))


@contextmanager
def changed(path):
    with closing(sqlite3.connect(path)) as db:
        yield db


async def test_central_goes_on_with_what_its_oldest_version_kept(tmp_path):
    wrote(tmp_path, "central")
    store = await SqliteStore.open(tmp_path)
    try:
        assert [(peer.name, peer.file_count) for peer in await store.live_peers()] == [("ana", 2), ("bea", 0)]
        assert [file.path for file in (await store.list_files(FileQuery(text="ñal"))).items] == ["señal/ñ.txt"]
        placement = await store.placement("1" * 32)
        assert (placement.wanted, placement.copies) == (3, (Copy(BEA, confirmed=True),))
        assert await store.answer(ANA, "2" * 32) == b"placed"
        # Both sizes of one content at one path: the oldest version had only one.
        lie = Batch(await store.catalogue_version(BEA), added=(Entry("two.bin", Y, 1, 5.0), Entry("ñ", X, 10, 5.0)))
        await store.publish(BEA, lie, Receipt(BEA, "4" * 32, b"", 1_700_000_100.0), Quotas())
        found = (await store.list_files(FileQuery(text="two"))).items
        assert sorted(file.size for file in found) == [1, 1 << 33]
    finally:
        await store.close()
    with changed(tmp_path / sqlite_schema.FILE_NAME) as db:
        counts = "SELECT file_count, path_bytes, stored_count FROM peers ORDER BY peer_id"
        assert db.execute(counts).fetchall() == [(2, 20, 0), (2, 9, 1)]
        assert db.execute("SELECT bytes FROM placements").fetchall() == [(30,)]


def test_the_register_keeps_who_belongs_to_the_network(tmp_path):
    wrote(tmp_path, "register")
    with closing(Register.open(tmp_path)) as register:
        assert [(member.name, member.revoked) for member in register.members()] == [("ana", None), ("bea", 1.7e9 + 2)]
        assert register.address() == ("192.0.2.1:7400", 7401)
        assert register.invitation(b"i" * 16).uses_left == 2


def test_the_peers_databases_keep_what_was_promised(tmp_path):
    wrote(tmp_path, "index")
    wrote(tmp_path, "journal")
    one, stamp = manifest_of(b"one"), Stamp(3, 1_700_000_000_123_456_789, (1 << 64) - 5)
    index, journal = Index(tmp_path / "index.db"), Journal(tmp_path / "journal.db")
    index.open()
    journal.open()
    with closing(index), closing(journal):
        assert index.known(["a/ñ"]) == {"a/ñ": (stamp, one.content_id)}
        assert index.stored() == {one.content_id: stamp}
        assert [(str(found.location), found.path) for found in index.fetched()] == [("/home/ana/niño", "niño")]
        assert index.manifest(one.content_id) == one
        kind, stood = "relevo.v1.StartDownloadRequest", Transfer(priority=TRANSFER_PRIORITY_NORMAL).SerializeToString()
        assert journal.accepted() == [
            Accepted("c" * 32, kind, b"\n\x01x", stood),
            Accepted("d" * 32, kind, b"\n\x01y", stood),
        ]
        assert len(journal.ended()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.db", "journal.db"]


def test_a_journal_that_has_said_how_downloads_stood_still_does(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    journal.accept(Accepted("c" * 32, "kind", b"request", b"as it stood"))
    journal.close()
    with changed(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 1")
    journal.open()
    with closing(journal):
        assert journal.accepted() == [Accepted("c" * 32, "kind", b"request", b"as it stood")]


@pytest.mark.parametrize("kind", [Index, Journal])
def test_a_home_that_a_newer_version_wrote_is_refused_and_stays(tmp_path, kind):
    found = kind(tmp_path / "a.db")
    found.open()
    found.close()
    with changed(tmp_path / "a.db") as db:
        db.execute("PRAGMA user_version = 99")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(NotPossible, match=r"written by a newer relevo .*; upgrade"):
        found.open()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    assert (tmp_path / "a.db").read_bytes() == before


def test_the_command_line_changes_nothing_under_an_older_central_that_may_serve(tmp_path, monkeypatch):
    wrote(tmp_path, "register")
    newer = sqlite_schema.Schema("relevo-central", register_schema._TABLES, ("CREATE TABLE later (a);",))
    monkeypatch.setattr(register_schema, "SCHEMA", newer)
    with pytest.raises(NotPossible, match=r"older relevo-central .* start relevo-central of this version once"):
        Enrolment.open(tmp_path)
    with changed(tmp_path / register_schema.FILE_NAME) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall() == []
