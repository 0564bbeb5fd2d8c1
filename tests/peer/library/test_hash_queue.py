"""What waits to be hashed is hashed once, whatever comes of it."""

import asyncio
import threading

import pytest

from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library import hash_queue
from peer.library.hash_queue import HashQueue
from peer.library.hashing import Hasher, hash_part
from peer.library.scan import Found


class Bench:
    """A queue on a directory, and the outcomes in the order in which they were handed on."""

    def __init__(self, root):
        self.root = root
        self.calls = []
        self.outcomes = asyncio.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.hasher = Hasher(2, self._part)
        self.queue = HashQueue(root, self.hasher, self._done)

    def _part(self, root, disk, stamp, first, last):
        self.calls.append(disk)
        if disk == "slow":
            self.begun.set()
            self.gate.wait(20)
        return hash_part(root, disk, stamp, first, last)

    async def _done(self, outcomes):
        for outcome in outcomes:
            await self.outcomes.put(outcome)

    def found(self, name, data):
        (self.root / name).write_bytes(data)
        return Found(name, name, Stamp.of((self.root / name).stat()), False)

    async def next(self):
        return await asyncio.wait_for(self.outcomes.get(), 20)


@pytest.fixture
async def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_queue, "PART_BYTES", 100)
    bench = Bench(tmp_path)
    running = asyncio.create_task(bench.queue.run())
    yield bench
    bench.gate.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.hasher.close()


@pytest.mark.parametrize("size", [5, 500])
async def test_a_file_that_cannot_be_read_is_tried_once(bench, size):
    found = bench.found("gone", b"x" * size)
    (bench.root / "gone").unlink()
    bench.queue.put([found])
    assert isinstance((await bench.next()).problem, FileNotFoundError)
    bench.queue.put([bench.found("next", b"y" * size)])
    assert (await bench.next()).content_id == manifest_of(b"y" * size).content_id
    assert bench.calls == ["gone", "next"]


async def test_a_small_file_does_not_wait_for_a_large_one(bench):
    bench.gate.clear()
    bench.queue.put([bench.found("slow", b"x" * 500), bench.found("small", b"y")])
    assert (await bench.next()).found.path == "small"
    assert len(bench.queue) == 1
    bench.gate.set()
    assert (await bench.next()).found.path == "slow"


async def test_a_newer_look_replaces_the_one_that_waits(bench):
    bench.gate.clear()
    old = bench.found("slow", b"x")
    bench.queue.put([old])
    await asyncio.to_thread(bench.begun.wait, 20)
    new = bench.found("slow", b"longer")
    bench.queue.put([new])
    assert bench.queue.has(new)
    assert not bench.queue.has(old)
    bench.gate.set()
    first, second = await bench.next(), await bench.next()
    assert (first.found, second.found) == (old, new)
    assert first.manifest is None
    assert second.content_id == manifest_of(b"longer").content_id
