import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from central.sessions.membership import LEASE_BEATS, LONGEST_WAIT, Membership, State
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


def beaten(leases, session, now):
    leases.grant(session, now)
    return leases.open(session, now)


def test_whoever_has_no_more_than_the_grace_left_is_suspect_and_should_prove_that_it_lives():
    leases = Membership()
    beaten(leases, "silent", 0)
    broken = beaten(leases, "broken", 4)
    leases.broken("broken", broken, 4)
    beaten(leases, "fine", 4)
    leases.grant("new", 4)
    assert leases.doubtful(4.4) == ["broken"]
    assert leases.doubtful(4.5) == ["silent", "broken"]
    assert leases.state("silent") is State.SUSPECT
    assert leases.state("fine") is State.LIVE


def test_a_proof_gives_one_lease_from_when_its_nonce_was_made_and_marks():
    leases = Membership()
    stream = beaten(leases, "s", 0)
    leases.broken("s", stream, 1)
    assert leases.proved("s", 1.5)
    assert leases.state("s") is State.REACHED
    assert leases.doubtful(1.6) == ["s"], "it has to prove it again and again"
    assert not leases.proved("s", 3.5), "it is marked already"
    assert leases.sweep(10.4) == []
    assert leases.sweep(10.5) == ["s"]


def test_a_proof_that_comes_twice_or_late_gives_nothing_and_takes_nothing():
    leases = Membership()
    leases.broken("s", beaten(leases, "s", 0), 1)
    leases.proved("s", 1.5)
    for _ in range(3):
        assert not leases.proved("s", 1.5)
        assert not leases.proved("s", 1.0)
    assert leases.sweep(8.4) == []
    assert leases.sweep(8.5) == ["s"]
    assert not leases.proved("unknown", 1.0)


def test_a_proof_says_less_than_a_later_beat_and_a_beat_makes_plainly_live():
    leases = Membership()
    stream = beaten(leases, "s", 0)
    leases.doubtful(4.5)
    leases.beat("s", stream, 5)
    assert not leases.proved("s", 4.5)
    assert leases.state("s") is State.LIVE
    leases.broken("s", stream, 6)
    leases.proved("s", 7)
    assert leases.open("s", 8)
    assert leases.state("s") is State.LIVE
    assert leases.doubtful(8) == []


def test_a_stream_that_breaks_at_last_takes_nothing_from_what_was_proved_to_others():
    leases = Membership()
    stream = beaten(leases, "s", 0)
    leases.doubtful(4.5)
    leases.proved("s", 4.5)
    assert not leases.broken("s", stream, 6)
    assert leases.sweep(11.4) == []
    assert leases.sweep(11.5) == ["s"]


def test_nobody_expires_within_ten_seconds_of_centrals_return_and_graces_begin_then():
    leases = Membership()
    stream = beaten(leases, "breaks", 0)
    beaten(leases, "silent", 0)
    leases.broken("gone", beaten(leases, "gone", 0), 0)
    leases.returned(2)
    leases.broken("breaks", stream, 3)
    assert leases.sweep(11.9) == []
    assert leases.sweep(12) == ["silent", "gone"]
    assert leases.sweep(14.4) == ["silent", "gone"]
    assert leases.sweep(14.5) == ["breaks", "silent", "gone"]


def test_what_breaks_after_everybody_could_be_back_has_the_plain_grace():
    leases = Membership()
    stream = beaten(leases, "s", 0)
    leases.returned(0)
    leases.beat("s", stream, 10)
    leases.broken("s", stream, 10)
    assert leases.sweep(12.5) == ["s"]


@pytest.mark.parametrize(("peers", "few"), [(3, 3), (10, 3), (20, 3), (27, 4), (100, 15), (1000, 150)])
def test_three_or_fifteen_in_a_hundred_expire_at_once_and_more_wait_for_a_minute(peers, few):
    for lost, wait in ((few, 0.0), (few + 1, LONGEST_WAIT)):
        if lost > peers:
            continue
        leases = Membership()
        streams = {f"{number}": beaten(leases, f"{number}", 0) for number in range(peers)}
        gone = list(streams)[:lost]
        for session in gone:
            leases.broken(session, streams[session], 1)
        for session in list(streams)[lost:]:
            leases.beat(session, streams[session], 1000)  # the others live
        assert leases.sweep(3.5 + wait - 0.001) == []
        assert leases.sweep(3.5 + wait) == gone


def test_more_than_a_few_that_fall_silent_together_wait_although_their_leases_end_one_by_one():
    leases = Membership()
    for number in range(10):  # beats are spread over an interval
        beaten(leases, f"{number}", number * 0.2)
    for tenth in range(70, 110):
        assert leases.sweep(tenth / 10) == []
    assert leases.sweep(67) == ["0"]


def test_those_that_come_back_end_the_wait_of_the_rest():
    leases = Membership()
    streams = {f"{number}": beaten(leases, f"{number}", 0) for number in range(10)}
    for session, stream in streams.items():
        leases.broken(session, stream, 0)
    assert leases.sweep(5) == []
    for session in list(streams)[:7]:
        leases.open(session, 5)
    assert leases.sweep(5) == ["7", "8", "9"]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.booleans()), min_size=1, max_size=60),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_nobody_expires_before_its_time_nor_a_minute_later_and_few_at_once_in_time(peers, steps):
    leases = Membership()
    ends = {}
    for number, (begin, breaks) in enumerate(sorted(peers)):
        session = f"{number}"
        stream = beaten(leases, session, begin)
        if breaks:
            leases.broken(session, stream, begin)
        ends[session] = begin + (2.5 if breaks else 7.0)
    now = 20.0
    while ends and now < 120:
        for step in steps:
            now += step
            over = leases.sweep(now)
            due = {session for session, end in ends.items() if end <= now}
            overdue = {session for session, end in ends.items() if end <= now - LONGEST_WAIT}
            soon = sum(end <= now + 2 for end in ends.values())
            assert set(over) == (due if soon <= max(3, 0.15 * len(ends)) else overdue)
            for session in over:
                leases.end(session)
                del ends[session]
        now += 1
    assert not ends


class Leases(RuleBasedStateMachine):
    """Against the plainest model: when did each session last show life, and when did its stream in use break.

    There are three, so that their ends never wait for others.
    """

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
            stream = abs(self.model[session][2])
            self.leases.beat(session, stream, self.now)
            self.model[session] = [self.now, None, stream]

    @rule(session=st.sampled_from("abc"), stale=st.booleans())
    def stream_breaks(self, session, stale):
        if session in self.model and self.model[session][2]:
            stream = self.model[session][2]
            self.leases.broken(session, abs(stream) - stale, self.now)
            if not stale and stream > 0 and self.model[session][1] is None:
                self.model[session][1] = self.now

    @rule(session=st.sampled_from("abc"), ago=st.floats(0, 10))
    def it_proves_to_others_that_it_lived(self, session, ago):
        since = self.now - ago
        self.leases.proved(session, since)
        if session in self.model:
            life, broken, stream = self.model[session]
            end = min(life + 7, broken + 2.5 if broken is not None else life + 7)
            if since + 7 > end and not (stream > 0 and broken is None):
                self.model[session] = [since, None, -abs(stream)]  # negative: what breaks now changes nothing

    @rule()
    def suspects_are_looked_for(self):
        for session in self.leases.doubtful(self.now):
            life, broken, stream = self.model[session]
            # One with the grace left or less: that its stream breaks changes nothing any more.
            self.model[session] = [life, broken, -abs(stream)]

    @invariant()
    def exactly_those_expire_that_were_silent_too_long(self):
        expired = {
            session
            for session, (life, broken, _) in self.model.items()
            if self.now >= life + 7 or (broken is not None and self.now >= broken + 2.5)
        }
        assert set(self.leases.sweep(self.now)) == expired


test_leases_agree_with_the_plainest_model = Leases.TestCase
