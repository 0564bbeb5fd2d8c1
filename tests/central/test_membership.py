import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from central.membership import LEASE_BEATS, Membership, State
from core.errors import SessionUnknown


def test_terms_are_two_and_seven_seconds_for_few_peers():
    terms = Membership().terms(1000)
    assert (terms.beat_interval, terms.lease, terms.grace) == (2.0, 7.0, 2.5)


@given(st.integers(0, 100_000))
def test_beats_stay_below_the_set_rate_and_a_lease_outlives_three_of_them(peers):
    terms = Membership(max_beats=500).terms(peers)
    assert peers / terms.beat_interval <= 500.0001
    assert terms.beat_interval >= 2
    assert terms.lease == pytest.approx(LEASE_BEATS * terms.beat_interval)


def test_a_granted_session_is_suspect_until_its_stream_opens():
    leases = Membership()
    leases.grant("s", 0)
    assert leases.state("s") is State.SUSPECT
    leases.open("s", 1)
    assert leases.state("s") is State.LIVE


def test_a_session_whose_stream_never_opens_expires_with_its_lease():
    leases = Membership()
    leases.grant("s", 10)
    assert leases.sweep(16.9) == []
    assert leases.sweep(17) == ["s"]


def test_beats_renew_and_silence_expires_the_lease():
    leases = Membership()
    leases.grant("s", 0)
    stream = leases.open("s", 0)
    for now in range(2, 40, 2):
        leases.beat("s", stream, now)
        assert leases.sweep(now) == []
    assert leases.sweep(38 + 6.9) == []
    assert leases.sweep(38 + 7) == ["s"]


def test_a_broken_stream_makes_suspect_at_once_and_leaves_the_grace():
    leases = Membership()
    leases.grant("s", 0)
    stream = leases.open("s", 0)
    assert leases.broken("s", stream, 1)
    assert leases.state("s") is State.SUSPECT
    assert leases.sweep(3.4) == []
    assert leases.sweep(3.5) == ["s"]


def test_the_grace_is_never_longer_than_what_is_left_of_the_lease():
    leases = Membership()
    leases.grant("s", 0)
    leases.broken("s", leases.open("s", 0), 6)
    assert leases.sweep(7) == ["s"]


def test_breaking_twice_does_not_lengthen_the_grace():
    leases = Membership()
    leases.grant("s", 0)
    stream = leases.open("s", 0)
    leases.broken("s", stream, 1)
    assert not leases.broken("s", stream, 3)
    assert leases.sweep(3.5) == ["s"]


def test_a_late_heartbeat_revives_a_suspect():
    leases = Membership()
    leases.grant("s", 0)
    stream = leases.open("s", 0)
    leases.broken("s", stream, 1)
    leases.beat("s", stream, 3)
    assert leases.state("s") is State.LIVE
    assert leases.sweep(9.9) == []


def test_a_stream_that_breaks_after_a_newer_one_opened_changes_nothing():
    leases = Membership()
    leases.grant("s", 0)
    older = leases.open("s", 0)
    leases.open("s", 1)
    leases.beat("s", older, 1.5)  # still in flight when the newer stream began
    assert not leases.broken("s", older, 2)
    assert leases.state("s") is State.LIVE


def test_an_older_stream_that_revived_a_suspect_is_the_one_that_counts():
    leases = Membership()
    leases.grant("s", 0)
    older, newer = leases.open("s", 0), leases.open("s", 1)
    leases.broken("s", newer, 2)
    leases.beat("s", older, 3)
    assert leases.broken("s", older, 4)


def test_an_ended_session_is_unknown():
    leases = Membership()
    leases.grant("s", 0)
    leases.end("s")
    leases.end("s")
    assert len(leases) == 0
    assert not leases.broken("s", 0, 1)
    for call in (lambda: leases.beat("s", 1, 1), lambda: leases.open("s", 1), lambda: leases.state("s")):
        with pytest.raises(SessionUnknown):
            call()


def test_expired_sessions_stay_until_they_are_ended():
    leases = Membership()
    leases.grant("a", 0)
    leases.grant("b", 1)
    assert leases.sweep(8) == ["a", "b"]
    assert leases.sweep(8) == ["a", "b"]
    leases.end("a")
    assert leases.sweep(8) == ["b"]


class Leases(RuleBasedStateMachine):
    """Against the plainest model: when did each session last show life, and when did its stream in use break."""

    def __init__(self):
        super().__init__()
        self.leases = Membership()
        self.now = 0.0
        self.model = {}  # session -> [last sign of life, broken at or None, stream]

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(session=st.sampled_from("abc"))
    def grant(self, session):
        self.leases.grant(session, self.now)
        self.model[session] = [self.now, None, 0]

    @rule(session=st.sampled_from("abc"))
    def open(self, session):
        if session in self.model:
            self.model[session] = [self.now, None, self.leases.open(session, self.now)]

    @rule(session=st.sampled_from("abc"))
    def beat(self, session):
        if session in self.model and self.model[session][2]:
            self.leases.beat(session, self.model[session][2], self.now)
            self.model[session][:2] = [self.now, None]

    @rule(session=st.sampled_from("abc"), stale=st.booleans())
    def stream_breaks(self, session, stale):
        if session in self.model and self.model[session][2]:
            self.leases.broken(session, self.model[session][2] - stale, self.now)
            if not stale and self.model[session][1] is None:
                self.model[session][1] = self.now

    @invariant()
    def exactly_those_expire_that_were_silent_too_long(self):
        expired = {
            session
            for session, (life, broken, _) in self.model.items()
            if self.now >= life + 7 or (broken is not None and self.now >= broken + 2.5)
        }
        assert set(self.leases.sweep(self.now)) == expired


test_leases_agree_with_the_plainest_model = Leases.TestCase
