"""From files to manifests: BLAKE3 over every block, on threads.

A file that grows, shrinks or is replaced while it is read never gets an id: its stamp is checked on the open file
before and after, and the number of bytes read has to be its size. Large files are hashed in parts, on all threads at
once; small ones many to a job, and neither waits for the other.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.content import MAX_BLOCK, Layout, digest
from core.errors import Corrupt, RelevoError
from core.manifest import Manifest
from peer.disk import rooted
from peer.disk.rooted import Stamp
from peer.library.scan import Found

PART_BYTES = 32 * 1024 * 1024
JOB_FILES = 256
# hash_part's signature, so that tests can count or slow it down.
HashPart = Callable[[Path, str, Stamp, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Hashed:
    """The outcome for one file: manifest and content id, or why there is none (Corrupt: it changed meanwhile)."""

    found: Found
    manifest: Manifest | None
    content_id: bytes = b""
    problem: OSError | RelevoError | None = None


def hash_part(root: Path, disk: str, stamp: Stamp, first: int, last: int) -> bytes:
    """Returns the digests of blocks `first` up to, not including, `last` of the file that `stamp` describes. Blocks.

    Raises:
        Corrupt: the file is not, or does not stay, the one that the stamp describes.
        NotPossible: it is not a regular file.
        OSError: it cannot be read.
    """
    layout = Layout(stamp.size)
    descriptor = rooted.open_file(root, disk)
    try:
        _check(descriptor, stamp)
        digests = bytearray()
        block = layout.block_size
        end = min(stamp.size, layout.block_offset(last))
        at = layout.block_offset(first)
        buffer = memoryview(bytearray(min(end - at, MAX_BLOCK)))
        while at < end:
            wanted = min(end - at, len(buffer))
            _fill(descriptor, buffer[:wanted], at)
            for start in range(0, wanted, block):
                digests += digest(buffer[start : min(start + block, wanted)])
            at += wanted
        _check(descriptor, stamp)
    finally:
        os.close(descriptor)
    return bytes(digests)


def _fill(descriptor: int, buffer: memoryview, at: int) -> None:
    got = 0
    while got < len(buffer):
        count = os.preadv(descriptor, [buffer[got:]], at + got)
        if not count:
            raise Corrupt("the file became shorter while it was read")
        got += count


def _check(descriptor: int, stamp: Stamp) -> None:
    if Stamp.of(os.fstat(descriptor)) != stamp:
        raise Corrupt("the file changed while it was read")


def hash_file(root: Path, disk: str, stamp: Stamp) -> Manifest:
    """Returns the manifest of a file, hashed on this thread.

    Raises:
        Corrupt, NotPossible, OSError: as hash_part.
    """
    layout = Layout(stamp.size)
    return Manifest(layout, hash_part(root, disk, stamp, 0, layout.block_count))


class Hasher:
    """Hashes files beneath one root on threads of its own."""

    def __init__(self, threads: int = 0, part: HashPart = hash_part) -> None:
        self._threads = threads or min(8, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="relevo-hash")
        self._part = part

    async def close(self) -> None:
        """Waits for what runs, at most one part on each thread, and drops the rest."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def hash_file(self, root: Path, disk: str, stamp: Stamp) -> Manifest:
        """Returns the manifest of one file, parts of it hashed at once.

        Raises:
            Corrupt, NotPossible, OSError: as hash_part.
        """
        layout = Layout(stamp.size)
        span = PART_BYTES // layout.block_size
        starts = range(0, layout.block_count, span) or range(1)
        digests: list[bytes] = [b""] * len(starts)
        todo = iter(enumerate(starts))
        loop = asyncio.get_running_loop()

        async def lane() -> None:
            for number, first in todo:
                last = min(first + span, layout.block_count)
                digests[number] = await loop.run_in_executor(self._pool, self._part, root, disk, stamp, first, last)

        lanes = [asyncio.ensure_future(lane()) for _ in range(min(self._threads, len(starts)))]
        try:
            await asyncio.gather(*lanes)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        return Manifest(layout, b"".join(digests))

    async def hash_small(self, root: Path, files: Sequence[Found]) -> AsyncGenerator[list[Hashed], None]:
        """Gives the outcomes for many files, some at a time, in the order in which they are ready."""
        loop = asyncio.get_running_loop()
        running = [loop.run_in_executor(self._pool, self._job, root, job) for job in jobs_of(files)]
        try:
            for next_done in asyncio.as_completed(running):
                yield await next_done
        finally:
            for future in running:
                future.cancel()

    def _job(self, root: Path, files: Sequence[Found]) -> list[Hashed]:
        return [self._one(root, found) for found in files]

    def _one(self, root: Path, found: Found) -> Hashed:
        layout = Layout(found.stamp.size)
        try:
            digests = self._part(root, found.disk, found.stamp, 0, layout.block_count)
        except (OSError, RelevoError) as error:
            return Hashed(found, None, problem=error)
        manifest = Manifest(layout, digests)
        return Hashed(found, manifest, manifest.content_id)


def jobs_of(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Gives the files in jobs of at most 256 files and, but for single files, 32 MiB."""
    job: list[Found] = []
    size = 0
    for found in files:
        if job and (len(job) >= JOB_FILES or size + found.stamp.size > PART_BYTES):
            yield job
            job, size = [], 0
        job.append(found)
        size += found.stamp.size
    if job:
        yield job
