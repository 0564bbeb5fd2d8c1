"""A swarm in virtual time: the schedulers of its peers as they are, with messages, links and central made up.

Each peer has the Download and the Giving that its daemon has, driven as peer/fetching/swarm.py and
peer/giving/serving.py drive them. What is made up: a message takes so long, the first one to a peer longer, and blocks
share links as bench/links.py has it. Processors, disks and TCP's own ways cost nothing here. The same seed gives the
same swarm, to the last message.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from random import Random

from bench.links import Link, Links
from bench.swarm_member import SETTINGS, Call, Member, Times
from bench.virtual_time import Clock, Stuck
from central.catalogue.catalogue import PARTIAL_HOLDERS
from central.catalogue.fetching import Fetching
from core.content import Layout
from core.shares import Shares
from peer.directory.heartbeat import SHORTEST_PAUSE
from peer.fetching import steps
from peer.fetching.block_sets import run
from peer.fetching.budget import Budget
from peer.fetching.download import Download
from peer.fetching.finder import MOST_COMPLETE, MOST_PARTIAL
from peer.fetching.swarm import NEWS
from peer.giving.choice import Ask
from peer.giving.giving import Gift, Giving
from peer.settings import SLOTS, SLOTS_EACH

CONTENT = b"c" * 32
FIRST = "first"
# Seconds after which central does not name a dead peer any more.
LEASE = 7.0


class World(Clock):
    """Central and all peers.

    Attributes:
        messages: requests, answers and withdrawals so far.
        finished: how many downloaders have everything.
        twice: blocks that came to somebody who had them, or was getting them elsewhere.
        spread: called when the downloaders have every block together.
    """

    def __init__(self, size: int, up: float, *, seed: int, fair: bool, times: Times) -> None:
        """One holder has a content of `size` bytes, and sends `up` bytes a second."""
        super().__init__(Links(fair=fair))
        self.random = Random(seed)
        self.layout = Layout(size)
        self.all = (1 << self.layout.block_count) - 1
        self.messages = 0
        self.twice = 0
        self.finished = 0
        self.spread: Callable[[], None] = lambda: None
        self.members: dict[str, Member] = {}
        self._times = times
        self._numbers = itertools.count()
        self._fetching = Fetching()
        self._complete: dict[str, float] = {FIRST: math.inf}
        self._together = 0
        self._add(FIRST, up, up).held = self.all

    # Who is there.

    def join(self, name: str, up: float, down: float) -> None:
        """Has a peer begin to fetch the content now."""
        member = self._add(name, up, down)
        member.began_at = self.now

        def begin() -> None:
            blocks = set(range(self.layout.block_count))
            # Room comes back when blocks are stored, which is an event of this very download: there is no other one.
            share = Budget().share(lambda: None)
            member.download = Download(self.layout, blocks, SETTINGS.limits, self.random.getrandbits(32), share)
            member.progress_at = self.now
            beat = self._times.message + self.random.uniform(0.0, SHORTEST_PAUSE)
            self.at(self.now + beat, lambda: self._fetching.update(name, (CONTENT,) if member.fetches else ()))
            self._join(member, known)
            self._pause(member)

        # The holders, then the manifest of one of them.
        known = self._named()
        member.connected.add(FIRST)
        self.at(self.now + 4 * self._times.message + self._times.connecting, begin)

    def die(self, name: str) -> None:
        """Kills a peer: its connections break."""
        member = self.members[name]
        member.died_at = self.now
        self._complete[name] = self.now + LEASE
        for call in list(member.open.values()):
            if call.flow is not None:
                self.links.end(call.flow)
            self.after(self._times.message, self._answered, call, steps.Failed(call.fetch.ask))
        member.open.clear()

    def _add(self, name: str, up: float, down: float) -> Member:
        giving = Giving(Shares(SLOTS, SLOTS_EACH), SLOTS_EACH, self.random.getrandbits(32))
        member = self.members[name] = Member(name, Link(up), Link(down), giving)
        return member

    # Who looks for holders.

    def _named(self) -> dict[str, bool]:
        """Returns whom central names, and whether they are complete."""
        complete = {name: True for name, until in self._complete.items() if self.now < until}
        if len(complete) > MOST_COMPLETE:
            complete = dict.fromkeys(self.random.sample(list(complete), len(complete)), True)
        partial = self._fetching.some(CONTENT, PARTIAL_HOLDERS, self.random)
        return complete | {name: False for name in partial if name not in complete}

    def _join(self, member: Member, named: dict[str, bool]) -> None:
        """Takes up whom central names, as peer/fetching/finder.py does."""
        events: list[steps.Event] = []
        whole = sum(member.lines.values())
        room = {True: MOST_COMPLETE - whole, False: MOST_PARTIAL - (len(member.lines) - whole)}
        for name, complete in named.items():
            known = member.lines.get(name)
            full = known is None and room[complete] <= 0
            last_resort = name in member.failed and not member.stuck and bool(member.lines)
            if name != member.name and not full and not last_resort and known not in {True, complete}:
                if known is not None:
                    room[known] += 1
                room[complete] -= 1
                member.lines[name] = complete
                events += [steps.HolderLeft(name), steps.HolderJoined(name, complete)]
        self._tell(member, *events)

    def _pause(self, member: Member) -> None:
        """Waits until it is time to look for holders again, as peer/fetching/swarm.py does."""
        member.token += 1
        self.after(0.0 if member.has_news else member.pause, self._wake, member, member.token)

    def _news(self, member: Member) -> None:
        member.has_news = True
        self.after(0.0, self._wake, member, member.token)

    def _wake(self, member: Member, token: int) -> None:
        if token != member.token or not member.fetches:
            return
        member.token += 1
        member.pause = min(2 * member.pause, SETTINGS.refresh)
        self._check_patience(member)
        wait = NEWS if member.has_news and not member.stuck else 0.0
        if member.stuck:
            wait = member.retry * self.random.uniform(0.5, 1.5)
            member.retry = min(2 * member.retry, SETTINGS.max_retry)
        self.after(wait + self._times.message, self._look, member)

    def _look(self, member: Member) -> None:
        member.has_news = False
        named = self._named()

        def told() -> None:
            if member.fetches:
                self._join(member, named)
                self._pause(member)

        self.after(self._times.message, told)

    def _check_patience(self, member: Member) -> None:
        limit = member.progress_at + SETTINGS.patience
        asked_at = member.download.first_asked_at if member.download else None
        if self.now > limit and (asked_at is None or asked_at > limit):
            raise Stuck(f"{member.name} gives up at {self.now:.1f} s")

    # Who fetches.

    def _tell(self, member: Member, *events: steps.Event) -> None:
        if member.download is None or not member.fetches:
            return
        for decision in member.download.handle_all(events, self.now):
            self._perform(member, decision)
        wake = member.download.wake()
        if wake is not None and not self.now < member.tick_at <= wake:
            member.tick_at = wake
            self.at(wake, lambda: self._tick(member))

    def _tick(self, member: Member) -> None:
        if member.tick_at == self.now:  # else another one has taken its place
            self._tell(member, steps.Tick())

    def _perform(self, member: Member, decision: steps.Decision) -> None:
        match decision:
            case steps.Fetch(ask, holder):
                member.stuck = False
                call = member.calls[ask] = Call(next(self._numbers), member, self.members[holder], decision)
                extra = 0.0 if holder in member.connected else self._times.connecting
                member.connected.add(holder)
                self.messages += 1
                self.after(self._times.message + extra, self._reaches, call)
            case steps.Cancel(ask):
                call = member.calls.pop(ask)
                call.over = True
                self.messages += 1
                self.after(self._times.message, self._noticed, call)
            case steps.Store(ask):
                self.after(self._times.storing, self._stored, member, decision)
            case steps.Dropped(holder):
                if member.lines.pop(holder, False):
                    member.failed.add(holder)
            case steps.Stuck():
                member.stuck = True
                self._news(member)
            case steps.Finished():
                member.finished_at = self.now
                self.finished += 1
                self.after(2 * self._times.message, self._published, member)

    def _answered(self, call: Call, event: steps.Event) -> None:
        """A call ends at its caller."""
        if call.over:
            return
        caller = call.caller
        del caller.calls[call.fetch.ask]
        call.over = True
        if isinstance(event, steps.Nothing | steps.Declined) and caller.lines.get(call.holder.name):
            caller.progress_at = self.now
        if isinstance(event, steps.Arrived):
            self.twice += bool(caller.held & run(event.index, event.count))
        self._tell(caller, event)

    def _chosen(self, call: Call, index: int) -> None:
        if not call.over:
            self._tell(call.caller, steps.Chosen(call.fetch.ask, index))

    def _stored(self, member: Member, store: steps.Store) -> None:
        member.held |= run(store.index, store.count)
        member.progress_at, member.retry = self.now, SETTINGS.first_retry
        for index in range(store.index, store.index + store.count):
            self._give(member, member.giving.gained(CONTENT, index, self.now, first_hand=store.first_hand))
        self._tell(member, steps.Stored(store.ask))
        if self._together != self.all:
            self._together |= member.held
            if self._together == self.all:
                self.spread()

    def _published(self, member: Member) -> None:
        self._fetching.update(member.name, ())
        self._complete[member.name] = math.inf

    # Who gives.

    def _reaches(self, call: Call) -> None:
        holder, fetch = call.holder, call.fetch
        if call.over:
            return
        if holder.died_at <= self.now:
            self.after(self._times.message, self._answered, call, steps.Failed(fetch.ask))
            return
        who = call.caller.name
        if holder.fetches and who not in holder.lines and who not in holder.strangers:
            holder.strangers.add(who)
            self._news(holder)
        holder.open[call.number] = call
        only = fetch.index is not None
        wanted = fetch.lacking if fetch.index is None else run(fetch.index, fetch.count)
        ask = Ask(call.number, who, CONTENT, wanted, only=only, first_hand=fetch.first_hand, most=fetch.count)
        self.after(fetch.patience, self._runs_out, call)
        gifts = holder.giving.asked(ask, holder.held, self.now, complete=holder.is_complete(self.now))
        self._give(holder, gifts)

    def _runs_out(self, call: Call) -> None:
        """The patience of a caller ends: there is nothing; or, for a certain block, it is to come back."""
        holder = call.holder
        if call.flow is not None or holder.open.pop(call.number, None) is None:
            return
        holder.giving.withdrawn(call.number)
        fetch = call.fetch
        self.messages += 1
        event = steps.Nothing(fetch.ask) if fetch.index is None else steps.Declined(fetch.ask, 0.25)
        self.after(self._times.message, self._answered, call, event)

    def _give(self, holder: Member, gifts: list[Gift]) -> None:
        for gift in gifts:
            call = holder.open[gift.ask]
            size = self.layout.run_length(gift.index, gift.count)
            holder.sent += size
            self.messages += 1
            self.after(self._times.message, self._chosen, call, gift.index)
            ended = partial(self._has_left, call, gift)
            call.flow = self.links.begin(holder.up, call.caller.down, size, self.now, ended)
        due = holder.giving.due
        if due < math.inf and not self.now < holder.passed_at <= due:
            holder.passed_at = max(due, self.now)
            self.at(holder.passed_at, lambda: self._passed(holder))

    def _passed(self, holder: Member) -> None:
        if holder.passed_at == self.now and holder.died_at > self.now:
            self._give(holder, holder.giving.passed(self.now))

    def _has_left(self, call: Call, gift: Gift) -> None:
        holder = call.holder
        del holder.open[call.number]
        arrived = steps.Arrived(call.fetch.ask, gift.index, gift.first_hand, gift.count)
        self.after(self._times.message, self._answered, call, arrived)
        self._give(holder, holder.giving.left(call.number, self.now, arrived=True))

    def _noticed(self, call: Call) -> None:
        """The holder of a call sees that its caller waits no more."""
        holder = call.holder
        if holder.open.pop(call.number, None) is None:
            return
        if call.flow is not None:
            self.links.end(call.flow)
        holder.giving.withdrawn(call.number)
        self._give(holder, holder.giving.left(call.number, self.now, arrived=False))
