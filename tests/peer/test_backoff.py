"""Pauses before central is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from core import errors
from peer.links.backoff import FIRST_BACKOFF, LAST_BACKOFF, LAST_REFUSED_BACKOFF, REFUSED_BACKOFF, jittered, login_pause


@given(st.integers(0, 10_000))
def test_pauses_are_jittered_and_bounded(failures):
    assert FIRST_BACKOFF / 2 <= jittered(failures) <= LAST_BACKOFF


def test_a_herd_spreads():
    assert len({round(jittered(5), 6) for _ in range(100)}) > 90


def test_what_trying_again_will_hardly_mend_is_tried_slowly():
    assert login_pause(errors.InvalidInput("name", "too long"), 1) == REFUSED_BACKOFF
    assert login_pause(errors.Unreachable("nobody answers there"), 1) <= LAST_BACKOFF


def test_a_busy_central_is_left_alone_for_as_long_as_it_asks():
    assert login_pause(errors.Busy("come back", 7.0), 0) >= 7.0


def test_a_peer_that_is_no_member_any_more_tries_ever_more_slowly():
    for kind in (errors.Revoked, errors.NotEnrolled):
        pauses = [login_pause(kind("no"), failures) for failures in (1, 2, 3, 9, 10_000)]
        assert pauses == [30.0, 60.0, 120.0, LAST_REFUSED_BACKOFF, LAST_REFUSED_BACKOFF]


def test_somebody_else_at_centrals_address_is_tried_slowly_only_when_he_stays():
    assert login_pause(errors.WrongIdentity("not central"), 2) <= LAST_BACKOFF
    assert login_pause(errors.WrongIdentity("not central"), 6) == REFUSED_BACKOFF


def test_a_clock_that_is_wrong_is_noticed_soon_after_it_was_set():
    assert login_pause(errors.WrongTime("its certificate has expired"), 100) <= LAST_BACKOFF
