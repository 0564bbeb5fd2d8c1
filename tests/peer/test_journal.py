"""What a home remembers of its downloads: durable, bounded, and begun anew when it is damaged."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import NotPossible
from peer.work.journal import REMEMBERED, Accepted, Journal

ROOT = Path(__file__).parents[2]


def download(transfer_id="0" * 16, **changes):
    return replace(Accepted(transfer_id, "relevo.v1.X", b"\0request", b"as it stands"), **changes)


@pytest.fixture
def journal(tmp_path):
    journal = opened(tmp_path)
    yield journal
    journal.close()


def opened(home):
    journal = Journal(home / "journal.db")
    journal.open()
    return journal


def reopened(journal):
    journal.close()
    journal.open()
    return journal


def test_what_was_accepted_is_there_again_in_its_order_until_it_ends(journal):
    downloads = [download(name) for name in ("c", "a", "b")]
    for one in downloads:
        journal.accept(one)
    assert reopened(journal).accepted() == downloads
    journal.end("a", b"how")
    assert reopened(journal).accepted() == [downloads[0], downloads[2]]
    assert journal.ended() == [b"how"]


def test_a_change_keeps_the_place_and_the_request(journal):
    for name in ("a", "b"):
        journal.accept(download(name))
    journal.accept(download("a", transfer=b"paused", request=b"other", kind="other"))
    assert reopened(journal).accepted() == [download("a", transfer=b"paused"), download("b")]


def test_only_so_many_that_ended_are_remembered_the_latest(journal):
    for number in range(REMEMBERED + 5):
        journal.end(str(number), str(number).encode())
    assert journal.ended() == [str(number).encode() for number in range(5, REMEMBERED + 5)]


def test_an_end_that_is_told_twice_is_one(journal):
    journal.accept(download("a"))
    for _ in range(2):
        journal.end("a", b"how")
    assert (journal.accepted(), journal.ended()) == ([], [b"how"])


@pytest.mark.parametrize("damage", [b"no database at all", None])
def test_a_damaged_journal_is_set_aside_and_begun_anew(tmp_path, caplog, damage):
    path = tmp_path / "journal.db"
    if damage is None:  # another program's
        journal = opened(tmp_path)
        journal._database.execute("PRAGMA application_id = 99")
        journal.close()
    else:
        path.write_bytes(damage)
    journal = opened(tmp_path)
    assert journal.accepted() == []
    assert (tmp_path / "journal.db.damaged").exists()
    assert "set aside" in caplog.text
    journal.close()


def test_a_disk_that_fails_is_one_sentence(tmp_path):
    with pytest.raises(NotPossible, match="cannot be opened"):
        opened(tmp_path / "missing")
    journal = opened(tmp_path)
    journal._database.execute("PRAGMA query_only = 1")
    with pytest.raises(NotPossible, match="is the disk full"):
        journal.accept(download())
    with pytest.raises(NotPossible, match="is the disk full"):
        journal.end("a", b"")
    journal.close()
    with pytest.raises(NotPossible, match="not open"):
        journal.accepted()


KILLED = """
import os, signal, sys
from pathlib import Path
from peer.work.journal import Accepted, Journal
journal = Journal(Path(sys.argv[1]))
journal.open()
for name in ("a", "b"):
    journal.accept(Accepted(name, "kind", b"request", b"as it stands"))
journal.end("a", b"how")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_invariant_2_what_a_killed_process_had_accepted_is_there(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "journal.db")], env=environment, timeout=20, check=False
    )
    assert done.returncode < 0
    journal = opened(tmp_path)
    assert [one.transfer_id for one in journal.accepted()] == ["b"]
    assert journal.ended() == [b"how"]
    journal.close()
