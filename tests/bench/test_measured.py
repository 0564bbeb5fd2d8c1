"""What a trial took is counted as the system counts it, and compared round by round."""

import mmap
import os
import sys

import pytest

from bench.measured import Side, Trial, Watched, medians, ratios

NOTHING = Side(0.0, 0)


def trial(rate, cpu=1.0):
    """1 GB at `rate` MB a second, for `cpu` seconds of processor on the two sides together."""
    return Trial(10**9, 1000 / rate, Side(cpu * 0.25, 64 << 20), Side(cpu * 0.75, 32 << 20))


def test_ratios_pair_the_rounds_and_not_the_medians():
    trials = {"one": [trial(100), trial(400), trial(90)], "other": [trial(100), trial(200), trial(300)]}
    table = ratios(trials, [("rate", "one", "other", lambda one: one.rate)])
    assert table.splitlines()[-1] == "| rate | 1.00 | 0.30 | 2.00 |"


def test_ratios_refuse_rounds_that_are_no_pairs():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ratios({"one": [trial(1), trial(1)], "other": [trial(1)]}, [("rate", "one", "other", lambda one: one.rate)])


def test_medians_add_the_processor_time_of_both_sides_and_keep_the_peaks_apart():
    table = medians({"one": [trial(100, cpu=1.0), trial(300, cpu=5.0), trial(200, cpu=2.0)]})
    assert table.splitlines()[-1] == "| one | 200 | 2.00 | 64 | 32 |"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_is_watched_from_now_on():
    """Mapped, since an allocator may have the room from what other tests have freed."""
    with mmap.mmap(-1, 64 << 20) as past:
        past.write(b"x" * len(past))
    watched = Watched(os.getpid())
    unused = watched.side()
    with mmap.mmap(-1, 96 << 20) as kept:
        for _ in range(96):
            kept.write(b"x" * (1 << 20))
        used = watched.side()
    assert used.peak - unused.peak > 64 << 20
    assert used.cpu >= unused.cpu >= 0.0
