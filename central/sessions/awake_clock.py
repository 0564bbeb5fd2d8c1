"""A clock that stands still while central does."""

from collections.abc import Callable


class AwakeClock:
    """Seconds, but for those in which central was stopped, starved or swapped out.

    Leases are counted by it: beats that wait to be read while central is away are nobody's silence. It is read at every
    beat and every sweep, so a reading that is long overdue tells that central was away meanwhile.

    Attributes:
        returned: called with the reading, before it is given, and the seconds of each absence.
    """

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        """`interval` is the most seconds from one reading to the next while central is awake; `clock` is monotonic."""
        self._interval = interval
        self._clock = clock
        self._read = clock()
        self._away = 0.0
        self.returned: Callable[[float, float], None] = lambda _now, _away: None

    def __call__(self) -> float:
        """Returns monotonic seconds."""
        now = self._clock()
        overdue = now - self._read - self._interval
        if overdue > self._interval:  # less is what a busy machine does
            self._away += overdue
        self._read = now
        if overdue > self._interval:
            self.returned(now - self._away, overdue)
        return now - self._away
