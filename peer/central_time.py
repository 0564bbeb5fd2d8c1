"""Central's time as this peer knows it: what requests are signed by, and what its certificate is judged by."""

import math
from collections.abc import Callable

from core.errors import ClockSkew


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

    def correct(self, error: ClockSkew) -> float:
        """Goes by the time that central told with its refusal; returns by how many seconds this machine is behind."""
        told = _told_time(error, self._wall())
        self._ahead = told - self._clock()
        return told - self._wall()


def _told_time(error: ClockSkew, now: float) -> float:
    """Returns central's time in seconds since 1970, or `now` when what it told is no time."""
    try:
        told = float(error.metadata.get("central_time", ""))
    except ValueError:
        return now
    return told if math.isfinite(told) else now
