"""The scheduler of small contents, fed with events: nothing is lost, nothing asked twice, nobody asked too much."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peer.sets.gathering import Gathering, GatherLimits

KIB = 1024
LIMITS = GatherLimits(window=2, contents=3, first_bytes=4 * KIB, most_bytes=16 * KIB, patience=3.0)


def content(number):
    return number.to_bytes(32, "big")


def scheduler(*wanted, limits=LIMITS):
    """Returns one that wants contents 0, 1, …: (size, holders) each."""
    gathering = Gathering(limits)
    for number, (size, holders) in enumerate(wanted):
        gathering.want(content(number), size, holders)
    return gathering


def numbers(ask):
    return [int.from_bytes(content_id, "big") for content_id in ask.content_ids]


def test_a_call_asks_for_as_many_as_it_may_and_a_holder_gets_as_many_calls_as_it_may():
    gathering = scheduler(*[(KIB, "a")] * 10)
    asks = gathering.next(0.0)
    assert [(ask.holder, numbers(ask)) for ask in asks] == [("a", [0, 1, 2]), ("a", [3, 4, 5])]
    assert gathering.next(0.0) == []


def test_a_content_that_is_larger_than_a_call_goes_alone():
    gathering = scheduler((9 * KIB, "a"), (KIB, "a"))
    assert [numbers(ask) for ask in gathering.next(0.0)] == [[0], [1]]


def test_holders_share_what_they_all_have_and_nothing_is_asked_of_two():
    gathering = scheduler(*[(KIB, "ab")] * 12)
    asks = gathering.next(0.0)
    assert sorted(ask.holder for ask in asks) == ["a", "a", "b", "b"]
    assert sorted(number for ask in asks for number in numbers(ask)) == list(range(12))


def test_calls_grow_while_a_holder_is_brisk_and_shrink_when_it_is_slow():
    limits = GatherLimits(window=1, contents=100, first_bytes=2 * KIB, most_bytes=8 * KIB)
    gathering = scheduler(*[(KIB, "a")] * 100, limits=limits)
    sizes, now = [], 0.0
    for took in (0.1, 0.1, 0.1, 1.0, 3.0, 3.0):
        (ask,) = gathering.next(now)
        sizes.append(len(ask.content_ids))
        now += took
        gathering.answered(ask.number, ask.content_ids, (), now)
    assert sizes == [2, 4, 8, 8, 8, 4]


def test_what_an_answer_leaves_out_is_asked_for_again():
    gathering = scheduler(*[(KIB, "a")] * 3)
    (ask,) = gathering.next(0.0)
    gathering.answered(ask.number, ask.content_ids[:1], (), 0.1)
    assert [numbers(ask) for ask in gathering.next(0.1)] == [[1, 2]]


def test_what_a_holder_lacks_is_asked_of_another_and_lost_when_there_is_none():
    gathering = scheduler((KIB, "ab"), (KIB, "a"))
    (first, *_) = gathering.next(0.0)
    assert numbers(first) == [0, 1]
    gathering.answered(first.number, (), first.content_ids, 0.1)
    assert gathering.lost() == [content(1)]
    assert [(ask.holder, numbers(ask)) for ask in gathering.next(0.1)] == [("b", [0])]
    gathering.want(content(1), KIB, "b")
    assert gathering.lost() == []
    assert [numbers(ask) for ask in gathering.next(0.1)] == [[1]]


def test_a_holder_that_fails_rests_for_longer_each_time():
    gathering = scheduler((KIB, "a"))
    now, pauses = 0.0, []
    for _ in range(7):
        (ask,) = gathering.next(now)
        gathering.failed(ask.number, now)
        assert gathering.next(now) == []
        wake = gathering.wake(now)
        pauses.append(wake - now)
        now = wake
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_what_a_failing_holder_was_asked_for_is_taken_over_at_once():
    gathering = scheduler((KIB, "ab"))
    (ask,) = gathering.next(0.0)
    gathering.failed(ask.number, 0.0)
    assert [other.holder for other in gathering.next(0.0)] == [{"a": "b", "b": "a"}[ask.holder]]


def test_a_busy_holder_comes_back_when_it_says_and_is_not_held_to_have_failed():
    gathering = scheduler((KIB, "a"))
    (ask,) = gathering.next(0.0)
    gathering.failed(ask.number, 0.0, rest=1.5)
    assert gathering.next(1.4) == []
    (ask,) = gathering.next(1.5)
    gathering.failed(ask.number, 1.5)
    assert gathering.wake(1.5) == 1.75


def test_what_a_silent_holder_keeps_waiting_is_asked_of_another_and_the_first_answer_counts():
    gathering = scheduler((KIB, "a"))
    (slow,) = gathering.next(0.0)
    gathering.want(content(0), KIB, "b")
    assert gathering.next(2.9) == []
    assert gathering.wake(2.9) == 3.0
    (quick,) = gathering.next(3.0)
    assert quick.holder == "b"
    gathering.answered(quick.number, quick.content_ids, (), 3.1)
    assert not gathering.wanted
    gathering.answered(slow.number, slow.content_ids, (), 9.0)
    assert gathering.calls == 0


def test_a_call_that_had_to_wait_for_its_own_peer_is_not_late():
    gathering = scheduler((KIB, "ab"))
    (ask,) = gathering.next(0.0)
    gathering.began(ask.number, 10.0)
    assert gathering.next(12.9) == []
    assert len(gathering.next(13.0)) == 1


def test_a_liar_is_never_asked_again_whoever_names_it():
    gathering = scheduler(*[(KIB, "a")] * 4, (KIB, "ab"))
    first, second = gathering.next(0.0)[:2]
    gathering.lied("a")
    assert len(gathering.lost()) == 4
    for number in range(5):
        gathering.want(content(number), KIB, "a")
    assert all(ask.holder == "b" for ask in gathering.next(0.0))
    gathering.answered(first.number, first.content_ids, (), 0.1)
    gathering.failed(second.number, 0.1)
    assert len(gathering.wanted) == 5


class Swarmlet(RuleBasedStateMachine):
    """Holders that answer, fail, lack, lie and are slow, in any order; one of each content's holders is honest."""

    @initialize(
        wanted=st.lists(
            st.tuples(st.integers(0, 20 * KIB), st.sets(st.sampled_from("abc"), max_size=3)), min_size=1, max_size=12
        )
    )
    def begin(self, wanted):
        self.now, self.calls, self.got = 0.0, {}, set()
        self.gathering = Gathering(LIMITS)
        self.holders = {}
        for number, (size, holders) in enumerate(wanted):
            self.holders[content(number)] = holders | {"h"}
            self.gathering.want(content(number), size, self.holders[content(number)])
        self.liars = set()
        self.step()

    def step(self):
        for ask in self.gathering.next(self.now):
            assert ask.number not in self.calls
            assert len(set(ask.content_ids)) == len(ask.content_ids) <= LIMITS.contents
            assert ask.holder not in self.liars
            for content_id in ask.content_ids:
                assert content_id not in self.got, "it is here already"
                assert ask.holder in self.holders[content_id], "it never had it"
                asked = [call for call in self.calls.values() if content_id in call[0].content_ids]
                assert all(call[0].holder != ask.holder for call in asked), "it is asked for it now"
                assert len(asked) <= 1
                assert all(self.now - began >= LIMITS.patience for _, began in asked)
            self.calls[ask.number] = (ask, self.now)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["gives", "gives some", "fails", "busy", "lacks", "lies"]))
    def answer(self, data, how):
        ask, _ = self.calls.pop(data.draw(st.sampled_from(sorted(self.calls))))
        honest = ask.holder == "h"
        if how == "fails" or (honest and how in {"lacks", "lies"}):
            self.gathering.failed(ask.number, self.now)
        elif how == "busy":
            self.gathering.failed(ask.number, self.now, rest=0.5)
        elif how == "lies":
            self.liars.add(ask.holder)
            self.gathering.lied(ask.holder)
            self.calls = {number: call for number, call in self.calls.items() if call[0].holder != ask.holder}
        elif how == "lacks":
            for content_id in ask.content_ids:
                self.holders[content_id].discard(ask.holder)
            self.gathering.answered(ask.number, (), ask.content_ids, self.now)
        else:
            given = ask.content_ids if how == "gives" else ask.content_ids[:1]
            self.got.update(given)
            self.gathering.answered(ask.number, given, (), self.now)
        self.step()

    @rule(seconds=st.floats(0.01, 4.0))
    def wait(self, seconds):
        self.now += seconds
        self.step()

    @invariant()
    def nobody_is_asked_too_much(self):
        holders = [ask.holder for ask, _ in self.calls.values()]
        assert all(holders.count(name) <= LIMITS.window for name in set(holders))

    @invariant()
    def what_has_not_come_is_wanted_and_nothing_is_lost(self):
        assert set(self.gathering.wanted) == self.holders.keys() - self.got
        assert self.gathering.lost() == []

    def teardown(self):
        """In the end, when the honest one answers everything, everything comes."""
        for _ in range(200):
            for number in sorted(self.calls):
                ask, _ = self.calls.pop(number)
                if ask.holder == "h":
                    self.got.update(ask.content_ids)
                    self.gathering.answered(number, ask.content_ids, (), self.now)
                else:
                    self.gathering.failed(number, self.now)
            self.now += 6.0
            self.step()
            if not self.gathering.wanted:
                break
        assert not self.gathering.wanted


TestSwarmlet = Swarmlet.TestCase


@given(st.lists(st.integers(0, 300 * KIB), min_size=1, max_size=40))
def test_a_call_holds_no_more_than_its_budget_unless_it_holds_one_content(sizes):
    gathering = scheduler(*[(size, "a") for size in sizes], limits=GatherLimits())
    for ask in gathering.next(0.0):
        assert len(ask.content_ids) == 1 or sum(sizes[number] for number in numbers(ask)) <= 256 * KIB
