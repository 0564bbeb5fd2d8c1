import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.sessions.awake_clock import AwakeClock


class Time:
    """Seconds that tests move."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_what_passes_while_it_is_read_often_counts():
    time = Time()
    clock = AwakeClock(0.5, time)
    began = clock()
    for _ in range(100):
        time.now += 0.9
        clock()
    assert clock() - began == pytest.approx(100 * 0.9)


def test_the_time_in_which_nobody_read_it_does_not_count_but_for_one_interval():
    time = Time()
    clock = AwakeClock(0.5, time)
    began = clock()
    time.now += 30
    assert clock() - began == 0.5


def test_it_tells_of_each_absence_before_it_gives_the_reading():
    time = Time()
    clock = AwakeClock(0.5, time)
    told = []
    clock.returned = lambda now, away: told.append((now, away))
    began = clock()
    for step, absences in ((0.9, []), (30.5, [(began + 1.4, 30.0)]), (0.5, [])):
        told.clear()
        time.now += step
        reading = clock()
        assert told == absences
        assert all(now == reading for now, _ in told)


@given(st.lists(st.floats(0, 100), max_size=50))
def test_it_never_goes_back_nor_faster_than_time(steps):
    time = Time()
    clock = AwakeClock(0.5, time)
    last = clock()
    for step in steps:
        time.now += step
        assert -1e-9 <= clock() - last <= step + 1e-9
        last = clock()
