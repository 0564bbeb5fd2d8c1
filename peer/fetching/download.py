"""The download scheduler: whom to ask for what, and when. Pure: events in, decisions out.

`Download.handle` takes what happened and returns what to do. It reads no clock, opens no connection and sees no bytes:
whoever performs the decisions (peer/fetching/swarm.py) checks each block before it says `Stored`.

    Fetch ──> Chosen ──> Arrived ──> Store ──> Stored     the block is in the file
      │          │           │         └─────> Lied       the holder is dropped for good, the block is wanted again
      │          │           └ (another answer came first: nothing to do)
      │          └ (another holder sends this block already) ──> Cancel
      ├──> Nothing                                        the holder had nothing; it is asked again
      ├──> Held, Moved                                    its deadline stops, or begins anew
      ├──> Failed, Declined                               the holder rests; one that fetches too and is gone, is dropped
      ├──> Lied                                           the holder is dropped for good
      ├──> Gone                                           the holder is dropped until it joins again
      └──> (its deadline passes) ──> Cancel               as Failed

Where others fetch the content too, holders are told what is lacking, and choose (peer/giving/giving.py): so they spread
different blocks to different peers. Of several complete holders each is then asked for its own share first, the same
one by every peer. What is left, what is late elsewhere, and whatever several complete holders give to one peer alone is
asked for by its index, so that it comes once. In a crowd nobody asks everybody: a few peers are asked, for whatever
they have, and blocks go from hand to hand.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace

from core.content import MAX_BLOCK, Layout
from peer.fetching.asks import Ask, Asks, Holder
from peer.fetching.block_sets import lowest, run, run_in, set_of
from peer.fetching.budget import Share
from peer.fetching.candidates import Candidates
from peer.fetching.pace import PaceLimits
from peer.fetching.steps import (
    Arrived,
    Cancel,
    Chosen,
    Decision,
    Declined,
    Dropped,
    Event,
    Failed,
    Fetch,
    Finished,
    Gone,
    Held,
    HolderJoined,
    HolderLeft,
    Lied,
    Moved,
    Nothing,
    Spoilt,
    Store,
    Stored,
    Stuck,
)

_NEVER = float("inf")
# Fewer asks under way than this are too few to fill a link, and so many are then made for blocks of any hand.
_HUNGRY = 6
_HUNGRY_ASKS = 2
# Whoever answers within so many seconds need not say before which block it has chosen.
_SOON = 0.1
# Who sends so many bytes a second is asked for a run of blocks at once, as long as nobody else fetches the content: as
# many as come in so many seconds.
_QUICK = 6_500_000.0
_SHORT = 0.02
# Answers in a row that brought nothing new, after which a holder rests.
_VAIN = 8
_VAIN_REST = 0.5
# Failures in a row after which who is fetching the content too is given up until it is named again: there are others.
_MOST_FAILURES = 4


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Bounds of one download.

    Attributes:
        patience: seconds that a holder may wait until it has something to give.
        pace: bounds of every single holder.
    """

    patience: float = 8.0
    pace: PaceLimits = field(default_factory=PaceLimits)


class Download:
    """The state of one download.

    Attributes:
        missing: number of blocks that are not stored.
    """

    def __init__(self, layout: Layout, missing: Set[int], limits: DownloadLimits, seed: int, share: Share) -> None:
        """Wants the blocks `missing`; `seed` turns the order, so that several downloaders differ.

        `share` counts the bytes asked for or being stored at once, over all holders. Asks that wait at peers which are
        fetching the content too do not count until a block is on its way. When it has room again, a `Tick` is due.
        """
        self.missing = len(missing)
        self._layout = layout
        self._limits = limits
        self._size = min(layout.block_size, layout.size)
        self._start = seed % max(layout.block_count, 1)
        self._lacking = set_of(missing)
        self._candidates = Candidates(layout.block_count, limits.pace)
        self._asks = Asks(self._size, share)
        self._now = float("-inf")
        self._said_stuck = False
        self._said_finished = False
        # By how many asks blocks come in time, and how many asks of any hand wait.
        self._coming = self._unknown = 0

    @property
    def first_asked_at(self) -> float | None:
        """When the oldest request that is under way was made; None when there is none."""
        return self._asks.first_asked_at

    def steady_rate(self, holder: str) -> float:
        """Returns how many bytes a second a holder has sent; 0 when that is not known, or it has left."""
        known = self._candidates.holders.get(holder)
        return known.pace.steady_rate if known else 0.0

    def handle(self, event: Event, now: float) -> list[Decision]:
        """Returns what to do, in order, after `event` at `now` (seconds; never goes back).

        Events about asks that were cancelled or answered before are ignored.
        """
        return self.handle_all((event,), now)

    def handle_all(self, events: Iterable[Event], now: float) -> list[Decision]:
        """Does as `handle` after events that come together: nobody is asked before all are known."""
        self._now = now
        # An answer that is here counts, however late it is.
        decisions = [decision for event in events for decision in self._take(event, now)]
        decisions += [*self._expire(now), *self._assign(now)]
        if not self.missing and not self._said_finished:
            self._said_finished = True
            decisions += [*self._cancel(list(self._asks.open.values())), Finished()]
        idle = self.missing and self._asks.idle
        if idle and not self._said_stuck:
            decisions.append(Stuck())
        self._said_stuck = bool(idle)
        return decisions

    def wake(self) -> float | None:
        """Returns when the next `Tick` is due; None when only events can change anything."""
        if not self.missing:
            return None
        times = [ask.deadline for ask in self._asks.open.values()]
        times += [ask.overdue_at for ask in self._asks.open.values()]
        times += self._candidates.rest_ends()
        return min((time for time in times if self._now < time < _NEVER), default=None)

    def _take(self, event: Event, now: float) -> Iterable[Decision]:
        match event:
            case HolderJoined(name, complete, steady_rate):
                if self._candidates.join(name, complete=complete, steady_rate=steady_rate):
                    self._said_stuck = False
            case HolderLeft(name):
                return self._remove(name)
            case Held() | Moved():
                self._date(event, now)
            case _:
                return self._take_answer(event, now)
        return ()

    def _take_answer(self, event: Event, now: float) -> Iterable[Decision]:
        match event:
            case Chosen(number, index):
                return self._chosen(number, index, now)
            case Arrived():
                return self._arrived(event, now)
            case Nothing(number):
                return self._nothing(number, now)
            case Stored(number):
                return self._stored(number)
            case Lied(number, reason):
                return self._drop(number, reason, for_good=True)
            case Spoilt(number):
                self._spoilt(number)
            case Gone(number, reason):
                return self._drop(number, reason, for_good=False)
            case Failed() | Declined():
                return self._failed(event, now)
        return ()

    def _remove(self, name: str) -> Iterator[Decision]:
        """Forgets a holder. What has arrived from it is still checked and stored."""
        holder = self._candidates.leave(name)
        if holder is not None:
            yield from self._cancel([ask for ask in self._asks.open.values() if ask.holder is holder])

    def _cancel(self, asks: list[Ask]) -> Iterator[Decision]:
        for ask in asks:
            self._asks.release(ask.number)
            ask.holder.pace.withdrawn(ask.size)
            yield Cancel(ask.number)

    def _chosen(self, number: int, index: int, now: float) -> Iterator[Decision]:
        """Takes note of what is on its way; who would send what comes already is asked for something else."""
        ask = self._asks.open.get(number)
        if ask is None or (ask.blocks and lowest(ask.blocks) != index):
            return
        if not ask.blocks:
            if index >= self._layout.block_count:
                yield Cancel(number)
                yield from self._drop(number, "it chose a block that the content has not", for_good=True)
                return
            if not self._free >> index & 1:
                self._in_vain(ask.holder, now)
                yield from self._cancel([ask])
                return
            if ask.size == self._size:  # of several in a row it is not known how many come
                self._asks.expect(ask, 1 << index)
        pace = ask.holder.pace
        ask.asked_at, ask.deadline = now, now + pace.deadline(ask.size)
        ask.overdue_at = now + pace.overdue()

    @property
    def _free(self) -> int:
        """The blocks that are lacking and not on their way."""
        return self._lacking & ~self._asks.coming

    def _arrived(self, event: Arrived, now: float) -> Iterator[Decision]:
        number, blocks = event.ask, run(event.index, event.count)
        ask = self._asks.open.get(number)
        if ask is None:
            return
        ask.holder.pace.answered(ask.size, ask.asked_at, now, event.count * self._size)
        if ask.blocks and (blocks & ~ask.blocks or lowest(ask.blocks) != event.index):
            yield from self._drop(number, "it sent another block than it should", for_good=True)
            return
        self._note_length(ask, event)
        new = blocks & self._lacking & ~self._asks.being_stored
        if not new:
            self._in_vain(ask.holder, now)
            self._asks.release(number)
            return
        ask.holder.vain = 0
        index = lowest(new)
        count = run_in(new, index)
        self._asks.has_come(ask, run(index, count))
        self._asks.store(ask)
        yield Store(number, ask.holder.name, index, event.first_hand, count)

    def _note_length(self, ask: Ask, event: Arrived) -> None:
        """Has room taken for about as many blocks in a row as a holder gives, unless there were no more to give."""
        cut = event.count * self._size < ask.size
        if not cut:
            ask.holder.longest = max(ask.holder.longest, 2 * event.count)
        elif self._lacking >> event.index + event.count & 1:
            ask.holder.longest = 2 * event.count

    def _nothing(self, number: int, now: float) -> Iterator[Decision]:
        ask = self._asks.open.get(number)
        if ask is None:
            return
        if now < ask.asked_at + self._limits.patience / 2:  # it has not waited
            if ask.holder.complete:
                yield from self._drop(number, "it gives nothing of what it claims to hold", for_good=True)
                return
            self._in_vain(ask.holder, now)
        else:
            ask.holder.waited = ask.first_hand
            self._candidates.goes_last(ask.holder)
        self._asks.release(number)
        ask.holder.pace.withdrawn(ask.size)

    def _in_vain(self, holder: Holder, now: float) -> None:
        """Has a holder that brings nothing new, again and again, rest for a while."""
        holder.vain += 1
        if holder.vain >= _VAIN:
            holder.pace.rest(_VAIN_REST, now)

    def _stored(self, number: int) -> Iterator[Decision]:
        blocks = self._asks.stored(number)
        if blocks:
            self.missing -= blocks.bit_count()
            self._lacking &= ~blocks
            yield from self._cancel(self._asks.in_vain(self._lacking))

    def _drop(self, number: int, reason: str, *, for_good: bool) -> Iterator[Decision]:
        ask = self._asks.release(number)
        if ask is None or self._candidates.is_banned(ask.holder):
            return
        if for_good:
            self._candidates.ban(ask.holder.name)
        yield from self._remove(ask.holder.name)
        yield Dropped(ask.holder.name, reason, for_good)

    def _spoilt(self, number: int) -> None:
        open_yet = number in self._asks.open
        ask = self._asks.release(number)
        if ask is not None and open_yet:
            ask.holder.pace.withdrawn(ask.size)

    def _failed(self, event: Failed | Declined, now: float, *, late: bool = False) -> Iterator[Decision]:
        ask = self._asks.open.get(event.ask)
        if ask is None:
            return
        holder = ask.holder
        holder.failed |= ask.blocks
        holder.longest = 1  # one block that cannot be had must not keep its neighbours away
        self._asks.release(event.ask)
        if isinstance(event, Declined):
            holder.pace.busy(ask.size, event.retry_after, now)
            return
        holder.pace.failed(ask.size, ask.asked_at, now, late=late)
        if not holder.complete and holder.pace.failures >= _MOST_FAILURES and self._candidates.has(holder):
            yield from self._remove(holder.name)
            yield Dropped(holder.name, "it does not answer", for_good=False)

    def _date(self, event: Held | Moved, now: float) -> None:
        """Stops an ask's time, or begins its deadline anew; a piece now and then does not keep it from being late."""
        ask = self._asks.open.get(event.ask)
        if ask is None:
            return
        if isinstance(event, Held):
            ask.deadline = ask.overdue_at = _NEVER
            return
        pace = ask.holder.pace
        wait = 0.0 if ask.blocks else self._limits.patience
        begins, ask.deadline = ask.deadline == _NEVER, now + wait + pace.deadline(0)
        if begins:  # it leaves only now
            ask.asked_at = now
            ask.overdue_at = now + (pace.overdue() if ask.blocks else self._limits.pace.overdue)

    def _expire(self, now: float) -> Iterator[Decision]:
        for ask in [ask for ask in self._asks.open.values() if ask.deadline <= now]:
            if ask.number in self._asks.open:
                yield Cancel(ask.number)
                yield from self._failed(Failed(ask.number), now, late=True)

    def _assign(self, now: float) -> Iterator[Decision]:
        """Asks holders that have room, whoever would answer first before the others, within the budget.

        Who failed comes after who did not: else silent holders, taking turns, could hold the whole budget for ever.
        """
        self._coming, self._unknown = self._asks.in_time(now)
        places = enumerate(holder for holder in self._candidates.asked(now) if holder.pace.has_room(now))
        able = [(holder.pace.preference(self._size), place, holder) for place, holder in places]
        heapify(able)
        while able:
            _, place, holder = able[0]
            fetch = self._wish(holder, now)
            if fetch is not None:
                yield fetch
            if fetch is not None and holder.pace.has_room(now):
                heapreplace(able, (holder.pace.preference(self._size), place, holder))
            else:
                heappop(able)
        self._asks.all_are_made()

    def _wish(self, holder: Holder, now: float) -> Fetch | None:
        """Returns what to ask of a holder that has room; None when there is nothing, or no budget for it."""
        free = self._free
        if not holder.complete:
            # An ask that waits for blocks first hand may wait in vain, since nobody may be left who gives any.
            if free and (
                holder.waiting < 1 or (self._hungry and free.bit_count() > self._asks.waiting_for_any_hand(holder))
            ):
                return self._ask(holder, now, lacking=free)
        elif not self._candidates.spreads:
            if free:
                return self._ask(holder, now, blocks=self._run(holder, free & ~holder.failed or free))
        else:
            share = free & self._candidates.share(holder) & ~holder.failed
            if share.bit_count() > holder.waiting and (
                holder.waiting < 1 or not self._candidates.others or self._hungry
            ):
                count = min(self._most(holder), share.bit_count() - holder.waiting)
                return self._ask(holder, now, lacking=share, count=count)
            # What the others have not been asked for yet, or do not give.
            rest = free & ~share
            if rest and share.bit_count() <= holder.waiting and free.bit_count() > self._asks.to_be_chosen(now):
                return self._ask(holder, now, blocks=self._run(holder, rest & ~holder.failed or rest))
        if not self._candidates.others or self._hungry:
            blocks = self._overdue(holder, now)
            if blocks:
                return self._ask(holder, now, blocks=blocks)
        return None

    def _is_quick(self, holder: Holder) -> bool:
        """Whether a complete holder sends quickly, and nobody else is known who fetches the content."""
        return holder.pace.steady_rate >= _QUICK and holder.complete and not self._candidates.others

    def _most(self, holder: Holder) -> int:
        """Returns how many blocks in a row to ask of a holder: of a quick one what it sends in no time."""
        if not self._is_quick(holder):
            return 1
        short = int(min(MAX_BLOCK, holder.pace.steady_rate * _SHORT)) // self._size
        return max(1, min(holder.longest, short))

    def _run(self, holder: Holder, blocks: int) -> int:
        """Returns the next block of a set, and those after it that are asked for together."""
        first = lowest(blocks, self._start)
        return run(first, min(self._most(holder), run_in(blocks, first)))

    @property
    def _hungry(self) -> bool:
        """Whether so little comes in time that what comes second hand is welcome; by few asks, lest it come twice."""
        return self._coming < _HUNGRY and (self._candidates.crowded or self._unknown < _HUNGRY_ASKS)

    def _overdue(self, holder: Holder, now: float) -> int:
        """Returns blocks that are overdue elsewhere, that only one holder has been asked for; the oldest first.

        Who is fetching the content too may not have them, and is asked only where no other complete holder can be.
        """
        complete = self._candidates.complete()
        for ask, alone in (*self._asks.overdue(now), *self._slower(holder, now)):
            blocks = alone & self._lacking & ~holder.failed
            usable = holder.complete or all(other is ask.holder for other in complete)
            if blocks and ask.holder is not holder and usable:
                return run(lowest(blocks), min(self._most(holder), run_in(blocks, lowest(blocks))))
        return 0

    def _slower(self, holder: Holder, now: float) -> list[tuple[Ask, int]]:
        """Returns the last asks of all that this holder, which has everything, would probably answer long before."""
        if self._free or self._coming >= _HUNGRY or not holder.complete:
            return []
        return self._asks.later(now + holder.pace.overdue())

    def _ask(self, holder: Holder, now: float, *, lacking: int = 0, count: int = 1, blocks: int = 0) -> Fetch | None:
        """Asks for up to `count` of the set `lacking`, or for `blocks`, unless there is no room for what would come."""
        counted = holder.complete or bool(blocks)
        count = blocks.bit_count() or count
        if counted and not self._asks.has_room(count):
            return None
        patient = self._candidates.others and not self._candidates.crowded and not self._hungry and not holder.waited
        first_hand = not blocks and patient
        deadline = now + holder.pace.deadline(count * self._size) + (0.0 if blocks else self._limits.patience)
        overdue_at = now + self._limits.pace.overdue
        ask = self._asks.begin(holder, now, deadline, overdue_at, count=count, counted=counted, first_hand=first_hand)
        if blocks:
            self._asks.expect(ask, blocks)
            ask.overdue_at = now + holder.pace.overdue()
            self._coming += 1
        elif not first_hand:
            self._unknown += 1
        # Complete holders are asked for different blocks: which one comes need not be known before it is here, soon.
        soon = 0.0 < holder.pace.took < _SOON or self._is_quick(holder)
        announced = self._candidates.others or not soon
        index = lowest(blocks) if blocks else None
        return Fetch(ask.number, holder.name, lacking, index, self._limits.patience, first_hand, announced, count)
