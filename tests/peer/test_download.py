"""The scheduler alone: events in, decisions out, no clock and no network."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.content import Layout
from peer import steps
from peer.download import Download, DownloadLimits
from peer.pace import Pace, PaceLimits
from peer.wanted import Wanted

BLOCK = 64 * 1024
LIARS = ("liar-1", "liar-2")
PARTIAL = ("partial-1", "partial-2")
COMPLETE = ("whole-1", "whole-2")
HOLDERS = LIARS + PARTIAL + COMPLETE


def fetches(decisions):
    return [decision for decision in decisions if isinstance(decision, steps.Fetch)]


def of_kind(decisions, kind):
    return [decision for decision in decisions if isinstance(decision, kind)]


def start(blocks, *, missing=None, limits=None, seed=0):
    layout = Layout(blocks * BLOCK)
    return Download(layout, set(range(blocks)) if missing is None else missing, limits or DownloadLimits(), seed)


class Swarm(RuleBasedStateMachine):
    """A world that loses, delays, lies, leaves and comes back; one honest holder is reachable in the end."""

    @initialize(blocks=st.integers(1, 40), seed=st.integers(0, 2**32), budget=st.integers(1, 20))
    def begin(self, blocks, seed, budget):
        self.layout = Layout(blocks * BLOCK - 17)
        self.limits = DownloadLimits(in_flight_bytes=budget * BLOCK)
        self.download = Download(self.layout, set(range(blocks)), self.limits, seed)
        self.now = 0.0
        self.waiting: dict[int, steps.Fetch] = {}
        self.storing: dict[int, steps.Store] = {}
        self.stored: Counter[int] = Counter()
        self.present: dict[str, set[int] | None] = {}
        self.dropped: set[str] = set()
        self.finished = 0
        self.stuck = False

    def tell(self, event):
        asked = set()
        for decision in self.download.handle(event, self.now):
            match decision:
                case steps.Fetch(ask, holder, index):
                    assert holder in self.present
                    assert holder not in self.dropped
                    assert self.present[holder] is None or index in self.present[holder]
                    assert not self.stored[index]
                    assert all((f.holder, f.index) != (holder, index) for f in self.waiting.values())
                    self.waiting[ask] = decision
                    asked.add(holder)
                case steps.Cancel(ask):
                    del self.waiting[ask]
                case steps.Store(ask, _, index):
                    assert index not in {store.index for store in self.storing.values()}
                    assert not self.stored[index]
                    self.storing[ask] = decision
                case steps.Dropped(holder, _, for_good):
                    if for_good:
                        self.dropped.add(holder)
                    self.present.pop(holder, None)
                case steps.Finished():
                    self.finished += 1
                case steps.Stuck():
                    self.stuck = True
        self.stuck = self.stuck and not self.waiting and not self.storing
        for name in asked:  # a window may shrink below what is under way, but nothing is asked beyond it
            under_way = sum(fetch.holder == name for fetch in self.waiting.values())
            assert under_way <= self.download._holders[name].pace.window

    def pick(self, data, table):
        return data.draw(st.sampled_from(sorted(table)))

    @rule(name=st.sampled_from(HOLDERS), blocks=st.frozensets(st.integers(0, 39)))
    def joins(self, name, blocks):
        blocks = frozenset(index for index in blocks if index < self.layout.block_count)
        had = self.present.get(name, set())
        if name not in self.dropped:
            self.present[name] = None if name not in PARTIAL or had is None else had | blocks
        self.tell(steps.HolderJoined(name, blocks if name in PARTIAL else None))

    @rule(name=st.sampled_from(PARTIAL), blocks=st.frozensets(st.integers(0, 39)))
    def gains(self, name, blocks):
        blocks = frozenset(index for index in blocks if index < self.layout.block_count)
        if self.present.get(name) is not None:
            self.present[name] |= blocks
        self.tell(steps.HolderGained(name, blocks))

    @rule(name=st.sampled_from(HOLDERS))
    def leaves(self, name):
        self.present.pop(name, None)
        self.tell(steps.HolderLeft(name))
        assert name not in {fetch.holder for fetch in self.waiting.values()}

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def arrives(self, data):
        ask = self.pick(data, self.waiting)
        del self.waiting[ask]
        self.tell(steps.Arrived(ask))

    @precondition(lambda self: self.storing)
    @rule(data=st.data())
    def is_checked(self, data):
        self.check(self.pick(data, self.storing))

    def check(self, ask):
        store = self.storing.pop(ask)
        if store.holder in LIARS:
            self.tell(steps.Lied(ask, "not the block"))
            assert store.holder in self.dropped
        else:
            self.stored[store.index] += 1
            self.tell(steps.Stored(ask))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), kind=st.sampled_from(["failed", "declined", "lied", "gone"]), pause=st.floats(0, 100))
    def goes_wrong(self, data, kind, pause):
        ask = self.pick(data, self.waiting)
        fetch = self.waiting.pop(ask)
        if kind == "lied" and fetch.holder not in LIARS:
            kind = "failed"
        event = {
            "failed": steps.Failed(ask),
            "declined": steps.Declined(ask, pause),
            "lied": steps.Lied(ask, "too long"),
            "gone": steps.Gone(ask, "not here"),
        }[kind]
        self.tell(event)

    @rule(seconds=st.floats(0.001, 50))
    def time_passes(self, seconds):
        self.now += seconds
        self.tell(steps.Tick())
        assert all(fetch.timeout > 0 for fetch in self.waiting.values())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seconds=st.floats(0.001, 500))
    def waits_for_its_own_allowance(self, data, seconds):
        ask = self.pick(data, self.waiting)
        self.tell(steps.Held(ask))
        self.now += seconds
        self.tell(steps.Tick())
        assert ask in self.waiting, "its time stood still"
        self.tell(steps.Moved(ask))
        assert ask in self.waiting

    @rule(number=st.integers(0, 500))
    def hears_of_asks_that_are_over(self, number):
        if number in self.waiting or number in self.storing:
            return
        late = (steps.Arrived, steps.Stored, steps.Failed, steps.Held, steps.Moved)
        for event in (*(kind(number) for kind in late), steps.Lied(number, "late")):
            before = set(self.waiting)
            self.tell(event)
            assert set(self.waiting) == before

    @invariant()
    def no_holder_exceeds_its_window_and_none_the_budget(self):
        if not hasattr(self, "download"):
            return
        asked = Counter(fetch.holder for fetch in self.waiting.values())
        for name, holder in self.download._holders.items():
            assert holder.pace.in_flight == asked[name] <= 16
        held = [fetch.index for fetch in (*self.waiting.values(), *self.storing.values())]
        in_flight = sum(self.layout.block_length(index) for index in held)
        assert in_flight == self.download._in_flight_bytes
        assert in_flight <= self.limits.in_flight_bytes or len(held) == 1

    @invariant()
    def a_needed_block_is_asked_of_a_usable_holder_with_room(self):
        if not hasattr(self, "download"):
            return
        held = {fetch.index for fetch in (*self.waiting.values(), *self.storing.values())}
        needed = set(range(self.layout.block_count)) - held - set(self.stored)
        in_flight = sum(
            self.layout.block_length(fetch.index) for fetch in (*self.waiting.values(), *self.storing.values())
        )
        size = min(self.layout.block_size, self.layout.size)
        if in_flight and in_flight + size > self.limits.in_flight_bytes:
            return
        for name, blocks in self.present.items():
            if self.download._holders[name].pace.has_room(self.now):
                assert not (needed if blocks is None else needed & blocks)

    @invariant()
    def it_is_stuck_only_when_nothing_is_under_way(self):
        if not hasattr(self, "download"):
            return
        over = sum(self.stored.values()) == self.layout.block_count
        assert self.finished == int(over)
        assert bool(self.waiting or self.storing or over or self.stuck or not self.present or self.resting())

    def resting(self):
        return any(holder.pace.rests_until > self.now for holder in self.download._holders.values())

    def teardown(self):
        """From here on one honest holder of everything answers: the download has to end, every block exactly once."""
        if not hasattr(self, "download"):
            return
        self.joins("honest", frozenset())
        for _ in range(40 * self.layout.block_count + 400):
            if self.finished:
                break
            for ask in list(self.storing):
                self.check(ask)
            honest = [ask for ask, fetch in self.waiting.items() if fetch.holder == "honest"]
            for ask in honest:
                del self.waiting[ask]
                self.tell(steps.Arrived(ask))
            if not honest and not self.storing and not self.finished:
                self.now = self.download.wake()
                self.tell(steps.Tick())
        assert self.finished == 1
        assert self.stored == Counter(range(self.layout.block_count))
        assert not self.waiting
        assert self.download.missing == 0
        assert self.download.wake() is None


test_every_block_comes_exactly_once_as_long_as_one_honest_holder_is_reachable = Swarm.TestCase
test_every_block_comes_exactly_once_as_long_as_one_honest_holder_is_reachable.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None
)


def test_an_empty_set_of_missing_blocks_is_finished_at_once():
    assert start(3, missing=set()).handle(steps.Tick(), 0.0) == [steps.Finished()]


def test_without_a_holder_it_says_once_that_it_is_stuck():
    download = start(3)
    assert download.handle(steps.Tick(), 0.0) == [steps.Stuck()]
    assert download.handle(steps.Tick(), 1.0) == []
    assert fetches(download.handle(steps.HolderJoined("a"), 2.0))
    assert of_kind(download.handle(steps.HolderLeft("a"), 3.0), steps.Stuck)


def test_downloaders_with_different_seeds_begin_at_different_blocks():
    firsts = {fetches(start(64, seed=seed).handle(steps.HolderJoined("a"), 0.0))[0].index for seed in range(0, 64, 8)}
    assert len(firsts) == 8


def test_a_liar_is_dropped_for_good_and_its_blocks_are_asked_of_another():
    download = start(8)
    asked = fetches(download.handle(steps.HolderJoined("liar"), 0.0))
    download.handle(steps.HolderJoined("honest"), 0.0)
    download.handle(steps.Arrived(asked[0].ask), 0.1)
    decisions = download.handle(steps.Lied(asked[0].ask, "not the block"), 0.2)
    assert steps.Dropped("liar", "not the block", for_good=True) in decisions
    assert steps.Cancel(asked[1].ask) in decisions
    assert all(fetch.holder == "honest" for fetch in fetches(download.handle(steps.HolderJoined("liar"), 0.3)))


def test_a_holder_without_the_content_is_dropped_until_it_joins_again():
    download = start(8)
    asked = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    decisions = download.handle(steps.Gone(asked[0].ask, "not here"), 0.1)
    assert steps.Dropped("a", "not here", for_good=False) in decisions
    assert steps.Cancel(asked[1].ask) in decisions
    assert not fetches(download.handle(steps.Tick(), 9.0))
    assert fetches(download.handle(steps.HolderJoined("a"), 9.1))


def test_a_slow_drip_is_abandoned_at_its_deadline_and_its_block_asked_of_another():
    limits = PaceLimits()
    download = start(2)
    slow = fetches(download.handle(steps.HolderJoined("slow"), 0.0))
    assert [fetch.timeout for fetch in slow] == [limits.first_deadline] * 2
    assert download.wake() == limits.overdue
    assert not fetches(download.handle(steps.HolderJoined("other"), 1.0)), "nothing is overdue yet"
    assert {fetch.index for fetch in fetches(download.handle(steps.Tick(), limits.overdue))} == {0, 1}
    cancelled = of_kind(download.handle(steps.Tick(), limits.first_deadline), steps.Cancel)
    assert {cancel.ask for cancel in cancelled} >= {fetch.ask for fetch in slow}


def test_an_ask_that_waits_for_this_peers_own_allowance_is_neither_late_nor_asked_elsewhere():
    download = start(1)
    (fetch,) = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    download.handle(steps.Held(fetch.ask), 1.0)
    assert not fetches(download.handle(steps.HolderJoined("b"), 1.0))
    assert download.wake() is None
    assert download.handle(steps.Tick(), 1000.0) == []
    assert download.handle(steps.Moved(fetch.ask), 1000.0) == []
    assert [hedge.holder for hedge in fetches(download.handle(steps.Tick(), 1002.1))] == ["b"]
    assert steps.Cancel(fetch.ask) in download.handle(steps.Tick(), 1008.1)


def test_pieces_keep_an_ask_alive_but_not_from_being_asked_elsewhere():
    download = start(1)
    (fetch,) = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    for second in range(1, 60):
        assert download.handle(steps.Moved(fetch.ask), float(second)) == []
    assert [hedge.holder for hedge in fetches(download.handle(steps.HolderJoined("b"), 60.0))] == ["b"]


def test_the_loser_of_a_hedged_block_is_cancelled_and_its_answer_ignored():
    download = start(1)
    (slow,) = fetches(download.handle(steps.HolderJoined("slow"), 0.0))
    download.handle(steps.HolderJoined("fast"), 0.0)
    (hedge,) = fetches(download.handle(steps.Tick(), 5.0))
    assert (hedge.holder, hedge.index) == ("fast", slow.index)
    assert download.handle(steps.Arrived(hedge.ask), 5.1) == [steps.Store(hedge.ask, "fast", 0)]
    assert download.handle(steps.Stored(hedge.ask), 5.2) == [steps.Cancel(slow.ask), steps.Finished()]
    assert download.handle(steps.Arrived(slow.ask), 5.3) == []


def test_a_second_answer_that_comes_while_the_first_is_checked_is_not_stored():
    download = start(1)
    (slow,) = fetches(download.handle(steps.HolderJoined("liar"), 0.0))
    download.handle(steps.HolderJoined("honest"), 0.0)
    (hedge,) = fetches(download.handle(steps.Tick(), 5.0))
    assert of_kind(download.handle(steps.Arrived(slow.ask), 5.1), steps.Store)
    assert not of_kind(download.handle(steps.Arrived(hedge.ask), 5.2), steps.Store)
    again = fetches(download.handle(steps.Lied(slow.ask, "not the block"), 5.3))
    assert [(fetch.holder, fetch.index) for fetch in again] == [("honest", 0)]


def test_a_failing_holder_rests_longer_each_time_and_is_tried_again():
    download = start(1)
    (ask,) = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    now, rests = 0.0, []
    for _ in range(9):
        assert of_kind(download.handle(steps.Failed(ask.ask), now), steps.Stuck)
        rests.append(download.wake() - now)
        now = download.wake()
        (ask,) = fetches(download.handle(steps.Tick(), now))
    assert rests == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_block_that_one_holder_never_gives_does_not_hold_up_the_others():
    download, now, stored = start(10), 0.0, set()
    waiting = fetches(download.handle(steps.HolderJoined("a"), now))
    for _ in range(60):
        decisions = []
        for ask in waiting:
            if ask.index == 0:
                decisions += download.handle(steps.Failed(ask.ask), now)
                continue
            decisions += download.handle(steps.Arrived(ask.ask), now)
            decisions += download.handle(steps.Stored(ask.ask), now)
            stored.add(ask.index)
        waiting = fetches(decisions)
        if not waiting:
            now = download.wake()
            waiting = fetches(download.handle(steps.Tick(), now))
    assert stored == set(range(1, 10))


def test_requests_that_fail_together_count_once():
    download = start(4)
    for ask in fetches(download.handle(steps.HolderJoined("a"), 0.0)):
        download.handle(steps.Failed(ask.ask), 1.0)
    assert download.wake() == 1.5


def test_a_busy_holder_is_left_alone_as_long_as_it_says_but_not_for_hours():
    download = start(1)
    (ask,) = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    download.handle(steps.Declined(ask.ask, 3.0), 0.0)
    assert not fetches(download.handle(steps.Tick(), 2.9))
    (ask,) = fetches(download.handle(steps.Tick(), 3.0))
    download.handle(steps.Declined(ask.ask, 1e9), 3.0)
    assert download.wake() == 33.0


def test_a_slow_but_honest_link_is_given_more_time_after_each_late_answer():
    download = start(1)
    (ask,) = fetches(download.handle(steps.HolderJoined("a"), 0.0))
    timeouts = []
    for _ in range(6):
        timeouts.append(ask.timeout)
        download.handle(steps.Tick(), download._asks[ask.ask].deadline)
        (ask,) = fetches(download.handle(steps.Tick(), download.wake()))
    assert timeouts == [8.0, 16.0, 32.0, 64.0, 120.0, 120.0]


def test_the_rarest_block_is_asked_first():
    download = start(4)
    # Three blocks are at two partial holders, block 2 at one only.
    first = fetches(download.handle(steps.HolderJoined("x", frozenset({0, 1, 3})), 0.0))
    download.handle(steps.HolderLeft("x"), 0.0)
    assert first
    wanted = Wanted(4, range(4), 0)
    wanted.count({0, 1, 2, 3}, 1)
    wanted.count({0, 1, 3}, 1)
    assert wanted.first() == 2
    assert wanted.first_of({0, 1}) == 0


@given(
    indexes=st.sets(st.integers(0, 30)),
    start=st.integers(0, 10**9),
    changes=st.lists(st.tuples(st.sampled_from("+-ra"), st.integers(0, 30)), max_size=60),
)
def test_wanted_blocks_come_by_rarity_then_round_from_the_start(indexes, start, changes):
    wanted, members, holders, attempts = Wanted(31, indexes, start), set(indexes), Counter(), Counter()
    for change, index in changes:
        if change in "+-":
            step = 1 if change == "+" or not holders[index] else -1
            wanted.count([index], step)
            holders[index] += step
        elif change == "r":
            wanted.remove(index)
            members.discard(index)
        else:
            wanted.put_back(index)
            attempts[index] += index not in members
            members.add(index)
        best = min(members, key=lambda i: (holders[i] + attempts[i], (i - start) % 31), default=None)
        assert wanted.first() == best
        assert wanted.first_of(frozenset(range(31))) == best
        assert len(wanted) == len(members)


def run_link(pace, now, seconds, rate, delay):
    """Answers at `rate` bytes/s in all and `delay` s at least, window always full, for `seconds`."""
    waiting, free_at, end = [], now, now + seconds
    while now < end:
        while pace.has_room(now):
            pace.asked(BLOCK, now)
            free_at = max(free_at, now) + BLOCK / rate
            waiting.append((max(free_at, now + delay), now))
        done, asked_at = waiting.pop(0)
        now = max(now, done)
        pace.answered(BLOCK, asked_at, now)
    return now


def test_a_window_grows_while_throughput_grows_and_stays_when_it_does_not():
    far, near = Pace(PaceLimits()), Pace(PaceLimits())
    run_link(far, 0.0, 20.0, rate=1e9, delay=0.1)
    run_link(near, 0.0, 20.0, rate=1e6, delay=0.0)
    assert far.window >= 12
    assert near.window <= 4
    assert near.rate == pytest.approx(1e6, rel=0.1)


@given(st.lists(st.tuples(st.sampled_from("afbl"), st.floats(0, 5)), max_size=80))
def test_a_window_stays_within_its_bounds_whatever_happens(happenings):
    limits = PaceLimits()
    pace, now = Pace(limits), 0.0
    for kind, seconds in happenings:
        pace.asked(BLOCK, now)
        asked_at, now = now, now + seconds
        match kind:
            case "a":
                pace.answered(BLOCK, asked_at, now)
            case "b":
                pace.busy(BLOCK, seconds, now)
            case _:
                pace.failed(BLOCK, asked_at, now, late=kind == "l")
        assert 1 <= pace.window <= limits.max_window
        assert limits.min_deadline <= pace.deadline(BLOCK) <= limits.max_deadline
        assert pace.overdue(BLOCK) <= limits.overdue
        assert pace.rests_until <= now + limits.max_rest
        assert pace.in_flight == pace.in_flight_bytes == 0
