"""Which block a caller is given. Pure; `now` is an argument, in seconds.

A complete holder gives each block once before any twice: so different callers get different blocks, each of them first
hand, and whoever got a block so passes it on to all others. Then no block comes to anybody twice, and nobody has to
know what others have. A caller that has much to pass on already lets others go first; once everything has been given,
who has little to pass on takes over from who has much. Who holds only a part gives what it has first hand, and the rest
to whoever takes blocks of any hand.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice
from operator import or_

from peer.fetching.block_sets import lowest, members, run, run_in, set_of

# The caller's next set may have been made before a block reached it: for so long it is not given the block again. If
# it still waits for the block then, that was lost, or the caller has thrown it away.
_SETTLING = 1.0
# Whoever has so many blocks more to pass on to each of the others than somebody else waits, while more than half are
# given any; once there is nothing new to give, the other takes over.
_AHEAD = 2
# Beyond so many gifts of some block, the oldest round is forgotten.
_MOST_ROUNDS = 32
# Callers whose sets are looked at for one choice, and callers that are remembered.
_MOST_COMPARED = 64
_MOST_CALLERS = 1024
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Ask:
    """A caller's wish: any block of a set, and perhaps those that follow it.

    Attributes:
        number: names the ask.
        who: the caller.
        content_id: 32 bytes.
        lacking: blocks that the caller neither has nor is being given, by anybody.
        only: whether the first of these blocks is wanted, whatever else the caller lacks: else it is any of them, and a
            later ask's set counts for this one too.
        patient: whether it may wait for its turn while other blocks leave for the caller.
        first_hand: whether only blocks will do that nobody else is about to give to the caller, or only much later.
        most: how many blocks in a row it may be given while nobody else wants any.
    """

    number: int
    who: str
    content_id: bytes
    lacking: int
    only: bool = False
    patient: bool = True
    first_hand: bool = False
    most: int = 1

    @property
    def any_hand(self) -> bool:
        """Whether any block will do that the caller lacks."""
        return not self.only and not self.first_hand


@dataclass(slots=True)
class Caller:
    """What a caller wants of one content, and what is on its way to it.

    Attributes:
        lacking: as its last ask said.
        waiting: asks without an answer, the oldest first.
        leaving: the blocks of each gift that is being sent.
        settling: blocks that have left, to when that was; it may not have known when it said what it lacks.
    """

    lacking: int = 0
    waiting: deque[Ask] = field(default_factory=deque)
    leaving: list[int] = field(default_factory=list)
    settling: dict[int, float] = field(default_factory=dict)

    @property
    def coming(self) -> int:
        """The blocks that are on their way to it from here."""
        return reduce(or_, self.leaving, set_of(self.settling))

    @property
    def idle(self) -> bool:
        """Whether it wants nothing, and nothing is on its way to it."""
        return not self.waiting and not self.leaving

    def told(self, lacking: int) -> None:
        """Takes note of what it lacks now: what it does not lack has arrived."""
        self.lacking = lacking
        self.settling = {index: since for index, since in self.settling.items() if lacking >> index & 1}

    @property
    def settled_at(self) -> float:
        """When the first of the blocks that it lacks may be given once more; infinity when none may."""
        lacks = (since for index, since in self.settling.items() if self.lacking >> index & 1)
        return min(lacks, default=_NEVER) + _SETTLING

    def settle(self, now: float) -> None:
        """Forgets what left so long ago that it knows by now whether it has arrived."""
        for index in [index for index, since in self.settling.items() if since + _SETTLING <= now]:
            del self.settling[index]


@dataclass(slots=True)
class Content:
    """What is held of a content, and what has been given.

    Attributes:
        held: the blocks that are here.
        complete: whether these are all.
        start: the block with which the order of blocks begins.
        callers: who asks for it, whoever was given a block last at the end.
        leaving: how many gifts are being sent.
        any_hand: how many of them to whoever takes blocks of any hand.
        kept_for: how many asks wait for blocks first hand.
        first_hand: blocks of a part that are for this peer to pass on.
        given: blocks that somebody has been given, or is being given.
        to_pass_on: who has been given anything, to the blocks that it is to pass on.
        rounds: blocks that have been given; those that have been given again are in the second set too, and so on.
        passed_on: blocks that a complete holder has given, to when others should have passed them on.
    """

    held: int
    complete: bool
    start: int
    callers: OrderedDict[str, Caller] = field(default_factory=OrderedDict)
    leaving: int = 0
    any_hand: int = 0
    kept_for: int = 0
    first_hand: int = 0
    given: int = 0
    to_pass_on: OrderedDict[str, int] = field(default_factory=OrderedDict)
    rounds: list[int] = field(default_factory=list)
    passed_on: dict[int, float] = field(default_factory=dict)

    def waits(self, ask: Ask) -> None:
        """Takes note that an ask waits."""
        self.callers[ask.who].waiting.append(ask)
        self.kept_for += ask.first_hand

    def waits_no_more(self, ask: Ask) -> None:
        """Takes note that an ask does not wait any more."""
        self.callers[ask.who].waiting.remove(ask)
        self.kept_for -= ask.first_hand

    def choice(self, caller: Caller, now: float, *, full: bool, hurried: bool = False) -> tuple[Ask, int] | None:
        """Returns the first of a caller's asks that there is something for, and its blocks; None when there is none.

        When `full`, an ask that may wait for its turn is left out, but for one of a certain block. When `hurried`, all
        asks that may wait are left out.
        """
        caller.settle(now)
        for ask in caller.waiting:
            if not (hurried and ask.patient) and (able := self._able(ask, caller, now, full=full)):
                first = lowest(ask.lacking) if ask.only else self._best(able)
                most = ask.most if ask.most > 1 and self._is_alone(ask.who) else 1
                return ask, run(first, min(most, run_in(able, first)))
        return None

    def has_to_wait(self, who: str) -> bool:
        """Tells whether a caller has so much more to pass on than another that it lets others go first."""
        if not self._has_new:
            return False
        wanting = self._wanting()
        if self.leaving <= (len(wanting) + 1) // 2:
            return False
        others = [self._backlog(name, wanting) for name in wanting if name != who]
        return bool(others) and self._backlog(who, wanting) >= min(others) + _AHEAD

    def gives(self, ask: Ask, blocks: int) -> bool:
        """Takes note that an ask is given blocks, and returns whether first hand."""
        who = ask.who
        self.leaving += 1
        self.callers[who].leaving.append(blocks)
        self.callers.move_to_end(who)
        for index in members(blocks):
            # A block of the caller's own choice may come piece by piece: it counts once.
            self._count(index, again=not ask.only)
        if not self.complete:
            return False
        again = blocks & self.given
        first_hand = again != blocks or ask.first_hand or bool(self._taken_over(who) & blocks)
        if first_hand and again:  # whoever was to pass it on has not, or has too much to pass on
            for name in self.to_pass_on:
                self.to_pass_on[name] &= ~again
        self.given |= blocks
        self.passed_on.update(dict.fromkeys(members(blocks), _NEVER))
        self.to_pass_on[who] = self.to_pass_on.get(who, 0) | (blocks if first_hand else 0)
        if len(self.to_pass_on) > _MOST_CALLERS:
            self.to_pass_on.popitem(last=False)
        return first_hand

    def left(self, who: str, blocks: int, now: float, passed_on: float) -> None:
        """Takes note that a gift has left; others should have passed it on at `passed_on`."""
        caller = self._ended(who, blocks)
        caller.settle(now)
        caller.settling.update(dict.fromkeys(members(blocks), now))
        if self.complete:
            self.passed_on.update(dict.fromkeys(members(blocks), passed_on))

    def lost(self, who: str, blocks: int) -> None:
        """Takes note that a gift was not sent to its end: who was to pass it on first does not."""
        self._ended(who, blocks)
        for index in members(blocks):
            self.passed_on.pop(index, None)
        for index in members(blocks & self.to_pass_on.get(who, 0)):
            self.to_pass_on[who] &= ~(1 << index)
            self.given &= ~(1 << index)
            last = max(number for number, given in enumerate(self.rounds) if given >> index & 1)
            self.rounds[last] &= ~(1 << index)

    def forget(self, who: str) -> bool:
        """Forgets a caller that wants nothing now, unless a block may still be on its way; returns whether it does."""
        caller = self.callers[who]
        if not caller.idle:
            return False
        if not caller.settling or len(self.callers) > _MOST_CALLERS:
            del self.callers[who]
        return True

    def _ended(self, who: str, blocks: int) -> Caller:
        self.leaving -= 1
        caller = self.callers[who]
        caller.leaving.remove(blocks)
        return caller

    def _able(self, ask: Ask, caller: Caller, now: float, *, full: bool) -> int:
        """Returns the blocks that an ask may be answered with now."""
        if ask.only:
            return self.held & ask.lacking if self.held >> lowest(ask.lacking) & 1 else 0
        if full and ask.patient:
            return 0
        able = self.held & caller.lacking & ~caller.coming
        return able & (self._nobody_else_gives(now) | self._taken_over(ask.who)) if ask.first_hand else able

    def _nobody_else_gives(self, now: float) -> int:
        """Returns the blocks that nobody else is about to give."""
        if not self.complete:
            return self.first_hand
        for index in [index for index, until in self.passed_on.items() if until <= now]:
            del self.passed_on[index]
        return ~set_of(self.passed_on)

    def _taken_over(self, who: str) -> int:
        """Returns the blocks that a caller had better pass on than whoever was to, now that all have been given."""
        if not self.complete or self._has_new:
            return 0
        wanting = self._wanting()
        much = self._backlog(who, wanting) + _AHEAD
        known = islice(self.to_pass_on.items(), _MOST_COMPARED)
        return reduce(or_, (first for name, first in known if self._backlog(name, wanting) >= much), 0)

    @property
    def _has_new(self) -> bool:
        """Whether there is a block that nobody has been given."""
        return bool(self.held & ~self.given)

    def _wanting(self) -> list[str]:
        """Returns the callers that want anything, the last ones of very many."""
        return [name for name, each in self.callers.items() if not each.idle][-_MOST_COMPARED:]

    def _best(self, able: int) -> int:
        """Returns the block of `able` to give.

        Of everything, what was given least: so each block leaves once before any twice. Of a part, what most callers
        lack. Among equals the other rule decides, then their order.
        """
        if self.complete:
            return lowest(self._lacked_most(self._given_least(able)), self.start)
        return lowest(self._given_least(self._lacked_most(able)), self.start)

    def _given_least(self, able: int) -> int:
        return next((able & ~given for given in self.rounds if able & ~given), able)

    def _lacked_most(self, able: int) -> int:
        """Returns those of `able` that most callers lack, as far as they have said."""
        digits: list[int] = []  # the counts of all blocks, the lowest binary digit of each in the first set
        for caller in islice(self.callers.values(), _MOST_COMPARED):
            carry = caller.lacking & ~caller.coming & able
            for place, digit in enumerate(digits):
                digits[place], carry = digit ^ carry, digit & carry
            if carry:
                digits.append(carry)
        for digit in reversed(digits):
            able = able & digit or able
        return able

    def _backlog(self, who: str, wanting: list[str]) -> float:
        """Returns how many blocks a caller has to pass on to each of the others, on average."""
        first = self.to_pass_on.get(who, 0)
        others = [name for name in wanting if name != who]
        return sum((first & self.callers[name].lacking).bit_count() for name in others) / max(1, len(others))

    def _is_alone(self, who: str) -> bool:
        """Tells whether nobody else wants anything."""
        return all(other.idle for name, other in self.callers.items() if name != who)

    def _count(self, index: int, *, again: bool) -> None:
        """Counts a gift in the first round that has not had this block."""
        block = 1 << index
        number = next((number for number, given in enumerate(self.rounds) if not given & block), len(self.rounds))
        if number and not again:
            return
        if number == len(self.rounds):
            self.rounds.append(0)
        self.rounds[number] |= block
        if len(self.rounds) > _MOST_ROUNDS:
            self.rounds.pop(0)
