"""Hashing beside BLAKE3 itself, and files that change while they are hashed."""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from core.content import MAX_BLOCK, Layout, digest
from core.errors import RelevoError
from core.manifest import manifest_of
from peer.disk.rooted import Stamp
from peer.library.hashing import Hasher, HashPart, hash_part

T = TypeVar("T")

MIB = 1 << 20
# What one call of read brings into memory where BLAKE3 is to hash with several threads: less would keep them idle.
_LARGE_READ = 64 * MIB
# Longer than a tick of any file system's clock, as the rest that a daemon waits for is.
_REST = 0.02
_FILES_AT_ONCE = 20


def write_whole(path: Path, mebibytes: int) -> None:
    """Writes a file, to disk and into the page cache. Its bytes repeat, which BLAKE3 does not notice."""
    some = os.urandom(64 * MIB)
    with path.open("wb") as file:
        for start in range(0, mebibytes * MIB, len(some)):
            file.write(some[: mebibytes * MIB - start])
        file.flush()
        os.fsync(file.fileno())


def by_relevo(path: Path) -> None:
    """Hashes a file as the daemon does: in blocks, on all threads, with the file's stamp compared."""
    stamp = Stamp.of(path.stat())
    _with_hasher(lambda hasher: hasher.hash_file(path.parent, path.name, stamp))


def by_blocks(path: Path) -> None:
    """Hashes a file in the same blocks on as many threads, and does nothing else: the least that this takes."""
    size, threads = path.stat().st_size, os.cpu_count() or 1

    def lane(first: int) -> None:
        buffer = bytearray(MAX_BLOCK)
        with path.open("rb", buffering=0) as file:
            for start in range(first * MAX_BLOCK, size, threads * MAX_BLOCK):
                os.preadv(file.fileno(), [buffer], start)
                digest(buffer)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lane, range(threads)))


def by_blake3_mapped(path: Path) -> None:
    """Has BLAKE3 hash a file as one, mapped into memory, with all its threads: nothing is copied."""
    blake3(max_threads=blake3.AUTO).update_mmap(path).digest()


def by_blake3_reads(path: Path) -> None:
    """Has BLAKE3 hash a file as one, read in large pieces, with all its threads."""
    hasher, buffer = blake3(max_threads=blake3.AUTO), bytearray(_LARGE_READ)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
    hasher.digest()


RELEVO = "Relevo"
WAYS: dict[str, Callable[[Path], None]] = {
    RELEVO: by_relevo,
    "the same blocks and threads, nothing checked": by_blocks,
    "BLAKE3 over large reads, all threads": by_blake3_reads,
    "BLAKE3 over a mapped file, all threads": by_blake3_mapped,
}


def compare(path: Path, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of every way in each round, in which they alternate; one round before goes uncounted."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(-1, rounds):
        for name, hash_it in WAYS.items():
            began = time.perf_counter()
            hash_it(path)
            if number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


@dataclass(slots=True)
class Outcomes:
    """What became of files that changed while they were hashed."""

    refused: int = 0
    as_it_was: int = 0
    wrong: int = 0


def _change(path: Path, how: str, new: bytes) -> None:
    """Changes a file in one of the ways in which programs do it."""
    if how == "replaced":
        path.with_suffix(".new").write_bytes(new)
        path.with_suffix(".new").rename(path)
    elif how == "written over":
        with path.open("r+b") as file:
            file.write(new)
    elif how == "grown":
        with path.open("ab") as file:
            file.write(new)
    else:
        with path.open("wb") as file:  # empties it, then it grows anew
            file.write(new)


CHANGES = ("replaced", "written over", "grown", "written anew")


def change_while_hashed(directory: Path, rounds: int, *, defended: bool, mebibytes: int = 4) -> dict[str, Outcomes]:
    """Hashes files each of which somebody changes meanwhile, at a moment that is left to chance.

    Args:
        directory: an empty one.
        rounds: files for each way of changing them.
        defended: whether the file's stamp is compared, as the daemon does.
        mebibytes: size of each file.
    """
    part: HashPart = hash_part if defended else _undefended
    outcomes = {how: Outcomes() for how in CHANGES}
    chance = random.Random(rounds)
    first, other = os.urandom(mebibytes * MIB), os.urandom(mebibytes * MIB)
    before = manifest_of(first).content_id
    began = time.perf_counter()
    manifest_of(first)
    usual = time.perf_counter() - began

    async def trials(hasher: Hasher) -> None:
        for start in range(0, rounds, _FILES_AT_ONCE):
            for how in CHANGES:
                names = [f"{how}-{number}" for number in range(start, min(rounds, start + _FILES_AT_ONCE))]
                for name in names:
                    (directory / name).write_bytes(first)
                await asyncio.sleep(_REST)
                for name in names:
                    path = directory / name
                    stamp = Stamp.of(path.stat())
                    writer = threading.Timer(chance.uniform(0, 2 * usual), _change, (path, how, other))
                    writer.start()
                    try:
                        found = (await hasher.hash_file(directory, name, stamp)).content_id
                    except (OSError, RelevoError):
                        outcomes[how].refused += 1
                    else:
                        outcomes[how].as_it_was += found == before
                        outcomes[how].wrong += found != before
                    writer.join()
                    path.unlink()

    _with_hasher(trials, part)
    return outcomes


def _undefended(root: Path, disk: str, stamp: Stamp, first: int, last: int) -> bytes:
    """Hashes what it finds, as `hash_part` would if it compared nothing."""
    layout = Layout(stamp.size)
    end = min(stamp.size, layout.block_offset(last))
    found = bytearray()
    with (root / disk).open("rb", buffering=0) as file:
        for start in range(layout.block_offset(first), end, layout.block_size):
            found += digest(os.pread(file.fileno(), min(layout.block_size, end - start), start))
    return bytes(found)


def _with_hasher(work: Callable[[Hasher], Coroutine[None, None, T]], part: HashPart = hash_part) -> T:
    async def done() -> T:
        hasher = Hasher(part=part)
        try:
            return await work(hasher)
        finally:
            await hasher.close()

    return asyncio.run(done())
