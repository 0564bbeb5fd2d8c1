"""Performs what the download scheduler decides: asks holders, checks what they answer, writes it."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from core.errors import Busy, Corrupt, InvalidInput, NotFound, RelevoError, Revoked, Unreachable
from core.manifest import Manifest
from core.times import to_duration
from peer.fetching import steps
from peer.fetching.block_answers import BlockAnswer
from peer.fetching.block_sets import set_of, to_bitmap
from peer.fetching.budget import Budget
from peer.fetching.download import Download, DownloadLimits
from peer.fetching.finder import Finder
from peer.fetching.lines import Line
from peer.fetching.manifest_fetch import ManifestTimes
from peer.fetching.pace import Rates
from peer.fetching.partial import Partial
from peer.fetching.pieces import Allowance, whole_block
from peer.fetching.progress import Progress, Source
from peer.fetching.reaching import How, Way
from peer.giving.unfinished import Unfinished
from relevo.v1.peer_relay_pb2 import GetBlockRequest

log = logging.getLogger("relevo.download")

# The scheduler cancels at its deadlines; gRPC's own is as late as holders take it, in seconds.
_LONGEST = 129.0
# Bytes of the set that an ask carries: 32,768 blocks from the first one that is lacking on.
_BITMAP = 4096
# Central is asked for further holders soon after a peer has asked for this content that is not known yet.
NEWS = 0.2
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """Settings of every download; times in seconds.

    Attributes:
        limits: how much is asked for at once, and how long answers may take.
        manifest: times for fetching a manifest.
        first_refresh: central is asked for further holders so soon: others begin at the same time. Each further pause
            is twice as long.
        refresh: the longest such pause while a download runs.
        first_retry: first pause before central is asked again when nobody can be asked; each further one doubles it.
        max_retry: longest such pause.
        patience: a download without any progress for so long fails.
        address_patience: beside an untried address that is silent for so long, the next is tried.
    """

    limits: DownloadLimits = field(default_factory=DownloadLimits)
    manifest: ManifestTimes = field(default_factory=ManifestTimes)
    first_refresh: float = 0.25
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
        unfinished: Unfinished,
        budget: Budget,
        rates: Rates,
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
        self._unfinished = unfinished
        self._share = budget.share(self._room)
        self._rates = rates
        self._joined_with: dict[str, float] = {}
        self._offered = False
        self._look = asyncio.Event()
        self._random = rng
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived: dict[int, BlockAnswer] = {}
        self._storing: list[tuple[steps.Store, BlockAnswer]] = []
        self._to_store = asyncio.Event()
        self._stuck = asyncio.Event()
        self._strangers: set[str] = set()
        self._pause = settings.first_retry
        self._progress_at = clock()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = _NEVER

    async def run(self, missing: Set[int]) -> None:
        """Returns when every block of `missing` is in the file.

        Leaves no task behind, however it ends.

        Raises:
            Unreachable: nothing has come for as long as the settings' patience; what was fetched stays.
            NotPossible: the disk is full or fails.
            Revoked: central says so.
        """
        seed = self._random.getrandbits(32)
        self._download = Download(self._manifest.layout, missing, self._settings.limits, seed, self._share)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._progress.begin(self._clock())
        held = ((1 << self._manifest.layout.block_count) - 1) & ~set_of(missing)
        self._offered = self._partial.offer(
            lambda descriptor: self._unfinished.begin(self._manifest, descriptor, held, self._asked_by)
        )
        try:
            self._start(self._find())
            self._start(self._store())
            self._join(list(self._finder.lines.values()))
            await self._done
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._share.close()
            self._note_rates()
            if self._offered:
                self._unfinished.end(self._content_id, whole=not self._download.missing)

    def _note_rates(self) -> None:
        """Remembers what holders have shown here; one that has shown nothing may have elsewhere."""
        for holder in self._finder.lines:
            shown = self._download.steady_rate(holder)
            if shown != self._joined_with.get(holder):
                self._rates.note(holder, shown)

    def _asked_by(self, who: str) -> None:
        """Has the holders looked up when a peer asks that may be fetching the content too."""
        if who not in self._finder.lines and who not in self._strangers:
            self._strangers.add(who)
            self._look.set()

    def _handle(self, *events: steps.Event) -> None:
        for decision in self._download.handle_all(events, self._clock()):
            self._perform(decision)
        wake = self._download.wake()
        # A timer that comes too soon stays: the next one is made then, and not at every event.
        if wake is not None and wake < self._wakes_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = wake
            delay = max(0.0, wake - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._wakes_at = _NEVER
        self._handle(steps.Tick())

    def _room(self) -> None:
        """Has the scheduler look again, soon: other downloads have made room."""
        asyncio.get_running_loop().call_soon(lambda: None if self._done.done() else self._handle(steps.Tick()))

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
                self._look.set()
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
        layout = self._manifest.layout
        request = GetBlockRequest(
            content_id=self._content_id,
            patience=to_duration(fetch.patience),
            unannounced=not fetch.announced,
            block_count=fetch.count,
        )
        if fetch.index is None:
            first, bitmap = to_bitmap(fetch.lacking, _BITMAP)
            request.lacking.first, request.lacking.bitmap = first, bitmap
            request.first_hand = fetch.first_hand
        else:
            request.index = fetch.index
        try:
            answer = await whole_block(
                lambda request: line.get_block(request, _LONGEST, self._announced(fetch)),
                request,
                layout,
                self._allowance,
                held=lambda: self._handle(steps.Held(fetch.ask)),
                moved=lambda came: self._moved(fetch.ask, came),
            )
        except Busy as error:
            if error.retry_after <= 0:
                return steps.Failed(fetch.ask)
            self._alive(line)
            return steps.Declined(fetch.ask, error.retry_after)
        except (NotFound, Corrupt) as error:
            return steps.Gone(fetch.ask, str(error))
        except InvalidInput as error:
            return steps.Lied(fetch.ask, str(error))
        except RelevoError as error:
            log.debug("%s gave no block: %s", fetch.holder, error)
            return steps.Failed(fetch.ask)
        if fetch.index is None and not answer.data:
            self._alive(line)
            return steps.Nothing(fetch.ask)
        if fetch.index not in {None, answer.index} or answer.index >= layout.block_count:
            return self._wrong(fetch, answer.way, "it sent another block than the one that was asked for")
        count = layout.blocks_in(answer.index, len(answer.data))
        if not 0 < count <= fetch.count:
            return self._wrong(fetch, answer.way, "it sent a block of another length")
        self._arrived[fetch.ask] = answer
        return steps.Arrived(fetch.ask, answer.index, answer.first_hand, count)

    def _wrong(self, step: steps.Fetch | steps.Store, way: Way | None, reason: str) -> steps.Lied | steps.Spoilt:
        """Returns what a wrong answer means: the holder lies, unless it may have been a relay and there is another."""
        line = self._finder.lines.get(step.holder)
        if line is not None and line.lied(way):
            log.info("what came of %s through a relay is wrong: %s", step.holder, reason)
            return steps.Spoilt(step.ask)
        return steps.Lied(step.ask, reason)

    def _announced(self, fetch: steps.Fetch) -> Callable[[int], None] | None:
        if not fetch.announced:
            return None
        return lambda index: self._handle(steps.Chosen(fetch.ask, index))

    def _alive(self, line: Line) -> None:
        """Takes note that a complete holder answers, even though it is not this peer's turn yet."""
        if line.complete:
            self._progress_at = self._clock()

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
            for store, size, way, is_right in written:
                self._stored(store, size, way, is_right=is_right)

    def _write(self, blocks: list[tuple[steps.Store, BlockAnswer]]) -> list[tuple[steps.Store, int, Way | None, bool]]:
        """Writes blocks, and returns their sizes, how they came, and whether they are right."""
        return [
            (store, len(data), way, self._partial.write(self._manifest, store.index, data))
            for store, data, way in ((store, self._wanted(store, answer), answer.way) for store, answer in blocks)
        ]

    def _wanted(self, store: steps.Store, answer: BlockAnswer) -> bytes | memoryview:
        """Returns the bytes of the blocks that are to be stored; what else an answer has, has come meanwhile."""
        layout = self._manifest.layout
        begin = layout.block_offset(store.index - answer.index)
        return answer.data[begin : begin + layout.run_length(store.index, store.count)]

    def _stored(self, store: steps.Store, size: int, way: Way | None, *, is_right: bool) -> None:
        if not is_right:
            self._handle(self._wrong(store, way, "it sent bytes that do not match the content"))
            return
        self._progress_at = self._clock()
        self._pause = self._settings.first_retry
        self._progress.fetched(store.holder, size, self._progress_at, way.how if way else How.DIRECT)
        if self._offered:
            for index in range(store.index, store.index + store.count):
                self._unfinished.add(self._content_id, index, first_hand=store.first_hand)
        self._handle(steps.Stored(store.ask))

    async def _find(self) -> None:
        """Looks for holders now and then, and soon when there is nobody to ask or somebody else asks."""
        settings = self._settings
        pause = settings.first_refresh
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause, settings.patience)):
                    await self._look.wait()
            pause = min(2 * pause, settings.refresh)
            if not self._stuck.is_set() and self._look.is_set():
                await asyncio.sleep(NEWS)
            self._look.clear()
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
            self._join(fresh)

    def _check_patience(self) -> None:
        limit = self._progress_at + self._settings.patience
        asked_at = self._download.first_asked_at
        # What was asked in time may take as long as its deadline allows: links can be slow.
        if self._clock() > limit and (asked_at is None or asked_at > limit):
            raise no_holder(self._finder)

    def _join(self, lines: Sequence[Line]) -> None:
        """Tells the scheduler of lines; one that leads to a new address of a known holder starts afresh."""
        events: list[steps.Event] = []
        for line in lines:
            peer_id = line.contact.peer_id
            self._progress.source(line.contact).dropped_reason = ""
            steady_rate = self._joined_with[peer_id] = self._rates.of(peer_id)
            events += [steps.HolderLeft(peer_id), steps.HolderJoined(peer_id, line.complete, steady_rate)]
        self._handle(*events)


def _answered(source: Source) -> None:
    source.in_flight -= 1
