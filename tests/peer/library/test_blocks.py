"""Blocks come from files that are as they were, through descriptors that are closed again."""

import os
import random
import threading

import pytest

from core.errors import Corrupt
from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library.blocks import BlockReader
from peer.library.holdings import Place, PlaceKind


@pytest.fixture
def reader():
    reader = BlockReader(most_open=4)
    yield reader
    reader.close()


def _place(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return Place(PlaceKind.SHARED, tmp_path, name, Stamp.of((tmp_path / name).stat())), manifest_of(data)


def _lowest_free():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_a_change_while_the_file_is_open_is_noticed(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", b"x" * 100_000)
    assert reader.read(place, manifest, 1) == b"x" * (100_000 - 65536)
    with (tmp_path / "f").open("ab") as file:
        file.write(b"more")
    with pytest.raises(Corrupt):
        reader.read(place, manifest, 1)


def test_an_open_file_that_lost_its_name_still_has_its_bytes(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", b"bytes")
    reader.read(place, manifest, 0)
    (tmp_path / "f").unlink()
    assert reader.read(place, manifest, 0) == b"bytes"
    reader.forget(place)
    with pytest.raises(FileNotFoundError):
        reader.read(place, manifest, 0)


def test_a_block_is_compared_with_its_digest_once_for_every_opening(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", b"bytes")
    (tmp_path / "f").write_bytes(b"other")
    os.utime(tmp_path / "f", ns=(0, place.stamp.mtime_ns))
    with pytest.raises(Corrupt):
        reader.read(place, manifest, 0)


def test_files_are_closed_when_too_many_when_idle_and_at_the_end(tmp_path, reader):
    before = _lowest_free()
    places = [_place(tmp_path, f"f{number}", b"%d" % number) for number in range(10)]
    for place, manifest in places:
        reader.read(place, manifest, 0)
    assert len(reader._files) == 4
    reader.close_idle()
    reader.read(*places[9], 0)
    reader.close_idle()
    assert list(reader._files) == [places[9][0]]
    reader.close()
    assert _lowest_free() == before


def test_many_threads_read_while_files_are_opened_and_closed(tmp_path, reader):
    places = [_place(tmp_path, f"f{number}", os.urandom(70_000)) for number in range(8)]
    data = [(tmp_path / f"f{number}").read_bytes() for number in range(8)]
    wrong = []

    def read(seed):
        for turn in range(150):
            number = (turn * 7 + seed) % 8
            if reader.read(*places[number], 1) != data[number][65536:]:
                wrong.append(number)
            if turn % 10 == 0:
                reader.forget(places[number][0])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    before = _lowest_free()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert not wrong
    assert _lowest_free() == before


def test_a_block_that_was_compared_is_at_hand_while_it_is_in_memory(tmp_path, reader, monkeypatch):
    place, manifest = _place(tmp_path, "f", b"x" * 100_000)
    assert reader.at_hand(place, manifest, 1) is None, "nobody has opened the file"
    reader.read(place, manifest, 0)
    assert reader.at_hand(place, manifest, 1) is None, "nobody has compared this block"
    reader.read(place, manifest, 1)
    assert reader.at_hand(place, manifest, 1) == b"x" * (100_000 - 65536)
    monkeypatch.setattr("peer.disk.cached.os.preadv", _would_block)
    assert reader.at_hand(place, manifest, 1) is None


def test_blocks_in_a_row_are_read_and_compared_together(tmp_path, reader):
    data = random.Random(1).randbytes(300_000)
    place, manifest = _place(tmp_path, "f", data)
    reader.read(place, manifest, 1)
    assert reader.at_hand(place, manifest, 0, 3) is None, "two of them have not been compared"
    assert reader.read(place, manifest, 0, 3) == data[: 3 * 65536]
    assert reader.at_hand(place, manifest, 0, 3) == data[: 3 * 65536]
    assert reader.read(place, manifest, 3, 2) == data[3 * 65536 :]
    with pytest.raises(IndexError):
        reader.read(place, manifest, 3, 3)


def test_of_blocks_in_a_row_one_that_rotted_is_noticed(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", bytes(300_000))
    status = (tmp_path / "f").stat()
    with (tmp_path / "f").open("r+b") as file:
        file.seek(70_000)
        file.write(b"x")
    os.utime(tmp_path / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reader.read(place, manifest, 2, 2) == bytes(2 * 65536)
    with pytest.raises(Corrupt):
        reader.read(place, manifest, 0, 3)


def _would_block(*_):
    raise BlockingIOError


def test_what_is_at_hand_is_as_it_was_hashed(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", b"x" * 100_000)
    reader.read(place, manifest, 0)
    with (tmp_path / "f").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(Corrupt):
        reader.at_hand(place, manifest, 0)


def test_what_is_at_hand_keeps_no_file_open(tmp_path, reader):
    before = _lowest_free()
    place, manifest = _place(tmp_path, "f", b"bytes")
    reader.read(place, manifest, 0)
    reader.at_hand(place, manifest, 0)
    reader.close()
    assert _lowest_free() == before


def test_there_is_no_block_after_the_last(tmp_path, reader):
    place, manifest = _place(tmp_path, "f", b"bytes")
    for index in (1, -1):
        with pytest.raises(IndexError):
            reader.read(place, manifest, index)
