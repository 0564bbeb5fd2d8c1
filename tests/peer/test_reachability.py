"""Whether others can dial a peer, judged by what its neighbours have found."""

import pytest

from peer.relays.reachability import Found, Judge, Pauses, Reachability

TIMES = Pauses()
WORKED, FAILED, NONE_TRIED = Found(1, worked=True), Found(2, worked=False), Found(0, worked=False)


def test_at_first_nothing_is_known_and_nobodys_answer_changes_nothing():
    judge = Judge(named=False)
    assert judge.verdict is Reachability.UNKNOWN
    assert judge.hear([]) == TIMES.unanswered
    assert judge.verdict is Reachability.UNKNOWN


@pytest.mark.parametrize("found", [[WORKED], [FAILED, WORKED], [NONE_TRIED, WORKED]])
def test_one_neighbour_that_has_dialled_it_is_enough(found):
    judge = Judge(named=False)
    assert judge.hear(found) == TIMES.dialable
    assert judge.verdict is Reachability.DIALABLE


@pytest.mark.parametrize("found", [[FAILED], [FAILED, NONE_TRIED], [NONE_TRIED]])
def test_it_is_hidden_after_two_failures_in_a_row(found):
    judge = Judge(named=False)
    assert judge.hear(found) == TIMES.doubtful
    assert judge.verdict is Reachability.UNKNOWN
    assert judge.hear(found) == TIMES.hidden
    assert judge.verdict is Reachability.HIDDEN


def test_a_failure_between_successes_is_forgotten():
    judge = Judge(named=False)
    for found in ([WORKED], [FAILED], [WORKED], [FAILED]):
        judge.hear(found)
    assert judge.verdict is Reachability.DIALABLE


def test_a_hidden_peer_comes_back_at_the_first_success_and_not_by_silence():
    judge = Judge(named=False)
    for found in ([FAILED], [FAILED], []):
        judge.hear(found)
    assert judge.verdict is Reachability.HIDDEN
    judge.hear([WORKED])
    assert judge.verdict is Reachability.DIALABLE


def test_where_the_user_has_said_how_it_is_reached_a_neighbour_that_cannot_try_says_nothing():
    judge = Judge(named=True)
    for _ in range(3):
        assert judge.hear([NONE_TRIED]) == TIMES.unknown
    assert judge.verdict is Reachability.UNKNOWN
    judge.hear([FAILED])
    judge.hear([FAILED])
    assert judge.verdict is Reachability.HIDDEN
