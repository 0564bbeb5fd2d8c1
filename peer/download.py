"""The download scheduler: which block to ask of which holder, and when. Pure: events in, decisions out.

`Download.handle` takes what happened and returns what to do. It reads no clock, opens no connection and sees no bytes:
whoever performs the decisions (peer/swarm.py) checks each block before it says `Stored`.

    Fetch ──> Arrived ──> Store ──> Stored          the block is in the file
      │          │           └────> Lied            the holder is dropped for good, the block is asked of another
      │          └ (another answer came first: nothing to do)
      ├──> Held, Moved                              its deadline stops, or begins anew
      ├──> Failed, Declined                         the holder rests, the block is asked of another
      ├──> Lied                                     the holder is dropped for good
      ├──> Gone                                     the holder is dropped until it joins again
      └──> (its deadline passes) ──> Cancel         as Failed
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from core.content import MAX_BLOCK, Layout
from peer.pace import Pace, PaceLimits
from peer.steps import (
    Arrived,
    Cancel,
    Decision,
    Declined,
    Dropped,
    Event,
    Failed,
    Fetch,
    Finished,
    Gone,
    Held,
    HolderGained,
    HolderJoined,
    HolderLeft,
    Lied,
    Moved,
    Store,
    Stored,
    Stuck,
)
from peer.wanted import Wanted

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Bounds of one download.

    Attributes:
        in_flight_bytes: most bytes asked for or being stored at once, over all holders; one block is always allowed.
        pace: bounds of every single holder.
    """

    in_flight_bytes: int = 16 * MAX_BLOCK
    pace: PaceLimits = field(default_factory=PaceLimits)


@dataclass(slots=True)
class _Holder:
    name: str
    pace: Pace
    blocks: set[int] | None

    def has(self, index: int) -> bool:
        return self.blocks is None or index in self.blocks


@dataclass(slots=True)
class _Ask:
    number: int
    holder: _Holder
    index: int
    size: int
    asked_at: float
    deadline: float
    overdue_at: float


@dataclass(slots=True)
class _Block:
    """A block that has been asked for: the asks that wait for it, and the one whose answer is being stored."""

    asks: list[_Ask] = field(default_factory=list)
    storing: int | None = None


class Download:
    """The state of one download.

    Attributes:
        missing: number of blocks that are not stored.
    """

    def __init__(self, layout: Layout, missing: Set[int], limits: DownloadLimits, seed: int) -> None:
        """Wants the blocks `missing`; `seed` turns the order, so that several downloaders differ."""
        self.missing = len(missing)
        self._layout = layout
        self._limits = limits
        self._wanted = Wanted(layout.block_count, missing, seed)
        self._holders: dict[str, _Holder] = {}
        self._dropped: set[str] = set()
        self._asks: dict[int, _Ask] = {}
        self._storing: dict[int, _Ask] = {}
        self._blocks: dict[int, _Block] = {}
        self._in_flight_bytes = 0
        self._next_ask = 0
        self._now = float("-inf")
        self._said_stuck = False
        self._said_finished = False

    @property
    def first_asked_at(self) -> float | None:
        """When the oldest request that is under way was made; None when there is none."""
        return min((ask.asked_at for ask in (*self._asks.values(), *self._storing.values())), default=None)

    def handle(self, event: Event, now: float) -> list[Decision]:
        """Returns what to do, in order, after `event` at `now` (seconds; never goes back).

        Events about asks that were cancelled or answered before are ignored.
        """
        self._now = now
        decisions = [*self._expire(now), *self._take(event, now), *self._assign(now)]
        if not self.missing and not self._said_finished:
            self._said_finished = True
            decisions.append(Finished())
        idle = self.missing and not self._asks and not self._storing
        if idle and not self._said_stuck:
            decisions.append(Stuck())
        self._said_stuck = bool(idle)
        return decisions

    def wake(self) -> float | None:
        """Returns when the next `Tick` is due; None when only events can change anything."""
        if not self.missing:
            return None
        times = [ask.deadline for ask in self._asks.values()]
        times += [ask.overdue_at for ask in self._asks.values()]
        times += [holder.pace.rests_until for holder in self._holders.values()]
        return min((time for time in times if self._now < time < _NEVER), default=None)

    def _take(self, event: Event, now: float) -> Iterable[Decision]:
        match event:
            case HolderJoined(name, blocks):
                self._join(name, blocks)
            case HolderGained(name, blocks):
                self._gain(name, blocks)
            case HolderLeft(name):
                return self._remove(name)
            case Arrived(number):
                return self._arrived(number, now)
            case Stored(number):
                return self._stored(number)
            case Lied(number, reason):
                return self._drop(number, reason, for_good=True)
            case Gone(number, reason):
                return self._drop(number, reason, for_good=False)
            case Failed() | Declined():
                self._failed(event, now)
            case Held() | Moved():
                self._date(event, now)
        return ()

    def _join(self, name: str, blocks: frozenset[int] | None) -> None:
        known = self._holders.get(name)
        if name in self._dropped:
            return
        if known is None:
            self._holders[name] = _Holder(name, Pace(self._limits.pace), None if blocks is None else set())
        elif blocks is None and known.blocks is not None:
            self._wanted.count(known.blocks, -1)
            known.blocks = None
        self._said_stuck = False
        self._gain(name, blocks or frozenset())

    def _gain(self, name: str, blocks: frozenset[int]) -> None:
        holder = self._holders.get(name)
        if holder is not None and holder.blocks is not None:
            self._wanted.count(blocks - holder.blocks, 1)
            holder.blocks |= blocks

    def _remove(self, name: str) -> Iterator[Decision]:
        """Forgets a holder. What has arrived from it is still checked and stored."""
        holder = self._holders.pop(name, None)
        if holder is None:
            return
        self._wanted.count(holder.blocks or (), -1)
        for ask in [ask for ask in self._asks.values() if ask.holder is holder]:
            self._release(ask.number)
            yield Cancel(ask.number)

    def _arrived(self, number: int, now: float) -> Iterator[Decision]:
        ask = self._asks.get(number)
        if ask is None:
            return
        ask.holder.pace.answered(ask.size, ask.asked_at, now)
        block = self._blocks[ask.index]
        if block.storing is not None:
            self._release(number)
            return
        # It leaves the holder's window, not the budget: its bytes are in memory until they are stored.
        del self._asks[number]
        block.asks.remove(ask)
        block.storing = number
        self._storing[number] = ask
        yield Store(number, ask.holder.name, ask.index)

    def _stored(self, number: int) -> Iterator[Decision]:
        ask = self._storing.pop(number, None)
        if ask is None:
            return
        self.missing -= 1
        self._in_flight_bytes -= ask.size
        for other in self._blocks.pop(ask.index).asks:
            del self._asks[other.number]
            self._in_flight_bytes -= other.size
            other.holder.pace.withdrawn(other.size)
            yield Cancel(other.number)

    def _drop(self, number: int, reason: str, *, for_good: bool) -> Iterator[Decision]:
        ask = self._release(number)
        if ask is None or ask.holder.name in self._dropped:
            return
        if for_good:
            self._dropped.add(ask.holder.name)
        yield from self._remove(ask.holder.name)
        yield Dropped(ask.holder.name, reason, for_good)

    def _failed(self, event: Failed | Declined, now: float, *, late: bool = False) -> None:
        ask = self._asks.get(event.ask)
        if ask is None:
            return
        self._release(event.ask)
        if isinstance(event, Declined):
            ask.holder.pace.busy(ask.size, event.retry_after, now)
        else:
            ask.holder.pace.failed(ask.size, ask.asked_at, now, late=late)

    def _date(self, event: Held | Moved, now: float) -> None:
        """Stops an ask's time, or begins its deadline anew; a piece now and then does not keep it from being late."""
        ask = self._asks.get(event.ask)
        if ask is None:
            return
        if isinstance(event, Held):
            ask.deadline = ask.overdue_at = _NEVER
            return
        pace = ask.holder.pace
        ask.deadline = now + pace.deadline(0)
        if ask.overdue_at == _NEVER:  # it leaves only now
            ask.asked_at, ask.overdue_at = now, now + pace.overdue(0)

    def _release(self, number: int) -> _Ask | None:
        """Ends an ask without a block: it is wanted again, unless another ask still waits for it."""
        ask = self._asks.pop(number, None) or self._storing.pop(number, None)
        if ask is None:
            return None
        self._in_flight_bytes -= ask.size
        block = self._blocks[ask.index]
        if block.storing == number:
            block.storing = None
        else:
            block.asks.remove(ask)
        if not block.asks and block.storing is None:
            del self._blocks[ask.index]
            self._wanted.put_back(ask.index)
        return ask

    def _expire(self, now: float) -> Iterator[Decision]:
        for ask in [ask for ask in self._asks.values() if ask.deadline <= now]:
            self._failed(Failed(ask.number), now, late=True)
            yield Cancel(ask.number)

    def _assign(self, now: float) -> Iterator[Decision]:
        """Asks holders that have room, whoever would answer first before the others, within the budget.

        Who failed comes after who did not: else silent holders, taking turns, could hold the whole budget for ever.
        """
        size = min(self._layout.block_size, self._layout.size)
        free = [holder for holder in self._holders.values() if holder.pace.has_room(now)]
        while free and (self._in_flight_bytes + size <= self._limits.in_flight_bytes or not self._in_flight_bytes):
            holder = min(free, key=lambda holder: holder.pace.preference(size))
            index = self._choose(holder, now)
            if index is None:
                free.remove(holder)
                continue
            yield self._ask(holder, index, now)
            if not holder.pace.has_room(now):
                free.remove(holder)

    def _choose(self, holder: _Holder, now: float) -> int | None:
        """Returns the block to ask of `holder`; when it has none that is wanted, one that is overdue elsewhere."""
        index = self._wanted.first() if holder.blocks is None else self._wanted.first_of(holder.blocks)
        if index is not None:
            return index
        late = [
            ask
            for ask in self._asks.values()
            if ask.overdue_at <= now and ask.holder is not holder and holder.has(ask.index)
        ]
        alone = [
            ask for ask in late if self._blocks[ask.index].storing is None and len(self._blocks[ask.index].asks) == 1
        ]
        return min(alone, key=lambda ask: ask.asked_at).index if alone else None

    def _ask(self, holder: _Holder, index: int, now: float) -> Fetch:
        size = self._layout.block_length(index)
        timeout = holder.pace.deadline(size)
        number, self._next_ask = self._next_ask, self._next_ask + 1
        ask = _Ask(number, holder, index, size, now, now + timeout, now + holder.pace.overdue(size))
        holder.pace.asked(size, now)
        self._asks[number] = ask
        self._in_flight_bytes += size
        self._wanted.remove(index)
        self._blocks.setdefault(index, _Block()).asks.append(ask)
        return Fetch(number, holder.name, index, timeout)
