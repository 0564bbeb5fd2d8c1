import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.private_files import write_private

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
