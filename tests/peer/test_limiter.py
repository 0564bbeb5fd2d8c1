"""Waiting for a limit: who goes when, who gives up, and what is never lost."""

import asyncio

import pytest

from core.errors import Busy
from peer.links.limiter import Limiter

KIB = 1024


class Hand:
    """A clock that a test moves, and with it the limiter's own timer."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def hand():
    return Hand()


async def moved(hand, limiter, seconds):
    """Lets time pass for a limiter whose timer would come too late for a test."""
    hand.now += seconds
    limiter._grant()
    for _ in range(5):
        await asyncio.sleep(0)


async def owing(hand, size=100 * KIB):
    """A limit of 10 KiB a second that owes ten seconds."""
    limiter = Limiter(hand, 10 * KIB)
    await limiter.take("ana", size + 2560)  # what had been saved up, and the rest
    return limiter


async def test_a_take_waits_until_what_went_before_is_paid(hand):
    limiter = await owing(hand)
    taking = asyncio.ensure_future(limiter.take("ben", 1))
    await moved(hand, limiter, 9.9)
    assert not taking.done()
    await moved(hand, limiter, 0.2)
    assert taking.done()


async def test_the_timer_alone_wakes_those_who_wait():
    limiter = Limiter(asyncio.get_running_loop().time, 100 * KIB)
    await limiter.take("ana", 30 * KIB)
    async with asyncio.timeout(5):
        await limiter.take("ana", 1)
        await limiter.take("ana", 1)


async def test_who_gives_up_waits_for_nothing_and_costs_nobody_anything(hand):
    limiter = await owing(hand)
    gone, there = (asyncio.ensure_future(limiter.take(who, 1 << 30)) for who in ("ben", "cho"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    await moved(hand, limiter, 10.1)
    assert gone.cancelled()
    assert there.done()


async def test_what_was_granted_to_somebody_who_has_just_given_up_is_given_back(hand):
    limiter = await owing(hand)
    gone = asyncio.ensure_future(limiter.take("ben", 100 * KIB))
    await asyncio.sleep(0)
    hand.now = 10.1
    limiter._grant()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(5):
        await limiter.take("cho", 1)


async def test_who_would_wait_too_long_is_told_when_to_come_back(hand):
    limiter = await owing(hand)
    with pytest.raises(Busy) as caught:
        await limiter.take("ben", KIB, patience=9)
    assert caught.value.retry_after == pytest.approx(10, abs=0.1)
    waiting = asyncio.ensure_future(limiter.take("ben", KIB, patience=11))
    await moved(hand, limiter, 10.1)
    assert waiting.done()


async def test_a_new_rate_is_for_those_who_wait_too_and_none_lets_everybody_go(hand):
    limiter = await owing(hand)
    limiter.change(100 * KIB)  # ten seconds of debt stay ten seconds
    waiting = [asyncio.ensure_future(limiter.take("ben", 100 * KIB)) for _ in range(3)]
    await moved(hand, limiter, 9.9)
    assert not any(task.done() for task in waiting)
    await moved(hand, limiter, 0.2)
    assert [task.done() for task in waiting] == [True, False, False]
    limiter.change(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_without_a_limit_nothing_waits(hand):
    limiter = Limiter(hand)
    async with asyncio.timeout(5):
        for _ in range(100):
            await limiter.take("ana", 1 << 40, patience=0)
    limiter.give_back(1 << 50)
    limiter.change(KIB)
    waiting = [asyncio.ensure_future(limiter.take("ana", KIB)) for _ in range(2)]
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False], "nothing was saved up before there was a limit"
    limiter.change(0)
    await asyncio.gather(*waiting)
