import asyncio

import pytest

from central.mutations import MOST_WAITING, Mutations
from core.errors import Busy


class Receipts:
    """As much of a store as mutations need: the answers that were given."""

    def __init__(self):
        self.answers = {}

    async def answer(self, author, request_id):
        await asyncio.sleep(0)
        return self.answers.get((author, request_id))


@pytest.fixture
def receipts():
    return Receipts()


@pytest.fixture
def mutations(receipts):
    return Mutations(receipts)


async def test_identical_requests_at_once_are_done_once_and_answered_alike(receipts, mutations):
    done = []

    async def work():
        await asyncio.sleep(0)
        done.append(1)
        receipts.answers["ana", "1"] = b"answer"
        return b"answer"

    answers = await asyncio.gather(*(mutations.run("ana", "1", work) for _ in range(10)))
    assert set(answers) == {b"answer"}
    assert done == [1]


async def test_requests_of_one_author_wait_for_one_another_and_others_do_not(mutations):
    running, order = asyncio.Event(), []

    async def slow():
        await running.wait()
        order.append("slow")
        return b""

    async def quick(name):
        order.append(name)
        if name == "other author":
            running.set()
        return b""

    await asyncio.gather(
        mutations.run("ana", "1", slow),
        mutations.run("ana", "2", lambda: quick("same author")),
        mutations.run("blas", "3", lambda: quick("other author")),
    )
    assert order == ["other author", "slow", "same author"]


async def test_a_failure_is_raised_and_leaves_no_trace(receipts, mutations):
    async def fails():
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        await mutations.run("ana", "1", fails)
    assert not receipts.answers
    assert not mutations._turns


async def test_a_caller_that_gives_up_does_not_stop_the_work(mutations):
    begun, go_on, done = asyncio.Event(), asyncio.Event(), []

    async def work():
        begun.set()
        await go_on.wait()
        done.append(1)
        return b""

    caller = asyncio.create_task(mutations.run("ana", "1", work))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await mutations.drained()
    assert done == [1]
    assert not mutations._running


async def test_so_many_changes_of_one_author_wait_also_when_nobody_waits_for_them(mutations):
    go_on = asyncio.Event()

    async def work():
        await go_on.wait()
        return b"answer"

    def asked(author, number):
        return asyncio.create_task(mutations.run(author, f"{number}", work))

    waiting = [asked("mallory", number) for number in range(MOST_WAITING + 1)]
    with pytest.raises(Busy) as caught:
        await asyncio.wait_for(waiting.pop(), 5)
    assert caught.value.retry_after == 0.5
    for one in waiting[5:]:
        one.cancel()
    with pytest.raises(Busy):
        await asyncio.wait_for(asked("mallory", 99), 5)
    ana = asked("ana", 1)
    go_on.set()
    assert await ana == b"answer"
    await mutations.drained()
    assert await asked("mallory", 99) == b"answer"
