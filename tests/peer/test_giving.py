"""Who is given which block: asks in, gifts out, no clock and no network."""

import random
from collections import Counter, defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.shares import Shares
from peer.fetching.block_sets import set_of
from peer.giving import choice, giving
from peer.giving.choice import Ask
from peer.giving.giving import Gift, Giving
from tests.examples import examples

CALLERS = ("ana", "bo", "cy", "di")
WHOLE, PART = CONTENTS = (b"a" * 32, b"b" * 32)
NEVER = float("inf")
BLOCKS = 4
SETTLING = 1.0
BUSY = 0.1
BEGINNING = giving._BEGINNING
PASSING_ON = 2.0

sets = st.sets(st.integers(0, BLOCKS - 1))


def blocks_of(number):
    return {index for index in range(number.bit_length()) if number >> index & 1}


class World(RuleBasedStateMachine):
    """Callers that ask for anything, take their time, and go away; blocks that come one by one.

    The first content counts as held wholly, the second one as fetched at the same time.
    """

    @initialize(slots=st.integers(1, 5), each=st.integers(1, 4), seed=st.integers(0, 2**32))
    def begin(self, slots, each, seed):
        self.slots, self.each = slots, each
        self.shares = Shares(slots, each)
        self.giving = Giving(self.shares, each, seed)
        self.now = 0.0
        self.held = {WHOLE: set(range(BLOCKS)), PART: set()}
        self.lacking = defaultdict(set)
        self.waiting: dict[int, Ask] = {}
        self.leaving: dict[int, tuple[Ask, set[int], float]] = {}
        self.settled = defaultdict(dict)
        self.given = {content: Counter() for content in CONTENTS}
        self.paces = defaultdict(list)
        self.passed_on: dict[int, float] = {}
        self.first_hand: set[int] = set()
        self.firsts: dict[int, str] = {}  # by block, who was given it first hand
        self.begun: set[str] = set()
        self.beginner, self.beginning_until = "", 0.0
        self.others = 0
        self.asks = 0

    def at_once(self, who):
        if who not in self.paces:
            return 1
        return max(1, min(self.each, int(BUSY / max(self.paces[who][-1], 1e-6))))

    def busy_with(self, ask):
        return [blocks for other, blocks, _ in self.leaving.values() if (other.who, other.content_id) == place(ask)]

    def able(self, ask, taken_over=frozenset()):
        """What an ask may be given, by the rules, when there is a slot."""
        if ask.only:
            return self.held[ask.content_id] & {min(blocks_of(ask.lacking))}
        if ask.patient and len(self.busy_with(ask)) >= self.at_once(ask.who):
            return set()
        there = self.held[ask.content_id] & self.lacking[place(ask)] - set().union(*self.busy_with(ask))
        if ask.first_hand and ask.content_id == PART:
            there &= self.first_hand
        elif ask.first_hand:
            there -= {index for index, until in self.passed_on.items() if self.now < until} - taken_over
        return there - {i for i, since in self.settled[place(ask)].items() if self.now < since + SETTLING}

    def taken_over(self, ask):
        """What the caller of an ask had better pass on than whoever was to, now that there is nothing new."""
        content = self.giving._contents[ask.content_id]
        if ask.content_id == PART or blocks_of(content.held) - set(self.firsts):
            return set()
        lacking = {who: blocks_of(each.lacking) for who, each in content.callers.items() if not each.idle}

        def backlog(who):
            first = {index for index, owner in self.firsts.items() if owner == who}
            others = [len(first & blocks) for other, blocks in lacking.items() if other != who]
            return sum(others) / max(1, len(others))

        much = backlog(ask.who) + choice._AHEAD
        return {index for index, owner in self.firsts.items() if backlog(owner) >= much}

    def has_to_wait_for_a_beginner(self, ask):
        others = ask.content_id == WHOLE and ask.who != self.beginner
        return others and ask.patient and self.now < self.beginning_until

    def lets_others_go_first(self, ask):
        """Tells whether the caller waits for a beginner, or for others that have less to pass on."""
        if ask.content_id == PART or not ask.patient:
            return False
        ahead = self.giving._contents[WHOLE].has_to_wait(ask.who)
        assert not ahead or any(other.content_id == WHOLE for other, *_ in self.leaving.values()), "it waits for ever"
        return ahead or self.has_to_wait_for_a_beginner(ask)

    @property
    def busy(self):
        """The asks that wait or are being answered."""
        return [*self.waiting.values(), *(ask for ask, *_ in self.leaving.values())]

    def take(self, gifts):
        for gift in gifts:
            ask = self.waiting[gift.ask]
            taken_over = self.taken_over(ask)
            able = self.able(ask, taken_over)
            blocks = set(range(gift.index, gift.index + gift.count))
            assert gift.index in able
            there = blocks_of(ask.lacking) & self.held[ask.content_id] if ask.only else able
            others = {other.who for other in self.busy if other.content_id == ask.content_id} - {ask.who}
            longest = next(count for count in range(1, BLOCKS + 1) if gift.index + count not in there)
            assert gift.count == (1 if others else min(ask.most, longest))
            is_first = ask.first_hand or not blocks <= set(self.firsts) or bool(blocks & taken_over)
            assert gift.first_hand == (ask.content_id == WHOLE and is_first)
            if gift.first_hand:
                self.firsts |= dict.fromkeys(blocks, ask.who)
            assert not self.has_to_wait_for_a_beginner(ask)
            counts = self.given[ask.content_id]
            if ask.content_id == WHOLE:
                if not ask.only:
                    assert counts[gift.index] == min(counts[index] for index in able), "each once before any twice"
                self.passed_on |= dict.fromkeys(blocks, NEVER)
                if ask.who not in self.begun:
                    self.begun.add(ask.who)
                    self.beginner, self.beginning_until = ask.who, self.now + BEGINNING
            for index in blocks:
                counts[index] = max(1, counts[index] + (not ask.only))
            del self.waiting[gift.ask]
            self.leaving[gift.ask] = ask, blocks, self.now

    @rule(
        who=st.sampled_from(CALLERS),
        content=st.sampled_from(CONTENTS),
        lacking=sets,
        only=st.booleans(),
        how=st.fixed_dictionaries({"patient": st.booleans(), "first_hand": st.booleans(), "most": st.integers(1, 3)}),
    )
    def asks_for_blocks(self, who, content, lacking, only, how):
        self.asks += 1
        how["first_hand"] &= not only
        ask = Ask(self.asks, who, content, set_of(lacking), only, **how)
        if not only:
            self.lacking[who, content] = lacking
            settled = self.settled[who, content]
            for index in list(settled):
                if index not in lacking:
                    del settled[index]
        if lacking:
            self.waiting[ask.number] = ask
        gifts = self.giving.asked(ask, set_of(self.held[content]), self.now, complete=content == WHOLE)
        self.take(gifts)
        if ask.number in self.waiting:
            wanted = {min(lacking)} if only else lacking
            assert self.giving.able(ask) == bool(self.held[content] & wanted)

    @rule(index=st.integers(0, BLOCKS - 1), first_hand=st.booleans())
    def gains(self, index, first_hand):
        if index in self.held[PART]:
            return
        self.held[PART].add(index)
        self.first_hand |= {index} if first_hand else set()
        gifts = self.giving.gained(PART, index, self.now, first_hand=first_hand)
        self.take(gifts)

    @rule(content=st.sampled_from(CONTENTS), blocks=sets)
    def loses(self, content, blocks):
        """A content that was whole is changed, or another file of it is fetched: the next ask tells."""
        if not any(ask.content_id == content for ask in self.waiting.values()):
            self.held[content] ^= blocks

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraws(self, data):
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[number]
        self.giving.withdrawn(number)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data(), arrived=st.booleans())
    def has_left(self, data, arrived):
        self.leave(data.draw(st.sampled_from(sorted(self.leaving))), arrived=arrived)

    def leave(self, number, *, arrived):
        ask, blocks, since = self.leaving.pop(number)
        if ask.content_id == WHOLE:
            until = self.now + PASSING_ON * (self.now - since) if arrived else self.now
            self.passed_on |= dict.fromkeys(blocks, until)
            if ask.who == self.beginner:
                self.beginning_until = self.now
            for index in blocks:
                if not arrived and self.firsts.get(index) == ask.who:  # also when it had thrown away what came before
                    del self.firsts[index]
                    self.given[WHOLE][index] -= 1
        if arrived:
            self.settled[place(ask)] |= dict.fromkeys(blocks, self.now)
            took = (self.now - since) / (len(self.busy_with(ask)) + 1)
            paces = self.paces[ask.who]
            # The first block of all says little: a new connection begins slowly.
            paces.append((paces[-1] + took) / 2 if len(paces) > 1 else took)
        self.take(self.giving.left(number, self.now, arrived=arrived))

    @rule()
    def something_else_takes_a_slot(self):
        self.others += self.shares.take("else")

    @precondition(lambda self: self.others)
    @rule()
    def something_else_gives_its_slot_back(self):
        self.others -= 1
        self.shares.give_back("else")
        self.take(self.giving.freed(self.now))

    @rule(number=st.integers(0, 60))
    def hears_of_what_is_over(self, number):
        if number not in self.waiting:
            self.giving.withdrawn(number)
        if number not in self.leaving:
            assert self.giving.left(number, self.now, arrived=True) == []

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.06, 1.0, 3.0, 6.0]))
    def time_passes(self, seconds):
        self.run_until(self.now + seconds)

    def run_until(self, end):
        for _ in range(100):
            if self.giving.due > end:
                break
            self.now = max(self.now, self.giving.due)
            self.take(self.giving.passed(self.now))
            assert self.giving.due > self.now, "it waits for nothing that is over"
        else:
            raise AssertionError("it is called again and again")
        self.now = end

    @invariant()
    def no_slot_is_lost_and_nobody_has_more_than_its_share(self):
        if not hasattr(self, "giving"):
            return
        assert self.shares.free == self.slots - len(self.leaving) - self.others
        assert all(count <= self.each for count in Counter(ask.who for ask, _, _ in self.leaving.values()).values())

    @invariant()
    def whoever_is_alone_knows_it(self):
        if hasattr(self, "giving"):
            busy = {ask.who for ask in self.busy}
            assert all(self.giving.alone(who) == (busy <= {who}) for who in CALLERS)

    @invariant()
    def whoever_can_be_served_is_served_while_there_are_slots(self):
        if not hasattr(self, "giving"):
            return
        if self.giving.due <= self.now:
            self.run_until(self.now)
        has = Counter(ask.who for ask, _, _ in self.leaving.values())
        for ask in self.waiting.values():
            if not self.shares.free or has[ask.who] == self.each or self.lets_others_go_first(ask):
                continue
            # That its caller has become faster elsewhere is seen at the next occasion.
            if ask.only or not ask.patient or not self.busy_with(ask):
                assert not self.able(ask)

    def teardown(self):
        """Everybody goes away, in any order: nothing is left behind."""
        if not hasattr(self, "giving"):
            return
        chance = random.Random(self.asks)
        while self.waiting or self.leaving:
            number = chance.choice(sorted({*self.waiting, *self.leaving}))
            if number in self.waiting:
                del self.waiting[number]
                self.giving.withdrawn(number)
            else:
                self.leave(number, arrived=chance.random() < 0.5)
        assert self.shares.free == self.slots - self.others
        assert [self.giving._waiting, self.giving._leaving, self.giving._queue] == [{}] * 3
        for content in self.giving._contents.values():
            assert all(caller.settling for caller in content.callers.values()), "only what counts yet is remembered"


def place(ask):
    return ask.who, ask.content_id


test_what_is_given_follows_the_rules_whatever_is_asked_and_in_whatever_order_it_leaves = World.TestCase
test_what_is_given_follows_the_rules_whatever_is_asked_and_in_whatever_order_it_leaves.settings = settings(
    max_examples=examples(200), stateful_step_count=40, deadline=None
)


class Peer:
    """One holder with blocks to give, and a clock."""

    def __init__(self, blocks, *, slots=4, each=3, seed=0):
        self.blocks = set_of(range(blocks))
        self.shares = Shares(slots, each)
        self.giving = Giving(self.shares, each, seed)
        self.now = 0.0
        self.asks = 0

    def ask(self, who, lacking=None, *, content=WHOLE, complete=True, **more):
        self.asks += 1
        ask = Ask(self.asks, who, content, self.blocks if lacking is None else set_of(lacking), **more)
        return self.asks, self.giving.asked(ask, self.blocks, self.now, complete=complete)

    def begin(self, who, lacking=None):
        """Asks, and lets so much time pass as others may have to wait for somebody's first block."""
        gifts = self.ask(who, lacking)[1]
        self.now += BEGINNING
        return gifts

    def leave(self, gift, seconds=0.0, *, arrived=True):
        self.now += seconds
        return self.giving.left(gift.ask, self.now, arrived=arrived)

    def wait(self):
        """Time passes until something is given; returns that."""
        while self.giving.due < NEVER:
            self.now = max(self.now, self.giving.due)
            if gifts := self.giving.passed(self.now):
                return gifts
        return []


def test_different_callers_get_different_blocks():
    peer = Peer(4)
    given = [gift.index for who in CALLERS for gift in peer.begin(who)]
    assert sorted(given) == [0, 1, 2, 3]


def test_different_holders_begin_at_different_blocks():
    assert len({Peer(64, seed=seed).ask("ana")[1][0].index for seed in range(0, 64, 8)}) == 8


def test_blocks_leave_one_at_a_time_while_that_takes_long_and_more_at_once_when_it_does_not():
    peer = Peer(40)
    (gift,) = peer.ask("ana")[1]
    for _ in range(5):
        assert peer.ask("ana")[1] == []
    (gift,) = peer.leave(gift, 1.0)
    gifts, most = [gift], 0
    for _ in range(12):
        gifts += peer.ask("ana")[1]
        gifts += peer.leave(gifts.pop(0), 0.001)
        most = max(most, len(gifts))
    assert most == 3


def test_while_somebody_is_given_its_first_block_the_others_wait_but_not_for_long():
    peer = Peer(8)
    (first,) = peer.ask("ana")[1]
    bo, gifts = peer.ask("bo")
    assert gifts == []
    (gift,) = peer.leave(first, 0.1)
    assert gift.ask == bo, "it has left, and the next one begins"
    cy, gifts = peer.ask("cy")
    assert gifts == []
    assert [gift.ask for gift in peer.wait()] == [cy], "so long they wait at most"
    assert peer.now == 0.1 + BEGINNING
    assert peer.ask("ana")[1] == []
    assert len(peer.leave(gift)) == 0
    assert [gift.ask for gift in peer.wait()], "who has begun waits too"


def test_whoever_begins_does_not_wait_for_itself_nor_does_who_cannot_wait_for_others():
    peer = Peer(8)
    (first,) = peer.ask("ana", {0}, only=True)[1]
    assert len(peer.ask("ana", {1}, only=True)[1]) == 1
    assert len(peer.ask("bo", patient=False)[1]) == 1
    peer.leave(first)
    assert peer.ask("cy")[1] == [], "now they wait for bo"


def test_what_others_are_about_to_pass_on_is_not_given_first_hand_until_they_should_have():
    peer = Peer(1)
    (gift,) = peer.ask("ana")[1]
    waiting, gifts = peer.ask("bo", first_hand=True)
    assert gifts == []
    assert peer.leave(gift, 1.0) == []
    assert peer.wait() == [Gift(waiting, 0, first_hand=True)], "now it is for bo to pass it on"
    assert peer.now == 1.0 + PASSING_ON, "twice as long as it took to get there"


def test_what_did_not_reach_its_caller_is_given_to_the_next_one_first_hand_at_once():
    peer = Peer(1)
    (gift,) = peer.ask("ana")[1]
    waiting, _ = peer.ask("bo", first_hand=True)
    peer.leave(gift, 20.0, arrived=False)
    assert peer.giving.due <= peer.now
    assert [gift.ask for gift in peer.wait()] == [waiting]


def test_what_is_passed_on_already_is_given_at_once_to_who_takes_it_from_any_hand():
    peer = Peer(1)
    peer.begin("ana")
    assert peer.ask("bo", first_hand=True)[1] == []
    assert [gift.index for gift in peer.ask("bo")[1]] == [0]


def test_of_a_part_what_came_first_hand_is_passed_on_and_the_rest_is_given_to_who_takes_it_from_any_hand():
    peer = Peer(0)
    first, _ = peer.ask("ana", {0, 1}, complete=False, first_hand=True)
    assert peer.giving.gained(WHOLE, 0, 0.0, first_hand=False) == []
    assert peer.giving.gained(WHOLE, 1, 0.0, first_hand=True) == [Gift(first, 1)]
    peer.blocks = 0b11
    assert peer.leave(Gift(first, 1), 0.1) == []
    assert peer.ask("ana", {0}, complete=False, first_hand=True)[1] == []
    assert [gift.index for gift in peer.ask("ana", {0}, complete=False)[1]] == [0]


def test_what_came_first_hand_before_anybody_asked_is_passed_on_too():
    peer = Peer(0)
    peer.giving.gained(WHOLE, 1, 0.0, first_hand=True)
    peer.giving.gained(WHOLE, 2, 0.0, first_hand=False)
    peer.blocks = 0b110
    assert [gift.index for gift in peer.ask("ana", {0, 1, 2}, complete=False, first_hand=True)[1]] == [1]


def test_whoever_has_more_to_pass_on_than_others_waits_for_them_unless_it_cannot():
    peer = Peer(20, slots=8)
    leaving = {}
    for who in ("ana", "bo", "cy", "di", "ed"):
        (leaving[who],) = peer.begin(who)
    for _ in range(4):
        peer.leave(leaving["ana"], 0.01)
        _, gifts = peer.ask("ana")
        if not gifts:
            break
        (leaving["ana"],) = gifts
    assert gifts == [], "four are being given what they begin with"
    assert peer.ask("ana", {19}, only=True)[1] == []
    assert len(peer.ask("ana", patient=False)[1]) == 1
    peer.ask("bo")
    assert peer.leave(leaving["bo"], 0.01), "its turn comes again"


def test_who_has_little_to_pass_on_takes_over_from_who_has_much_once_everything_has_been_given():
    peer = Peer(4, slots=8)
    first = {0, 1, 2}
    for index in first:
        peer.ask("ana", {index}, only=True)
    peer.now += BEGINNING
    assert peer.ask("bo", first, first_hand=True)[1] == [], "there is something new yet"
    assert [gift.index for gift in peer.begin("cy")] == [3]
    (taken,) = peer.ask("bo", first, first_hand=True)[1]
    assert taken.first_hand
    assert peer.ask("di", {taken.index}, first_hand=True)[1] == [], "bo passes it on"
    peer.leave(taken)
    assert peer.ask("bo", first - {taken.index}, first_hand=True)[1] == [], "ana has hardly more to pass on now"


def test_an_ask_that_cannot_wait_is_served_beside_those_that_leave():
    peer = Peer(4)
    peer.ask("ana")
    assert peer.ask("ana")[1] == []
    assert len(peer.ask("ana", patient=False)[1]) == 1


def test_a_block_that_is_leaving_for_a_caller_is_not_given_to_it_a_second_time():
    peer = Peer(2)
    (gift,) = peer.begin("ana", {1})
    assert peer.ask("ana", {1}, patient=False)[1] == []
    assert [other.index for other in peer.ask("bo", {1})[1]] == [gift.index]


def test_a_block_that_has_just_left_is_not_given_again_to_a_caller_that_may_not_know_of_it():
    peer = Peer(2)
    (first,) = peer.ask("ana")[1]
    assert peer.leave(first, 1.0) == []
    (second,) = peer.ask("ana")[1]
    assert {first.index, second.index} == {0, 1}
    assert peer.leave(second) == []
    assert peer.ask("ana")[1] == []
    peer.ask("ana", {second.index})  # now it says that the first one has come, then that it has been lost
    assert [gift.index for gift in peer.ask("ana", {first.index})[1]] == [first.index]


def test_a_block_that_did_not_arrive_is_given_again_at_once():
    peer = Peer(1)
    (gift,) = peer.ask("ana")[1]
    peer.ask("ana")
    (again,) = peer.leave(gift, arrived=False)
    assert again.index == gift.index


def test_the_newest_set_counts_for_asks_that_wait():
    peer = Peer(3)
    (gift,) = peer.ask("ana")[1]
    waiting, _ = peer.ask("ana", {0, 1})
    peer.ask("ana", {2})
    assert peer.leave(gift, 1.0) == ([] if gift.index == 2 else [Gift(waiting, 2, first_hand=True)])


def test_a_block_that_is_asked_for_by_its_index_is_given_again_and_again():
    peer = Peer(2)
    (gift,) = peer.ask("ana", {1}, only=True)[1]
    peer.leave(gift)
    assert [again.index for again in peer.ask("ana", {1}, only=True)[1]] == [1]
    assert [other.index for other in peer.ask("bo")[1]] == [0], "by its pieces it counts once"


def test_nobody_starves_beside_callers_that_ask_for_as_much_as_they_can():
    peer, waiting = Peer(100, slots=4, each=3), []
    for greedy in CALLERS[:2]:
        for index in range(20):
            waiting += peer.ask(greedy, {index}, only=True)[1]
    modest, gifts = peer.ask("modest")
    assert gifts == []
    for index in range(20, 40):
        for greedy in CALLERS[:2]:
            waiting += peer.ask(greedy, {index}, only=True)[1]
        gifts = peer.leave(waiting.pop(0), 0.01)
        waiting += gifts
        if any(gift.ask == modest for gift in gifts):
            break
    assert index < 20 + 4, "its turn comes when those who waited before it have been served once"


def test_a_slot_that_comes_free_otherwise_goes_to_whoever_waits():
    peer = Peer(4, slots=1)
    assert peer.shares.take("else")
    waiting, gifts = peer.ask("ana")
    assert gifts == []
    peer.shares.give_back("else")
    assert [gift.ask for gift in peer.giving.freed(peer.now)] == [waiting]


def test_what_is_remembered_of_callers_and_contents_is_bounded(monkeypatch):
    monkeypatch.setattr(giving, "_MOST_PACES", 10)
    monkeypatch.setattr(giving, "_MOST_CONTENTS", 10)
    monkeypatch.setattr(choice, "_MOST_CALLERS", 10)
    peer = Peer(3)
    for number in range(60):
        content = number.to_bytes(32, "big")
        (gift,) = peer.ask(f"caller-{number}", content=content)[1]
        peer.leave(gift, 0.01)
        (gift,) = peer.ask(f"caller-{number}")[1]
        peer.leave(gift, 0.01)
    assert len(peer.giving._contents) <= 10
    assert len(peer.giving._paces) <= 10
    assert len(peer.giving._contents[WHOLE].callers) <= 11


def test_of_those_who_have_been_given_something_the_last_ones_are_remembered(monkeypatch):
    monkeypatch.setattr(choice, "_MOST_CALLERS", 10)
    peer = Peer(3)
    for number in range(60):
        (gift,) = peer.ask(f"caller-{number}")[1]
        peer.leave(gift, 0.01)
    assert len(peer.giving._contents[WHOLE].to_pass_on) <= 10


def test_a_block_that_its_caller_lacks_a_second_after_it_has_left_was_lost_and_is_given_again():
    peer = Peer(1)
    (gift,) = peer.ask("ana")[1]
    peer.leave(gift)
    assert peer.ask("ana")[1] == [], "the set may have been made before the block came"
    assert [gift.index for gift in peer.wait()] == [0]
    assert peer.now == SETTLING


def test_of_what_has_left_only_the_last_seconds_are_remembered():
    peer = Peer(100)
    for index in range(100):
        (gift,) = peer.ask("ana", {index}, only=True)[1]
        peer.leave(gift, 1.0)
    assert len(peer.giving._contents[WHOLE].callers["ana"].settling) <= SETTLING


def test_of_blocks_that_are_given_very_often_the_counts_stay_few():
    peer = Peer(1)
    for number in range(200):
        (gift,) = peer.ask(f"caller-{number}")[1]
        peer.leave(gift)
    assert len(peer.giving._contents[WHOLE].rounds) <= choice._MOST_ROUNDS


def crowd(count, *, first_hand=()):
    """Has so many callers ask a part with 30 blocks that came second hand; returns how many are given one at once."""
    giving_all = Giving(Shares(128, 32), 32, 0)
    for index in range(30):
        giving_all.gained(PART, index, 0.0, first_hand=False)
    held = set_of(range(30))
    asks = [Ask(number, f"caller-{number}", PART, held, first_hand=number in first_hand) for number in range(count)]
    return giving_all, [gift for ask in asks for gift in giving_all.asked(ask, held, 0.0, complete=False)]


def test_blocks_of_any_hand_leave_eight_at_once_and_then_one_for_one():
    giving_all, gifts = crowd(20)
    assert [gift.ask for gift in gifts] == list(range(8))
    assert [gift.ask for gift in giving_all.left(3, 1.0, arrived=True)] == [8]
    assert [gift.ask for gift in giving_all.left(0, 1.0, arrived=False)] == [9]


def test_where_somebody_waits_for_blocks_first_hand_the_others_need_not_wait_for_their_turn():
    giving_all, gifts = crowd(20, first_hand={0})
    assert len(gifts) == 19
    giving_all.withdrawn(0)
    for gift in gifts[:11]:
        giving_all.left(gift.ask, 1.0, arrived=True)
    again = Ask(99, "caller-1", PART, set_of(range(30)))
    assert not giving_all.asked(again, set_of(range(30)), 1.0, complete=False)
    assert [gift.ask for gift in giving_all.left(gifts[11].ask, 1.0, arrived=True)] == [99]
