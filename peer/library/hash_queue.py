"""Files that wait to be hashed: small ones many at a time, large ones one by one beside them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from core.errors import RelevoError
from peer.library.hashing import PART_BYTES, Hashed, Hasher
from peer.library.scan import Found

_BATCH = 4096
Done = Callable[[list[Hashed]], Awaitable[None]]


class HashQueue:
    """Hashes what is put into it and hands the outcomes on; a newer look at a file replaces the one that waits.

    Args:
        done: receives outcomes. A file that was taken out, or replaced, while it was hashed is handed on all the same.
    """

    def __init__(self, root: Path, hasher: Hasher, done: Done) -> None:
        self._root = root
        self._hasher = hasher
        self._done = done
        self._small: dict[str, Found] = {}
        self._large: dict[str, Found] = {}
        self._wake_small = asyncio.Event()
        self._wake_large = asyncio.Event()

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    def has(self, found: Found) -> bool:
        """Tells whether a file waits, or is being hashed, as it looks here."""
        return found in (self._small.get(found.path), self._large.get(found.path))

    def put(self, files: Iterable[Found]) -> None:
        """Adds settled files."""
        for found in files:
            self.forget(found.path)
            if found.stamp.size > PART_BYTES:
                self._large[found.path] = found
                self._wake_large.set()
            else:
                self._small[found.path] = found
                self._wake_small.set()

    def forget(self, path: str) -> None:
        """Takes a file out."""
        self._small.pop(path, None)
        self._large.pop(path, None)

    async def run(self) -> None:
        """Hashes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_small())
            group.create_task(self._run_large())

    async def _run_small(self) -> None:
        while True:
            await self._wake_small.wait()
            self._wake_small.clear()
            while self._small:
                batch = [found for found, _ in zip(self._small.values(), range(_BATCH), strict=False)]
                async with aclosing(self._hasher.hash_small(self._root, batch)) as outcomes:
                    async for some in outcomes:
                        await self._hand_on(some, self._small)

    async def _run_large(self) -> None:
        while True:
            await self._wake_large.wait()
            self._wake_large.clear()
            while self._large:
                found = min(self._large.values(), key=lambda each: each.stamp.size)
                try:
                    manifest = await self._hasher.hash_file(self._root, found.disk, found.stamp)
                    outcome = Hashed(found, manifest, manifest.content_id)
                except (OSError, RelevoError) as error:
                    outcome = Hashed(found, None, problem=error)
                await self._hand_on([outcome], self._large)

    async def _hand_on(self, outcomes: list[Hashed], waiting: dict[str, Found]) -> None:
        await self._done(outcomes)
        for outcome in outcomes:
            if waiting.get(outcome.found.path) is outcome.found:
                del waiting[outcome.found.path]
