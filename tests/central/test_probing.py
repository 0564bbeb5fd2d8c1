"""Whom central asks to look for whom, and which answer counts."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from central.sessions.probing import PROBERS, Probing


def test_up_to_three_of_those_that_can_help_are_asked_with_a_nonce_of_their_own():
    probing = Probing(Random(1))
    few, many = probing.sweep({"a": ["b"], "c": list("defgh")}, [], 10)
    assert few.probers == ("b",)
    assert len(set(many.probers)) == PROBERS
    assert set(many.probers) <= set("defgh")
    assert len({few.nonce, many.nonce}) == 2
    assert [each.suspect for each in probing.asked("b", 11)] == ["a"]
    assert probing.asked("a", 11) == []


def test_the_next_round_begins_when_the_probes_of_the_last_have_had_their_time():
    probing = Probing(Random(1), patience=2.0)
    (first,) = probing.sweep({"a": ["b"]}, [], 10)
    assert probing.sweep({"a": ["b"]}, [], 11.9) == []
    assert probing.asked("b", 11.9) == [first]
    assert probing.asked("b", 12) == []
    (second,) = probing.sweep({"a": ["b"]}, [], 12)
    assert second.nonce != first.nonce
    assert probing.began("a", second.nonce) == 12
    assert probing.began("a", first.nonce) is None, "an older signature proves nothing"


def test_who_has_nobody_to_look_for_it_is_looked_for_as_soon_as_there_is_somebody():
    probing = Probing(Random(1))
    assert probing.sweep({"a": []}, [], 10) == []
    assert [each.probers for each in probing.sweep({"a": ["b"]}, [], 10.5)] == [("b",)]


def test_where_too_few_are_near_others_are_asked_too():
    probing = Probing(Random(1))
    (alone,) = probing.sweep({"a": []}, list("bcdef"), 10)
    assert len(set(alone.probers)) == PROBERS
    assert set(alone.probers) <= set("bcdef")
    (_, paired) = probing.sweep({"a": [], "g": ["b", "c"]}, list("bcdef"), 12)
    assert {"b", "c"} <= set(paired.probers)
    (_, _, near) = probing.sweep({"a": [], "g": ["b"], "h": list("bcd")}, list("bcdef"), 14)
    assert set(near.probers) == set("bcd")


def test_whoever_is_no_suspect_any_more_is_not_looked_for_and_its_nonce_counts_no_more():
    probing = Probing(Random(1))
    (round_,) = probing.sweep({"a": ["b"]}, [], 10)
    probing.sweep({}, [], 10.5)
    assert probing.asked("b", 10.6) == []
    assert probing.began("a", round_.nonce) is None


def test_a_nonce_is_of_one_suspect():
    probing = Probing(Random(1))
    first, second = probing.sweep({"a": ["c"], "b": ["c"]}, [], 10)
    assert probing.began("a", second.nonce) is None
    assert probing.began("b", first.nonce) is None
    assert probing.asked("c", 10) == [first, second]


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.just(list("efghi"))), max_size=40), st.integers())
def test_each_suspect_has_one_nonce_which_is_of_a_round_that_it_was_in_since(sweeps, seed):
    probing = Probing(Random(seed))
    latest = {}
    for number, suspects in enumerate(sweeps):
        now = number * 0.5
        begun = {each.suspect: each for each in probing.sweep(suspects, [], now)}
        latest = {suspect: begun.get(suspect) or latest[suspect] for suspect in suspects}
        assert all(each.began == now for each in begun.values())
        assert all(now < each.began + 2 for each in latest.values())
        for suspect in "abcd":
            for other in latest.values():
                since = probing.began(suspect, other.nonce)
                assert since == (other.began if other.suspect == suspect else None)
