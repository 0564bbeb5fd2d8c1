"""The pace of one holder: how many blocks it is asked for at once, how long an answer may take, when it rests."""

from dataclasses import dataclass

# A larger window is kept when it brought at least this much more throughput.
_GAIN = 1.05
# Rounds at one window before a larger one is tried again: links change.
_SETTLED_ROUNDS = 8
# An answer may take this many times as long as the measured rate suggests.
_SLACK = 3.0
_INSTANT = 1e-6
# A holder that has sent less than this, in bytes a second, for so many seconds is not as quick as it once was.
_SLOW, _TELLING = 3e6, 0.25
# Holders whose rates are remembered.
_MOST_RATES = 4096


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Bounds of every holder's pace; times in seconds, windows in asks, each for a block or for some in a row.

    Attributes:
        first_window: asks under way at once at a holder that is not known yet.
        max_window: most asks under way at once at one holder.
        first_deadline: for a block of a holder whose rate is not known: enough for one of 1 MiB at half a Mbit/s.
        min_deadline: for any other block, however fast the holder has been: others may come and share it.
        max_deadline: for the answer of a holder that was late again and again; each time doubles what it is given.
        overdue: a block that has been on its way for longer than this may be asked of a second holder, when it is not
            known how long the first one takes; else twice that time, from a tenth of this on.
        first_rest: pause of a holder after its first failure; each further one doubles it.
        max_rest: longest pause of a failing holder.
    """

    first_window: int = 4
    max_window: int = 16
    first_deadline: float = 20.0
    min_deadline: float = 20.0
    max_deadline: float = 120.0
    overdue: float = 2.0
    first_rest: float = 0.5
    max_rest: float = 30.0


class Rates:
    """How many bytes a second the holders of earlier downloads have sent; of very many, those that were met last."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def of(self, name: str) -> float:
        """Returns the rate of a holder; 0 when it is not known."""
        return self._rates.get(name, 0.0)

    def note(self, name: str, rate: float) -> None:
        """Remembers the rate that a holder has shown."""
        self._rates.pop(name, None)
        self._rates[name] = rate
        if len(self._rates) > _MOST_RATES:
            del self._rates[next(iter(self._rates))]


class Pace:
    """What one holder has shown so far.

    Throughput is measured in rounds of at least as many answers as the window has asks, the last of them to a request
    of the same round: over a long line answers come in bursts, and a shorter time would have one more or one less.
    After a round the window grows by half; when that brought nothing, it goes back and stays for eight rounds.

    Attributes:
        window: asks that may be under way at once, at least 1.
        rate: bytes a second while it was asked for anything; 0 when it has not answered yet.
        steady_rate: the same over whole rounds alone, since a single answer may come in a burst; 0 until there was one,
            and after it was late. It falls at once when little comes.
        in_flight: asks without an answer.
        in_flight_bytes: their bytes.
        failures: how often it failed since it last answered.
        rests_until: time before which it is not asked.
        took: seconds that a block is on its way; 0 when none has come yet.
    """

    def __init__(self, limits: PaceLimits, steady_rate: float = 0.0) -> None:
        """`steady_rate` is what it has shown in an earlier download; 0 when it is not known."""
        self.window = limits.first_window
        self.rate = self.steady_rate = steady_rate
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.rests_until = float("-inf")
        self.took = 0.0
        self._limits = limits
        self._settled_window = limits.first_window
        self._settled_rate = 0.0
        self._rounds_to_rest = 0
        self._round_start = 0.0
        self._round_bytes = 0
        self._round_answers = 0
        self._round_full = True
        self.failures = 0
        self._busy_since, self._busy_bytes = 0.0, 0
        self._late = 0
        self._failed_at = float("-inf")

    def has_room(self, now: float) -> bool:
        """Tells whether the holder may be asked for another block."""
        return self.in_flight < self.window and now >= self.rests_until

    def finish_time(self, size: int) -> float:
        """Returns in how many seconds it would have answered `size` more bytes; 0 when its rate is not known."""
        return (self.in_flight_bytes + size) / self.rate if self.rate else 0.0

    def preference(self, size: int) -> tuple[int, float, int]:
        """Returns what holders are compared by when one is to be asked for `size` bytes; the least is asked."""
        return self.failures, self.finish_time(size), self.in_flight

    def deadline(self, size: int) -> float:
        """Returns how many seconds an answer of `size` more bytes may take."""
        limits = self._limits
        usual = max(limits.min_deadline, _SLACK * self.finish_time(size)) if self.rate else limits.first_deadline
        # The exponent is bounded: a float overflows at 2^1024.
        return min(usual * 2.0 ** min(self._late, 16), limits.max_deadline)

    def overdue(self) -> float:
        """Returns after how many seconds a block on its way is late enough to ask somebody else too."""
        limit = self._limits.overdue
        return max(limit / 10, 2 * self.took) if self.took else limit

    def asked(self, size: int, now: float) -> None:
        """Notes a request for `size` bytes."""
        if not self.in_flight:
            self._begin_round(now)
            self._busy_since, self._busy_bytes = now, 0
        self.in_flight += 1
        self.in_flight_bytes += size

    def withdrawn(self, size: int) -> None:
        """Notes that a request for `size` bytes was given up, which says nothing about the holder."""
        self.in_flight -= 1
        self.in_flight_bytes -= size

    def answered(self, size: int, asked_at: float, now: float, came: int | None = None) -> None:
        """Notes the answer to a request for `size` bytes that has been on its way since `asked_at`.

        `came` is how many bytes it has; None: all of them.
        """
        came = size if came is None else came
        took = max(now - asked_at, _INSTANT)
        self.took = (self.took + took) / 2 if self.took else took
        self._round_full = self._round_full and self.in_flight >= self.window
        self.withdrawn(size)
        self.failures = self._late = 0
        self._round_bytes += came
        self._round_answers += 1
        if not self.rate:
            self.rate = came / took
        self._busy_bytes += came
        busy = now - self._busy_since
        if busy >= _TELLING and self._busy_bytes < _SLOW * busy:
            self.steady_rate = min(self.steady_rate, self._busy_bytes / busy)
        if self._round_answers >= self.window and asked_at >= self._round_start:
            measured = self._round_bytes / max(now - self._round_start, _INSTANT)
            if self._round_full:
                self.rate = (self.rate + measured) / 2
                self.steady_rate = (self.steady_rate + measured) / 2 if self.steady_rate else measured
                self._adapt(measured)
            self._begin_round(now)

    def failed(self, size: int, asked_at: float, now: float, *, late: bool) -> None:
        """Notes that a request of `asked_at` failed, or was not answered by its deadline when `late`.

        Requests that fail together, as when a connection breaks, count once.
        """
        self.withdrawn(size)
        if asked_at < self._failed_at:
            return
        self._failed_at = now
        self.failures += 1
        self._late += late
        if late:
            self.steady_rate = 0.0
        self._settle(1 if late else max(1, self.window // 2))
        rest = min(self._limits.first_rest * 2.0 ** min(self.failures - 1, 16), self._limits.max_rest)
        self.rests_until = max(self.rests_until, now + rest)

    def busy(self, size: int, retry_after: float, now: float) -> None:
        """Notes that it asked to be left alone for `retry_after` seconds; more than `max_rest` is not believed."""
        self.withdrawn(size)
        self._settle(max(1, self.window // 2))
        self.rest(retry_after, now)

    def rest(self, seconds: float, now: float) -> None:
        """Leaves it alone for a while, at most for `max_rest`."""
        self.rests_until = max(self.rests_until, now + min(seconds, self._limits.max_rest))

    def _begin_round(self, now: float) -> None:
        self._round_start = now
        self._round_bytes = self._round_answers = 0
        self._round_full = True

    def _adapt(self, measured: float) -> None:
        if self._rounds_to_rest:
            self._rounds_to_rest -= 1
            self._settled_rate = (self._settled_rate + measured) / 2
            if not self._rounds_to_rest:
                self._grow()
        elif measured > _GAIN * self._settled_rate:
            self._settled_rate = measured
            self._grow()
        else:
            self._settle(self._settled_window)

    def _grow(self) -> None:
        self._settled_window = self.window
        self.window = min(self._limits.max_window, self.window + max(1, self.window // 2))

    def _settle(self, window: int) -> None:
        self.window = self._settled_window = window
        self._rounds_to_rest = _SETTLED_ROUNDS
