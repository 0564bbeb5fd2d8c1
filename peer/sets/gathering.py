"""The scheduler of small contents: which of them to ask of which holder, and when. Pure: events in, decisions out.

A holder is asked for as many contents at once as it gives in about a second, and for the next while it still gives
these. Whoever is free takes what is wanted next, so that each gives what its speed allows. What a silent holder keeps
waiting is asked of another as well, and the first answer counts.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from core.content import MAX_SMALL


@dataclass(frozen=True, slots=True)
class GatherLimits:
    """How much is asked for at once; times in seconds.

    Attributes:
        window: calls under way to one holder.
        contents: contents in one call.
        first_bytes: bytes in the first call to a holder.
        most_bytes: bytes in one call.
        brisk: after an answer within this time the next call to the holder is twice as large.
        slow: after an answer that took longer the next one is half as large.
        patience: what was asked for so long ago is asked of another holder too.
        first_rest: a holder that fails rests for so long; each further failure doubles it.
        longest_rest: of a holder.
    """

    window: int = 2
    contents: int = 256
    first_bytes: int = 256 * 1024
    most_bytes: int = 1024 * 1024
    brisk: float = 0.5
    slow: float = 2.0
    patience: float = 3.0
    first_rest: float = 0.25
    longest_rest: float = 5.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask `holder` for these contents, most_bytes of them at most; `number` names the call in events."""

    number: int
    holder: str
    content_ids: tuple[bytes, ...]
    most_bytes: int


@dataclass(slots=True)
class _Want:
    """A content: its size in bytes, who may be asked, and the calls that ask for it now."""

    size: int
    holders: dict[str, None] = field(default_factory=dict)
    calls: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Holder:
    """Attributes: waiting: what it has and nobody is asked for; budget: bytes of the next call."""

    budget: int
    waiting: dict[bytes, None] = field(default_factory=dict)
    calls: set[int] = field(default_factory=set)
    rests_until: float = float("-inf")
    rest: float = 0.0


@dataclass(slots=True)
class _Call:
    ask: Ask
    began: float


class Gathering:
    """What is wanted of whom, and what is under way."""

    def __init__(self, limits: GatherLimits) -> None:
        self._limits = limits
        self._wants: dict[bytes, _Want] = {}
        self._holders: dict[str, _Holder] = {}
        self._liars: set[str] = set()
        self._calls: dict[int, _Call] = {}
        self._numbers = 0

    @property
    def wanted(self) -> Collection[bytes]:
        """The contents that are wanted, in the order in which they were."""
        return self._wants.keys()

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    def lost(self) -> list[bytes]:
        """Returns the wanted contents that nobody can be asked for any more."""
        return [content_id for content_id, want in self._wants.items() if not want.holders and not want.calls]

    def want(self, content_id: bytes, size: int, holders: Iterable[str]) -> None:
        """Wants a content of `size` bytes, which these holders have; for one that is wanted, adds the holders."""
        want = self._wants.setdefault(content_id, _Want(size))
        for holder in holders:
            if holder not in self._liars:
                want.holders[holder] = None
                self._holders.setdefault(holder, _Holder(self._limits.first_bytes))
        self._queue(content_id, want)

    def forget(self, content_id: bytes) -> None:
        """Does not want a content any more: it has come, or is given up."""
        want = self._wants.pop(content_id, None)
        if want is not None:
            self._unqueue(content_id, want)

    def next(self, now: float) -> list[Ask]:
        """Returns what to ask at `now`; each is under way until one of the events below names it."""
        asks: list[Ask] = []
        while True:
            # Those that have failed lately come last, so that they keep nothing from the others.
            holders = sorted(self._holders.items(), key=lambda item: item[1].rest)
            more = [ask for name, holder in holders if (ask := self._ask(name, holder, now))]
            if not more:
                return asks
            asks += more

    def began(self, number: int, now: float) -> None:
        """Notes that a call leaves only now: it had to wait for this peer's own limits."""
        if number in self._calls:
            self._calls[number].began = now

    def answered(self, number: int, given: Collection[bytes], lacking: Collection[bytes], now: float) -> None:
        """Notes an answer: what it gave, and what its holder does not have. The rest is asked for again."""
        call = self._end(number)
        if call is None:
            return
        holder = self._holders[call.ask.holder]
        holder.rest = 0.0
        took = now - call.began
        if took < self._limits.brisk:
            holder.budget = min(2 * holder.budget, self._limits.most_bytes)
        elif took > self._limits.slow:
            holder.budget = max(holder.budget // 2, 1)
        for content_id in lacking:
            if (want := self._wants.get(content_id)) is not None:
                want.holders.pop(call.ask.holder, None)
                holder.waiting.pop(content_id, None)
        for content_id in given:
            self.forget(content_id)
        self._queue_again(call)

    def failed(self, number: int, now: float, rest: float = 0.0) -> None:
        """Notes that a call failed; the holder is asked again in `rest` seconds, or when it is to be tried again."""
        call = self._end(number)
        if call is None:
            return
        holder = self._holders[call.ask.holder]
        if not rest:
            holder.rest = min(max(2 * holder.rest, self._limits.first_rest), self._limits.longest_rest)
        holder.rests_until = max(holder.rests_until, now + (rest or holder.rest))
        self._queue_again(call)

    def lied(self, name: str) -> None:
        """Never asks a holder again, and wants nothing any more of what it is asked for now."""
        self._liars.add(name)
        holder = self._holders.pop(name, None)
        if holder is None:
            return
        calls = [call for number in list(holder.calls) if (call := self._end(number, holder))]
        for want in self._wants.values():
            want.holders.pop(name, None)
        for call in calls:
            self._queue_again(call)

    def wake(self, now: float) -> float | None:
        """Returns when `next` is to be asked again, if nothing happens before; None: not by itself."""
        rested = [holder.rests_until for holder in self._holders.values() if holder.waiting]
        late = [call.began + self._limits.patience for call in self._calls.values()]
        return min((time for time in rested + late if time > now), default=None)

    def _ask(self, name: str, holder: _Holder, now: float) -> Ask | None:
        if len(holder.calls) >= self._limits.window or holder.rests_until > now:
            return None
        chosen = self._chosen(holder.waiting, holder.budget) or self._chosen(self._late(name, now), holder.budget)
        if not chosen:
            return None
        self._numbers += 1
        ask = Ask(self._numbers, name, tuple(chosen), min(max(holder.budget, MAX_SMALL), self._limits.most_bytes))
        self._calls[ask.number] = _Call(ask, now)
        holder.calls.add(ask.number)
        for content_id in chosen:
            want = self._wants[content_id]
            want.calls.add(ask.number)
            self._unqueue(content_id, want)
        return ask

    def _chosen(self, content_ids: Iterable[bytes], room: int) -> list[bytes]:
        """Returns the first contents that fit, one at least when there is any."""
        chosen: list[bytes] = []
        for content_id in content_ids:
            room -= self._wants[content_id].size
            if chosen and (room < 0 or len(chosen) >= self._limits.contents):
                break
            chosen.append(content_id)
        return chosen

    def _late(self, name: str, now: float) -> Iterable[bytes]:
        """Yields what one other holder has been asked for too long, and this one has too."""
        for call in list(self._calls.values()):
            if call.ask.holder != name and now - call.began >= self._limits.patience:
                for content_id in call.ask.content_ids:
                    want = self._wants.get(content_id)
                    if want is not None and name in want.holders and want.calls == {call.ask.number}:
                        yield content_id

    def _end(self, number: int, holder: _Holder | None = None) -> _Call | None:
        """Returns a call that is over now; None when it was already."""
        call = self._calls.pop(number, None)
        if call is None:
            return None
        (holder or self._holders[call.ask.holder]).calls.discard(number)
        for content_id in call.ask.content_ids:
            if (want := self._wants.get(content_id)) is not None:
                want.calls.discard(number)
        return call

    def _queue_again(self, call: _Call) -> None:
        for content_id in call.ask.content_ids:
            if (want := self._wants.get(content_id)) is not None:
                self._queue(content_id, want)

    def _queue(self, content_id: bytes, want: _Want) -> None:
        if not want.calls:
            for name in want.holders:
                self._holders[name].waiting[content_id] = None

    def _unqueue(self, content_id: bytes, want: _Want) -> None:
        for name in want.holders:
            self._holders[name].waiting.pop(content_id, None)
