"""How what a relay has is shared out."""

from hypothesis import given
from hypothesis import strategies as st

from peer.relays.relay_shares import RelayShares


def greedy(shares, asker, holder="uma", amount=1):
    """Takes until it is refused, and returns how often it got something."""
    count = 0
    while shares.take(asker, holder, amount):
        count += 1
    return count


def test_one_asker_gets_its_share_and_no_more():
    assert greedy(RelayShares(64, 16, 64), "ana") == 16


def test_one_holder_gives_no_more_than_its_share():
    shares = RelayShares(64, 64, 8)
    assert greedy(shares, "ana", "uma") == 8
    assert shares.take("ana", "uwe")


def test_whoever_comes_last_finds_something_however_greedy_the_others_are():
    shares = RelayShares(64, 16, 64)
    for number in range(4):
        assert greedy(shares, f"greedy {number}") >= 12, number
    assert greedy(shares, "late") >= 4


def test_who_has_more_than_a_fair_share_gets_nothing_while_others_come():
    shares = RelayShares(8, 8, 8)
    assert greedy(shares, "ana") == 6, "the last quarter is for others"
    assert greedy(shares, "ben") >= 1
    shares.give_back("ana", "uma")
    assert not shares.take("ana", "uma")


def test_what_is_larger_than_a_fair_share_is_had_all_the_same_when_there_is_room():
    shares = RelayShares(10, 10, 10)
    assert shares.take("ana", "uma", 9)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.integers(1, 5)), max_size=60))
def test_what_is_taken_never_exceeds_what_there_is_and_all_of_it_comes_back(wishes):
    shares = RelayShares(20, 9, 15)
    taken = [wish for wish in wishes if shares.take(*wish)]
    assert sum(amount for _, _, amount in taken) <= 20
    for who, most in (("a", 9), ("b", 9), ("c", 9), ("d", 9)):
        assert sum(amount for asker, _, amount in taken if asker == who) <= most
    for who in "xyz":
        assert sum(amount for _, holder, amount in taken if holder == who) <= 15
    for wish in taken:
        shares.give_back(*wish)
    assert shares.take("a", "x", 9)
    assert shares.take("b", "x", 6)
