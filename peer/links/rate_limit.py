"""A limit of bytes a second that many share: who may go when. Pure: `now` is an argument, in seconds.

A token bucket that may fall into debt: whoever is next goes as soon as nothing is owed, and what it takes is paid off
before the next one goes. Between several takers it is fair by their weights (start-time fair queueing, Goyal, Vin and
Cheng 1996): one that asks for much waits for itself, and none waits for ever.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

# Seconds' worth of the rate that one taker asks for at once, so that the limit is exact over short times too.
_GRAIN = 0.1
# Seconds' worth of the rate that is saved up while nobody asks, and while whoever grants is late.
BURST = 0.25
# Bytes: a piece of a block is never smaller, however low the rate.
LEAST_PIECE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A place in the queue: `who` waits until it may take `size` bytes."""

    who: str
    size: int
    weight: float


@dataclass(slots=True)
class _Taker:
    """Attributes: start: the virtual time at which its next turn begins; begun, fresh: its turns, in their order."""

    start: float
    begun: deque[Turn] = field(default_factory=deque)
    fresh: deque[Turn] = field(default_factory=deque)

    @property
    def waits(self) -> bool:
        return bool(self.begun or self.fresh)

    @property
    def queued_bytes(self) -> int:
        return sum(turn.size for turns in (self.begun, self.fresh) for turn in turns)


class RateLimit:
    """Grants turns at a rate.

    As long as somebody waits, what is granted within any 10 s differs from the rate by less than 5 %, provided that
    everybody asks for at most `piece` at once. A larger turn is granted whole, and paid off afterwards.

    Attributes:
        rate: bytes a second; 0: no limit.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        self._level = 0.0
        self._refilled_at = float("-inf")
        self._virtual = 0.0
        self._takers: dict[str, _Taker] = {}

    def piece(self, rest: int) -> int:
        """Returns how many bytes of `rest` to ask for at once."""
        return min(rest, max(LEAST_PIECE, int(self.rate * _GRAIN))) if self.rate else rest

    def ask(self, who: str, size: int, *, weight: float = 1.0, begun: bool = False) -> Turn:
        """Queues `who` for `size` bytes; it gets `weight` times what a taker of weight 1 gets.

        A turn that goes on with something `begun` comes before the taker's other turns.
        """
        turn = Turn(who, size, weight)
        taker = self._takers.get(who)
        if taker is None:
            self._forget_idle()
            taker = self._takers[who] = _Taker(self._virtual)
        elif not taker.waits:
            taker.start = max(taker.start, self._virtual)
        (taker.begun if begun else taker.fresh).append(turn)
        return turn

    def withdraw(self, turn: Turn) -> None:
        """Takes a turn that was not granted out of the queue."""
        taker = self._takers[turn.who]
        (taker.begun if turn in taker.begun else taker.fresh).remove(turn)

    def due(self, now: float) -> Iterator[Turn]:
        """Yields the turns that are granted at `now`, each of them once."""
        self._refill(now)
        while self._level > -0.5 or not self.rate:
            waiting = [taker for taker in self._takers.values() if taker.waits]
            if not waiting:  # nobody has anything to catch up on
                self._virtual = max((taker.start for taker in self._takers.values()), default=self._virtual)
                return
            taker = min(waiting, key=lambda taker: taker.start)
            turn = (taker.begun or taker.fresh).popleft()
            self._virtual = taker.start
            taker.start += turn.size / turn.weight
            self._level -= turn.size if self.rate else 0
            yield turn

    def wake(self, now: float) -> float | None:
        """Returns when `due` is to be asked again; None when nobody waits. `due` has been asked at `now`."""
        if not any(taker.waits for taker in self._takers.values()):
            return None
        return now + max(0.0, -self._level) / self.rate if self.rate else now

    def wait(self, who: str, size: int, now: float) -> float:
        """Returns about how many seconds `who` would wait for `size` bytes if it asked now, at weight 1."""
        if not self.rate:
            return 0.0
        self._refill(now)
        own = self._takers[who].queued_bytes if who in self._takers else 0
        others = sum(min(taker.queued_bytes, own + size) for name, taker in self._takers.items() if name != who)
        return max(0.0, own + others - self._level) / self.rate

    def give_back(self, size: int, now: float) -> None:
        """Takes back bytes that were granted and not used."""
        self._refill(now)
        self._level = min(self._level + size, self.rate * BURST)

    def change(self, rate: float, now: float) -> None:
        """Sets the rate, bytes a second; 0: no limit. Debt stays as long as it was in time."""
        self._refill(now)
        self._level *= rate / self.rate if self.rate else 0.0
        self.rate = rate

    def _refill(self, now: float) -> None:
        passed = max(0.0, now - self._refilled_at)
        self._refilled_at = max(now, self._refilled_at)
        most = self.rate * BURST
        self._level = min(self._level + passed * self.rate, most) if passed < float("inf") else most

    def _forget_idle(self) -> None:
        """Drops takers whose past says nothing any more."""
        idle = [who for who, taker in self._takers.items() if not taker.waits and taker.start <= self._virtual]
        for who in idle:
            del self._takers[who]
