"""Fixtures for the peer's tests. Each helper's names begin with what they are about."""

import asyncio
import os
import time

import pytest

from peer.library import Library, LibrarySettings
from peer.library.hashing import Hasher, hash_part


class LibraryBench:
    """A shared directory, a home, and libraries on them that are closed at the end."""

    def __init__(self, base):
        self.base = base
        self.shared = base / "shared"
        self.home = base / "home"
        self.shared.mkdir()
        self.home.mkdir()
        self.hashed = []
        self._open = []

    def count_part(self, root, disk, stamp, first, last):
        self.hashed.append(disk)
        return hash_part(root, disk, stamp, first, last)

    async def open(self, scanned=True, **settings):
        times = {"rest": 0.05, "tick": 0.1} | settings
        library = Library(
            self.shared,
            self.home,
            time.monotonic,
            settings=LibrarySettings(**times),
            hasher=Hasher(2, part=self.count_part),
        )
        self._open.append(library)
        await library.start()
        if scanned:
            await asyncio.wait_for(library.wait_scanned(), 20)
        return library

    async def close(self, library):
        self._open.remove(library)
        await library.close()

    async def close_all(self):
        for library in list(self._open):
            await self.close(library)

    def write(self, name, data, root=None):
        path = (root or self.shared) / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def until(self, library, condition, timeout=20):
        """Waits for a condition on the library, asked after each of its changes."""
        async with asyncio.timeout(timeout):
            while not condition():
                await library.changed()

    async def until_skipped(self, library, path, timeout=20):
        """Skips are no news for the publisher, so a change that is comes after them."""
        async with asyncio.timeout(timeout):
            while path not in library.skipped:
                await library.rescan()


@pytest.fixture
async def library_bench(tmp_path):
    bench = LibraryBench(tmp_path)
    yield bench
    await bench.close_all()
