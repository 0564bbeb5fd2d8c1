"""The budget of bytes in flight: bounded, fair, and never a reason to stand still."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peer.fetching.budget import Budget
from tests.examples import examples

MOST = 8


class Taker:
    """A download that wants one byte after the other, as soon as it is told that there may be room."""

    def __init__(self, budget):
        self.told = 0
        self.share = budget.share(self.tell)

    def tell(self):
        self.told += 1

    def take_all(self):
        while self.share.take(1):
            pass


def takers(count, most=MOST):
    budget = Budget(most)
    return budget, [Taker(budget) for _ in range(count)]


def test_one_alone_has_everything():
    budget, (only,) = takers(1)
    only.take_all()
    assert budget.taken == only.share.taken == MOST


def test_a_newcomer_begins_at_once_and_gets_all_room_until_it_has_as_much():
    budget, (old, new) = takers(2)
    old.take_all()
    new.take_all()
    assert (old.share.taken, new.share.taken) == (MOST, 1), "whoever has nothing is never refused"
    for _ in range(MOST // 2):
        old.share.give_back(1)
        old.take_all()
        new.take_all()
    assert (old.share.taken, new.share.taken) == (MOST // 2, MOST // 2)
    assert budget.taken == MOST


def test_room_is_kept_for_whoever_has_least_until_it_comes_for_it():
    _, (rich, poor) = takers(2)
    rich.take_all()
    poor.take_all()
    rich.share.give_back(2)
    assert poor.told == 1
    assert not rich.share.take(1), "it is for the other"
    assert poor.share.take(1)


def test_whoever_wants_nothing_any_more_leaves_its_room_to_the_next():
    _, (first, second, third) = takers(3)
    first.take_all()
    for taker in (second, third):
        taker.take_all()
    first.share.give_back(3)
    assert (second.told, third.told) == (1, 0)
    second.share.want_nothing()
    assert third.told == 1


def test_what_is_larger_than_the_budget_goes_alone():
    budget, (one, other) = takers(2, most=4)
    assert one.share.take(100)
    assert not one.share.take(1)
    assert other.share.take(1), "it has nothing"
    one.share.give_back(100)
    assert one.told == 1
    assert budget.taken == 1


def test_bytes_that_come_unasked_are_counted_and_others_wait_for_them():
    budget, (one, other) = takers(2)
    one.share.take_anyway(MOST + 3)
    assert other.share.take(1)
    assert not other.share.take(1)
    one.share.close()
    assert (budget.taken, other.told) == (1, 1)
    assert other.share.take(1)


@settings(max_examples=examples(60))
@given(st.integers(1, 12), st.lists(st.integers(0, 11), max_size=300))
def test_greedy_takers_end_up_with_equal_shares(count, gives):
    budget, all_takers = takers(count, most=24)
    for taker in all_takers:
        taker.take_all()
    for give in (*gives, *list(range(count)) * 24):
        giver = all_takers[give % count]
        if giver.share.taken > 1:
            giver.share.give_back(1)
        for taker in all_takers:
            if taker.told:
                taker.told = 0
                taker.take_all()
    counts = [taker.share.taken for taker in all_takers]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == budget.taken == 24


class Many(RuleBasedStateMachine):
    """Takers of several sizes, in any order."""

    def __init__(self):
        super().__init__()
        self.budget, self.takers = takers(4)
        self.refused = {}
        self.sizes = {taker: [] for taker in self.takers}

    @rule(number=st.integers(0, 3), size=st.integers(1, 3))
    def take(self, number, size):
        taker = self.takers[number]
        had, taken = taker.share.taken, self.budget.taken
        self.refused.pop(taker, None)
        taker.told = 0
        if taker.share.take(size):
            self.sizes[taker].append(size)
            assert not had or taken + size <= MOST
        else:
            assert had
            self.refused[taker] = size

    @precondition(lambda self: any(self.sizes.values()))
    @rule(data=st.data())
    def give_back(self, data):
        taker = data.draw(st.sampled_from([taker for taker in self.takers if self.sizes[taker]]))
        taker.share.give_back(self.sizes[taker].pop())

    @rule(number=st.integers(0, 3))
    def want_nothing(self, number):
        self.refused.pop(self.takers[number], None)
        self.takers[number].share.want_nothing()

    @invariant()
    def everything_is_counted(self):
        assert self.budget.taken == sum(taker.share.taken for taker in self.takers)
        for taker in self.takers:
            assert taker.share.taken == sum(self.sizes[taker])

    @invariant()
    def no_room_is_left_while_somebody_waits_for_it_without_having_been_told(self):
        if self.refused:
            first = min(self.refused, key=lambda taker: taker.share.rank)
            assert first.told or self.budget.taken + self.refused[first] > MOST


TestMany = Many.TestCase
