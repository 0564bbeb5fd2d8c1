"""Which downloads run: the most urgent, and among equals whoever runs already and came first."""

from hypothesis import given
from hypothesis import strategies as st

from peer.work.turns import Candidate, Priority, chosen

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH
CANDIDATES = st.lists(
    st.builds(Candidate, st.uuids().map(str), st.sampled_from(Priority), st.booleans()),
    max_size=30,
    unique_by=lambda one: one.name,
)


def test_a_more_urgent_one_takes_the_place_of_one_that_runs():
    runs = [Candidate("a", NORMAL, True), Candidate("b", LOW, True)]
    assert chosen([*runs, Candidate("c", HIGH, False)], 2) == ["c", "a"]


def test_among_equals_nobody_who_runs_is_made_to_wait():
    assert chosen([Candidate("early", NORMAL, False), Candidate("late", NORMAL, True)], 1) == ["late"]
    assert chosen([Candidate("early", NORMAL, False), Candidate("late", NORMAL, False)], 1) == ["early"]


@given(candidates=CANDIDATES, most=st.integers(1, 10))
def test_as_many_run_as_may_and_none_that_is_less_urgent_than_one_that_waits(candidates, most):
    running = chosen(candidates, most)
    assert len(running) == len(set(running)) == min(most, len(candidates))
    by_name = {one.name: one for one in candidates}
    waiting = [one for one in candidates if one.name not in running]
    for one in waiting:
        assert all(by_name[name].priority >= one.priority for name in running)


@given(candidates=CANDIDATES, most=st.integers(1, 10))
def test_once_they_run_nothing_changes_by_itself(candidates, most):
    running = chosen(candidates, most)
    settled = [Candidate(one.name, one.priority, one.name in running) for one in candidates]
    assert set(chosen(settled, most)) == set(running)


def test_weights_are_four_times_as_much_from_one_priority_to_the_next():
    assert [priority.weight for priority in Priority] == [0.25, 1.0, 4.0]
