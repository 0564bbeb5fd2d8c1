"""Which copies are missing and which are needless: properties, and a network in which anything may happen."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from central.copies.promises import Claim, Kept, missing, spare

PEERS = [*"abcdefgh"]
CLAIMS = st.lists(st.builds(Claim, st.sampled_from(PEERS), st.integers(1, 5)), max_size=3, unique_by=lambda c: c.author)
COPIES = st.lists(
    st.builds(Kept, st.sampled_from(PEERS), st.booleans(), st.booleans()),
    max_size=8,
    unique_by=lambda copy: copy.peer_id,
)
GRACE = 30.0


@given(st.integers(0, 5), st.integers(0, 5), st.lists(st.floats(0, 100)))
def test_those_who_may_still_return_are_not_replaced_and_the_others_are(wanted, present, away):
    gone = [since for since in away if since <= 100 - GRACE]
    assert missing(wanted, present, gone, GRACE, 100.0) == max(0, wanted - present)
    assert missing(wanted, present, away, GRACE, 100.0) == max(0, wanted - present - len(away) + len(gone))


def test_the_grace_ends_when_it_is_over():
    assert missing(3, 2, [10.0], GRACE, 39.9) == 0
    assert missing(3, 2, [10.0], GRACE, 40.0) == 1
    assert missing(3, 2, [float("-inf")], GRACE, 10.0) == 1
    assert missing(3, 2, [10.0], 0.0, 10.0) == 1


@given(CLAIMS, COPIES)
def test_what_stays_is_enough_for_everybody_and_no_more_could_go(claims, copies):
    dropped = spare(claims, copies)
    assert len(set(dropped)) == len(dropped)
    assert set(dropped) <= {copy.peer_id for copy in copies}
    sure = {copy.peer_id for copy in copies if copy.confirmed and copy.steady} - set(dropped)
    enough = [len(sure - {claim.author}) >= claim.wanted for claim in claims]
    if dropped:
        assert claims
        assert all(enough)
    if claims and all(enough):
        assert not [copy for copy in copies if copy.peer_id not in sure and copy.peer_id not in dropped]
        for one in sure:
            assert any(len(sure - {claim.author, one}) < claim.wanted for claim in claims)


def test_what_nobody_claims_is_not_needless():
    assert spare([], [Kept("a", confirmed=True, steady=True)]) == []


def test_copies_that_are_being_made_go_first_and_those_of_the_owner_do_not_count():
    sure = [Kept(peer, confirmed=True, steady=True) for peer in "ab"]
    assert spare([Claim("z", 2)], [*sure, Kept("c", confirmed=False, steady=True)]) == ["c"]
    assert spare([Claim("z", 2)], [*sure, Kept("c", confirmed=True, steady=False)]) == ["c"]
    assert spare([Claim("a", 2)], [*sure, Kept("c", confirmed=False, steady=True)]) == []
    assert spare([Claim("z", 1)], sure) == ["a"]


class Swarm(RuleBasedStateMachine):
    """One content with one owner: peers come, go, store and lose; what is decided is carried out some time later."""

    WANTED = 3

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.since = dict.fromkeys(PEERS, float("-inf"))
        self.here = set(PEERS)
        self.chosen, self.stored, self.told_to_drop = set(), set(), set()
        self.fetched = 0

    def decide(self):
        here = self.here - self.told_to_drop
        present = (self.chosen | self.stored) & here
        away = [self.since[one] for one in self.stored - self.here - self.told_to_drop]
        for one in sorted(here - present)[: missing(self.WANTED, len(present), away, GRACE, self.now)]:
            assert one not in self.chosen | self.stored
            self.chosen.add(one)
        copies = [
            Kept(one, one in self.stored, steady=self.since[one] <= self.now - GRACE)
            for one in sorted((self.chosen | self.stored) & here)
        ]
        needless = spare([Claim("owner", self.WANTED)], copies)
        assert not self.told_to_drop & set(needless)
        self.told_to_drop |= set(needless)
        self.chosen -= set(needless)

    @precondition(lambda self: self.chosen & self.here)
    @rule(data=st.data())
    def store(self, data):
        one = data.draw(st.sampled_from(sorted(self.chosen & self.here)))
        self.chosen.discard(one)
        self.stored.add(one)
        self.fetched += 1
        self.decide()

    @precondition(lambda self: self.told_to_drop & self.here)
    @rule(data=st.data())
    def drop(self, data):
        one = data.draw(st.sampled_from(sorted(self.told_to_drop & self.here)))
        self.told_to_drop.discard(one)
        self.stored.discard(one)
        self.decide()

    @rule(one=st.sampled_from(PEERS))
    def leave_or_come(self, one):
        self.here ^= {one}
        self.since[one] = self.now
        self.decide()

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds):
        self.now += seconds
        self.decide()

    @invariant()
    def copies_stay_when_they_are_dropped(self):
        """Whatever is to be dropped, as many as wanted certainly remain, or have left since: nobody is told twice."""
        if self.told_to_drop:
            assert len(self.stored - self.told_to_drop) >= self.WANTED

    def teardown(self):
        """In the end, when nobody leaves any more, there are exactly as many as wanted."""
        self.here = set(PEERS)
        for _ in range(40):
            self.now += GRACE / 2
            self.decide()
            self.fetched += len(self.chosen & self.here)
            self.stored |= self.chosen & self.here
            self.chosen.clear()
            self.stored -= self.told_to_drop
            self.told_to_drop.clear()
        assert len(self.stored) == self.WANTED
        before = self.fetched
        for one in sorted(self.stored):  # and who is away for less than the grace costs nothing
            self.leave_or_come(one)
            self.now += GRACE * 0.9
            self.decide()
            self.leave_or_come(one)
        assert (self.fetched, self.chosen, self.told_to_drop) == (before, set(), set())


TestSwarm = Swarm.TestCase
