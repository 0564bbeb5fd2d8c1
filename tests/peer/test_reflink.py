"""A copy has the same bytes, whichever way it was made."""

import errno
import os

import pytest

from peer.disk import reflink


@pytest.fixture
def pair(tmp_path):
    data = os.urandom(3 * 1024 * 1024 + 17)
    (tmp_path / "source").write_bytes(data)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield data, source, target, tmp_path / "target"
    os.close(source)
    os.close(target)


def test_a_copy_has_the_same_bytes(pair):
    data, source, target, path = pair
    assert reflink.copy_file(source, target, len(data)) == len(data)
    assert path.read_bytes() == data


def test_without_help_of_the_file_system_and_the_kernel_chunks_are_copied(pair, monkeypatch):
    def not_here(*_args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(reflink, "_clone", lambda *_args: False)
    monkeypatch.setattr(os, "copy_file_range", not_here, raising=False)
    data, source, target, path = pair
    assert reflink.copy_file(source, target, len(data)) == len(data)
    assert path.read_bytes() == data


def test_a_failing_disk_is_not_taken_for_a_missing_feature(pair, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reflink, "_clone", lambda *_args: False)
    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    data, source, target, _ = pair
    with pytest.raises(OSError, match="No space left"):
        reflink.copy_file(source, target, len(data))


def test_a_source_that_is_shorter_than_said_and_an_empty_one_end_the_copy(pair):
    data, source, target, path = pair
    assert reflink.copy_file(source, target, len(data) + 1000) == len(data)
    assert path.read_bytes() == data
    assert reflink.copy_file(source, target, 0) == 0


def test_a_copy_stops_between_chunks(pair, monkeypatch):
    monkeypatch.setattr(reflink, "_clone", lambda *_args: False)
    monkeypatch.setattr(reflink, "_CHUNK", 1024 * 1024)
    data, source, target, _ = pair
    asked = iter([False, False, True])
    assert reflink.copy_file(source, target, len(data), lambda: next(asked)) == 2 * 1024 * 1024
