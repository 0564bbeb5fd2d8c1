"""The simulated swarm: the bound, the rates that flows get, and that a seed says everything."""

import math
from xml.etree import ElementTree as ET

import pytest

from bench.cases import Case, least_time
from bench.links import Link, Links
from bench.swarm_plot import plot
from bench.swarm_sim import simulated

SMALL = Case("8 peers", 8, 16, 50)


def test_the_bound_is_the_one_computed_by_hand():
    # 100 bytes to each of four: 400 bytes by 10 + 5 + 5 + 5 + 1 bytes a second; one link takes 12.5 s, the first 10 s.
    assert least_time(100, 10, [5, 5, 5, 1], [20, 20, 20, 8]) == pytest.approx(400 / 26)
    assert least_time(100, 10, [50, 50, 50, 50], [20, 20, 20, 8]) == pytest.approx(100 / 8)
    assert least_time(100, 5, [50, 50, 50, 50], [20, 20, 20, 8]) == pytest.approx(100 / 5)


def ends(*, fair):
    """When flows end: two of 60 bytes out of a link of 6 bytes a second, one of 40 out of another; two into 4."""
    links, seen = Links(fair=fair), {}
    up, other, wide, narrow = Link(6), Link(10), Link(100), Link(4)
    now = 0.0
    for name, source, target, size in (
        ("wide", up, wide, 60),
        ("narrow", up, narrow, 60),
        ("other", other, narrow, 40),
    ):
        links.begin(source, target, size, 0.0, lambda name=name: seen.__setitem__(name, now))
    links.settle(now)
    while links.next < math.inf:
        now = links.next
        links.pop()()
        links.settle(now)
    return seen


def test_what_a_flow_leaves_of_its_share_others_get_where_rates_are_max_min_fair():
    # Two each into the narrow link, and so four for the wide one. The last 20 bytes have the narrow link alone.
    assert ends(fair=True) == pytest.approx({"wide": 15, "other": 20, "narrow": 25})


def test_what_a_flow_leaves_of_its_share_is_lost_where_each_gets_the_least_share():
    assert ends(fair=False) == pytest.approx({"wide": 20, "other": 20, "narrow": 25})


@pytest.mark.parametrize("fair", [True, False])
def test_a_small_swarm_ends_near_the_bound(fair):
    result = simulated(SMALL, seed=1, fair=fair)
    assert 1.0 < result.ratio < 1.3
    assert 1.0 <= result.copies < 1.5


def test_the_same_seed_gives_the_same_swarm_and_another_one_another():
    first, same, other = (simulated(SMALL, seed=seed) for seed in (7, 7, 8))
    assert first == same
    assert first.seconds != other.seconds


def test_all_finish_when_the_first_holder_is_killed():
    result = simulated(Case("killed", 8, 16, 50, kill=True), seed=1)
    assert len(result.seconds) == 8
    assert result.ratio < 1.5


def test_the_plot_has_each_point_at_its_place():
    root = ET.fromstring(plot({"one": [(10, 1.0), (100, 1.5), (1000, 1.25)]}, "x & y", "ratio"))
    spaces = {"svg": "http://www.w3.org/2000/svg"}
    places = [(float(one.get("cx")), float(one.get("cy"))) for one in root.findall("svg:circle", spaces)]
    (left, low), (middle, high), (right, between) = places
    assert middle - left == pytest.approx(right - middle)
    assert between == pytest.approx((low + high) / 2)
    assert high < low
