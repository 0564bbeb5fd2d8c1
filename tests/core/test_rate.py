from hypothesis import given
from hypothesis import strategies as st

from core.rate import Buckets, Gate


def test_a_burst_passes_and_then_one_at_a_time():
    buckets = Buckets(rate=2.0, burst=3.0)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take("a", 0.0) == 0.5
    assert buckets.take("a", 0.25) == 0.25
    assert buckets.take("a", 0.5) == 0.0
    assert buckets.take("b", 0.5) == 0.0


@given(st.lists(st.floats(0, 5), max_size=200))
def test_nobody_gets_more_than_the_burst_and_the_rate(pauses):
    buckets, now, passed = Buckets(rate=3.0, burst=5.0), 0.0, 0
    for pause in pauses:
        now += pause
        passed += buckets.take("a", now) == 0.0
    assert passed <= 5 + now * 3.0


@given(st.lists(st.floats(0, 5), max_size=100))
def test_who_waits_as_long_as_told_passes(pauses):
    buckets, now = Buckets(rate=3.0, burst=2.0), 0.0
    for pause in pauses:
        now += pause
        if wait := buckets.take("a", now):
            now += wait + 1e-9
            assert buckets.take("a", now) == 0.0


def test_only_so_many_names_are_remembered_and_the_longest_idle_is_forgotten():
    buckets = Buckets(rate=0.001, burst=1.0, most=3)
    for name in "abca":
        buckets.take(name, 0.0)
    buckets.take("d", 0.0)  # forgets b
    assert len(buckets) == 3
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0.0


def test_a_host_over_its_share_takes_nothing_from_the_others():
    gate = Gate(host_rate=1.0, total_rate=2.0, burst_seconds=2.0)
    passed = [gate.take("192.0.2.1:1", 0.0) == 0.0 for _ in range(10)]
    assert passed == [True] * 2 + [False] * 8
    assert [gate.take(f"192.0.2.{host}:1", 0.0) == 0.0 for host in (2, 3, 4)] == [True, True, False]
