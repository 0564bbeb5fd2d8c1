"""A holder's window fits its line: a long one is filled, a short one is not flooded."""

import heapq

import pytest

from peer.fetching import pace as module
from peer.fetching.pace import Pace, PaceLimits, Rates

MIB = 1 << 20
CHUNK = 64 << 10
OVERHEAD = 1.001


class Line:
    """A connection on which only so many bytes are on the way at once, and which is fast otherwise, as TCP's are."""

    def __init__(self, delay, window, rate):
        """`delay` is in seconds there and back, `window` in bytes, `rate` in bytes a second."""
        self._delay, self._rate = delay, rate
        self._most = window // CHUNK
        self._sent = []

    def send(self, now):
        """Returns when a block has arrived that is asked for now."""
        asked = now + self._delay / 2
        for _ in range(round(MIB * OVERHEAD / CHUNK + 0.5)):
            before = self._sent[-1] + CHUNK / self._rate if self._sent else 0.0
            acknowledged = self._sent[-self._most] + self._delay if len(self._sent) >= self._most else 0.0
            self._sent.append(max(asked, before, acknowledged))
        return self._sent[-1] + self._delay / 2


def fetch(blocks, line):
    """Fetches blocks and returns the seconds that it took, and the windows that there were."""
    pace, now = Pace(PaceLimits()), 0.0
    coming, windows, asked = [], [], 0
    while len(windows) < blocks:
        while asked < blocks and pace.has_room(now):
            pace.asked(MIB, now)
            heapq.heappush(coming, (line.send(now), now))
            asked += 1
        now, asked_at = heapq.heappop(coming)
        pace.answered(MIB, asked_at, now)
        windows.append(pace.window)
    return now, windows


@pytest.mark.parametrize("window", [2, 3, 4, 5, 6, 8, 10])
@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1])
def test_a_long_line_is_filled(delay, window):
    """What is on the way at once arrives together, so that any few answers in a row say nothing about the rate."""
    took, _ = fetch(300, Line(delay, window * MIB, rate=800e6))
    assert took < 1.15 * (300 / window + 6) * delay


def test_a_short_line_is_not_flooded():
    _, windows = fetch(400, Line(0.0005, 8 * MIB, rate=100e6))
    assert sorted(windows)[len(windows) // 2] <= 4


def test_the_rates_of_very_many_holders_are_forgotten_the_oldest_first(monkeypatch):
    monkeypatch.setattr(module, "_MOST_RATES", 2)
    rates = Rates()
    for name, rate in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0)):
        rates.note(name, rate)
    assert [rates.of(name) for name in "abc"] == [3.0, 0.0, 4.0]


def test_a_holder_that_was_quick_counts_as_slow_once_little_has_come_for_a_while():
    pace = Pace(PaceLimits(), steady_rate=100e6)
    pace.asked(512 << 10, 0.0)
    pace.answered(512 << 10, 0.0, 0.1)
    assert pace.steady_rate == 100e6, "a short time says little"
    pace.asked(512 << 10, 1.0)
    pace.answered(512 << 10, 1.0, 2.0)
    assert pace.steady_rate == 512 << 10
