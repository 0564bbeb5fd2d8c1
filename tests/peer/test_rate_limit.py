"""The token bucket alone, in virtual time: exact over any ten seconds, fair, and never stuck."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.links.rate_limit import LEAST_PIECE, RateLimit
from tests.examples import examples

KIB, MIB = 1024, 1 << 20
SPAN = 10.0
RATES = st.integers(8 * KIB, 1 << 30)


class Clock:
    """Takers that always want more, against a limit whose timer may be late."""

    def __init__(self, limit, now=0.0):
        self.limit, self.now = limit, now
        self.granted = []
        self.waiting = {}

    def want(self, who, size=None, **more):
        size = size or self.limit.piece(MIB)
        self.waiting[self.limit.ask(who, size, **more)] = (who, more)

    def run(self, until, lateness=lambda: 0.0):
        while self.now < until:
            for turn in self.limit.due(self.now):
                self.granted.append((self.now, turn.who, turn.size))
                who, more = self.waiting.pop(turn)
                self.want(who, **more)
            wake = self.limit.wake(self.now)
            self.now = max(self.now, wake) + lateness()

    def bytes(self, begin, end, who=None):
        return sum(size for at, name, size in self.granted if begin <= at < end and who in {None, name})


@settings(deadline=None, max_examples=examples(60))
@given(rate=RATES, takers=st.integers(1, 6), idle=st.floats(0, 100), data=st.data())
def test_within_any_ten_seconds_what_is_granted_is_within_five_percent(rate, takers, idle, data):
    clock = Clock(RateLimit(rate), now=idle)
    late = data.draw(st.lists(st.floats(0, 0.1), min_size=1, max_size=20))
    for number in range(takers):
        clock.want(f"taker {number}")
    turns = iter(range(10**9))
    clock.run(idle + 25, lambda: late[next(turns) % len(late)])
    for begin in [idle, *(idle + data.draw(st.floats(0, 14)) for _ in range(8))]:
        assert clock.bytes(begin, begin + SPAN) == pytest.approx(rate * SPAN, rel=0.05)


@settings(deadline=None, max_examples=examples(40))
@given(before=RATES, after=RATES)
def test_a_new_rate_counts_from_the_moment_it_is_set(before, after):
    clock = Clock(RateLimit(before))
    clock.want("ana")
    clock.run(12)
    changed = clock.now
    clock.limit.change(after, clock.now)
    clock.run(changed + 12)
    waited = RateLimit(before).piece(MIB)  # what waited already is as large as the old rate let it be
    assert clock.bytes(changed, changed + SPAN) == pytest.approx(after * SPAN, abs=0.05 * after * SPAN + waited)


@settings(deadline=None, max_examples=examples(40))
@given(
    rate=st.integers(100 * KIB, 100 * MIB),
    weights=st.lists(st.sampled_from([0.25, 1.0, 4.0]), min_size=2, max_size=5),
    turns=st.lists(st.integers(1, 8), min_size=5, max_size=5),
)
def test_takers_share_by_their_weights_however_many_turns_each_asks_for(rate, weights, turns):
    clock = Clock(RateLimit(rate))
    for number, weight in enumerate(weights):
        for _ in range(turns[number]):
            clock.want(str(number), weight=weight)
    clock.run(30)
    total, grain = sum(weights), clock.limit.piece(MIB)
    for number, weight in enumerate(weights):
        share = clock.bytes(0, 30, str(number))
        assert share == pytest.approx(rate * 30 * weight / total, abs=max(0.06 * share, 5 * grain))


def test_a_newcomer_is_not_made_to_wait_for_what_others_had_before_it():
    clock = Clock(RateLimit(MIB))
    clock.want("old")
    clock.run(60)
    clock.want("new")
    began = clock.now
    clock.run(began + SPAN)
    assert clock.bytes(began, began + SPAN, "old") == pytest.approx(5 * MIB, rel=0.05)
    assert clock.bytes(began, began + SPAN, "new") == pytest.approx(5 * MIB, rel=0.05)


def test_who_was_idle_has_saved_up_nothing_against_others():
    clock = Clock(RateLimit(MIB))
    clock.want("seldom")
    clock.want("always")
    clock.run(20)
    clock.waiting.clear()
    for taker in clock.limit._takers.values():
        taker.fresh.clear()
    clock.want("always")
    clock.run(80)
    clock.want("seldom")
    clock.run(90)
    assert clock.bytes(80, 90, "seldom") == pytest.approx(5 * MIB, rel=0.05)


def test_a_block_that_is_larger_than_a_piece_is_granted_whole_and_paid_off_afterwards():
    limit = RateLimit(100 * KIB)
    block = limit.ask("ana", MIB)
    assert list(limit.due(0.0)) == [block]
    after = limit.ask("ben", KIB)
    assert list(limit.due(1.0)) == []
    debt = (MIB - 25 * KIB) / (100 * KIB)  # a quarter of a second had been saved up
    assert limit.wake(1.0) == pytest.approx(debt)
    assert list(limit.due(debt)) == [after]


def test_what_was_begun_comes_first_within_its_taker_and_not_before_others():
    limit = RateLimit(MIB)
    limit.ask("ana", MIB)
    assert len(list(limit.due(0.0))) == 1
    fresh = limit.ask("ana", 10)
    begun = limit.ask("ana", 10, begun=True)
    other = limit.ask("ben", 10)
    assert list(limit.due(5.0)) == [other, begun, fresh]


def test_a_withdrawn_turn_is_not_granted_and_what_is_given_back_is():
    limit = RateLimit(MIB)
    first, second = limit.ask("ana", MIB), limit.ask("ana", MIB)
    assert list(limit.due(0.0)) == [first]
    limit.withdraw(second)
    assert limit.wake(0.0) is None
    third = limit.ask("ben", KIB)
    assert list(limit.due(0.0)) == []
    limit.give_back(MIB, 0.0)
    assert list(limit.due(0.0)) == [third]


def test_the_wait_that_is_told_is_the_wait_that_comes():
    limit = RateLimit(MIB)
    for _ in range(40):
        limit.ask("ana", 100 * KIB)
    list(limit.due(0.0))
    told = limit.wait("ben", 100 * KIB, 0.0)
    mine = limit.ask("ben", 100 * KIB)
    now = 0.0
    while mine not in list(limit.due(now)):
        now = limit.wake(now)
    assert now == pytest.approx(told, abs=0.25)
    assert limit.wait("ana", KIB, now) > 1.0, "who has asked for much waits for that"


def test_without_a_rate_everything_is_granted_at_once_and_in_one_piece():
    limit = RateLimit()
    turns = [limit.ask("ana", 1 << 40) for _ in range(3)]
    assert list(limit.due(0.0)) == turns
    assert (limit.piece(MIB), limit.wait("ana", MIB, 0.0)) == (MIB, 0.0)


def test_a_limit_that_is_lifted_lets_everybody_go():
    limit = RateLimit(10 * KIB)
    turns = [limit.ask("ana", MIB) for _ in range(3)]
    assert list(limit.due(0.0)) == turns[:1]
    limit.change(0, 1.0)
    assert list(limit.due(1.0)) == turns[1:]


@given(rate=st.integers(1, 1 << 40), rest=st.integers(1, MIB))
def test_a_piece_is_a_tenth_of_a_second_and_never_tiny(rate, rest):
    piece = RateLimit(rate).piece(rest)
    assert min(rest, LEAST_PIECE) <= piece <= rest
    assert piece <= max(LEAST_PIECE, rate / 10)


def test_takers_that_are_gone_are_forgotten():
    limit, now = RateLimit(MIB), 0.0
    for number in range(1000):
        limit.ask(f"taker {number}", KIB)
        now += 1.0
        assert len(list(limit.due(now))) == 1
    assert len(limit._takers) < 5
