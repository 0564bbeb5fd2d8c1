"""Copies that `put` promised outlive kills: the trial of `make faults` in short, and what a user sees of them."""

import json
import random
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.copies import chaos, swarm

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[1]
GRACE = 2.0


@contextmanager
def network(peers):
    with swarm(GRACE) as found:
        found.start(peers)
        yield found


def relevo(host, *arguments):
    command = [sys.executable, "-m", "peer", "--home", str(host.home), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def shown(host, name):
    """Returns what `relevo ls --long` says of a file: wanted and live copies."""
    (file,) = json.loads(relevo(host, "ls", "--long", "--json", name).stdout)["files"]
    return file["wanted_copies"], file["live_copies"]


def test_copies_come_back_whoever_is_killed_and_are_what_was_put():
    chance = random.Random(5)
    with network(5) as found:
        found.put(10, 3, chance)
        found.until(lambda: found.settled(3), "all files copied")
        lost = chaos(found, 6.0, 2, lambda: chance.uniform(0, 5), chance)
        found.return_all()
        found.until(lambda: found.settled(3), "all copies back")
        assert (lost, found.left_wrong(3)) == (set(), [])


def test_a_user_gives_copies_up_and_keeps_the_file():
    with network(3) as found:
        found.put(1, 2, random.Random(1))
        (file,) = found.files
        owner, *others = found.hosts
        found.until(lambda: found.settled(2), "the file copied")
        assert shown(owner, file.path) == (2, 2)
        refused = relevo(others[0], "rm", file.path)
        assert refused.returncode == 3
        assert f"{owner.name} did" in refused.stderr
        assert relevo(owner, "rm", file.path[:6], "no such name").returncode == 3
        assert shown(owner, file.path) == (2, 2)
        done = relevo(owner, "rm", file.path)
        own = owner.shared / file.path
        said = f"{file.path}: 2 copies are given back; the file is still shared from {own}\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
        found.until(lambda: not any(file.held_by(host) for host in others), "the copies deleted")
        assert own.read_bytes() == file.data
        found.until(lambda: shown(owner, file.path) == (0, 0), "central told")
        assert "0 copies for others, 0 B of" in relevo(others[0], "status").stdout


def test_new_bytes_take_the_copies_over_without_another_put():
    with network(3) as found:
        found.put(1, 2, random.Random(2))
        (file,) = found.files
        owner, *others = found.hosts
        found.until(lambda: found.settled(2), "the file copied")
        before = file.content_id
        (owner.shared / file.path).write_bytes(b"new bytes")
        found.until(lambda: [host for host in others if before not in host.copies()] == others, "old copies deleted")
        assert {path.read_bytes() for host in others for path in host.copies().values()} == {b"new bytes"}
        assert shown(others[0], file.path) == (2, 2)
