"""Performs what the download scheduler decides: asks holders, checks what they answer, writes it."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from core.errors import Busy, Corrupt, InvalidInput, NotFound, RelevoError, Revoked, Unreachable
from core.manifest import Manifest
from peer import steps
from peer.download import Download, DownloadLimits
from peer.finder import Finder
from peer.lines import Line
from peer.manifest_fetch import ManifestTimes
from peer.partial import Partial
from peer.pieces import Allowance, whole_block
from peer.progress import Progress, Source
from relevo.v1.peer_relay_pb2 import GetBlockRequest

log = logging.getLogger("relevo.download")

# The scheduler cancels at its deadline; gRPC's own comes a little later, in case it did not.
_AFTER_DEADLINE = 1.0


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """Settings of every download; times in seconds.

    Attributes:
        limits: how much is asked for at once, and how long answers may take.
        manifest: times for fetching a manifest.
        refresh: central is asked for further holders this often while a download runs.
        first_retry: first pause before central is asked again when nobody can be asked; each further one doubles it.
        max_retry: longest such pause.
        patience: a download without any progress for so long fails.
        address_patience: beside an untried address that is silent for so long, the next is tried.
    """

    limits: DownloadLimits = field(default_factory=DownloadLimits)
    manifest: ManifestTimes = field(default_factory=ManifestTimes)
    refresh: float = 10.0
    first_retry: float = 0.2
    max_retry: float = 5.0
    patience: float = 30.0
    address_patience: float = 1.0


def no_holder(finder: Finder) -> RelevoError:
    """Returns the error of a download that nobody helps."""
    content = finder.content_id.hex()[:12]
    if finder.named:
        return Unreachable(f"no holder of {content} answers; try again later, what was fetched is kept")
    return NotFound(f"nobody holds {content} any more; what was fetched is kept for when somebody does")


class Swarm:
    """One content fetched from many holders at once into a file in progress."""

    def __init__(
        self,
        manifest: Manifest,
        partial: Partial,
        finder: Finder,
        *,
        progress: Progress,
        rng: random.Random,
        clock: Callable[[], float],
        settings: DownloadSettings,
        allowance: Allowance,
    ) -> None:
        """`finder` holds the first lines; further ones come from it while the download runs. `rng` spreads the load."""
        self._manifest = manifest
        self._content_id = finder.content_id
        self._partial = partial
        self._finder = finder
        self._progress = progress
        self._clock = clock
        self._settings = settings
        self._allowance = allowance
        self._random = rng
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived: dict[int, bytes | memoryview] = {}
        self._storing: list[tuple[steps.Store, bytes | memoryview]] = []
        self._to_store = asyncio.Event()
        self._stuck = asyncio.Event()
        self._pause = settings.first_retry
        self._progress_at = clock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, missing: Set[int]) -> None:
        """Returns when every block of `missing` is in the file.

        Leaves no task behind, however it ends.

        Raises:
            Unreachable: nothing has come for as long as the settings' patience; what was fetched stays.
            NotPossible: the disk is full or fails.
            Revoked: central says so.
        """
        self._download = Download(self._manifest.layout, missing, self._settings.limits, self._random.getrandbits(32))
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress.begin(self._clock())
        try:
            self._start(self._find())
            self._start(self._store())
            for line in list(self._finder.lines.values()):
                self._join(line)
            self._handle(steps.Tick())
            await self._done
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _handle(self, event: steps.Event) -> None:
        for decision in self._download.handle(event, self._clock()):
            self._perform(decision)
        if self._timer is not None:
            self._timer.cancel()
        wake = self._download.wake()
        if wake is not None:
            delay = max(0.0, wake - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._handle, steps.Tick())

    def _perform(self, decision: steps.Decision) -> None:
        match decision:
            case steps.Fetch(ask, holder):
                self._stuck.clear()
                line = self._finder.lines[holder]
                self._asking[ask] = task = self._start(self._ask(decision, line))
                source = self._progress.source(line.contact)
                source.in_flight += 1
                task.add_done_callback(lambda _: _answered(source))
            case steps.Cancel(ask):
                self._asking.pop(ask).cancel()
            case steps.Store(ask):
                self._storing.append((decision, self._arrived.pop(ask)))
                self._to_store.set()
            case steps.Dropped(holder, reason, for_good):
                log.info("%s is not asked for %s any more: %s", holder, self._content_id.hex()[:12], reason)
                self._progress.sources[holder].dropped_reason = reason
                self._finder.drop(holder, lied=for_good)
            case steps.Stuck():
                self._stuck.set()
            case steps.Finished():
                if not self._done.done():
                    self._done.set_result(None)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._done.done():
            self._done.set_exception(error)

    async def _ask(self, fetch: steps.Fetch, line: Line) -> None:
        event = await self._answer(fetch, line)
        self._asking.pop(fetch.ask, None)
        self._handle(event)
        # Not wanted any more when another holder's answer came first.
        self._arrived.pop(fetch.ask, None)

    async def _answer(self, fetch: steps.Fetch, line: Line) -> steps.Event:
        request = GetBlockRequest(content_id=self._content_id, index=fetch.index)
        try:
            answer = await whole_block(
                lambda request: line.get_block(request, fetch.timeout + _AFTER_DEADLINE),
                request,
                self._manifest.layout.block_length(fetch.index),
                self._allowance,
                held=lambda: self._handle(steps.Held(fetch.ask)),
                moved=lambda came: self._moved(fetch.ask, came),
            )
        except Busy as error:
            return steps.Declined(fetch.ask, error.retry_after) if error.retry_after > 0 else steps.Failed(fetch.ask)
        except (NotFound, Corrupt) as error:
            return steps.Gone(fetch.ask, str(error))
        except InvalidInput as error:
            return steps.Lied(fetch.ask, str(error))
        except RelevoError as error:
            log.debug("%s did not give block %d: %s", fetch.holder, fetch.index, error)
            return steps.Failed(fetch.ask)
        if answer.index != fetch.index:
            return steps.Lied(fetch.ask, "it sent another block than the one that was asked for")
        data = answer.data
        if len(data) != self._manifest.layout.block_length(fetch.index):
            return steps.Lied(fetch.ask, "it sent a block of another length")
        self._arrived[fetch.ask] = data
        return steps.Arrived(fetch.ask)

    def _moved(self, ask: int, came: int) -> None:
        self._progress_at = self._clock()
        self._progress.came(came, self._progress_at)
        self._handle(steps.Moved(ask))

    async def _store(self) -> None:
        """Checks and writes what arrives, on a thread: the disk may take its time, and hashing releases the GIL.

        What arrives meanwhile goes there together: the way to a thread and back is a good part of the work.
        """
        while True:
            await self._to_store.wait()
            self._to_store.clear()
            blocks, self._storing = self._storing, []
            written = await asyncio.to_thread(self._write, blocks)
            blocks.clear()  # else the last ones would stay in memory until others come
            for store, size, is_right in written:
                self._stored(store, size, is_right=is_right)

    def _write(self, blocks: list[tuple[steps.Store, bytes | memoryview]]) -> list[tuple[steps.Store, int, bool]]:
        """Writes blocks, and returns their sizes and whether they are right."""
        return [(store, len(data), self._partial.write(self._manifest, store.index, data)) for store, data in blocks]

    def _stored(self, store: steps.Store, size: int, *, is_right: bool) -> None:
        if not is_right:
            self._handle(steps.Lied(store.ask, "it sent bytes that do not match the content"))
            return
        self._progress_at = self._clock()
        self._pause = self._settings.first_retry
        self._progress.fetched(store.holder, size, self._progress_at)
        self._handle(steps.Stored(store.ask))

    async def _find(self) -> None:
        """Looks for holders now and then, and soon when there is nobody to ask."""
        settings = self._settings
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(settings.refresh, settings.patience)):
                    await self._stuck.wait()
            self._check_patience()
            if self._stuck.is_set():
                await asyncio.sleep(self._pause * self._random.uniform(0.5, 1.5))
                self._pause = min(self._pause * 2, settings.max_retry)
            try:
                fresh = await self._finder.look(stuck=self._stuck.is_set())
            except Revoked:  # central's own word: nobody gives anything to this peer any more
                raise
            except RelevoError as error:
                log.debug("central names no holders: %s", error)
                continue
            for line in fresh:
                self._join(line)

    def _check_patience(self) -> None:
        limit = self._progress_at + self._settings.patience
        asked_at = self._download.first_asked_at
        # What was asked in time may take as long as its deadline allows: links can be slow.
        if self._clock() > limit and (asked_at is None or asked_at > limit):
            raise no_holder(self._finder)

    def _join(self, line: Line) -> None:
        """Tells the scheduler of a line; one that leads to a new address of a known holder starts afresh."""
        self._handle(steps.HolderLeft(line.contact.peer_id))
        self._progress.source(line.contact).dropped_reason = ""
        self._handle(steps.HolderJoined(line.contact.peer_id))


def _answered(source: Source) -> None:
    source.in_flight -= 1
