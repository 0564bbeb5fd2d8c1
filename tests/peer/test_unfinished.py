"""What is given of contents that are still being fetched."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from core.errors import NotFound
from core.manifest import manifest_of
from peer.giving import unfinished as module
from peer.giving.unfinished import Unfinished

BLOCK = 64 * 1024
DATA = random.Random(7).randbytes(5 * BLOCK + 9)
MANIFEST = manifest_of(DATA)
ID = MANIFEST.content_id


class Fetching:
    """A file in progress, and what is heard of it."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(DATA)
        self.unfinished = Unfinished()
        self.heard = []
        self.callers = []
        self.unfinished.changed = lambda: self.heard.append(list(self.unfinished.content_ids))
        self.unfinished.gained = lambda *gained: self.heard.append(gained)

    def begin(self, held=0):
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            return self.unfinished.begin(MANIFEST, descriptor, held, self.callers.append)
        finally:
            os.close(descriptor)


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def fetching(tmp_path):
    fetching = Fetching(tmp_path / "partial")
    before = open_files()
    yield fetching
    fetching.unfinished.close()
    assert open_files() == before, "every file is closed"


async def test_what_is_there_is_given_and_what_is_not_is_not_found(fetching):
    assert fetching.begin(held=0b000001)
    unfinished = fetching.unfinished
    assert unfinished.manifest(ID) is MANIFEST
    unfinished.add(ID, 5, first_hand=True)
    assert unfinished.held(ID) == 0b100001
    assert await unfinished.read(ID, 0) == DATA[:BLOCK]
    assert await unfinished.read(ID, 5) == DATA[5 * BLOCK :], "the last one is shorter"
    with pytest.raises(NotFound):
        await unfinished.read(ID, 1)
    with pytest.raises(NotFound):
        await unfinished.read(bytes(32), 0)


async def test_what_changes_is_told(fetching):
    fetching.begin()
    fetching.unfinished.add(ID, 2, first_hand=False)
    fetching.unfinished.add(ID, 3, first_hand=True)
    fetching.unfinished.end(ID, whole=False)
    assert fetching.heard == [[ID], (ID, 2, False), (ID, 3, True), []]


async def test_of_two_files_of_one_content_the_first_is_given(fetching):
    assert fetching.begin(held=1)
    assert not fetching.begin(held=2)
    assert fetching.unfinished.held(ID) == 1


async def test_whoever_asks_is_told_to_the_one_who_fetches(fetching):
    fetching.unfinished.asked_by(ID, "nobody fetches it yet")
    fetching.begin()
    fetching.unfinished.asked_by(ID, "ana")
    fetching.unfinished.asked_by(bytes(32), "bo")
    assert fetching.callers == ["ana"]
    fetching.unfinished.end(ID, whole=True)
    fetching.unfinished.asked_by(ID, "cy")
    assert fetching.callers == ["ana"], "nobody looks for holders any more"


async def test_what_ends_unfinished_is_not_given_any_more(fetching):
    fetching.begin(held=1)
    fetching.unfinished.end(ID, whole=False)
    assert (fetching.unfinished.manifest(ID), fetching.unfinished.held(ID)) == (None, 0)
    with pytest.raises(NotFound):
        await fetching.unfinished.read(ID, 0)
    assert fetching.begin(), "it may begin again"


async def test_what_is_whole_is_given_until_the_library_has_it_but_is_not_called_partial(fetching, monkeypatch):
    monkeypatch.setattr(module, "HANDING_OVER", 0.05)
    fetching.begin(held=0b111111)
    fetching.unfinished.end(ID, whole=True)
    assert fetching.unfinished.content_ids == []
    fetching.path.rename(fetching.path.with_name("in place"))
    assert await fetching.unfinished.read(ID, 3) == DATA[3 * BLOCK : 4 * BLOCK]
    async with asyncio.timeout(5):
        while fetching.unfinished.manifest(ID):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


async def test_a_content_that_is_fetched_again_while_it_is_handed_over_is_given_as_a_partial_one(fetching, monkeypatch):
    monkeypatch.setattr(module, "HANDING_OVER", 0.05)
    fetching.begin(held=0b111111)
    fetching.unfinished.end(ID, whole=True)
    assert fetching.begin(held=1)
    assert fetching.unfinished.content_ids == [ID]
    await asyncio.sleep(0.2)
    assert fetching.unfinished.held(ID) == 1, "the end of the one before does not end this one"


async def test_a_file_that_is_cut_short_is_not_found(fetching):
    fetching.begin(held=0b111111)
    os.truncate(fetching.path, BLOCK + 1)
    assert await fetching.unfinished.read(ID, 0) == DATA[:BLOCK]
    for index in (1, 2):
        with pytest.raises(NotFound):
            await fetching.unfinished.read(ID, index)


async def test_what_is_not_in_memory_is_read_on_a_thread(fetching, monkeypatch):
    monkeypatch.setattr("peer.giving.unfinished.at_hand", lambda *_: None)
    fetching.begin(held=0b111111)
    assert await fetching.unfinished.read(ID, 5) == DATA[5 * BLOCK :]
    os.truncate(fetching.path, BLOCK + 1)
    with pytest.raises(NotFound):
        await fetching.unfinished.read(ID, 1)
