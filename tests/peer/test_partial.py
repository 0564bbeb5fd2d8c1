"""Files in progress: what is trusted, what is kept, what is never overwritten."""

import contextlib
import errno
import os
import random
import socket
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import errors
from core.content import Layout
from core.manifest import manifest_of
from peer.disk import rooted
from peer.fetching.partial import SLICE, Partial, partial_name
from peer.fetching.targets import existing_manifest, remove_leftover
from tests.examples import examples

BLOCK = 64 * 1024
DATA = random.Random(5).randbytes(10 * BLOCK + 99)
MANIFEST = manifest_of(DATA)
NAME = partial_name(MANIFEST.content_id)


def block(index, data=DATA):
    return data[index * BLOCK : (index + 1) * BLOCK]


@contextlib.contextmanager
def opened(directory, manifest=MANIFEST):
    partial = Partial(directory, manifest.content_id, manifest.layout)
    partial.open()
    with contextlib.closing(partial):
        yield partial


def verified(partial, manifest=MANIFEST):
    found, index = [], 0
    while index < manifest.layout.block_count:
        some, index = partial.verified(manifest, index)
        assert len(some) <= SLICE
        found += some
    return found


def fill(directory, manifest=MANIFEST, data=DATA):
    with opened(directory, manifest) as partial:
        for index in range(manifest.layout.block_count):
            assert partial.write(manifest, index, block(index, data))


def test_a_block_is_written_only_when_it_is_that_block(tmp_path):
    with opened(tmp_path) as partial:
        flipped = bytearray(block(3))
        flipped[7] ^= 1
        wrong = [bytes(flipped), block(4), block(3)[:-1], block(3) + b"x", b""]
        assert [partial.write(MANIFEST, 3, data) for data in wrong] == [False] * 5
        assert verified(partial) == []
        assert partial.write(MANIFEST, 3, block(3))
        assert partial.write(MANIFEST, 10, block(10))
        assert verified(partial) == [3, 10]


def test_what_was_written_is_found_again_and_what_rotted_is_not(tmp_path):
    with opened(tmp_path) as partial:
        for index in (0, 4, 5, 9):
            partial.write(MANIFEST, index, block(index))
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(4 * BLOCK + 17)
        file.write(b"?")
    with opened(tmp_path) as partial:
        assert verified(partial) == [0, 5, 9]


@settings(max_examples=examples(30), deadline=None)
@given(st.sets(st.integers(0, 10)), st.sets(st.integers(0, 10)), st.integers(0, 2 * 11 * BLOCK))
def test_whatever_a_crash_left_only_right_blocks_are_trusted(tmp_path_factory, written, spoilt, length):
    directory = tmp_path_factory.mktemp("crash")
    with opened(directory) as partial:
        for index in written:
            partial.write(MANIFEST, index, block(index))
    path = directory / NAME
    if path.exists():
        with path.open("r+b") as file:
            for index in spoilt & written:
                file.seek(index * BLOCK)
                file.write(b"????")
            file.truncate(length)
    kept = {index for index in written - spoilt if index * BLOCK + len(block(index)) <= length}
    with opened(directory) as partial:
        assert set(verified(partial)) == kept
        assert (directory / NAME).stat().st_size == len(DATA)


def test_holes_are_not_read(tmp_path, monkeypatch):
    size = 300 * 1024 * 1024
    layout = Layout(size)
    manifest = manifest_of(b"")
    partial = Partial(tmp_path, MANIFEST.content_id, layout)
    partial.open()
    with contextlib.closing(partial):
        read = []
        monkeypatch.setattr(os, "pread", lambda *arguments: read.append(arguments[2]) or b"")
        monkeypatch.setattr(type(manifest), "verifies", lambda *_: False)
        assert partial.verified(manifest, 0) == ([], layout.block_count)
        assert read == []
        os.pwrite(partial._descriptor, b"x", 200 * 1024 * 1024 + 5)
        assert partial.verified(manifest, 0) == ([], layout.block_count)
        assert read == [200 * 1024 * 1024]
        assert not partial.is_filled()


def test_a_file_system_that_knows_no_holes_is_read_as_a_whole(tmp_path, monkeypatch):
    with opened(tmp_path) as partial:
        partial.write(MANIFEST, 10, block(10))
        monkeypatch.delattr(os, "SEEK_DATA")
        monkeypatch.delattr(os, "SEEK_HOLE")
        assert verified(partial) == [10]
        assert partial.is_filled()


def test_a_finished_file_stands_at_its_place_and_nothing_else(tmp_path):
    fill(tmp_path)
    with opened(tmp_path) as partial:
        location = partial.finish("done", 1000.5, executable=True)
    assert location == tmp_path / "done"
    assert [path.name for path in tmp_path.iterdir()] == ["done"]
    assert location.read_bytes() == DATA
    found = location.stat()
    assert (found.st_mtime, found.st_nlink) == (1000.5, 1)
    readable = stat.S_IMODE(found.st_mode) & 0o444
    assert stat.S_IMODE(found.st_mode) & 0o111 == readable >> 2


def test_the_disk_is_kept_busy_while_blocks_come_so_that_the_sync_at_the_end_is_short(tmp_path, monkeypatch):
    begun = []

    def start_writing(descriptor):
        begun.append(descriptor)
        return errno.ENOSYS  # where the system has no such call, nothing else changes

    monkeypatch.setattr("peer.fetching.partial.WRITE_OUT", 3 * BLOCK)
    monkeypatch.setattr("peer.fetching.partial.start_writing", start_writing)
    fill(tmp_path)
    assert len(begun) == len(DATA) // (3 * BLOCK)
    assert (tmp_path / NAME).read_bytes() == DATA


def test_bytes_are_durable_before_they_get_their_name_and_the_name_is_after(tmp_path, monkeypatch):
    fill(tmp_path)
    steps = []
    for name in ("fsync", "link", "utime", "fchmod"):
        real = getattr(os, name)

        def note(*arguments, name=name, real=real, **options):
            kind = ""
            if name == "fsync":
                kind = "dir" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else "file"
            steps.append(name + kind)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, note)
    with opened(tmp_path) as partial:
        partial.finish("done", 5.0, executable=True)
    assert steps[:4] == ["fchmod", "utime", "fsyncfile", "link"]
    assert set(steps[4:]) == {"fsyncdir"}


@pytest.mark.parametrize("links", [True, False])
def test_what_stands_at_the_target_is_never_overwritten(tmp_path, monkeypatch, links):
    fill(tmp_path)
    if not links:

        def no_link(*_, **__):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "there").write_bytes(b"precious")
    with opened(tmp_path) as partial:
        with pytest.raises(errors.AlreadyExists, match="there"):
            partial.finish("there", None, executable=False)
        assert verified(partial) == list(range(11))
        assert partial.finish("free", None, executable=False).read_bytes() == DATA
    assert (tmp_path / "there").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "there"]


def test_a_failed_sync_is_not_trusted_a_second_time(tmp_path, monkeypatch):
    fill(tmp_path)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with opened(tmp_path) as partial, pytest.raises(errors.NotPossible, match="the disk has failed"):
        partial.finish("done", None, executable=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "failed"),
        (errno.ETIMEDOUT, "timed out"),
    ],
)
def test_trouble_with_the_disk_is_said_in_a_sentence_and_what_is_there_stays(tmp_path, monkeypatch, code, words):
    with opened(tmp_path) as partial:
        partial.write(MANIFEST, 0, block(0))

        def fail(*_):
            raise OSError(code, "Timed out" if code == errno.ETIMEDOUT else "whatever")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            with pytest.raises(errors.NotPossible, match=words):
                partial.write(MANIFEST, 1, block(1))
        assert verified(partial) == [0]


def test_a_write_that_the_system_cuts_short_goes_on(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:1000], offset))
    with opened(tmp_path) as partial:
        assert partial.write(MANIFEST, 2, block(2))
        assert verified(partial) == [2]


def test_a_missing_directory_and_a_file_in_its_place_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for name, words in (("nowhere", "not there"), ("file", "not a directory")):
        partial = Partial(tmp_path / name, MANIFEST.content_id, MANIFEST.layout)
        with pytest.raises(errors.NotPossible, match=words):
            partial.open()
        partial.close()


def test_a_content_larger_than_the_disk_leaves_nothing_behind(tmp_path):
    partial = Partial(tmp_path, MANIFEST.content_id, Layout(1 << 47))
    with pytest.raises(errors.NotPossible, match="make room"):
        partial.open()
    partial.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_progress_without_any_block_goes_when_it_is_closed(tmp_path):
    with opened(tmp_path):
        assert (tmp_path / NAME).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_second_program_is_told_to_wait(tmp_path):
    with opened(tmp_path):
        second = Partial(tmp_path, MANIFEST.content_id, MANIFEST.layout)
        with pytest.raises(errors.Busy):
            second.open()
        second.close()


def _socket(where):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(where.parent):
        listening.bind(where.name)


def _foreign(where):
    where.write_bytes(b"theirs")
    os.chown(where, 12345, 12345)


PLANTERS = {
    "link": lambda where, victim: where.symlink_to(victim),
    "dangling link": lambda where, _: where.symlink_to(where.parent / "absent"),
    "directory": lambda where, _: where.mkdir(),
    "pipe": lambda where, _: os.mkfifo(where),
    "socket": lambda where, _: _socket(where),
    "device": lambda where, _: os.mknod(where, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "file of another user": lambda where, _: _foreign(where),
    "hard link": lambda where, victim: os.link(victim, where),
    "empty file": lambda where, _: where.touch(),
}


def plant(kind, where, victim):
    """Puts something that relevo did not make at `where`, and returns how it looks."""
    if kind in {"device", "file of another user"} and os.geteuid():
        pytest.skip(f"only root can plant a {kind}")
    PLANTERS[kind](where, victim)
    return looks(where)


def looks(where):
    """Returns what there is at `where`, but when it was last read: to look at it is allowed."""
    found = where.lstat()
    what = (found.st_mode, found.st_dev, found.st_ino, found.st_nlink, found.st_uid, found.st_gid, found.st_size)
    return (*what, found.st_mtime_ns, found.st_ctime_ns)


PLANTED = ["link", "dangling link", "directory", "pipe", "socket", "device"]


@pytest.mark.parametrize("kind", [*PLANTED, "file of another user"])
def test_what_is_planted_under_the_partial_name_is_neither_followed_nor_written(tmp_path, kind):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    before = plant(kind, tmp_path / NAME, victim)
    partial = Partial(tmp_path, MANIFEST.content_id, MANIFEST.layout)
    with pytest.raises(errors.NotPossible, match="is in the way; remove it"):
        partial.open()
    partial.close()
    assert victim.read_bytes() == b"precious"
    assert looks(tmp_path / NAME) == before
    assert not (tmp_path / "absent").exists()


def test_what_is_planted_while_the_file_in_progress_is_opened_is_not_written_either(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    real = rooted.resume_file

    def late(root, name):
        os.mkfifo(tmp_path / NAME)
        return real(root, name)

    monkeypatch.setattr(rooted, "resume_file", late)
    partial = Partial(tmp_path, MANIFEST.content_id, MANIFEST.layout)
    with pytest.raises(errors.NotPossible, match="is in the way; remove it"):
        partial.open()
    partial.close()


@pytest.mark.parametrize("name", ["there", ".bashrc", ".ssh"])
@pytest.mark.parametrize("kind", [*PLANTED, "hard link", "empty file"])
def test_nothing_that_stands_at_the_target_is_replaced(tmp_path, kind, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    fill(tmp_path)
    before = plant(kind, tmp_path / name, victim)
    with pytest.raises(errors.AlreadyExists, match="nothing is overwritten"):
        existing_manifest(tmp_path, name, len(DATA))
    with opened(tmp_path) as partial, pytest.raises(errors.AlreadyExists, match="nothing is overwritten"):
        partial.finish(name, None, executable=False)
    assert victim.read_bytes() == b"precious"
    assert looks(tmp_path / name) == before
    assert not (tmp_path / "absent").exists()


def test_a_file_in_progress_whose_name_was_given_to_another_is_no_success(tmp_path):
    fill(tmp_path)
    (tmp_path / "victim").write_bytes(b"precious")
    with opened(tmp_path) as partial:
        (tmp_path / NAME).unlink()
        os.link(tmp_path / "victim", tmp_path / NAME)
        with pytest.raises(errors.NotPossible, match="was replaced"):
            partial.finish("done", None, executable=False)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_partial_name_that_is_another_name_of_a_users_file_is_given_up_not_written(tmp_path):
    user = tmp_path / "moved-into-place"
    user.write_bytes(b"precious")
    os.link(user, tmp_path / NAME)
    with opened(tmp_path) as partial:
        partial.write(MANIFEST, 0, block(0))
    assert user.read_bytes() == b"precious"
    assert user.stat().st_nlink == 1


def test_a_leftover_name_of_a_file_in_its_place_is_removed_and_no_other(tmp_path):
    (tmp_path / "done").write_bytes(DATA)
    os.link(tmp_path / "done", tmp_path / NAME)
    remove_leftover(tmp_path, "done", NAME)
    assert not (tmp_path / NAME).exists()
    (tmp_path / NAME).write_bytes(b"in progress")
    remove_leftover(tmp_path, "done", NAME)
    assert (tmp_path / NAME).read_bytes() == b"in progress"


def test_a_late_write_never_meets_a_descriptor_that_has_been_closed(tmp_path):
    partial = Partial(tmp_path, MANIFEST.content_id, MANIFEST.layout)
    partial.open()
    partial.close()
    partial.close()
    with pytest.raises(errors.NotPossible):
        partial.write(MANIFEST, 0, block(0))
    late = Partial(tmp_path, MANIFEST.content_id, MANIFEST.layout)
    late.close()
    with pytest.raises(errors.NotPossible):
        late.open()


def test_blocks_written_from_many_threads_are_all_there(tmp_path):
    with opened(tmp_path) as partial:
        threads = [threading.Thread(target=partial.write, args=(MANIFEST, i, block(i))) for i in range(11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert partial.is_filled()
        assert partial.manifest() == MANIFEST


def test_a_local_file_is_copied_over_whatever_was_there(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(DATA)
    with opened(tmp_path) as partial:
        partial.write(MANIFEST, 3, block(3))
        partial.copy_from(source, lambda: False)
        assert partial.manifest() == MANIFEST
        with pytest.raises(errors.NotPossible):
            partial.copy_from(tmp_path / "gone", lambda: False)


def test_an_existing_target_is_judged_by_its_bytes(tmp_path):
    (tmp_path / "same").write_bytes(DATA)
    (tmp_path / "link").symlink_to("same")
    assert existing_manifest(tmp_path, "same", len(DATA)) == MANIFEST
    assert existing_manifest(tmp_path, "none", len(DATA)) is None
    for name, size in (("same", len(DATA) + 1), ("link", len(DATA))):
        with pytest.raises(errors.AlreadyExists):
            existing_manifest(tmp_path, name, size)
    with pytest.raises(errors.NotPossible):
        existing_manifest(tmp_path / "nowhere", "same", 1)
    with pytest.raises(errors.NotPossible, match="so long a name"):
        existing_manifest(tmp_path, "x" * 300, 1)
