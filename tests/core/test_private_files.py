import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.private_files import keep_private, write_private

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from core.private_files import write_private
path, number = Path(sys.argv[1]), 0
while True:
    number += 1
    write_private(path, b"%08d" % number * 100_000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_it_whatever_the_umask(tmp_path, umask):
    path = tmp_path / "key.pem"
    path.write_bytes(b"open to all")
    path.chmod(0o666)
    before = os.umask(umask)
    try:
        write_private(path, b"secret")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_symlink_is_replaced_and_what_it_points_at_stays(tmp_path):
    canary = tmp_path / "canary"
    canary.write_bytes(b"stays")
    path = tmp_path / "key.pem"
    path.symlink_to(canary)
    write_private(path, b"secret")
    assert canary.read_bytes() == b"stays"
    assert not path.is_symlink()


def test_what_cannot_be_moved_into_place_leaves_nothing_behind(tmp_path):
    path = tmp_path / "key.pem"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(path, b"secret")
    assert list(tmp_path.iterdir()) == [path]


def test_after_kill_9_of_the_writer_the_file_is_an_old_or_a_new_one_and_whole(tmp_path):
    path = tmp_path / "key.pem"
    for wanted in (1, 3, 8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"},
        ) as writer:
            while (last := int(writer.stdout.readline())) < wanted:
                pass
            writer.send_signal(signal.SIGKILL)
            last = int((writer.stdout.read().split() or [last])[-1])
        data = path.read_bytes()
        number = int(data[:8])
        assert data == b"%08d" % number * 100_000
        assert number in {last, last + 1}
        assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in tmp_path.iterdir())


# The kernel ends it, without a last word, as soon as it has written so many bytes of what it writes.
_DYING_WRITER = """
import resource, signal, sys
from pathlib import Path
from core.private_files import write_private
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
write_private(Path(sys.argv[1]), b"new" * 1_000)
"""


@pytest.mark.parametrize("written", [0, 1, 2_999])
def test_a_writer_that_dies_while_it_writes_leaves_the_old_file_whole(tmp_path, written):
    path = tmp_path / "key.pem"
    write_private(path, b"old")
    died = subprocess.run(
        [sys.executable, "-B", "-c", _DYING_WRITER, str(path), str(written)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGXFSZ
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_database_is_its_owners_only_with_its_journals(tmp_path, umask):
    before = os.umask(umask)
    try:
        for name in ("new", "old"):
            path = tmp_path / name
            if name == "old":
                for end in ("", "-wal", "-shm"):
                    path.with_name(name + end).touch()
            keep_private(path)
            assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE t (x)")
                assert path.with_name(name + "-wal").exists()
                assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    finally:
        os.umask(before)


def test_a_database_that_is_in_use_keeps_its_locks(tmp_path):
    """Whoever opens and closes a file loses all locks that the process has on it."""
    path = tmp_path / "db"
    keep_private(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("BEGIN EXCLUSIVE")
        keep_private(path)
        other = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN EXCLUSIVE')"
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "database is locked" in done.stderr
