"""Central's time as this peer knows it: what requests are signed by, and what its certificate is judged by."""

import math
from collections.abc import Callable

from core.errors import ClockSkew
from core.times import spoken

# Clocks that differ by less than half of it, in seconds, are as good as equal.
MUCH = 60.0


class CentralTime:
    """This machine's clock until central has said that it is off, and central's from then on.

    It goes by the monotonic clock, so that a step of the wall clock changes nothing meanwhile.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._ahead = wall() - clock()

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock() + self._ahead

    def trust_own_clock(self) -> None:
        """Goes by the wall clock again, which may have been set, or have gone on while the machine slept."""
        self._ahead = self._wall() - self._clock()

    @property
    def off(self) -> float:
        """How far this machine's clock is ahead of central's by now, in seconds to the minute; negative when behind.

        It is 0 as long as nothing is known of it.
        """
        return MUCH * round((self._wall() - self.now) / MUCH)

    def correct(self, error: ClockSkew) -> str:
        """Goes by the time that central told with its refusal; returns what `said` says then."""
        self._ahead = _told_time(error, self._wall()) - self._clock()
        return self.said()

    def said(self) -> str:
        """Returns a sentence that says how far off this machine's clock is, and what to do."""
        if not self.off:
            return "this machine's clock has been set"
        how = "ahead of" if self.off > 0 else "behind"
        by = spoken(abs(self.off))
        return f"this machine's clock is {by} {how} central's: set it; until then requests are signed by central's"


def _told_time(error: ClockSkew, now: float) -> float:
    """Returns central's time in seconds since 1970, or `now` when what it told is no time."""
    try:
        told = float(error.metadata.get("central_time", ""))
    except ValueError:
        return now
    return told if math.isfinite(told) else now
