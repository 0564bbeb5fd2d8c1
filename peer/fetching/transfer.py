"""Downloads: from a content id to a whole, verified file at its place."""

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core.content import DIGEST_BYTES, MAX_SIZE, Layout
from core.errors import AlreadyExists, Corrupt, InvalidInput, NotFound, NotPossible, RelevoError, Unreachable
from core.manifest import Manifest, manifest_of
from core.names import path_problem
from peer.disk.disk_errors import disk_error
from peer.fetching.budget import Budget
from peer.fetching.finder import Accuse, Finder, FindHolders
from peer.fetching.manifest_fetch import fetch_manifest
from peer.fetching.pace import Rates
from peer.fetching.partial import Partial, partial_name, taken_bytes
from peer.fetching.pieces import Allowance, unlimited
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.swarm import DownloadSettings, Swarm, no_holder
from peer.fetching.targets import existing_manifest, exists_already, remove_leftover
from peer.giving.unfinished import Unfinished
from peer.links.contacts import Holder

__all__ = ["DownloadSettings", "Downloader", "FetchRequest", "Fetched"]

_EMPTY = manifest_of(b"")
FindLocal = Callable[[bytes], Awaitable[Path | None]]


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What to fetch, and where it is to stand.

    Attributes:
        content_id: 32 bytes.
        size: of the content in bytes, as it is listed. Whoever published it first may have lied: what the manifest
            proves counts.
        directory: has to be there.
        name: relative to the directory; the directories on the way have to be there too.
        modify_time: to give to the file, in seconds since 1970; None leaves the time of writing.
        executable: whether those who may read it may execute it.
        most: a larger content is refused, in bytes; None: one that is larger than the room there is.
        holders: who has it, as it was looked up already; without any it is looked up first.
    """

    content_id: bytes
    size: int
    directory: Path
    name: str
    modify_time: float | None = None
    executable: bool = False
    most: int | None = None
    holders: tuple[Holder, ...] = ()

    @property
    def beneath(self) -> str:
        """Where the name is beneath the directory; empty for the directory itself."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is whole and at its place."""

    location: Path
    manifest: Manifest


def _tell_nobody(peer_id: str, content_id: bytes, lied: bool) -> None:
    del peer_id, content_id, lied


class Downloader:
    """Fetches contents, many at a time."""

    def __init__(  # noqa: PLR0917 - what a downloader needs of its surroundings
        self,
        find_holders: FindHolders,
        reach: Reach,
        find_local: FindLocal,
        self_id: str,
        clock: Callable[[], float],
        settings: DownloadSettings | None = None,
        accuse: Accuse = _tell_nobody,
        unfinished: Unfinished | None = None,
    ) -> None:
        """Makes a downloader.

        Args:
            find_holders: asks central who holds a content; may raise RelevoError.
            reach: the ways to holders.
            find_local: gives a local file with a content, or None.
            self_id: this peer's id: it does not fetch from itself.
            clock: monotonic seconds.
            settings: of every download.
            accuse: is told of holders that lie or lack what they are named for.
            unfinished: gives to others what there is of contents that are being fetched.
        """
        self._find_holders = find_holders
        self._reach = reach
        self._find_local = find_local
        self._self_id = self_id
        self._clock = clock
        self._settings = settings or DownloadSettings()
        self._accuse = accuse
        self._unfinished = unfinished or Unfinished()
        self._budget = Budget()
        self._rates = Rates()
        self._turns: dict[tuple[Path, bytes], tuple[asyncio.Lock, int]] = {}

    async def fetch(self, request: FetchRequest, progress: Progress, allowance: Allowance | None = None) -> Fetched:
        """Returns when the content stands at its place; what stands there already with these bytes is done.

        When it fails or is cancelled, what was fetched stays in a hidden file beside the target for the next try.
        Blocks are asked for as fast as `allowance` lets them be; None: without a limit.

        Raises:
            InvalidInput: the request breaks a rule.
            AlreadyExists: other bytes stand at the target.
            NotFound: nobody holds the content.
            Unreachable: nobody who holds it answers, or nobody who does not lie.
            NotPossible: the directory is missing or cannot be written to, or has too little room; the content is
                larger than may be.
            Busy: another program fetches the same content into this directory.
        """
        _check(request)
        if request.content_id == _EMPTY.content_id:
            request = replace(request, size=0)
        progress.size = request.size
        async with self._turn(request):
            manifest = await asyncio.to_thread(existing_manifest, request.directory, request.name, request.size)
            location = request.directory / request.name
            if manifest is not None:
                if manifest.content_id != request.content_id:
                    raise exists_already(location)
                leftover = partial_name(request.content_id, request.beneath)
                await asyncio.to_thread(remove_leftover, request.directory, request.name, leftover)
                progress.present(request.size)
                return Fetched(location, manifest)
            if request.content_id == _EMPTY.content_id:
                async with self._partial(request) as partial:
                    return await self._finish(request, partial, _EMPTY)
            copied = await self._copy(request, progress)
            return copied or await self._fetch(request, progress, allowance or unlimited())

    async def _copy(self, request: FetchRequest, progress: Progress) -> Fetched | None:
        """Copies a local file with these bytes, or returns None when there is none (any more)."""
        source = await self._find_local(request.content_id)
        if source is None:
            return None
        try:
            request = replace(request, size=(await asyncio.to_thread(source.stat)).st_size)
        except OSError:
            return None
        progress.size = request.size
        stopped = threading.Event()
        async with self._partial(request) as partial:
            try:
                await asyncio.to_thread(partial.copy_from, source, stopped.is_set)
                manifest = await asyncio.to_thread(partial.manifest)
            except (NotPossible, Corrupt):  # the source has gone, or there is trouble that fetching will meet too
                return None
            finally:
                stopped.set()
            if manifest.content_id != request.content_id:
                return None
            progress.copied(request.size)
            return await self._finish(request, partial, manifest)

    async def _fetch(self, request: FetchRequest, progress: Progress, allowance: Allowance) -> Fetched:
        finder = Finder(
            request.content_id,
            self._find_holders,
            self._reach,
            self._self_id,
            self._settings.address_patience,
            self._accuse,
            request.holders,
        )
        try:
            manifest = await self._manifest(request, finder, progress)
        except (NotFound, Unreachable):
            whole = await self._without_holders(request, progress)
            if whole is None:
                raise
            return whole
        request = replace(request, size=manifest.layout.size)
        progress.size = request.size
        async with self._partial(request) as partial:
            missing = await self._resume(partial, manifest, progress)
            if missing:
                # Two peers start at different blocks, one peer at the same each time.
                rng = random.Random(self._self_id.encode() + request.content_id)  # noqa: S311 - no secret
                swarm = Swarm(
                    manifest,
                    partial,
                    finder,
                    progress=progress,
                    rng=rng,
                    clock=self._clock,
                    settings=self._settings,
                    allowance=allowance,
                    unfinished=self._unfinished,
                    budget=self._budget,
                    rates=self._rates,
                )
                await swarm.run(missing)
            return await self._finish(request, partial, manifest)

    async def _manifest(self, request: FetchRequest, finder: Finder, progress: Progress) -> Manifest:
        """Asks all holders, and central for others, until one proves the manifest or patience ends."""
        await finder.look()
        if finder.named and not finder.lines:  # a neighbour may have left out where they are
            await finder.look(stuck=True)
        if not finder.lines:
            raise NotFound(f"nobody holds {request.content_id.hex()[:12]} now; look it up again")
        settings = self._settings
        most = await asyncio.to_thread(_room, request) if request.most is None else request.most
        until = self._clock() + settings.patience
        pause = settings.first_retry

        def drop(peer_id: str, reason: RelevoError) -> None:
            progress.source(finder.lines[peer_id].contact).dropped_reason = str(reason)
            finder.drop(peer_id, lied=not isinstance(reason, NotFound))

        while True:
            try:
                return await fetch_manifest(
                    request.content_id, most, list(finder.lines.values()), settings.manifest, drop
                )
            except Unreachable as error:
                if self._clock() + pause > until:
                    raise no_holder(finder) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, settings.max_retry)
            try:
                await finder.look(stuck=True)
            except RelevoError as error:
                if self._clock() + pause > until:
                    raise no_holder(finder) from error

    async def _without_holders(self, request: FetchRequest, progress: Progress) -> Fetched | None:
        """Finishes what an earlier try had fetched whole, just before it was interrupted."""
        async with self._partial(request) as partial:
            if not await asyncio.to_thread(partial.is_filled):
                return None
            manifest = await asyncio.to_thread(partial.manifest)
            if manifest.content_id != request.content_id:
                return None
            progress.resumed(request.size)
            return await self._finish(request, partial, manifest)

    async def _resume(self, partial: Partial, manifest: Manifest, progress: Progress) -> set[int]:
        """Returns the blocks that are not on disk yet."""
        missing = set(range(manifest.layout.block_count))
        index = 0
        while index < manifest.layout.block_count:
            found, index = await asyncio.to_thread(partial.verified, manifest, index)
            missing.difference_update(found)
            progress.resumed(sum(map(manifest.layout.block_length, found)))
        return missing

    async def _finish(self, request: FetchRequest, partial: Partial, manifest: Manifest) -> Fetched:
        try:
            location = await asyncio.to_thread(
                partial.finish, request.name, request.modify_time, executable=request.executable
            )
        except AlreadyExists:
            # It came while this ran. When it is the same, that is as good.
            there = await asyncio.to_thread(existing_manifest, request.directory, request.name, request.size)
            if there is None or there.content_id != request.content_id:
                raise
            await asyncio.to_thread(partial.discard)
            location = request.directory / request.name
        return Fetched(location, manifest)

    @asynccontextmanager
    async def _partial(self, request: FetchRequest) -> AsyncIterator[Partial]:
        """Opens the file in progress, and closes it."""
        partial = Partial(request.directory, request.content_id, Layout(request.size), request.beneath)
        try:
            await asyncio.to_thread(partial.open)
            yield partial
        finally:
            await asyncio.to_thread(partial.close)

    @asynccontextmanager
    async def _turn(self, request: FetchRequest) -> AsyncIterator[None]:
        """Downloads of one content into one directory, under different names, wait for each other."""
        key = (request.directory / request.beneath, request.content_id)
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns.pop(key)
            if users > 1:
                self._turns[key] = lock, users - 1


def _room(request: FetchRequest) -> int:
    """Returns how large the file may be, in bytes: what is free, and what an earlier try has taken already.

    So a size that somebody made up is refused before its manifest, which may have gigabytes, is fetched.
    """
    try:
        disk = os.statvfs(request.directory)
        if not disk.f_blocks:  # some network file systems do not tell their size at all
            return MAX_SIZE
        taken = taken_bytes(request.directory, request.content_id, request.beneath)
    except OSError as error:
        raise disk_error(error, request.directory) from error
    return disk.f_bavail * disk.f_frsize + taken


def _check(request: FetchRequest) -> None:
    if len(request.content_id) != DIGEST_BYTES:
        raise InvalidInput("content_id", f"a content id has {DIGEST_BYTES} bytes")
    try:
        Layout(request.size)
    except ValueError as error:
        raise InvalidInput("size", str(error)) from error
    problem = path_problem(request.name)
    if problem:
        raise InvalidInput("name", f"{request.name!r} is not a valid file name: {problem}")
