import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central.sessions.neighbours import Assignment, Member, Neighbours

# Joins (a number and whether it can be dialled) and departures (an index into who is there).
EVENTS = st.lists(
    st.one_of(st.tuples(st.just("join"), st.booleans()), st.tuples(st.just("leave"), st.integers(0, 50))), max_size=60
)


class Network:
    """Neighbours with the facts beside them that the rules speak of."""

    def __init__(self, cap=16):
        self.cap = cap
        self.neighbours = Neighbours(cap)
        self.dialable = {}
        self.count = 0

    def join(self, dialable=True, peer_id=""):
        self.count += 1
        peer_id = peer_id or f"p{self.count}"
        self.dialable[peer_id] = dialable
        return peer_id, self.neighbours.join(peer_id, self.count, dialable)

    def leave(self, peer_id):
        del self.dialable[peer_id]
        return self.neighbours.leave(peer_id)

    def play(self, events):
        for kind, value in events:
            if kind == "join":
                yield kind, *self.join(value)
            elif self.dialable:
                peer_id = sorted(self.dialable)[value % len(self.dialable)]
                yield kind, peer_id, self.leave(peer_id)

    def assignments(self):
        return {peer_id: self.neighbours.of(peer_id) for peer_id in self.dialable}

    def load(self):
        return Counter(relay for a in self.assignments().values() for relay in (a.primary, a.backup) if relay)


def check_everyone_has_neighbours(network):
    relays = {peer_id for peer_id, dialable in network.dialable.items() if dialable}
    for peer_id, assignment in network.assignments().items():
        others = relays - {peer_id}
        assert bool(assignment.primary) == (len(others) >= 1)
        assert bool(assignment.backup) == (len(others) >= 2)
        assert {assignment.primary, assignment.backup} - {""} <= others
        assert assignment.primary != assignment.backup or not assignment.primary


@given(EVENTS, st.integers(1, 5))
def test_invariant_3_every_live_peer_has_a_live_neighbour_and_a_distinct_backup(events, cap):
    network = Network(cap)
    for _ in network.play(events):
        check_everyone_has_neighbours(network)


@given(EVENTS, st.integers(1, 5))
def test_invariant_4_a_departure_reassigns_only_those_who_used_the_departed(events, cap):
    network = Network(cap)
    before = {}
    for kind, peer_id, changes in network.play(events):
        after = network.assignments()
        if kind == "leave":
            users = {user for user, assignment in before.items() if assignment.uses(peer_id)} - {peer_id}
            assert {user for user in after if after[user] != before[user]} == users == set(changes)
            for user in users:
                kept = {before[user].primary, before[user].backup} - {peer_id}
                assert after[user].primary in kept or kept == {""}
        before = after


@given(EVENTS, st.integers(1, 5))
def test_invariant_4_no_relay_serves_more_than_its_cap_while_another_has_room(events, cap):
    network = Network(cap)
    before = Counter()
    for kind, _, changes in network.play(events):
        load = network.load()
        with_room = {peer for peer, dialable in network.dialable.items() if dialable and load[peer] < cap}
        crowded = {relay for relay, count in load.items() if count > cap}
        if kind == "join":
            assert not (crowded and with_room)
        for relay in crowded & {relay for relay in load if load[relay] > before[relay]}:
            # A departure may burden a relay only with a user whom nobody with room can serve.
            users = [user for user in changes if network.neighbours.of(user).uses(relay)]
            assert any(with_room <= {user, *vars_of(network.neighbours.of(user))} for user in users)
        before = load


def vars_of(assignment):
    return assignment.primary, assignment.backup


@given(EVENTS, st.integers(1, 5))
def test_changes_tell_exactly_what_is_new(events, cap):
    network = Network(cap)
    known = {}
    for kind, peer_id, changes in network.play(events):
        known |= changes
        if kind == "leave":
            known.pop(peer_id, None)
        assert known == {peer: a for peer, a in network.assignments().items() if peer in known}
        assert all(network.neighbours.of(peer) == Assignment() for peer in network.dialable if peer not in known)
        for relay in network.dialable:
            users = {peer for peer, a in network.assignments().items() if a.uses(relay)}
            assert set(network.neighbours.users(relay)) == users


@given(EVENTS, st.integers(1, 5), st.data())
def test_restored_assignments_stay_and_broken_ones_are_mended(events, cap, data):
    network = Network(cap)
    for _ in network.play(events):
        pass
    joined = {peer_id: int(peer_id[1:]) for peer_id in network.dialable}
    gone = data.draw(st.sets(st.sampled_from(sorted(joined)))) if joined else set()
    members = [
        Member(peer_id, joined[peer_id], network.dialable[peer_id], assignment)
        for peer_id, assignment in network.assignments().items()
        if peer_id not in gone
    ]
    restored = Network(cap)
    changes = restored.neighbours.restore(members)
    restored.dialable = {member.peer_id: member.dialable for member in members}
    check_everyone_has_neighbours(restored)
    load = restored.load()
    assert not any(n > cap for n in load.values()) or all(load[p] >= cap for p, d in restored.dialable.items() if d)
    for member in members:
        assert (member.peer_id in changes) == (restored.neighbours.of(member.peer_id) != member.assignment)
    if not gone and all(n <= cap for n in network.load().values()):
        assert changes == {}


@given(EVENTS)
def test_the_same_events_give_the_same_neighbours(events):
    one, two = Network(3), Network(3)
    assert list(one.play(events)) == list(two.play(events))


@given(EVENTS, st.data())
def test_a_peer_that_joins_again_keeps_its_neighbours_and_its_users_while_it_can_be_dialled(events, data):
    network = Network(3)
    for _ in network.play(events):
        pass
    if not network.dialable:
        return
    peer_id = data.draw(st.sampled_from(sorted(network.dialable)))
    dialable = data.draw(st.booleans())
    kept, users, load = network.neighbours.of(peer_id), network.neighbours.users(peer_id), network.load()
    was_dialable = network.dialable[peer_id]
    _, changes = network.join(dialable, peer_id)
    check_everyone_has_neighbours(network)
    if dialable == was_dialable and max(load.values(), default=0) <= 3:
        assert changes == {}
        assert network.neighbours.of(peer_id) == kept
        assert network.neighbours.users(peer_id) == users


def test_a_lone_peer_is_given_the_next_newcomer_at_once():
    network = Network()
    first, changes = network.join()
    assert changes == {}
    second, changes = network.join()
    assert changes == {first: Assignment(second), second: Assignment(first)}


def test_a_newcomers_primary_is_the_most_recently_joined_peer_that_can_be_dialled_and_has_room():
    network = Network(cap=4)
    for _ in range(5):
        network.join()
    hidden, _ = network.join(dialable=False)
    assert network.neighbours.of(hidden) == Assignment("p5", "p4")
    newcomer, changes = network.join()
    assert changes == {newcomer: Assignment("p5", "p4")}
    network.join(dialable=False)
    assert network.neighbours.of("p8").primary == "p7"


def test_the_backup_is_promoted_when_the_primary_departs():
    network = Network()
    for _ in range(6):
        network.join()
    assert network.neighbours.of("p6") == Assignment("p5", "p4")
    network.leave("p5")
    assert network.neighbours.of("p6").primary == "p4"


def test_peers_that_nobody_can_dial_have_neighbours_and_are_none():
    network = Network(cap=2)
    for _ in range(10):
        network.join(dialable=False)
    assert all(a == Assignment() for a in network.assignments().values())
    relay, changes = network.join()
    assert all(network.neighbours.of(peer).primary == relay for peer in changes)
    assert len(changes) == 10
    assert network.neighbours.of(relay) == Assignment()


def test_an_unknown_departure_changes_nothing():
    network = Network()
    network.join()
    assert network.neighbours.leave("stranger") == {}
    assert "stranger" not in network.neighbours
    with pytest.raises(KeyError):
        network.neighbours.of("stranger")


@settings(deadline=None)
@given(st.just(5000))
def test_five_thousand_peers_join_and_leave_in_linear_time(count):
    network = Network()
    began = time.process_time()
    for _ in range(count):
        _, changes = network.join()
        assert len(changes) <= 4
    for peer_id in list(network.dialable):
        assert len(network.leave(peer_id)) <= 16
    assert time.process_time() - began < 5
