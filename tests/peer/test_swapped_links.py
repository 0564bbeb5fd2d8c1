"""Links that are swapped in while a peer serves or writes lead nowhere: not one byte of the canary goes out or changes.

A race is an attempt during which the link has come or gone: whoever swaps counts what it does, in memory that both see.
A hundred of them each; RELEVO_ATTACKS=full (`make attacks`) races ten thousand times.
"""

import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from core.content import Layout
from core.errors import RelevoError
from core.manifest import manifest_of
from peer.disk import beneath, rooted
from peer.disk.rooted import Stamp
from peer.fetching.partial import Partial, partial_name
from peer.library import sharing
from peer.library.blocks import BlockReader
from peer.library.hashing import hash_file
from peer.library.holdings import Place, PlaceKind
from peer.library.ignore import IgnoreRules
from peer.library.scan import Scanner

FULL = os.environ.get("RELEVO_ATTACKS") == "full"
RACES = 10_000 if FULL else 100
# For so many seconds a busy machine may take; a quiet one needs a tenth.
PATIENCE = 600 if FULL else 60
pytestmark = pytest.mark.timeout(4 * PATIENCE)
SECRET = b"canary: nobody outside may see this"
INSIDE = b"inside: this is what is shared here"
assert len(SECRET) == len(INSIDE)
# Both count their steps, and let go of the processor after each: on a single one nobody would see them otherwise.
_COUNTING = """
import mmap, os, shutil, sys
counter, swap, target = sys.argv[1:]
link, aside = swap + ".link", swap + ".aside"
with open(counter, "r+b") as file:
    steps = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")

def step():
    steps[0] += 1
    os.sched_yield()
"""
# Swaps `swap` between what it is and a link to the canary, as fast as it can. RENAME_EXCHANGE would leave no gap; the
# gaps are what real programs leave.
_SWAPPING = """
def take_place(of):
    while True:
        try:
            return os.rename(of, swap)
        except OSError:  # whoever is raced has made a directory in the gap, and goes on to fill it
            shutil.rmtree(swap, ignore_errors=True)

print("racing", flush=True)
while True:
    os.symlink(target, link)
    os.rename(swap, aside)
    step()
    take_place(link)
    step()
    os.unlink(swap)
    step()
    take_place(aside)
    step()
"""
# Puts a link to the canary where nothing is yet, and takes it away.
_PLANTING = """
print("racing", flush=True)
while True:
    try:
        os.symlink(target, swap)
        step()
        os.unlink(swap)
        step()
    except OSError:  # whoever is raced has put its own there
        os.sched_yield()
"""


@pytest.fixture(params=["by the kernel", "by walking"], autouse=True)
def way(request, monkeypatch):
    if request.param == "by walking":
        monkeypatch.setattr(beneath, "kernel_opens_beneath", lambda: False)
    elif not beneath.kernel_opens_beneath():
        pytest.skip("this kernel has no openat2, or keeps it from this process")


def hashed(directory):
    """Returns what a tree holds: path to type, mode, times and digest."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.lstat().st_nlink,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(directory.rglob("*"))
    }


@pytest.fixture
def canary(tmp_path):
    directory = tmp_path / "canary"
    (directory / "deep").mkdir(parents=True)
    (directory / "secret").write_bytes(SECRET)
    (directory / "deep" / "secret").write_bytes(SECRET)
    before = hashed(directory)
    yield directory
    assert hashed(directory) == before


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "root"
    (directory / "swap" / "deep").mkdir(parents=True)
    for where in ("swap", "swap/deep"):
        (directory / where / "secret").write_bytes(INSIDE)
    return directory


class Race:
    """Somebody who swaps meanwhile."""

    def __init__(self, steps):
        self._steps = steps

    def attempts(self, function):
        """Runs `function` until so many attempts were races, and it succeeded once; returns what it returned."""
        seen, races, end = set(), 0, time.monotonic() + PATIENCE
        while races < RACES or not seen:
            assert time.monotonic() < end, f"{races} races only, and {len(seen)} results"
            before = self._steps[0]
            with suppress(OSError, RelevoError):
                seen.add(function())
            races += self._steps[0] != before
        return seen


@contextmanager
def racing(swap, target, script=_SWAPPING):
    """Swaps `swap` and a link to `target` in another process, which shares disk and counter with this one only."""
    with (
        tempfile.NamedTemporaryFile() as file,
        mmap.mmap(file.fileno(), file.truncate(8)) as shared,
        memoryview(shared) as view,
        view.cast("Q") as steps,
        subprocess.Popen(
            [sys.executable, "-c", _COUNTING + script, file.name, str(swap), str(target)], stdout=subprocess.PIPE
        ) as racer,
    ):
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"racing\n"
        try:
            yield Race(steps)
        finally:
            assert racer.poll() is None
            racer.kill()


def read(root, relative):
    descriptor = rooted.open_file(root, relative)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("relative", ["swap/secret", "swap/deep/secret"])
def test_nothing_is_read_through_a_directory_that_becomes_a_link(root, canary, relative):
    with racing(root / "swap", canary) as race:
        assert race.attempts(lambda: read(root, relative)) == {INSIDE}


def test_nothing_is_read_through_a_file_that_becomes_a_link(root, canary):
    with racing(root / "swap" / "secret", canary / "secret") as race:
        assert race.attempts(lambda: read(root, "swap/secret")) == {INSIDE}


def test_no_block_of_the_canary_is_served_and_none_is_hashed(root, canary):
    stamp = Stamp.of(rooted.status(root, "swap/deep/secret"))
    manifest = manifest_of(INSIDE)
    place = Place(PlaceKind.SHARED, root, "swap/deep/secret", stamp)

    def served():
        reader = BlockReader()
        try:
            return reader.read(place, manifest, 0)
        finally:
            reader.close()

    # The stamp of the canary, as a scan that had been led outside would have taken it.
    outside = Stamp.of((canary / "deep" / "secret").lstat())

    def hashed_outside():
        try:
            return hash_file(root, "swap/deep/secret", outside).content_id
        except (OSError, RelevoError):
            return None

    with racing(root / "swap", canary) as race:
        assert race.attempts(served) == {INSIDE}
        assert race.attempts(lambda: hash_file(root, "swap/deep/secret", stamp).content_id) == {manifest.content_id}
        assert race.attempts(hashed_outside) == {None}


def test_no_scan_finds_what_lies_outside(root, canary):
    (canary / "only here").write_bytes(SECRET)
    scanner = Scanner(root)

    def seen():
        sight = scanner.look({""}, IgnoreRules())
        again = scanner.look({"swap/only here", "swap/deep/secret"}, IgnoreRules())
        return frozenset(each.disk for each in sight.found + again.found if "only here" in each.disk)

    with racing(root / "swap", canary) as race:
        assert race.attempts(seen) == {frozenset()}
    (canary / "only here").unlink()


def test_nothing_is_written_moved_or_removed_outside(root, canary):
    names = iter(range(10**9))

    def written():
        name = f"swap/new{next(names)}"
        descriptor = rooted.create_file(root, name)
        os.write(descriptor, INSIDE)
        os.close(descriptor)
        rooted.move_into_place(root, name, f"{name}.done")
        rooted.make_directories(root, "swap/made/deep")
        rooted.remove(root, f"{name}.done")
        rooted.remove(root, "swap/secret")
        return True

    with racing(root / "swap", canary) as race:
        race.attempts(written)


def test_a_file_in_progress_is_never_the_file_that_a_link_leads_to(root, canary):
    """Somebody puts a link to the canary, and takes it away, under the name of the file in progress."""
    manifest = manifest_of(INSIDE)
    name = partial_name(manifest.content_id)

    def fetched():
        (root / "done").unlink(missing_ok=True)
        partial = Partial(root, manifest.content_id, Layout(len(INSIDE)))
        try:
            partial.open()
            partial.write(manifest, 0, INSIDE)
            partial.finish("done", None, executable=False)
        finally:
            partial.close()
        return read(root, "done")

    with racing(root / name, canary / "secret", _PLANTING) as race:
        assert race.attempts(fetched) == {INSIDE}


def test_put_and_a_local_copy_read_nothing_through_a_link(root, canary, tmp_path):
    home = tmp_path / "shared"
    home.mkdir()
    manifest = manifest_of(INSIDE)

    def put():
        name, _ = sharing.copy_beside(root / "swap" / "secret", home, ".put-", lambda: False)
        data = read(home, name)
        rooted.remove(home, name)
        return data

    def copied():
        partial = Partial(home, manifest.content_id, Layout(len(INSIDE)))
        try:
            partial.open()
            partial.copy_from(root / "swap" / "deep" / "secret", lambda: False)
            data = read(home, partial.name)
            partial.discard()
        finally:
            partial.close()
        return data

    with racing(root / "swap" / "secret", canary / "secret") as race:
        assert race.attempts(put) == {INSIDE}
    with racing(root / "swap", canary) as race:
        assert race.attempts(copied) == {INSIDE}
    assert not [path for path in Path(home).iterdir() if path.read_bytes() == SECRET]
