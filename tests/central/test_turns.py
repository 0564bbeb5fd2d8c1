"""Turns between callers."""

import asyncio

import pytest

from central.turns import Turns


class Bench:
    """Work that lasts as long as a test says, and what has begun."""

    def __init__(self, places):
        self.now = 0.0
        self.turns = Turns(places, lambda: self.now)
        self.begun = []
        self.ends = {}

    def ask(self, who, name):
        self.ends[name] = asyncio.Event()

        async def work():
            self.begun.append(name)
            await self.ends[name].wait()
            return name.upper()

        return asyncio.create_task(self.turns.run(who, work))

    async def rest(self):
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, name, took=1.0):
        self.now += took
        self.ends[name].set()
        await self.rest()


@pytest.fixture
def bench():
    return Bench(2)


async def test_so_much_runs_at_once_and_each_gets_its_own_answer(bench):
    asked = [bench.ask(who, who) for who in "abc"]
    await bench.rest()
    assert bench.begun == ["a", "b"]
    await bench.end("a")
    assert bench.begun == ["a", "b", "c"]
    for name in "bc":
        await bench.end(name)
    assert [await one for one in asked] == ["A", "B", "C"]


async def test_one_caller_has_one_place_whatever_is_free(bench):
    for name in ("m1", "m2", "m3"):
        bench.ask("mallory", name)
    await bench.rest()
    assert bench.begun == ["m1"]
    bench.ask("ana", "a")
    await bench.rest()
    assert bench.begun == ["m1", "a"]
    await bench.end("m1")
    assert bench.begun == ["m1", "a", "m2"]


async def test_next_is_who_has_had_the_least_time_and_not_who_came_first(bench):
    for who in ("mallory", "mo"):
        for number in range(5):
            bench.ask(who, f"{who}{number}")
    await bench.rest()
    await bench.end("mallory0", took=3.0)
    await bench.end("mo0", took=0.0)
    assert bench.begun[2:] == ["mallory1", "mo1"]
    bench.ask("ana", "a")
    bench.ask("ben", "b")
    await bench.end("mallory1", took=3.0)
    await bench.end("mo1", took=0.0)
    assert bench.begun[4:] == ["a", "b"]


async def test_who_comes_later_does_not_keep_out_those_who_have_had_much():
    bench = Bench(1)
    for number in range(12):
        bench.ask("ana", f"a{number}")
    await bench.rest()
    for number in range(10):
        await bench.end(f"a{number}", took=10.0)
    for number in range(5):
        bench.ask("ben", f"b{number}")
    await bench.end("a10", took=10.0)
    await bench.end("b0", took=10.0)
    await bench.end(bench.begun[-1], took=10.0)
    assert bench.begun[-3:] in (["b0", "b1", "a11"], ["b0", "a11", "b1"])


async def test_a_caller_that_gives_up_leaves_the_queue(bench):
    asked = [bench.ask(who, who) for who in "abcd"]
    await bench.rest()
    asked[2].cancel()
    await bench.end("a")
    assert bench.begun == ["a", "b", "d"]
    await bench.end("b")
    await bench.end("d")
    assert await bench.turns.run("e", lambda: asyncio.sleep(0, "E")) == "E"


async def test_a_caller_that_gives_up_when_its_turn_comes_keeps_no_place(bench):
    asked = [bench.ask(who, who) for who in "abc"]
    await bench.rest()
    bench.ends["a"].set()
    while not bench.turns._running >= {"b", "c"}:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    asked[2].cancel()
    await bench.rest()
    await bench.end("b")
    asked = [bench.ask(who, who) for who in "de"]
    await bench.rest()
    assert bench.begun[-2:] == ["d", "e"]


async def test_what_has_begun_keeps_its_place_until_it_ends(bench):
    """Otherwise whoever gives up again and again would have more and more at once."""
    first = bench.ask("mallory", "m")
    bench.ask("ana", "a")
    await bench.rest()
    first.cancel()
    bench.ask("mallory", "m2")
    bench.ask("ben", "b")
    await bench.rest()
    assert bench.begun == ["m", "a"]
    await bench.end("m")
    assert bench.begun == ["m", "a", "b"]


async def test_a_failure_is_its_callers_and_gives_the_place_back(bench):
    async def fails():
        raise ValueError("no disk")

    for _ in range(5):
        with pytest.raises(ValueError, match="no disk"):
            await bench.turns.run("ana", fails)
    assert await bench.turns.run("ana", lambda: asyncio.sleep(0, "done")) == "done"


async def test_nothing_is_kept_of_who_has_gone(bench):
    for number in range(1_000):
        await bench.turns.run(f"{number}", lambda: asyncio.sleep(0))
    assert len(bench.turns._had) < 10
    assert not bench.turns._waiting
    assert not bench.turns._running
