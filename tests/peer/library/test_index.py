"""The index remembers, and a damaged one costs time and nothing else."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import Corrupt, NotFound, NotPossible
from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library import index as index_module
from peer.library.index import Index, Remembered

ONE, TWO = manifest_of(b"one"), manifest_of(os.urandom(300_000))
STAMP = Stamp(3, 1_700_000_000_123_456_789, (1 << 64) - 5)


@pytest.fixture
def opened(tmp_path):
    found = []

    def open_index():
        index = Index(tmp_path / "index.db")
        found.append(index)
        index.open()
        return index

    yield open_index
    for index in found:
        index.close()


def test_what_was_put_is_known_after_a_restart(opened):
    index = opened()
    location = Path(os.fsdecode(b"/somewhere/latin-\xe9/ni\xc3\xb1o"))
    index.put_files([("a/ñ", STAMP, ONE.content_id, ONE), ("b", STAMP, TWO.content_id, TWO)])
    index.put_fetched([(Remembered(location, "niño", STAMP, ONE.content_id), ONE)])
    index.put_stored(TWO.content_id, STAMP, TWO)
    index.close()
    index = opened()
    assert index.known(["a/ñ", "b", "c"]) == {"a/ñ": (STAMP, ONE.content_id), "b": (STAMP, TWO.content_id)}
    assert index.manifest(TWO.content_id) == TWO
    assert index.fetched() == [Remembered(location, "niño", STAMP, ONE.content_id)]
    assert index.stored() == {TWO.content_id: STAMP}


def test_what_was_forgotten_is_not_known(opened):
    index = opened()
    index.put_files([("a", STAMP, ONE.content_id, ONE)])
    index.put_fetched([(Remembered(Path("/x"), "x", STAMP, ONE.content_id), ONE)])
    index.put_stored(ONE.content_id, STAMP, ONE)
    index.forget_file("a")
    index.forget_fetched(Path("/x"))
    index.forget_stored(ONE.content_id)
    assert (index.known(["a"]), index.fetched(), index.stored()) == ({}, [], {})
    with pytest.raises(NotFound):
        index.manifest(TWO.content_id)


def test_thousands_of_files_are_asked_about_at_once(opened):
    index = opened()
    index.put_files((f"f{number}", STAMP, ONE.content_id, ONE) for number in range(3000))
    assert len(index.known([f"f{number}" for number in range(4000)])) == 3000


@pytest.mark.parametrize("content", [b"", b"no database at all, just some text " * 200, "foreign", "torn"])
def test_a_damaged_or_foreign_index_is_set_aside_and_begun_anew(opened, tmp_path, content, caplog):
    path = tmp_path / "index.db"
    if content == "foreign":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE files (something TEXT)")
        database.close()
    elif content == "torn":
        index = opened()
        index.put_files((f"f{number}", STAMP, ONE.content_id, ONE) for number in range(3000))
        index.close()
        data = path.read_bytes()
        path.write_bytes(data[:8192] + os.urandom(len(data) - 8192))
    else:
        path.write_bytes(content)
    index = opened()
    assert index.known(["f1"]) == {}
    index.put_files([("a", STAMP, ONE.content_id, ONE)])
    assert index.known(["a"])
    if content:  # an empty file is a new database
        assert "set aside" in caplog.text
        assert (tmp_path / "index.db.damaged").exists()


def test_an_index_that_cannot_be_opened_is_not_taken_for_a_damaged_one(tmp_path):
    (tmp_path / "index.db").mkdir()
    with pytest.raises(NotPossible, match="cannot be opened"):
        Index(tmp_path / "index.db").open()
    assert (tmp_path / "index.db").is_dir()


def test_a_damaged_manifest_is_noticed(opened):
    index = opened()
    index.put_files([("a", STAMP, ONE.content_id, ONE)])
    index._database.execute("UPDATE manifests SET digests = zeroblob(32)")
    with pytest.raises(Corrupt):
        index.manifest(ONE.content_id)
    index._database.execute("UPDATE manifests SET digests = zeroblob(31)")
    with pytest.raises(Corrupt):
        index.manifest(ONE.content_id)


def test_a_failed_write_leaves_the_index_as_it_was_and_is_told_in_a_sentence(opened):
    index = opened()
    index._database.execute("PRAGMA max_page_count = 12")
    big = manifest_of(bytes(200 << 16))
    with pytest.raises(NotPossible, match="disk full"):
        index.put_files((f"f{n}", STAMP, bytes([n]) * 32, big) for n in range(50))
    assert index.known([f"f{n}" for n in range(50)]) == {}


def test_files_out_of_sight_are_forgotten_only_when_they_are_many(opened, monkeypatch):
    index = opened()
    index.put_files((f"f{n}", STAMP, ONE.content_id, ONE) for n in range(30))
    index.put_files([("x", STAMP, TWO.content_id, TWO)])
    index.prune({"f1"}.__contains__, 1)
    assert len(index.known([f"f{n}" for n in range(30)])) == 30
    monkeypatch.setattr(index_module, "_SLACK", 5)
    index.prune({"f1"}.__contains__, 1)
    assert set(index.known([f"f{n}" for n in range(30)])) == {"f1"}
    assert index.manifest(ONE.content_id) == ONE
    with pytest.raises(NotFound):
        index.manifest(TWO.content_id)


def test_a_stored_copy_is_acknowledged_only_after_a_sync(opened):
    """Durable calls commit with synchronous FULL (2), the cache with NORMAL (1)."""
    index = opened()
    seen = []
    index._database.set_trace_callback(lambda text: seen.append(text) if "synchronous" in text else None)
    index.put_stored(ONE.content_id, STAMP, ONE)
    index.put_fetched([(Remembered(Path("/x"), "x", STAMP, ONE.content_id), ONE)])
    index.forget_stored(ONE.content_id)
    index.put_files([("a", STAMP, ONE.content_id, ONE)])
    assert [text.rpartition(" ")[2] for text in seen] == ["FULL", "FULL", "FULL", "NORMAL"]


def test_a_process_that_is_killed_has_lost_nothing_acknowledged(opened, tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from core.manifest import manifest_of
from peer.library.index import Index
from peer.disk.rooted import Stamp
index = Index(Path({str(tmp_path / "index.db")!r}))
index.open()
for n in range(20):
    manifest = manifest_of(b"%d" % n)
    index.put_stored(manifest.content_id, Stamp(1, 2, 3), manifest)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=False, cwd=Path(__file__).parents[2])
    assert len(opened().stored()) == 20
