"""Performs what the scheduler of small contents decides: finds holders, asks them, checks what they answer."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.content import MAX_SMALL
from core.errors import Busy, Corrupt, InvalidInput, NotFound, NotPossible, RelevoError, Revoked, Unreachable
from core.manifest import Manifest, manifest_of
from peer.fetching.finder import Accuse
from peer.fetching.lines import Line
from peer.fetching.pieces import Allowance
from peer.fetching.reaching import How, Reach, Way
from peer.links.contacts import Contact, Holder
from peer.sets.gathering import Ask, Gathering, GatherLimits
from relevo.v1 import peer_relay_pb2 as pb2

log = logging.getLogger("relevo.download")


class FindMany(Protocol):
    """Asks who holds each of many contents."""

    async def __call__(self, content_ids: Sequence[bytes], *, directly: bool = False) -> dict[bytes, list[Holder]]:
        """Returns some holders of each; asks central itself when `directly`. Raises RelevoError."""
        ...


@dataclass(frozen=True, slots=True)
class GatherSettings:
    """Times in seconds.

    Attributes:
        limits: how much is asked for at once.
        timeout: for one answer.
        refresh: when nothing has come for so long, central itself is asked for holders.
        patience: when nothing has come for so long and nobody is being asked, what is wanted is given up.
        address_patience: beside an untried address that is silent for so long, the next is tried.
    """

    limits: GatherLimits = field(default_factory=GatherLimits)
    timeout: float = 60.0
    refresh: float = 3.0
    patience: float = 30.0
    address_patience: float = 1.0


@dataclass(frozen=True, slots=True)
class Gathered:
    """A small content with its manifest, who gave it, and how it came."""

    data: bytes
    manifest: Manifest
    giver: Contact
    how: How = How.DIRECT


class Gatherer:
    """Fetches small contents for one transfer."""

    def __init__(
        self,
        find_many: FindMany,
        reach: Reach,
        self_id: str,
        clock: Callable[[], float],
        *,
        accuse: Accuse,
        allowance: Allowance,
        settings: GatherSettings | None = None,
    ) -> None:
        """Makes a gatherer.

        Args:
            find_many: asks who holds each of many contents; may raise RelevoError.
            reach: the ways to holders.
            self_id: this peer's id: it does not fetch from itself.
            clock: monotonic seconds.
            accuse: is told of holders that lie or lack what they are named for.
            allowance: bytes are taken from it before they are asked for.
            settings: times and limits.
        """
        self._find_many = find_many
        self._reach = reach
        self._clock = clock
        self._accuse = accuse
        self._allowance = allowance
        self._settings = settings or GatherSettings()
        self._gathering = Gathering(self._settings.limits)
        self._never = {self_id}
        self._lines: dict[str, Line] = {}
        self._wanted: dict[bytes, asyncio.Future[Gathered]] = {}
        self._sizes: dict[bytes, int] = {}
        self._asked_central: set[bytes] = set()
        self._too_large: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._progress_at = clock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Works until it is cancelled, and leaves no task behind.

        Raises:
            Revoked: central says so.
        """
        try:
            while True:
                await asyncio.sleep(self._settings.refresh / 2)
                await self._look_after()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for future in self._wanted.values():
                future.cancel()

    def want(self, sizes: Mapping[bytes, int]) -> dict[bytes, asyncio.Future[Gathered]]:
        """Begins to fetch contents, size in bytes as it is listed; none of them may be under way already.

        Each future has the content, or raises NotFound, Unreachable, or NotPossible for one that is not small.
        """
        loop = asyncio.get_running_loop()
        if not self._wanted:
            self._progress_at = self._clock()
        futures = {content_id: loop.create_future() for content_id in sizes}
        self._wanted |= futures
        self._sizes |= sizes
        self._start(self._find(list(sizes), directly=False))
        return futures

    async def _look_after(self) -> None:
        """Asks central itself when nothing comes, and gives up when that has not helped for long."""
        idle = self._clock() - self._progress_at
        if not self._wanted or idle < self._settings.refresh:
            return
        if idle >= self._settings.patience and not self._gathering.calls:
            for content_id in list(self._wanted):
                self._end(content_id, error=_no_holder(content_id))
            return
        await self._find(list(self._wanted), directly=True)

    async def _find(self, content_ids: list[bytes], *, directly: bool) -> None:
        try:
            found = await self._find_many(content_ids, directly=directly)
        except Revoked:  # central's own word: nobody gives anything to this peer any more
            raise
        except RelevoError as error:
            log.debug("nobody names holders: %s", error)
            return
        if directly:
            self._asked_central.update(content_ids)
        for content_id, holders in found.items():
            if content_id in self._wanted:
                names = self._usable(holders)
                self._gathering.want(content_id, self._sizes[content_id], names)
        self._go_on()

    def _usable(self, holders: Sequence[Holder]) -> list[str]:
        """Returns whom to ask: those that several peers doubt only when there is nobody else."""
        usable = [
            holder
            for holder in holders
            if holder.complete and holder.reachable and holder.contact.peer_id not in self._never
        ]
        trusted = [holder for holder in usable if not holder.doubted] or usable
        for holder in trusted:
            contact = holder.contact
            known = self._lines.get(contact.peer_id)
            if known is None or known.differs(holder):
                self._lines[contact.peer_id] = Line(
                    self._reach, contact, self._settings.address_patience, relays=holder.relays
                )
        return [holder.contact.peer_id for holder in trusted]

    def _go_on(self) -> None:
        """Asks for what there is to ask for, and ends what nobody can be asked for."""
        now = self._clock()
        for ask in self._gathering.next(now):
            self._start(self._ask(ask))
        lost = self._gathering.lost()
        for content_id in lost:
            if content_id in self._too_large:
                self._end(content_id, error=NotPossible("it is larger than it is listed"))
            elif content_id in self._asked_central:
                self._end(content_id, error=NotFound(f"nobody holds {content_id.hex()[:12]} now; look it up again"))
        anew = [content_id for content_id in lost if content_id in self._wanted]
        if anew:
            for content_id in anew:
                self._gathering.forget(content_id)
            self._start(self._find(anew, directly=True))
        if self._timer is not None:
            self._timer.cancel()
        wake = self._gathering.wake(now)
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake - now), self._go_on)

    async def _ask(self, ask: Ask) -> None:
        line = self._lines[ask.holder]
        wanted = sum(self._sizes.get(content_id, 0) for content_id in ask.content_ids)
        most = max(1, self._allowance.piece(min(ask.most_bytes, wanted)))
        came = 0
        await self._allowance.take(most)
        self._gathering.began(ask.number, self._clock())
        try:
            request = pb2.GetContentsRequest(content_ids=ask.content_ids, most_bytes=most)
            answer, way = await line.get_contents(request, self._settings.timeout)
            came = sum(len(one.data) for one in answer.contents)
            read = await asyncio.to_thread(_read, ask.content_ids, answer)
            self._take(ask, read, line, way)
        except Busy as error:
            self._gathering.failed(ask.number, self._clock(), error.retry_after)
        except (InvalidInput, Corrupt) as error:
            log.info("%s is not asked for small contents any more: %s", ask.holder, error)
            self._gathering.lied(ask.holder)
            self._never.add(ask.holder)
            if not line.hearsay:
                self._accuse(ask.holder, ask.content_ids[0], True)
        except RelevoError as error:
            log.debug("%s gave nothing: %s", ask.holder, error)
            self._gathering.failed(ask.number, self._clock())
        finally:
            self._allowance.give_back(most - came)
        self._go_on()

    def _take(self, ask: Ask, read: "_Read", line: Line, way: Way) -> None:
        now = self._clock()
        self._gathering.answered(ask.number, read.given.keys(), read.lacking, now)
        self._too_large.update(read.too_large)
        for content_id in read.lacking - read.too_large if way.how is not How.RELAYED else ():
            self._accuse(ask.holder, content_id, False)
        for content_id, (data, manifest) in read.given.items():
            self._progress_at = now
            self._end(content_id, Gathered(data, manifest, line.contact, way.how))
        if read.lie:
            if line.lied(way):
                raise Unreachable(f"it was asked through a relay, and {read.lie}")
            raise Corrupt(read.lie)

    def _end(self, content_id: bytes, gathered: Gathered | None = None, error: RelevoError | None = None) -> None:
        self._gathering.forget(content_id)
        future = self._wanted.pop(content_id, None)
        if future is None:
            return
        del self._sizes[content_id]
        self._asked_central.discard(content_id)
        self._too_large.discard(content_id)
        if future.done():
            return
        if gathered is not None:
            future.set_result(gathered)
        elif error is not None:
            future.set_exception(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            for content_id in list(self._wanted):
                known = error if isinstance(error, RelevoError) else Unreachable("internal error; see the log")
                self._end(content_id, error=known)
            if not isinstance(error, RelevoError):
                log.error("small contents are not fetched", exc_info=error)


@dataclass(slots=True)
class _Read:
    """What an answer is worth: contents that are what was asked for, what is not held, and why the holder lies."""

    given: dict[bytes, tuple[bytes, Manifest]] = field(default_factory=dict)
    lacking: set[bytes] = field(default_factory=set)
    too_large: set[bytes] = field(default_factory=set)
    lie: str = ""


def _read(content_ids: Sequence[bytes], answer: pb2.GetContentsResponse) -> _Read:
    """Checks an answer; hashes, so it belongs in a thread."""
    read = _Read()
    if not 0 < len(answer.contents) <= len(content_ids):
        read.lie = "it answered another number of contents than it was asked for"
        return read
    for content_id, one in zip(content_ids, answer.contents, strict=False):
        if one.WhichOneof("outcome") != "data":
            read.lacking.add(content_id)
            if one.problem == pb2.CONTENT_PROBLEM_TOO_LARGE:
                read.too_large.add(content_id)
            continue
        manifest = manifest_of(one.data) if len(one.data) <= MAX_SMALL else None
        if manifest is None or manifest.content_id != content_id:
            read.lie = "it sent bytes that do not match the content"
            return read
        read.given[content_id] = (one.data, manifest)
    return read


def _no_holder(content_id: bytes) -> Unreachable:
    return Unreachable(f"no holder of {content_id.hex()[:12]} answers; try again later, what was fetched is kept")
