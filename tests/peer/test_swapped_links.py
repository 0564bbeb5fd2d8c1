"""Links that are swapped in while a peer serves or writes lead nowhere: not one byte of the canary goes out or changes.

A short run each; RELEVO_ATTACKS=full (`make attacks`) races ten thousand times.
"""

import hashlib
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.content import Layout
from core.errors import RelevoError
from core.manifest import manifest_of
from peer import beneath, rooted
from peer.library import sharing
from peer.library.blocks import BlockReader
from peer.library.hashing import hash_file
from peer.library.holdings import Place, PlaceKind
from peer.library.ignore import IgnoreRules
from peer.library.scan import Scanner
from peer.partial import Partial, partial_name
from peer.rooted import Stamp

ROUNDS = 10_000 if os.environ.get("RELEVO_ATTACKS") == "full" else 300
SECRET = b"canary: nobody outside may see this"
INSIDE = b"inside: this is what is shared here"
assert len(SECRET) == len(INSIDE)
# Swaps `swap` between what it is and a link to the canary, as fast as it can. RENAME_EXCHANGE would leave no gap; the
# gaps are what real programs leave.
_RACER = """
import os, shutil, sys
swap, link, target = sys.argv[1:]
aside = swap + ".aside"

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
    take_place(link)
    os.unlink(swap)
    take_place(aside)
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


@contextmanager
def racing(swap, target):
    """Swaps `swap` and a link to `target` in another process, which shares nothing with this one but the disk."""
    link = swap.with_name(f"{swap.name}.link")
    with subprocess.Popen(
        [sys.executable, "-c", _RACER, str(swap), str(link), str(target)], stdout=subprocess.PIPE
    ) as racer:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"racing\n"
        try:
            yield
        finally:
            assert racer.poll() is None
            racer.kill()


def read(root, relative):
    descriptor = rooted.open_file(root, relative)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def attempts(function):
    """Runs `function` so often, and on until it has succeeded once in the race; returns what it returned."""
    seen, tries = set(), 0
    while tries < ROUNDS or (not seen and tries < 100 * ROUNDS):
        tries += 1
        try:
            seen.add(function())
        except (OSError, RelevoError):
            continue
    return seen


@pytest.mark.parametrize("relative", ["swap/secret", "swap/deep/secret"])
def test_nothing_is_read_through_a_directory_that_becomes_a_link(root, canary, relative):
    with racing(root / "swap", canary):
        assert attempts(lambda: read(root, relative)) == {INSIDE}


def test_nothing_is_read_through_a_file_that_becomes_a_link(root, canary):
    with racing(root / "swap" / "secret", canary / "secret"):
        assert attempts(lambda: read(root, "swap/secret")) == {INSIDE}


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
    with racing(root / "swap", canary):
        assert attempts(served) == {INSIDE}
        assert attempts(lambda: hash_file(root, "swap/deep/secret", stamp).content_id) == {manifest.content_id}
        for _ in range(ROUNDS):
            with pytest.raises((OSError, RelevoError)):
                hash_file(root, "swap/deep/secret", outside)


def test_no_scan_finds_what_lies_outside(root, canary):
    (canary / "only here").write_bytes(SECRET)
    scanner = Scanner(root)

    def seen():
        sight = scanner.look({""}, IgnoreRules())
        again = scanner.look({"swap/only here", "swap/deep/secret"}, IgnoreRules())
        return frozenset(each.disk for each in sight.found + again.found if "only here" in each.disk)

    with racing(root / "swap", canary):
        assert attempts(seen) == {frozenset()}
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

    with racing(root / "swap", canary):
        attempts(written)


def test_a_file_in_progress_is_never_the_file_that_a_link_leads_to(root, canary):
    """Somebody puts a link to the canary, and takes it away, under the name of the file in progress."""
    manifest = manifest_of(INSIDE)
    name = partial_name(manifest.content_id)
    stop = threading.Event()

    def plant():
        while not stop.is_set():
            try:
                (root / name).symlink_to(canary / "secret")
                (root / name).unlink()
            except OSError:
                continue

    def fetched():
        partial = Partial(root, manifest.content_id, Layout(len(INSIDE)))
        try:
            partial.open()
            partial.write(manifest, 0, INSIDE)
            partial.finish("done", None, executable=False)
        finally:
            partial.close()
        return read(root, "done")

    racer = threading.Thread(target=plant)
    racer.start()
    seen = set()
    try:
        for _ in range(ROUNDS):
            try:
                seen.add(fetched())
            except (OSError, RelevoError):
                pass
            finally:
                (root / "done").unlink(missing_ok=True)
    finally:
        stop.set()
        racer.join()
    assert seen <= {INSIDE}


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

    with racing(root / "swap" / "secret", canary / "secret"):
        assert attempts(put) == {INSIDE}
    with racing(root / "swap", canary):
        assert attempts(copied) == {INSIDE}
    assert not [path for path in Path(home).iterdir() if path.read_bytes() == SECRET]
