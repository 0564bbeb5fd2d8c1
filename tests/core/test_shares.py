from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.shares import Shares


@given(
    most=st.integers(0, 20),
    each=st.integers(0, 10),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans())),
)
def test_nobody_has_more_than_its_share_and_all_together_no_more_than_there_is(most, each, steps):
    shares, taken = Shares(most, each), []
    for who, amount, back in steps:
        held = Counter()
        for owner, number in taken:
            held[owner] += number
        if back and taken:
            shares.give_back(*taken.pop())
            continue
        granted = shares.take(who, amount)
        assert granted == (held[who] + amount <= each and held.total() + amount <= most)
        if granted:
            taken.append((who, amount))
    assert shares.free == most - sum(number for _, number in taken)


def test_who_has_nothing_is_forgotten():
    shares = Shares(100, 10)
    for number in range(1000):
        assert shares.take(str(number), 3)
        shares.give_back(str(number), 3)
    assert not shares._held
    assert shares.free == 100
