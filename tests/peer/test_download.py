"""The scheduler alone: events in, decisions out, no clock and no network."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.content import MAX_BLOCK, Layout
from peer.fetching import candidates, steps
from peer.fetching.block_sets import set_of
from peer.fetching.budget import Budget
from peer.fetching.download import Download, DownloadLimits
from peer.fetching.pace import Pace, PaceLimits
from tests.examples import examples

BLOCK = 64 * 1024
LIARS = ("liar-whole", "liar-partial")
PARTIAL = ("liar-partial", "partial-1", "partial-2")
HOLDERS = ("liar-whole", "whole-1", "whole-2", *PARTIAL)
PATIENCE = DownloadLimits().patience
LATE = PaceLimits().overdue
# Two blocks asked at once of a holder that is not known yet.
TWO = DownloadLimits(pace=PaceLimits(first_window=2))
HUNGRY, HUNGRY_ASKS = 6, 2
QUICK = 6_500_000
LONGEST_RUN = MAX_BLOCK // BLOCK


def fetches(decisions):
    return [decision for decision in decisions if isinstance(decision, steps.Fetch)]


def of_kind(decisions, kind):
    return [decision for decision in decisions if isinstance(decision, kind)]


def blocks_of(number):
    """The blocks of a set."""
    return {index for index in range(number.bit_length()) if number >> index & 1}


def run_of(step):
    """The blocks that a step of certain blocks is about."""
    return set(range(step.index, step.index + step.count))


def share_of(most_bytes):
    return Budget(most_bytes).share(lambda: None)


def start(blocks, *, missing=None, limits=None, seed=0, most_bytes=16 * MAX_BLOCK):
    layout, missing = Layout(blocks * BLOCK), set(range(blocks)) if missing is None else missing
    return Download(layout, missing, limits or DownloadLimits(), seed, share_of(most_bytes))


@dataclass
class Asked:
    """An ask as the world sees it: `blocks` are those that it brings, once that is known."""

    fetch: steps.Fetch
    counted: bool
    since: float
    blocks: set[int]


class Swarm(RuleBasedStateMachine):
    """A world that loses, delays, lies, leaves and comes back; in the end honest holders together hold every block."""

    @initialize(
        blocks=st.integers(1, 40),
        seed=st.integers(0, 2**32),
        budget=st.integers(1, 20),
        helpers=st.integers(0, 3),
    )
    def begin(self, blocks, seed, budget, helpers):
        self.layout = Layout(blocks * BLOCK - 17)
        self.size = min(BLOCK, self.layout.size)
        self.most_bytes, self.share = budget * BLOCK, share_of(budget * BLOCK)
        self.download = Download(self.layout, set(range(blocks)), DownloadLimits(), seed, self.share)
        self.random = random.Random(seed)
        self.helpers = helpers
        self.now = 0.0
        self.waiting: dict[int, Asked] = {}
        self.storing: dict[int, steps.Store] = {}
        self.counted: dict[int, bool] = {}
        self.stored: Counter[int] = Counter()
        self.present: dict[str, bool] = {}
        self.dropped: set[str] = set()
        self.waited: dict[str, bool] = {}
        self.finished = 0
        self.stuck = False

    @property
    def coming(self):
        """The blocks that are known to be on their way."""
        return self.in_storage.union(*(ask.blocks for ask in self.waiting.values()))

    @property
    def in_storage(self):
        """The blocks that are being stored."""
        return set().union(*map(run_of, self.storing.values()))

    @property
    def free(self):
        return set(range(self.layout.block_count)) - self.coming - set(self.stored)

    def tell(self, event):
        asked = set()
        decisions = self.download.handle(event, self.now)
        for decision in decisions:
            match decision:
                case steps.Fetch(_, holder):
                    self.is_asked(decision)
                    asked.add(holder)
                case steps.Cancel(ask):
                    del self.waiting[ask]
                case steps.Store(ask):
                    assert run_of(decision)
                    assert not run_of(decision) & (self.in_storage | set(self.stored))
                    self.storing[ask] = decision
                case steps.Dropped(holder, _, for_good):
                    if for_good:
                        assert holder in LIARS
                        self.dropped.add(holder)
                    self.go(holder)
                case steps.Finished():
                    self.finished += 1
                case steps.Stuck():
                    self.stuck = True
        self.stuck = self.stuck and not self.waiting and not self.storing
        for name in asked:  # a window may shrink below what is under way, but nothing is asked beyond it
            under_way = sum(ask.fetch.holder == name for ask in self.waiting.values())
            assert under_way <= self.download._candidates.holders[name].pace.window
        return decisions

    def go(self, name):
        self.present.pop(name, None)
        self.waited.pop(name, None)

    def is_asked(self, fetch):
        assert fetch.holder in self.present
        assert fetch.holder not in self.dropped
        assert fetch.patience == PATIENCE
        if fetch.index is None:
            assert fetch.lacking
            assert blocks_of(fetch.lacking) <= self.free
            assert fetch.count <= len(blocks_of(fetch.lacking))
            assert not (fetch.first_hand and self.waited.get(fetch.holder)), "it has waited in vain for that"
        else:
            assert not fetch.first_hand
            assert not fetch.lacking
            assert not run_of(fetch) & (self.in_storage | set(self.stored))
            bringing = [ask.fetch.holder for ask in self.waiting.values() if ask.blocks & run_of(fetch)]
            assert len(bringing) <= 1, "two are enough"
            assert fetch.holder not in bringing
        assert fetch.count * BLOCK <= MAX_BLOCK
        hedges = fetch.index is not None and bool(bringing)
        assert fetch.count == 1 or hedges or all(self.present.values()), "who fetches too is given single blocks"
        counted = self.present[fetch.holder] or fetch.index is not None
        self.waiting[fetch.ask] = Asked(fetch, counted, self.now, set() if fetch.index is None else run_of(fetch))

    def pick(self, data, table):
        return data.draw(st.sampled_from(sorted(table)))

    def choices(self, ask, name):
        """What a holder may begin an answer with; a liar with everything, and more."""
        found = self.waiting[ask]
        if name in LIARS:
            return list(range(self.layout.block_count + 2))
        return sorted(found.blocks)[:1] or sorted(blocks_of(found.fetch.lacking))

    @rule(name=st.sampled_from(HOLDERS), steady_rate=st.sampled_from([0.0, QUICK / 2, QUICK, 1e8]))
    def joins(self, name, steady_rate):
        if name not in self.dropped:
            self.present[name] = name not in PARTIAL or self.present.get(name, False)
        self.tell(steps.HolderJoined(name, name not in PARTIAL, steady_rate))

    @rule(name=st.sampled_from(PARTIAL))
    def has_become_complete(self, name):
        if name not in self.dropped:
            self.present[name] = True
        self.tell(steps.HolderJoined(name, complete=True))

    @rule(name=st.sampled_from(HOLDERS))
    def leaves(self, name):
        self.go(name)
        self.tell(steps.HolderLeft(name))
        assert name not in {ask.fetch.holder for ask in self.waiting.values()}

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def is_announced(self, data):
        ask = self.pick(data, self.waiting)
        name = self.waiting[ask].fetch.holder
        self.announce(ask, data.draw(st.sampled_from(self.choices(ask, name))))

    def announce(self, ask, index):
        """The holder says which block it is going to send; one that comes from elsewhere is cancelled."""
        found, free = self.waiting[ask], self.free
        before = found.blocks
        if index == min(before, default=None) or (not before and index in free):
            found.since = self.now
            if found.fetch.count == 1:
                found.blocks, found.counted = before or {index}, True
        decisions = self.tell(steps.Chosen(ask, index))
        if before:
            assert ask in self.waiting, "what it says of a block that was named changes nothing"
        elif index in free:
            assert ask in self.waiting
        else:
            assert steps.Cancel(ask) in decisions
        if not before and index >= self.layout.block_count:
            assert found.fetch.holder in self.dropped

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def arrives(self, data):
        ask = self.pick(data, self.waiting)
        indexes = self.choices(ask, self.waiting[ask].fetch.holder)
        self.bring(ask, data.draw(st.sampled_from([index for index in indexes if index < self.layout.block_count])))

    def bring(self, ask, index):
        """An answer comes that begins with a block, and has as many that follow as the holder likes."""
        found = self.waiting.pop(ask)
        stored = self.in_storage | set(self.stored)
        most, wanted = 1, found.blocks or blocks_of(found.fetch.lacking)
        while most < found.fetch.count and index + most in wanted:
            most += 1
        count = self.random.randint(1, most)
        blocks = set(range(index, index + count))
        self.counted[ask] = True
        decisions = self.tell(steps.Arrived(ask, index, count=count))
        if found.blocks and not (blocks <= found.blocks and index == min(found.blocks)):
            assert found.fetch.holder in self.dropped
        else:
            stores = [store for store in decisions if isinstance(store, steps.Store)]
            assert len(stores) == bool(blocks - stored), "something of it is new"
            assert all(run_of(store) <= blocks - stored for store in stores)

    @precondition(lambda self: any(ask.fetch.lacking for ask in self.waiting.values()))
    @rule(data=st.data(), early=st.booleans())
    def brings_nothing(self, data, early):
        ask = self.pick(data, [ask for ask, found in self.waiting.items() if found.fetch.lacking])
        self.give_nothing(ask, early=early)

    def give_nothing(self, ask, *, early):
        found = self.waiting[ask]
        name = found.fetch.holder
        early = early and (name in LIARS or not self.present[name])
        if not early:
            self.now = max(self.now, found.since + PATIENCE)
        early = self.now < found.since + PATIENCE / 2
        lies = early and self.present[name]
        if not early:
            self.waited[name] = found.fetch.first_hand
        del self.waiting[ask]
        self.tell(steps.Nothing(ask))
        assert (name in self.dropped) == lies

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
            self.stored.update(run_of(store))
            self.tell(steps.Stored(ask))
            lacking = set(range(self.layout.block_count)) - set(self.stored)
            asked = [found.blocks for found in self.waiting.values() if found.blocks]
            assert all(blocks & lacking for blocks in asked), "who would send only what is there is cancelled"

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), kind=st.sampled_from(["failed", "declined", "lied", "gone"]), pause=st.floats(0, 100))
    def goes_wrong(self, data, kind, pause):
        ask = self.pick(data, self.waiting)
        name = self.waiting.pop(ask).fetch.holder
        if kind == "lied" and name not in LIARS:
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

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seconds=st.floats(0.001, 500))
    def waits_for_its_own_allowance(self, data, seconds):
        ask = self.pick(data, self.waiting)
        self.tell(steps.Held(ask))
        self.now += seconds
        self.tell(steps.Tick())
        assert ask in self.waiting, "its time stood still"
        self.waiting[ask].since = self.now
        self.tell(steps.Moved(ask))
        assert ask in self.waiting

    @rule(number=st.integers(0, 500))
    def hears_of_asks_that_are_over(self, number):
        if number in self.waiting or number in self.storing:
            return
        late = (steps.Nothing, steps.Stored, steps.Failed, steps.Held, steps.Moved)
        events = [kind(number) for kind in late]
        events += [steps.Chosen(number, 0), steps.Arrived(number, 0), steps.Lied(number, "late")]
        for event in events:
            before = set(self.waiting)
            self.tell(event)
            assert set(self.waiting) == before

    @property
    def in_flight(self):
        asked = sum(ask.fetch.count for ask in self.waiting.values() if ask.counted)
        return self.size * (asked + sum(store.count for store in self.storing.values()))

    @invariant()
    def no_holder_exceeds_its_window_and_none_the_budget(self):
        if not hasattr(self, "download"):
            return
        asked = Counter(ask.fetch.holder for ask in self.waiting.values())
        for name, holder in self.download._candidates.holders.items():
            assert holder.pace.in_flight == asked[name] <= 16
            assert holder.waiting == sum(
                ask.fetch.count for ask in self.waiting.values() if ask.fetch.holder == name and not ask.blocks
            )
        assert self.in_flight == self.share.taken

    @invariant()
    def a_needed_block_is_asked_of_a_usable_holder_with_room(self):
        """Every holder with room has an ask for whatever it can give, and as many as there are blocks if that helps.

        Where others fetch too it is one ask, for what comes first hand, as long as enough is on its way: then any hand
        will do. And an ask that had nothing first hand within its patience is followed by one of any hand: so within
        twice that time every block is asked for that a holder with room has. What one is asked for instead of another
        may leave that one with room until the next event.
        """
        if not hasattr(self, "download"):
            return
        self.tell(steps.Tick())
        whole = sum(self.present.values())
        others = whole < len(self.present)
        any_hand = sum(not ask.blocks and not ask.fetch.first_hand for ask in self.waiting.values())
        hungry = sum(bool(ask.blocks) for ask in self.waiting.values()) < HUNGRY and any_hand < HUNGRY_ASKS
        for name, complete in self.present.items():
            holder = self.download._candidates.holders[name]
            if not holder.pace.has_room(self.now):
                continue
            quick = complete and not others and holder.pace.steady_rate >= QUICK
            most = self.size * (LONGEST_RUN if quick else 1)
            room = not self.in_flight or self.in_flight + most <= self.most_bytes
            if not complete:
                assert holder.waiting >= min(len(self.free), len(self.free) if hungry else 1)
            elif room and whole > 1 and not others:
                assert not self.free
            elif room:
                share = self.free & blocks_of(self.download._candidates.share(holder) & ~holder.failed)
                assert holder.waiting >= min(len(share), 1 if others and not hungry else len(share))
                if holder.waiting >= len(share):
                    fresh = sum(
                        ask.fetch.count * (self.now < ask.since + LATE)
                        for ask in self.waiting.values()
                        if not ask.blocks and self.present[ask.fetch.holder]
                    )
                    assert not self.free - share or fresh >= len(self.free)

    @invariant()
    def it_is_stuck_only_when_nothing_is_under_way(self):
        if not hasattr(self, "download"):
            return
        over = sum(self.stored.values()) == self.layout.block_count
        assert self.finished == int(over)
        assert bool(self.waiting or self.storing or over or self.stuck or not self.present or self.resting())

    def resting(self):
        return any(holder.pace.rests_until > self.now for holder in self.download._candidates.holders.values())

    def teardown(self):
        """From here on only honest helpers answer, who hold every block together: each comes exactly once."""
        if not hasattr(self, "download"):
            return
        has = {f"honest-{number}": set() for number in range(max(1, self.helpers))}
        for index in range(self.layout.block_count):
            has[self.random.choice(sorted(has))].add(index)
        if not self.helpers:
            has["honest-0"] = set(range(self.layout.block_count))
        for name in has:
            self.present[name] = not self.helpers
            self.tell(steps.HolderJoined(name, complete=not self.helpers))
        # Each gains its blocks while the download runs.
        here = {name: set(self.random.sample(sorted(all_), len(all_) // 2)) for name, all_ in has.items()}
        for _ in range(400 * self.layout.block_count + 4000):
            if self.finished:
                break
            for ask in list(self.storing):
                self.check(ask)
            if not self.honest_answers(here if self.helpers else has) and not self.storing and not self.finished:
                ends = [found.since + PATIENCE for found in self.waiting.values() if found.fetch.holder in has]
                self.now = min(time for time in (self.download.wake(), *ends) if time is not None and time > self.now)
                self.tell(steps.Tick())
                for name, blocks in here.items():
                    blocks.update(sorted(has[name] - blocks)[:1])
        assert self.finished == 1
        assert self.stored == Counter(range(self.layout.block_count))
        assert not self.waiting
        assert self.download.missing == 0
        assert self.download.wake() is None

    def honest_answers(self, has):
        """Tells whether anybody who is honest had an answer."""
        answered = False
        for ask in list(self.waiting):
            found = self.waiting.get(ask)
            if found is None or found.fetch.holder not in has:
                continue
            here = has[found.fetch.holder]
            able = [min(found.blocks)] if found.blocks else sorted(blocks_of(found.fetch.lacking) & here)
            if able and set(able) <= here:
                answered = True
                index = self.random.choice(able)
                if self.random.random() < 0.5:
                    self.announce(ask, index)
                if ask in self.waiting:
                    self.bring(ask, index)
            elif self.now >= found.since + PATIENCE:
                answered = True
                if found.fetch.lacking:
                    self.give_nothing(ask, early=False)
                else:
                    del self.waiting[ask]
                    self.tell(steps.Declined(ask, 0.25))
        return answered


test_every_block_comes_exactly_once_as_long_as_the_honest_holders_together_have_it = Swarm.TestCase
test_every_block_comes_exactly_once_as_long_as_the_honest_holders_together_have_it.settings = settings(
    max_examples=examples(80), stateful_step_count=40, deadline=None
)


def join(download, name, now=0.0, *, complete=True):
    """Returns what is asked when a holder joins."""
    return fetches(download.handle(steps.HolderJoined(name, complete), now))


def give(download, fetch, index, now):
    """The block comes and is stored at once; returns what is asked next."""
    decisions = download.handle(steps.Arrived(fetch.ask, index), now)
    assert of_kind(decisions, steps.Store)
    return fetches(decisions) + fetches(download.handle(steps.Stored(fetch.ask), now))


def test_an_empty_set_of_missing_blocks_is_finished_at_once():
    assert start(3, missing=set()).handle(steps.Tick(), 0.0) == [steps.Finished()]


def test_without_a_holder_it_says_once_that_it_is_stuck():
    download = start(3)
    assert download.handle(steps.Tick(), 0.0) == [steps.Stuck()]
    assert download.handle(steps.Tick(), 1.0) == []
    assert join(download, "a", 2.0)
    assert of_kind(download.handle(steps.HolderLeft("a"), 3.0), steps.Stuck)


# Who is asked for what.


def test_a_lone_holder_is_told_what_is_lacking_and_not_on_its_way():
    download = start(6, missing={1, 3, 4}, limits=TWO)
    first, second = join(download, "a")
    assert [blocks_of(fetch.lacking) for fetch in (first, second)] == [{1, 3, 4}] * 2
    assert download.handle(steps.Chosen(first.ask, 3), 0.1) == []
    store, third = download.handle(steps.Arrived(first.ask, 3), 0.2)
    assert store == steps.Store(first.ask, "a", 3)
    assert blocks_of(third.lacking) == {1, 4}
    assert download.handle(steps.Chosen(second.ask, 1), 0.3) == []
    assert not fetches(download.handle(steps.Stored(first.ask), 0.3)), "the one that is left is asked for"
    assert not give(download, third, 4, 0.4)


def test_several_complete_holders_give_one_lone_peer_each_block_once_by_its_index():
    download, waiting = start(12, limits=TWO), []
    for name in "abc":
        waiting += join(download, name)
    for fetch in waiting[:2]:  # a was alone then
        download.handle(steps.Declined(fetch.ask, 0.01), 0.0)
    given, now, waiting = Counter(), 0.01, waiting[2:] + fetches(download.handle(steps.Tick(), 0.01))
    while waiting:
        fetch = waiting.pop(0)
        given[fetch.holder, fetch.index] += 1
        now += 0.01
        waiting += give(download, fetch, fetch.index, now)
    assert {index for _, index in given} == set(range(12))
    assert sum(given.values()) == 12
    assert {name for name, _ in given} == set("abc")
    assert not download.missing


def test_of_several_complete_holders_each_is_first_asked_for_its_share_the_same_by_every_peer():
    shares = []
    for seed, names in ((1, "ab"), (77, "ba")):
        download = start(20, seed=seed)
        join(download, "partial", complete=False)
        (alone,) = join(download, names[0])
        assert blocks_of(alone.lacking) == set(range(20)), "a lone one is to choose from everything"
        (other,), (further,) = join(download, names[1]), give(download, alone, 0, 0.1)
        shares.append({fetch.holder: blocks_of(fetch.lacking) for fetch in (other, further)})
    evens, odds = set(range(0, 20, 2)), set(range(1, 20, 2))
    assert shares == [{"a": evens - {0}, "b": odds}, {"a": evens, "b": odds}]


def test_of_what_is_left_others_are_asked_by_index_and_so_is_what_is_not_given():
    download = start(3, missing={0, 2})
    join(download, "partial", complete=False)
    (waiting,) = join(download, "a")
    # Both are of the share of a, which is asked for one: b gives the other.
    (left,) = join(download, "b")
    assert left.index == 0
    assert not give(download, left, 0, 0.1)
    assert not fetches(download.handle(steps.Tick(), LATE - 0.01)), "b is to wait for a, but a while only"
    (last,) = fetches(download.handle(steps.Tick(), LATE))
    assert (last.holder, last.index) == ("b", 2)
    assert steps.Cancel(waiting.ask) in download.handle(steps.Chosen(waiting.ask, 2), LATE + 0.1)


def test_of_a_peer_that_is_fetching_too_an_ask_costs_nothing_until_it_has_chosen():
    download = start(8, most_bytes=BLOCK)
    asked = [fetch for name in "pqr" for fetch in join(download, name, complete=False)]
    assert [fetch.holder for fetch in asked] == ["p", "p", "q", "r"]
    assert all(blocks_of(fetch.lacking) == set(range(8)) for fetch in asked)
    assert len(join(download, "whole")) == 1
    assert not of_kind(download.handle(steps.Chosen(0, 5), 0.1), steps.Cancel)
    assert download.handle(steps.Chosen(2, 5), 0.1)[0] == steps.Cancel(2)


def test_where_others_fetch_too_a_few_asks_take_what_comes_and_the_rest_what_comes_first_hand():
    download = start(40)
    asked = [fetch for name in "pqr" for fetch in join(download, name, complete=False)]
    assert [(fetch.holder, fetch.first_hand) for fetch in asked] == [
        ("p", False),
        ("p", False),
        ("q", True),
        ("r", True),
    ]


def test_when_enough_is_on_its_way_only_what_comes_first_hand_will_do():
    download, waiting = start(40), []
    for number in range(HUNGRY):
        waiting += join(download, f"p{number}", complete=False)
    for number in range(HUNGRY - 1):
        waiting += fetches(download.handle(steps.Chosen(waiting.pop(0).ask, number), 0.1))
    assert sum(not fetch.first_hand for fetch in waiting) == HUNGRY_ASKS
    again = fetches(download.handle(steps.Chosen(waiting.pop(0).ask, 39), 0.1))
    assert [fetch.first_hand for fetch in again] == [True]


def test_the_last_block_is_asked_for_of_any_hand_also_where_an_ask_for_the_first_hand_waits():
    download = start(40, missing={7})
    asked = [fetch for name in "pqr" for fetch in join(download, name, complete=False)]
    assert [(fetch.holder, fetch.first_hand) for fetch in asked] == [("p", False), ("q", False), ("r", True)]
    again = download.handle_all([steps.HolderLeft("p"), steps.HolderLeft("q")], 0.1)
    assert [(fetch.holder, fetch.first_hand) for fetch in fetches(again)] == [("r", False)]


def test_an_ask_that_had_nothing_first_hand_within_its_patience_is_followed_by_one_of_any_hand():
    download = start(40)
    for name in "pq":
        join(download, name, complete=False)
    (fetch,) = join(download, "r", complete=False)
    for count, first_hand in enumerate((True, False), start=1):
        assert fetch.first_hand == first_hand
        after = fetches(download.handle(steps.Nothing(fetch.ask), PATIENCE * count))
        (fetch, *_) = [one for one in after if one.holder == "r"]


def test_a_lone_complete_holder_whose_turn_was_not_ours_is_asked_for_any_hand_too():
    download = start(40)
    for name in "pq":
        join(download, name, complete=False)
    (fetch,) = join(download, "whole")
    assert fetch.first_hand
    after = fetches(download.handle(steps.Nothing(fetch.ask), PATIENCE))
    assert ("whole", False) in [(one.holder, one.first_hand) for one in after]


def test_holders_that_are_known_together_are_asked_as_such():
    joined = [steps.HolderJoined(name) for name in "ab"]
    asked = fetches(start(8, limits=TWO).handle_all(joined, 0.0))
    assert {fetch.holder for fetch in asked} == {"a", "b"}
    assert len({fetch.index for fetch in asked} - {None}) == len(asked) == 4


def test_downloaders_with_different_seeds_begin_at_different_blocks():
    firsts = set()
    for seed in range(0, 64, 8):
        download = start(64, seed=seed)
        join(download, "a")
        firsts.add(join(download, "b")[0].index)
    assert len(firsts) == 8


# Blocks that come twice.


def test_a_block_that_is_announced_while_another_sends_it_is_cancelled_and_another_asked_for():
    download = start(4)
    (first, _), (second,) = join(download, "p", complete=False), join(download, "q", complete=False)
    (further,) = download.handle(steps.Chosen(first.ask, 2), 0.1)
    assert (further.holder, blocks_of(further.lacking)) == ("q", {0, 1, 3})
    download.handle(steps.Chosen(further.ask, 3), 0.1)
    cancel, again = download.handle(steps.Chosen(second.ask, 2), 0.2)
    assert cancel == steps.Cancel(second.ask)
    assert (again.holder, blocks_of(again.lacking)) == ("q", {0, 1})
    give(download, first, 2, 0.3)
    assert download.handle(steps.Arrived(second.ask, 2), 0.4) == []


@pytest.mark.parametrize(("took", "announced"), [(0.05, False), (0.2, True)])
def test_blocks_of_complete_holders_are_announced_unless_they_come_at_once(took, announced):
    download = start(40)
    waiting = join(download, "a")
    assert all(fetch.announced for fetch in waiting), "it is not known yet how quick it is"
    further = give(download, waiting[0], 0, took)
    assert further
    assert all(fetch.announced == announced for fetch in further)


# Runs of blocks.


FAST, SLOW = 100e6, 6e6


def join_with(download, name, rate, *, complete=True, now=0.0):
    return fetches(download.handle(steps.HolderJoined(name, complete, rate), now))


def give_run(download, fetch, index, count, now):
    """So many blocks come in one answer and are stored at once; returns what is asked next."""
    decisions = download.handle(steps.Arrived(fetch.ask, index, count=count), now)
    assert [run_of(store) for store in of_kind(decisions, steps.Store)] == [set(range(index, index + count))]
    return fetches(decisions) + fetches(download.handle(steps.Stored(fetch.ask), now))


def test_a_holder_that_is_known_to_be_quick_is_asked_for_runs_of_blocks_and_announces_nothing():
    asked = join_with(start(64), "a", FAST)
    assert [fetch.count for fetch in asked] == [16, 16, 16, 16], "1 MiB each"
    assert not any(fetch.announced for fetch in asked)


@pytest.mark.parametrize(("rate", "longest"), [(SLOW, 1), (7e6, 2), (13e6, 3), (20e6, 6), (1e9, 16)])
def test_a_run_is_as_long_as_comes_in_no_time(rate, longest):
    assert {fetch.count for fetch in join_with(start(64), "a", rate)} == {longest}


def test_the_last_run_has_what_is_left():
    assert [fetch.count for fetch in join_with(start(20), "a", FAST)] == [16, 4]


def test_a_holder_that_turns_out_to_be_quick_is_asked_for_longer_and_longer_runs():
    download = start(200)
    waiting = join(download, "a")
    for index, ask in enumerate(waiting[:3]):
        further = give(download, ask, index, 0.016)
        assert {fetch.count for fetch in further} == {1}, "they may have come in a burst"
    further = give(download, waiting[3], 3, 0.016)
    assert further[0].count == 5, "as many as come in 20 ms, when four have come in 16"


def test_a_holder_that_was_quick_and_is_late_counts_as_quick_no_longer():
    download = start(64)
    (run, *_) = join_with(download, "a", FAST)
    deadline = download._asks.open[run.ask].deadline
    download.handle(steps.Tick(), deadline)
    assert download.steady_rate("a") == 0
    assert {fetch.count for fetch in fetches(download.handle(steps.Tick(), deadline + 60))} == {1}


def test_who_gives_fewer_blocks_than_it_may_is_asked_for_the_others_again():
    download = start(16)
    (run,) = join_with(download, "a", FAST)
    further = give_run(download, run, 2, 5, 0.01)
    assert {fetch.lacking for fetch in further} == {set_of(set(range(16)) - {2, 3, 4, 5, 6})}
    assert [fetch.count for fetch in further] == [10, 1], "at most twice as many as it has given"


def test_of_several_quick_holders_each_is_asked_for_runs_of_its_own():
    download = start(100)
    join_with(download, "a", FAST)
    download.handle(steps.HolderLeft("a"), 0.0)
    joined = [steps.HolderJoined(name, steady_rate=FAST) for name in "ab"]
    asked = fetches(download.handle_all(joined, 0.0))
    assert {fetch.holder for fetch in asked} == {"a", "b"}
    assert sum(fetch.count for fetch in asked) == len(set().union(*map(run_of, asked))) == 100
    (first,) = (fetch for fetch in asked if fetch.index == 0)
    further = give_run(download, first, 0, 3, 0.01)
    assert set(range(3, 16)) <= set().union(*map(run_of, further)), "what it did not give is asked for again"


def test_a_run_never_has_blocks_that_are_there_already():
    download = start(64, missing={0, 1, 2, 7, 8, 30})
    joined = [steps.HolderJoined(name, steady_rate=FAST) for name in "ab"]
    asked = fetches(download.handle_all(joined, 0.0))
    assert sorted(map(sorted, map(run_of, asked))) == [[0, 1, 2], [7, 8], [30]]


def test_where_others_fetch_too_blocks_come_one_by_one():
    download = start(64)
    join(download, "partial", complete=False)
    assert {fetch.count for fetch in join_with(download, "a", FAST)} == {1}


def test_a_block_that_cannot_be_had_keeps_no_run_away_for_long():
    download, now, stored = start(64), 0.0, set()
    waiting = join_with(download, "a", FAST)
    for _ in range(400):
        decisions = []
        for ask in waiting:
            wanted = blocks_of(ask.lacking) - stored
            index = min(wanted, default=None)
            if index is None:
                continue
            run = set(range(index, index + ask.count)) & wanted
            if 40 in run:
                decisions += download.handle(steps.Failed(ask.ask), now)
                continue
            decisions += download.handle(steps.Arrived(ask.ask, index, count=len(run)), now)
            decisions += download.handle(steps.Stored(ask.ask), now)
            stored |= run
        waiting = fetches(decisions)
        if not waiting:
            now = download.wake()
            waiting = fetches(download.handle(steps.Tick(), now))
        if len(stored) == 40:
            break
    assert stored == set(range(40)), "all that come before it"


def test_a_late_run_is_asked_of_another_as_a_whole_and_comes_once():
    download = start(16)
    joined = [steps.HolderJoined(name, steady_rate=FAST) for name in "ab"]
    (late,) = fetches(download.handle_all(joined, 0.0))
    (hedge,) = fetches(download.handle(steps.Tick(), LATE + 0.1))
    assert {late.holder, hedge.holder} == {"a", "b"}
    assert run_of(late) == run_of(hedge) == set(range(16))
    (store,) = download.handle(steps.Arrived(hedge.ask, 0, count=16), LATE + 0.2)
    assert download.handle(steps.Stored(store.ask), LATE + 0.2) == [steps.Cancel(late.ask), steps.Finished()]


def test_what_a_holder_has_shown_is_known_until_it_leaves():
    download = start(40)
    assert download.steady_rate("a") == 0
    for index, ask in enumerate(join(download, "a")):
        give(download, ask, index, 0.5)
    assert download.steady_rate("a") == 4 * BLOCK / 0.5
    download.handle(steps.HolderLeft("a"), 0.5)
    assert download.steady_rate("a") == 0


def test_all_blocks_are_announced_when_somebody_else_could_be_asked_for_the_same():
    download = start(40)
    waiting = join(download, "a")
    join(download, "partial", complete=False)
    further = [fetch for index, ask in enumerate(waiting) for fetch in give(download, ask, index, 0.05)]
    assert "a" in {fetch.holder for fetch in further}
    assert all(fetch.announced for fetch in further)


def test_a_block_that_comes_unannounced_a_second_time_is_not_stored():
    download = start(4)
    (first, _), (second,) = join(download, "p", complete=False), join(download, "q", complete=False)
    give(download, first, 2, 0.1)
    assert not of_kind(download.handle(steps.Arrived(second.ask, 2), 0.2), steps.Store)


def test_a_holder_that_brings_nothing_new_again_and_again_rests():
    download, now = start(4), 0.0
    for fetch in join(download, "p", complete=False):
        download.handle(steps.Chosen(fetch.ask, fetch.ask), now)
    waiting = join(download, "q", complete=False)
    for count in range(1, 9):
        now = count / 100
        decisions = download.handle(steps.Chosen(waiting.pop(0).ask, 0), now)
        waiting += fetches(decisions)
        assert bool(fetches(decisions)) == (count < 8)
    assert not fetches(download.handle(steps.Tick(), now + 0.49))
    assert [fetch.holder for fetch in fetches(download.handle(steps.Tick(), now + 0.51))] == ["q"]


def test_what_is_new_makes_up_for_what_was_not():
    download = start(40)
    (first, _) = join(download, "p", complete=False)
    download.handle(steps.Chosen(first.ask, 0), 0.0)
    waiting = join(download, "q", complete=False)
    for index in range(1, 20):
        waiting += fetches(download.handle(steps.Chosen(waiting.pop(0).ask, 0), 0.0))
        waiting += give(download, waiting.pop(0), index, 0.0)
        assert {fetch.holder for fetch in waiting} == {"q"}


def test_the_loser_of_a_hedged_block_is_cancelled_and_its_answer_ignored():
    download = start(1)
    (slow,) = join(download, "slow")
    download.handle(steps.Chosen(slow.ask, 0), 0.0)
    join(download, "fast")
    (hedge,) = fetches(download.handle(steps.Tick(), 5.0))
    assert (hedge.holder, hedge.index) == ("fast", 0)
    assert download.handle(steps.Arrived(hedge.ask, 0), 5.1) == [steps.Store(hedge.ask, "fast", 0)]
    assert download.handle(steps.Stored(hedge.ask), 5.2) == [steps.Cancel(slow.ask), steps.Finished()]
    assert download.handle(steps.Arrived(slow.ask, 0), 5.3) == []


def test_an_overdue_block_is_asked_of_those_who_have_it_for_certain():
    download = start(1)
    (slow,) = join(download, "slow")
    download.handle(steps.Chosen(slow.ask, 0), 0.0)
    join(download, "partial", complete=False)
    join(download, "whole")
    assert [fetch.holder for fetch in fetches(download.handle(steps.Tick(), 5.0))] == ["whole"]


@pytest.mark.parametrize(("usual", "is_asked"), [(4.0, True), (0.15, False)])
def test_the_last_block_is_asked_of_another_holder_at_once_when_the_first_is_known_to_be_much_slower(usual, is_asked):
    download = start(3)
    (other, further), whole = join(download, "other", complete=False), join(download, "whole")[0]
    download.handle_all([steps.Chosen(whole.ask, 0), steps.Chosen(other.ask, 1)], 0.0)
    give(download, whole, 0, 0.1)
    give(download, other, 1, usual)
    asked = fetches(download.handle(steps.Chosen(further.ask, 2), usual))
    assert [(fetch.holder, fetch.index) for fetch in asked] == [("whole", 2)] * is_asked


def test_an_overdue_block_of_the_only_complete_holder_is_asked_of_one_that_is_fetching_too():
    download = start(1)
    (slow,) = join(download, "slow")
    download.handle(steps.Chosen(slow.ask, 0), 0.0)
    assert [fetch.index for fetch in join(download, "partial", 5.0, complete=False)] == [0]


def test_where_nobody_has_everything_an_overdue_block_is_asked_of_each_in_turn():
    download = start(1)
    (slow,) = join(download, "slow", complete=False)
    download.handle(steps.Chosen(slow.ask, 0), 0.0)
    (first,) = join(download, "p", 5.0, complete=False)
    assert join(download, "q", 5.0, complete=False) == []
    (second,) = fetches(download.handle(steps.Declined(first.ask, 0.25), 5.0 + PATIENCE))
    assert {first.holder, second.holder} == {"p", "q"}
    assert {first.index, second.index} == {0}


def test_a_second_answer_that_comes_while_the_first_is_checked_is_not_stored():
    download = start(1)
    (slow,) = join(download, "liar")
    download.handle(steps.Chosen(slow.ask, 0), 0.0)
    join(download, "honest")
    (hedge,) = fetches(download.handle(steps.Tick(), 5.0))
    assert of_kind(download.handle(steps.Arrived(slow.ask, 0), 5.1), steps.Store)
    assert not of_kind(download.handle(steps.Arrived(hedge.ask, 0), 5.2), steps.Store)
    again = fetches(download.handle(steps.Lied(slow.ask, "not the block"), 5.3))
    assert [fetch.holder for fetch in again] == ["honest"]


# Who is not asked any more.


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("silent", [True, False])
def test_one_that_fetches_too_and_fails_again_and_again_is_given_up_until_it_joins_again(monkeypatch, silent, most):
    monkeypatch.setattr("peer.fetching.download._MOST_FAILURES", most)
    download, now, ended, dropped = start(9), 0.0, [], []
    waiting = join(download, "p", complete=False)
    while not dropped:
        assert len(ended) < 2 * most, "two asks each time"
        if not silent:
            for fetch in waiting:
                dropped += of_kind(download.handle(steps.Failed(fetch.ask), now), steps.Dropped)
            ended += waiting
        if not dropped:
            now = download.wake()
            decisions = download.handle(steps.Tick(), now)
            ended += of_kind(decisions, steps.Cancel)
            dropped += of_kind(decisions, steps.Dropped)
            waiting = fetches(decisions)
    assert dropped == [steps.Dropped("p", "it does not answer", for_good=False)]
    assert len({each.ask for each in ended}) == len(ended), "each ends once"
    assert len(join(download, "p", now + 1.0, complete=False)) == 2


def test_a_complete_holder_is_never_given_up():
    download, now = start(1), 0.0
    (fetch,) = join(download, "a")
    for _ in range(20):
        assert not of_kind(download.handle(steps.Failed(fetch.ask), now), steps.Dropped)
        now = download.wake()
        (fetch,) = fetches(download.handle(steps.Tick(), now))


def test_a_liar_is_dropped_for_good_and_its_blocks_are_asked_of_another():
    download = start(8)
    asked = join(download, "liar")
    join(download, "honest")
    download.handle(steps.Arrived(asked[0].ask, 0), 0.1)
    decisions = download.handle(steps.Lied(asked[0].ask, "not the block"), 0.2)
    assert steps.Dropped("liar", "not the block", for_good=True) in decisions
    assert steps.Cancel(asked[1].ask) in decisions
    assert all(fetch.holder == "honest" for fetch in fetches(decisions) + join(download, "liar", 0.3))


def test_a_complete_holder_that_gives_nothing_at_once_is_a_liar():
    download = start(8)
    asked = join(download, "liar")
    (dropped,) = of_kind(download.handle(steps.Nothing(asked[0].ask), 0.1), steps.Dropped)
    assert (dropped.holder, dropped.for_good) == ("liar", True)
    assert join(download, "liar", 0.2) == []


def test_a_complete_holder_whose_turn_did_not_come_is_asked_again():
    download = start(8)
    asked = join(download, "a")
    decisions = download.handle(steps.Nothing(asked[0].ask), PATIENCE)
    assert not of_kind(decisions, steps.Dropped)
    assert [fetch.holder for fetch in fetches(decisions)] == ["a"]


@pytest.mark.parametrize("complete", [True, False])
def test_a_holder_that_chooses_a_block_that_there_is_not_is_dropped_for_good(complete):
    download = start(8)
    asked = join(download, "liar", complete=complete)
    decisions = download.handle(steps.Chosen(asked[0].ask, 8), 0.1)
    assert [cancel.ask for cancel in of_kind(decisions, steps.Cancel)] == [fetch.ask for fetch in asked]
    assert of_kind(decisions, steps.Dropped)[0].for_good
    assert join(download, "liar", 0.2, complete=complete) == []


def test_a_holder_that_sends_another_block_than_it_has_announced_is_dropped_for_good():
    download = start(8)
    asked = join(download, "liar")
    download.handle(steps.Chosen(asked[0].ask, 3), 0.1)
    decisions = download.handle(steps.Arrived(asked[0].ask, 4), 0.1)
    assert of_kind(decisions, steps.Dropped)[0].for_good
    assert not of_kind(decisions, steps.Store)


def test_a_holder_without_the_content_is_dropped_until_it_joins_again():
    download = start(8)
    asked = join(download, "a")
    decisions = download.handle(steps.Gone(asked[0].ask, "not here"), 0.1)
    assert steps.Dropped("a", "not here", for_good=False) in decisions
    assert steps.Cancel(asked[1].ask) in decisions
    assert not fetches(download.handle(steps.Tick(), 9.0))
    assert join(download, "a", 9.1)


def test_what_has_arrived_from_a_holder_that_leaves_is_stored():
    download = start(1)
    (fetch,) = join(download, "a")
    download.handle(steps.Arrived(fetch.ask, 0), 0.1)
    assert download.handle(steps.HolderLeft("a"), 0.2) == []
    assert download.handle(steps.Stored(fetch.ask), 0.3) == [steps.Finished()]


# Time.


def test_a_slow_drip_is_abandoned_at_its_deadline_and_its_block_asked_of_another():
    limits = PaceLimits()
    download = start(2)
    slow = join(download, "slow")
    for fetch in slow:
        download.handle(steps.Chosen(fetch.ask, fetch.ask), 0.0)
    assert download.wake() == limits.overdue
    assert not join(download, "other", 1.0), "nothing is overdue yet"
    assert {fetch.index for fetch in fetches(download.handle(steps.Tick(), limits.overdue))} == {0, 1}
    cancelled = of_kind(download.handle(steps.Tick(), limits.first_deadline), steps.Cancel)
    assert {cancel.ask for cancel in cancelled} >= {fetch.ask for fetch in slow}


def test_a_holder_that_never_chooses_is_abandoned_too_after_it_has_had_its_patience():
    download = start(1)
    (fetch,) = join(download, "a", complete=False)
    end = PATIENCE + PaceLimits().first_deadline
    assert not of_kind(download.handle(steps.Tick(), end - 0.01), steps.Cancel)
    assert of_kind(download.handle(steps.Tick(), end), steps.Cancel) == [steps.Cancel(fetch.ask)]


def test_an_answer_that_is_here_counts_however_late_it_is():
    download = start(1)
    (fetch,) = join(download, "a")
    assert download.handle(steps.Arrived(fetch.ask, 0), 1000.0) == [steps.Store(fetch.ask, "a", 0)]


def test_an_ask_that_waits_for_this_peers_own_allowance_is_neither_late_nor_asked_elsewhere():
    download = start(1)
    (fetch,) = join(download, "a")
    download.handle(steps.Chosen(fetch.ask, 0), 0.0)
    download.handle(steps.Held(fetch.ask), 1.0)
    assert not join(download, "b", 1.0)
    assert download.wake() is None
    assert download.handle(steps.Tick(), 1000.0) == []
    assert download.handle(steps.Moved(fetch.ask), 1000.0) == []
    assert [hedge.holder for hedge in fetches(download.handle(steps.Tick(), 1002.1))] == ["b"]
    assert steps.Cancel(fetch.ask) in download.handle(steps.Tick(), 1020.1)


def test_pieces_keep_an_ask_alive_but_not_from_being_asked_elsewhere():
    download = start(1)
    (fetch,) = join(download, "a")
    download.handle(steps.Chosen(fetch.ask, 0), 0.0)
    for second in range(1, 60):
        assert download.handle(steps.Moved(fetch.ask), float(second)) == []
    assert [hedge.holder for hedge in join(download, "b", 60.0)] == ["b"]


def test_a_failing_holder_rests_longer_each_time_and_is_tried_again():
    download = start(1)
    (ask,) = join(download, "a")
    now, rests = 0.0, []
    for _ in range(9):
        assert of_kind(download.handle(steps.Failed(ask.ask), now), steps.Stuck)
        rests.append(download.wake() - now)
        now = download.wake()
        (ask,) = fetches(download.handle(steps.Tick(), now))
    assert rests == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_block_that_one_holder_never_gives_does_not_hold_up_the_others():
    download, now, stored = start(10), 0.0, set()
    waiting = join(download, "a")
    for _ in range(60):
        decisions = []
        for ask in waiting:
            lacking = blocks_of(ask.lacking) if ask.index is None else run_of(ask)
            index = min(lacking - stored, default=None)
            if index is None:
                continue
            decisions += download.handle(steps.Chosen(ask.ask, index), now)
            if steps.Cancel(ask.ask) in decisions:
                continue
            if index == 0:
                decisions += download.handle(steps.Failed(ask.ask), now)
                continue
            decisions += download.handle(steps.Arrived(ask.ask, index, count=ask.count), now)
            decisions += download.handle(steps.Stored(ask.ask), now)
            stored.update(range(index, index + ask.count))
        waiting = fetches(decisions)
        if not waiting:
            now = download.wake()
            waiting = fetches(download.handle(steps.Tick(), now))
    assert stored == set(range(1, 10))


def test_requests_that_fail_together_count_once():
    download = start(4)
    for ask in join(download, "a"):
        download.handle(steps.Failed(ask.ask), 1.0)
    assert download.wake() == 1.5


def test_a_busy_holder_is_left_alone_as_long_as_it_says_but_not_for_hours():
    download = start(1)
    (ask,) = join(download, "a")
    download.handle(steps.Declined(ask.ask, 3.0), 0.0)
    assert not fetches(download.handle(steps.Tick(), 2.9))
    (ask,) = fetches(download.handle(steps.Tick(), 3.0))
    download.handle(steps.Declined(ask.ask, 1e9), 3.0)
    assert download.wake() == 33.0


def test_a_slow_but_honest_link_is_given_more_time_after_each_late_answer():
    download, now, times = start(1), 0.0, []
    (ask,) = join(download, "a")
    for _ in range(5):
        download.handle(steps.Chosen(ask.ask, 0), now)
        late = download._asks.open[ask.ask].deadline
        times.append(late - now)
        assert not of_kind(download.handle(steps.Tick(), late - 0.01), steps.Cancel)
        assert of_kind(download.handle(steps.Tick(), late), steps.Cancel)
        now = download.wake()
        (ask,) = fetches(download.handle(steps.Tick(), now))
    assert times == [20.0, 40.0, 80.0, 120.0, 120.0]


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
        assert limits.overdue / 10 <= pace.overdue() <= max(limits.overdue, 2 * 5)
        assert pace.rests_until <= now + limits.max_rest
        assert pace.in_flight == pace.in_flight_bytes == 0


def crowded(*, blocks=40):
    download = start(blocks)
    joined = [steps.HolderJoined(f"peer-{number:02}", complete=False) for number in range(candidates._CROWD + 1)]
    return download, fetches(download.handle_all([steps.HolderJoined("whole"), *joined], 0.0))


def asked_of(asked, holder):
    return [fetch.ask for fetch in asked if fetch.holder == holder]


def test_of_a_crowd_a_few_are_asked_for_blocks_of_any_hand():
    _, asked = crowded()
    assert {fetch.holder for fetch in asked} == {"whole", *(f"peer-{number:02}" for number in range(10))}
    assert not any(fetch.first_hand for fetch in asked)


def test_in_a_crowd_blocks_of_any_hand_will_do_also_while_many_are_on_their_way():
    download, asked = crowded()
    asks = [ask for number in range(HUNGRY) for ask in asked_of(asked, f"peer-{number:02}")]
    download.handle_all([steps.Chosen(ask, index) for index, ask in enumerate(asks)], 0.1)
    later = fetches(download.handle(steps.Arrived(asks[0], 0), 0.2))
    assert later
    assert not any(fetch.first_hand for fetch in later)


def test_who_of_a_crowd_had_nothing_gives_its_place_to_another():
    download, asked = crowded()
    others = fetches(download.handle(steps.Nothing(asked_of(asked, "peer-03")[0]), PATIENCE))
    assert "peer-10" in {fetch.holder for fetch in others}


def test_who_of_a_crowd_rests_gives_its_place_to_another():
    download, asked = crowded()
    others = fetches(download.handle(steps.Failed(asked_of(asked, "peer-03")[0]), 1.0))
    assert "peer-10" in {fetch.holder for fetch in others}
