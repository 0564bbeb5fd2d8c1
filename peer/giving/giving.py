"""When blocks are given, and to whom first. Pure: asks in, gifts out; `now` is an argument, in seconds.

A caller says what it lacks; the holder chooses (peer/giving/choice.py). To each caller one block leaves at a time as
long as that takes a while: its connection is then always full, and no block waits behind another. An ask for which
there is nothing yet waits, and is answered as soon as a block comes that its caller lacks. bench/swarm_sim.py shows how
near to the least possible time this brings a swarm, and docs/decisions/0020-the-holder-chooses.md what else was tried.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from core.shares import Shares
from peer.fetching.block_sets import lowest
from peer.giving.choice import Ask, Caller, Content

# Blocks leave a caller so many at once that one of them takes about so long, in seconds.
_BUSY = 0.1
# Whoever got a block passes it on to all others in about so many times the time that it took to get there.
_PASSING_ON = 2.0
# While somebody is given the first block of a content, the others wait for it, for so many seconds at most: given to
# all at once, first blocks would come to all of them late, and until then nobody could help.
_BEGINNING = 0.15
# So many blocks leave at once when all that ask take blocks of any hand: whoever has got one passes it on, and so is to
# have it soon.
_ANY_HAND = 8
_NEVER = float("inf")
# What is remembered at most: paces of callers, and contents.
_MOST_PACES = 4096
_MOST_CONTENTS = 1024


@dataclass(frozen=True, slots=True)
class Gift:
    """The answer to an ask: `count` blocks from block `index` on; `first_hand` when the caller is to pass them on."""

    ask: int
    index: int
    first_hand: bool = False
    count: int = 1


@dataclass(slots=True)
class _Leaving:
    ask: Ask
    blocks: int
    since: float


class Giving:
    """All gifts of one peer.

    Attributes:
        due: when `passed` is to be called, since an ask waits only for time to pass.
    """

    def __init__(self, slots: Shares, at_once: int, seed: int) -> None:
        """Takes a slot for each block that leaves; of one content at most `at_once` blocks leave for one caller.

        `seed` turns the order of blocks, so that holders differ.
        """
        self.due = _NEVER
        self._slots = slots
        self._most_at_once = at_once
        self._seed = seed
        self._contents: OrderedDict[bytes, Content] = OrderedDict()
        self._leaving: dict[int, _Leaving] = {}
        self._waiting: dict[int, Ask] = {}
        # Who is being given the first block of a content, and until when the others wait for that.
        self._beginning: dict[bytes, tuple[str, float]] = {}
        # Seconds that a block takes to leave when no other does, by caller, and whether it is more than the first one,
        # which a new connection begins slowly with.
        self._paces: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        # Who found no slot, or lets others go first; the one that has waited longest first.
        self._queue: OrderedDict[tuple[bytes, str], None] = OrderedDict()

    def asked(self, ask: Ask, held: int, now: float, *, complete: bool = True) -> list[Gift]:
        """Takes an ask for a content of which `held` is held, and returns what is given now; the ask may have to wait.

        An ask of which nothing is lacking gives nothing, and tells what has arrived.
        """
        content = self._content(ask.content_id, held, complete=complete)
        caller = content.callers.setdefault(ask.who, Caller())
        if not ask.only:
            caller.told(ask.lacking)
        if not ask.lacking:
            self._forget_idle(ask.content_id, ask.who)
            return []
        content.waits(ask)
        self._waiting[ask.number] = ask
        return list(self._serve(ask.content_id, ask.who, now))

    def gained(self, content_id: bytes, index: int, now: float, *, first_hand: bool) -> list[Gift]:
        """Takes note of another block of a content, and returns what is given to those who waited for it.

        One that is not `first_hand` is on its way to everybody from somebody else.
        """
        content = self._contents.get(content_id)
        if content is None:  # nobody has asked yet; who does is to be given what came first hand
            content = self._content(content_id, 1 << index, complete=False)
        content.held |= 1 << index
        content.first_hand |= first_hand << index
        return [gift for who in list(content.callers) for gift in self._serve(content_id, who, now)]

    def passed(self, now: float) -> list[Gift]:
        """Returns what is given to those who waited for time to pass."""
        self.due = _NEVER
        places = {(ask.content_id, ask.who): None for ask in self._waiting.values()}
        return [gift for content_id, who in places for gift in self._serve(content_id, who, now)]

    def withdrawn(self, number: int) -> None:
        """Forgets an ask that waits; one that does not is no news."""
        ask = self._waiting.pop(number, None)
        if ask is not None:
            self._contents[ask.content_id].waits_no_more(ask)
            self._forget_idle(ask.content_id, ask.who)

    def left(self, number: int, now: float, *, arrived: bool) -> list[Gift]:
        """Takes note that a gift has left, or that its call has ended before that, and returns what is given next."""
        leaving = self._leaving.pop(number, None)
        if leaving is None:
            return []
        ask, blocks = leaving.ask, leaving.blocks
        self._slots.give_back(ask.who)
        content = self._contents[ask.content_id]
        content.any_hand -= ask.any_hand
        if self._beginning.get(ask.content_id, ("", 0.0))[0] == ask.who:
            del self._beginning[ask.content_id]
        if arrived:
            took = now - leaving.since
            self._note_pace(ask.who, took / len(content.callers[ask.who].leaving))  # they share the line
            content.left(ask.who, blocks, now, now + _PASSING_ON * took)
        else:
            content.lost(ask.who, blocks)
        if content.complete:  # who waits first hand for this block may have it then
            self.due = min(self.due, content.passed_on.get(lowest(blocks), now))
        gifts = [*self.freed(now), *self._serve(ask.content_id, ask.who, now)]
        self._forget_idle(ask.content_id, ask.who)
        return gifts

    def freed(self, now: float) -> list[Gift]:
        """Returns what is given to those who wait for their turn, now that there may be a slot."""
        gifts: list[Gift] = []
        for content_id, who in sorted(self._queue, key=self._has_begun):
            if not self._slots.free:
                break
            gifts += self._serve(content_id, who, now)
        return gifts

    def alone(self, who: str) -> bool:
        """Tells whether nobody else is being given a block, or waits for one."""
        return all(leaving.ask.who == who for leaving in self._leaving.values()) and all(
            ask.who == who for ask in self._waiting.values()
        )

    def pace(self, who: str) -> float:
        """Returns how many seconds a block takes to leave alone for a caller, of late; 0 before the second one."""
        took, settled = self._paces.get(who, (0.0, False))
        return took if settled else 0.0

    def able(self, ask: Ask) -> bool:
        """Tells whether something is held that a waiting ask wants: then it waits for its turn only."""
        wanted = 1 << lowest(ask.lacking) if ask.only else ask.lacking
        return bool(self._contents[ask.content_id].held & wanted)

    def _has_begun(self, place: tuple[bytes, str]) -> bool:
        """Tells whether a caller has been given anything of a content; who has not comes first."""
        content_id, who = place
        return who in self._contents[content_id].to_pass_on

    def _serve(self, content_id: bytes, who: str, now: float) -> Iterator[Gift]:
        """Gives to one caller what it may have now; without a free slot it waits for its turn."""
        content = self._contents[content_id]
        place = (content_id, who)
        while (caller := content.callers.get(who)) is not None and caller.waiting:
            if content.any_hand >= _ANY_HAND and not content.kept_for and all(ask.any_hand for ask in caller.waiting):
                self._queue.setdefault(place)
                return
            full = len(caller.leaving) >= self._at_once(who)
            found = content.choice(caller, now, full=full)
            if found is not None and found[0].patient and self._goes_later(content_id, who, now):
                self._queue.setdefault(place)
                found = content.choice(caller, now, full=True, hurried=True)
                if found is None:
                    return
            if found is None:
                self._wait(content, caller, now)
                break
            if not self._slots.take(who):
                self._queue.setdefault(place)
                return
            ask, blocks = found
            content.any_hand += ask.any_hand
            content.waits_no_more(ask)
            del self._waiting[ask.number]
            self._leaving[ask.number] = _Leaving(ask, blocks, now)
            if content.complete and who not in content.to_pass_on:
                self._beginning[content_id] = who, now + _BEGINNING
            first_hand = content.gives(ask, blocks)
            self._queue.pop(place, None)  # for more it waits behind the others
            yield Gift(ask.number, lowest(blocks), first_hand, blocks.bit_count())
        self._queue.pop(place, None)

    def _wait(self, content: Content, caller: Caller, now: float) -> None:
        """Has `passed` called when a caller may have a block for which it waits.

        One that it was given and lacks was lost, and one that others should have passed on is theirs no longer.
        """
        self.due = min(self.due, caller.settled_at)
        if any(ask.first_hand for ask in caller.waiting):
            self.due = min((until for until in content.passed_on.values() if now < until < self.due), default=self.due)

    def _goes_later(self, content_id: bytes, who: str, now: float) -> bool:
        """Tells whether a caller lets others go first: one that begins, or who has less to pass on."""
        content = self._contents[content_id]
        beginner, until = self._beginning.get(content_id, (who, 0.0))
        if beginner != who and until > now:
            self.due = min(self.due, until)
            return True
        return content.complete and content.has_to_wait(who)

    def _at_once(self, who: str) -> int:
        """Returns how many blocks of a content may leave for a caller at once."""
        if who not in self._paces:
            return 1
        return max(1, min(self._most_at_once, int(_BUSY / max(self._paces[who][0], 1e-6))))

    def _note_pace(self, who: str, took: float) -> None:
        known = self._paces.pop(who, None)
        self._paces[who] = (took if known is None or not known[1] else (known[0] + took) / 2, known is not None)
        if len(self._paces) > _MOST_PACES:
            self._paces.popitem(last=False)

    def _content(self, content_id: bytes, held: int, *, complete: bool) -> Content:
        content = self._contents.pop(content_id, None)
        if content is None:
            content = Content(held, complete, self._seed % max(held.bit_length(), 1))
        content.held, content.complete = held, complete
        self._contents[content_id] = content
        self._forget_old()
        return content

    def _forget_idle(self, content_id: bytes, who: str) -> None:
        if self._contents[content_id].forget(who):
            self._queue.pop((content_id, who), None)
        self._forget_old()

    def _forget_old(self) -> None:
        """Forgets the contents that nobody has asked about for longest."""
        while len(self._contents) > _MOST_CONTENTS:
            old, content = next(iter(self._contents.items()))
            if any(not caller.idle for caller in content.callers.values()):
                return
            del self._contents[old]
            self._beginning.pop(old, None)
