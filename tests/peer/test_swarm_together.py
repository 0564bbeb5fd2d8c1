"""A whole swarm in virtual time: the scheduler and the giving of every peer, wired together, without a network.

Messages take their time, peers come late, die with or without a word, and lie. As long as those who are left have every
block together, every download ends with each block stored once, and none of them gives up on the way.
"""

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from core.content import Layout
from core.shares import Shares
from peer.fetching import steps
from peer.fetching.block_sets import set_of
from peer.fetching.budget import Budget
from peer.fetching.download import Download, DownloadLimits
from peer.fetching.swarm import DownloadSettings
from peer.giving.choice import Ask
from peer.giving.giving import Giving
from tests.examples import examples

BLOCK = 64 * 1024
CONTENT = b"c" * 32
NEVER = float("inf")
PATIENCE = DownloadSettings().patience
# Seconds until central names a dead peer no more, and until a connection to one is known to be broken.
LEASE = 10.0
KEEPALIVE = 15.0
# Seconds after which a swarm of this size is stuck: of 1,500 the last one had finished 38 after the last arrival.
LONGEST = 120.0


@dataclass(eq=False)
class Member:
    """One peer: what it has, gives, and fetches."""

    name: str
    giving: Giving
    held: int = 0
    complete: bool = False
    lies: bool = False
    alive: bool = True
    silent: bool = False
    died_at: float = NEVER
    download: Download | None = None
    lines: dict[str, bool] = field(default_factory=dict)
    never: set[str] = field(default_factory=set)
    calls: dict[int, "Call"] = field(default_factory=dict)
    open: dict[int, "Call"] = field(default_factory=dict)
    good: dict[int, bool] = field(default_factory=dict)
    stored: Counter = field(default_factory=Counter)
    progress_at: float = 0.0
    tick_at: float = NEVER
    passed_at: float = NEVER
    finished: bool = False


@dataclass(eq=False)
class Call:
    """An ask on its way: `leaving` when its block is being sent, `over` when its caller waits no more."""

    number: int
    caller: Member
    holder: Member
    fetch: steps.Fetch
    leaving: bool = False
    over: bool = False


class World:
    """The clock, the lines between the peers, and central, which names who has something."""

    def __init__(self, seed, blocks):
        self.random = random.Random(seed)
        self.layout = Layout(blocks * BLOCK)
        self.all = set_of(range(blocks))
        self.now = 0.0
        self.events = []
        self.numbers = itertools.count()
        self.members: dict[str, Member] = {}

    def at(self, delay, work, *arguments):
        heapq.heappush(self.events, (self.now + delay, next(self.numbers), work, arguments))

    def delay(self):
        return self.random.choice([0.001, 0.02, 0.3])

    def run(self, until):
        while self.events and not until():
            self.now, _, work, arguments = heapq.heappop(self.events)
            assert self.now < LONGEST, [(name, each.held ^ self.all) for name, each in self.members.items()]
            work(*arguments)

    # Who is there.

    def join(self, name, *, complete=False, lies=False):
        giving = Giving(Shares(4, 3), 3, self.random.getrandbits(32))
        member = self.members[name] = Member(name, giving, complete=complete, lies=lies, progress_at=self.now)
        if complete and not lies:
            member.held = self.all
        if not complete and not lies:
            blocks = set(range(self.layout.block_count))
            share = Budget().share(lambda: None)
            member.download = Download(self.layout, blocks, DownloadLimits(), self.random.getrandbits(32), share)
            self.look(member, 0.25)

    def die(self, name, *, silent):
        """A peer dies, unless it is the last one with some block."""
        member = self.members.get(name)
        if member is None or not member.alive or not self.covered(without=name):
            return
        member.alive, member.silent, member.died_at = False, silent, self.now
        for call in [] if silent else list(member.calls.values()):
            self.at(self.delay(), self.noticed, call)
        for call in [call for each in self.members.values() for call in each.calls.values() if call.holder is member]:
            if not silent:
                self.at(self.delay(), self.tell, call.caller, steps.Failed(call.fetch.ask))

    def covered(self, without):
        """Tells whether everybody who is honest and alive has every block together."""
        together = 0
        for name, each in self.members.items():
            if each.alive and not each.lies and name != without:
                together |= each.held
        return together == self.all

    def look(self, member, pause):
        """Central names who has anything; the download gives up when nothing has come for too long."""
        if not member.alive or member.finished:
            return
        asked_at, limit = member.download.first_asked_at, member.progress_at + PATIENCE
        assert self.now <= limit or (asked_at is not None and asked_at <= limit), f"{member.name} gives up"
        events = []
        for name, each in self.members.items():
            known = member.lines.get(name)
            named = each.alive or self.now < each.died_at + LEASE
            has = each.lies or each.held
            if name == member.name or name in member.never or not named or not has or known in {True, each.complete}:
                continue
            member.lines[name] = each.complete
            events += [steps.HolderLeft(name), steps.HolderJoined(name, each.complete)]
        self.tell(member, *events)
        self.at(pause, self.look, member, min(2 * pause, 10.0))

    # One who fetches.

    def tell(self, member, *events):
        if not member.alive or member.download is None:
            return
        for event in events:
            if isinstance(event, steps.Nothing | steps.Declined | steps.Failed):
                member.calls.pop(event.ask, None)
        for decision in member.download.handle_all(events, self.now):
            self.perform(member, decision)
        asked = Counter(call.holder.name for call in member.calls.values())
        for name, holder in member.download._candidates.holders.items():
            assert asked[name] == holder.pace.in_flight <= 16
        wake = member.download.wake()
        if wake is not None and not self.now < member.tick_at <= wake:
            member.tick_at = wake
            self.at(wake - self.now, self.tell, member, steps.Tick())

    def perform(self, member, decision):
        match decision:
            case steps.Fetch(ask, holder):
                call = Call(next(self.numbers), member, self.members[holder], decision)
                member.calls[ask] = call
                self.at(self.delay(), self.reaches, call)
            case steps.Cancel(ask):
                call = member.calls.pop(ask)
                call.over = True
                self.at(self.delay(), self.noticed, call)
            case steps.Store(ask):
                self.at(0.001, self.checked, member, decision, member.good.pop(ask))
            case steps.Dropped(holder, _, for_good):
                member.lines.pop(holder, None)
                assert not for_good or self.members[holder].lies
                if for_good:
                    member.never.add(holder)
            case steps.Stuck():
                self.at(self.random.uniform(0.1, 1.0), self.look, member, 10.0)
            case steps.Finished():
                assert member.stored == Counter(range(self.layout.block_count)), "each block once"
                member.finished = member.complete = True

    def arrives(self, call, index, *, first_hand):
        if not call.over:
            call.caller.calls.pop(call.fetch.ask, None)
            call.caller.good[call.fetch.ask] = not call.holder.lies
            self.tell(call.caller, steps.Arrived(call.fetch.ask, index, first_hand))

    def checked(self, member, store, good):
        if not member.alive:
            return
        if not good:
            self.tell(member, steps.Lied(store.ask, "not the block"))
            return
        member.progress_at = self.now
        member.stored[store.index] += 1
        member.held |= 1 << store.index
        self.give(member, member.giving.gained(CONTENT, store.index, self.now, first_hand=store.first_hand))
        self.tell(member, steps.Stored(store.ask))

    # One who gives.

    def reaches(self, call):
        holder, fetch = call.holder, call.fetch
        if call.over or not call.caller.alive:
            return
        wanted = fetch.lacking or 1 << fetch.index
        if not holder.alive:
            if not holder.silent:
                self.at(self.delay(), self.tell, call.caller, steps.Failed(fetch.ask))
        elif holder.lies:
            index = self.random.choice([index for index in range(self.layout.block_count) if wanted >> index & 1])
            self.at(self.delay(), lambda: self.arrives(call, index, first_hand=True))
        else:
            holder.open[call.number] = call
            ask = Ask(
                call.number,
                call.caller.name,
                CONTENT,
                wanted,
                only=fetch.index is not None,
                first_hand=fetch.first_hand,
            )
            self.at(fetch.patience, self.runs_out, call)
            self.give(holder, holder.giving.asked(ask, holder.held, self.now, complete=holder.complete))

    def runs_out(self, call):
        holder = call.holder
        if not holder.alive or call.number not in holder.open or call.leaving:
            return
        del holder.open[call.number]
        holder.giving.withdrawn(call.number)
        if not call.over:
            if call.caller.lines.get(holder.name):
                call.caller.progress_at = self.now
            kind = steps.Nothing(call.fetch.ask) if call.fetch.lacking else steps.Declined(call.fetch.ask, 0.25)
            self.at(self.delay(), self.tell, call.caller, kind)

    def give(self, holder, gifts):
        for gift in gifts:
            call = holder.open[gift.ask]
            assert holder.held >> gift.index & 1
            call.leaving = True
            there = self.delay()
            if not call.over:
                self.at(there, self.tell, call.caller, steps.Chosen(call.fetch.ask, gift.index))
            self.at(there + self.random.uniform(0.01, 2.0), self.has_left, call, gift)
        due = holder.giving.due
        if due < NEVER and not self.now < holder.passed_at <= due:
            holder.passed_at = max(due, self.now)
            self.at(holder.passed_at - self.now, self.passed, holder)

    def passed(self, holder):
        if holder.alive:
            holder.passed_at = NEVER
            self.give(holder, holder.giving.passed(self.now))

    def has_left(self, call, gift):
        holder = call.holder
        if not holder.alive or call.number not in holder.open:
            return
        if not call.caller.alive:  # nobody takes it
            self.at(KEEPALIVE, self.noticed, call)
            return
        del holder.open[call.number]
        self.arrives(call, gift.index, first_hand=gift.first_hand)
        self.give(holder, holder.giving.left(call.number, self.now, arrived=True))

    def noticed(self, call):
        """The holder sees that the call is over."""
        holder = call.holder
        if holder.alive and holder.open.pop(call.number, None) is not None:
            holder.giving.withdrawn(call.number)
            self.give(holder, holder.giving.left(call.number, self.now, arrived=False))


deaths = st.lists(st.tuples(st.integers(0, 8), st.floats(0.0, 30.0), st.booleans()), max_size=6)


@settings(max_examples=examples(150), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    blocks=st.integers(1, 30),
    arrivals=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=9),
    dying=deaths,
    liars=st.lists(st.booleans(), max_size=2),
    first_dies=st.sampled_from(["", "silently", "at once"]),
)
def test_all_finish_whoever_dies_and_lies_as_long_as_those_who_are_left_have_every_block(
    *, seed, blocks, arrivals, dying, liars, first_dies
):
    world = World(seed, blocks)
    world.join("first", complete=True)
    for number, complete in enumerate(liars):
        world.join(f"liar-{number}", complete=complete, lies=True)
    for number, when in enumerate(arrivals):
        world.at(when, world.join, f"peer-{number}")
    for number, when, silent in dying:
        world.at(when, lambda name=f"peer-{number}", silent=silent: world.die(name, silent=silent))

    def all_have_finished():
        peers = [each for each in world.members.values() if each.download is not None]
        if first_dies and world.now > max(arrivals):  # as soon as the others have every block together
            world.die("first", silent=first_dies == "silently")
        return len(peers) == len(arrivals) and all(each.finished or not each.alive for each in peers)

    world.run(all_have_finished)
    assert all_have_finished()
