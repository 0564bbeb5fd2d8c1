"""A manifest is of bytes that a file really had, or there is none."""

import os
import threading

import pytest

from core.errors import Corrupt, NotPossible
from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library import hashing
from peer.library.hashing import Hasher, hash_file, hash_part
from peer.library.scan import Found


def _stamp(path):
    return Stamp.of(path.stat())


def _found(path):
    return Found(path.name, path.name, _stamp(path), False)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 9 * (1 << 20) + 3])
def test_a_file_has_the_manifest_of_its_bytes(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert hash_file(tmp_path, "f", _stamp(tmp_path / "f")) == manifest_of(data)


async def test_parts_of_a_large_file_are_put_together_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "PART_BYTES", 1 << 20)
    data = os.urandom(10 * (1 << 20) + 77)
    (tmp_path / "f").write_bytes(data)
    threads = set()

    def part(*args):
        threads.add(threading.current_thread().name)
        return hash_part(*args)

    hasher = Hasher(3, part)
    assert await hasher.hash_file(tmp_path, "f", _stamp(tmp_path / "f")) == manifest_of(data)
    await hasher.close()
    assert all(name.startswith("relevo-hash") for name in threads)


async def test_many_small_files_are_hashed_each_for_itself(tmp_path):
    files = []
    for number in range(200):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
        files.append(_found(tmp_path / f"f{number}"))
    hasher = Hasher(2)
    outcomes = [each async for some in hasher.hash_small(tmp_path, files) for each in some]
    await hasher.close()
    assert {each.found.path: each.content_id for each in outcomes} == {
        f"f{number}": manifest_of(b"%d" % number).content_id for number in range(200)
    }


async def test_a_file_that_cannot_be_read_does_not_spoil_the_others(tmp_path):
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "gone").write_bytes(b"gone")
    files = [_found(tmp_path / "gone"), _found(tmp_path / "good")]
    (tmp_path / "gone").unlink()
    hasher = Hasher(1)
    outcomes = [each async for some in hasher.hash_small(tmp_path, files) for each in some]
    await hasher.close()
    assert isinstance(outcomes[0].problem, FileNotFoundError)
    assert outcomes[1].content_id == manifest_of(b"good").content_id


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "replace"])
def test_a_file_that_changes_while_it_is_hashed_gets_no_manifest(tmp_path, monkeypatch, change):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    os.utime(path, (1000, 1000))
    stamp = _stamp(path)
    real, blocks = hashing.digest, []

    def digest(data):
        if len(blocks) == 1:
            _change(path, change)
        blocks.append(1)
        return real(data)

    monkeypatch.setattr(hashing, "digest", digest)
    if change == "replace":  # the open file goes on being the old one; the next part finds the new one
        hash_part(tmp_path, "f", stamp, 0, 10)
        with pytest.raises(Corrupt):
            hash_part(tmp_path, "f", stamp, 10, 20)
    else:
        with pytest.raises(Corrupt):
            hash_part(tmp_path, "f", stamp, 0, 46)


def test_a_file_that_is_not_the_one_that_was_found_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    stamp = _stamp(path)
    _change(path, "grow")
    monkeypatch.setattr(hashing, "digest", lambda _: pytest.fail("it was read"))
    with pytest.raises(Corrupt):
        hash_part(tmp_path, "f", stamp, 0, 46)


def _change(path, change):
    if change == "grow":
        with path.open("ab") as file:
            file.write(b"more")
    elif change == "shrink":
        os.truncate(path, 1_500_000)
    elif change == "rewrite":
        with path.open("r+b") as file:
            file.write(b"y")
    else:
        path.with_name("new").write_bytes(b"y" * 3_000_000)
        path.with_name("new").rename(path)


def test_a_link_or_a_pipe_in_the_place_of_a_file_is_not_read(tmp_path):
    (tmp_path / "canary").write_bytes(b"canary")
    stamp = _stamp(tmp_path / "canary")
    (tmp_path / "link").symlink_to(tmp_path / "canary")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP
        hash_file(tmp_path, "link", stamp)
    with pytest.raises(NotPossible):
        hash_file(tmp_path, "pipe", stamp)


def test_jobs_are_neither_long_nor_large():
    files = [
        Found(str(size), str(size), Stamp(size, 0, 0), False) for size in [1] * 600 + [40 << 20, 20 << 20, 20 << 20]
    ]
    jobs = list(hashing.jobs_of(files))
    assert [found for job in jobs for found in job] == files
    assert [len(job) for job in jobs] == [256, 256, 88, 1, 1, 1]
