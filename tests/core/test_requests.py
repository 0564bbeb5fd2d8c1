"""How large requests may be, and how many of one caller are read at once."""

import asyncio

import pytest

from core.errors import Busy
from core.requests import READ_AT_ONCE, Requests


def test_each_method_has_its_limit():
    requests = Requests(100, {"/Deliver": 300})
    assert requests.most == 300
    requests.check("/Deliver", 300)
    requests.check("/GetBlock", 100)
    for method, size in (("/Deliver", 301), ("/GetBlock", 101)):
        with pytest.raises(Busy):
            requests.check(method, size)


async def read(requests, who, reading, may_end):
    async with requests.reading(who):
        reading.append(who)
        await may_end.wait()


async def test_of_one_caller_few_requests_are_read_at_once():
    requests, reading, may_end = Requests(100, {"/Deliver": 300}), [], asyncio.Event()
    tasks = [asyncio.create_task(read(requests, "ana", reading, may_end)) for _ in range(3 * READ_AT_ONCE)]
    tasks.append(asyncio.create_task(read(requests, "ben", reading, may_end)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (reading.count("ana"), reading.count("ben")) == (READ_AT_ONCE, 1)
    may_end.set()
    await asyncio.gather(*tasks)
    assert reading.count("ana") == 3 * READ_AT_ONCE
    assert not requests._reading, "nobody is remembered"


async def test_where_no_request_is_large_all_are_read_at_once():
    requests, reading, may_end = Requests(100, {}), [], asyncio.Event()
    tasks = [asyncio.create_task(read(requests, "ana", reading, may_end)) for _ in range(2 * READ_AT_ONCE)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(reading) == 2 * READ_AT_ONCE
    may_end.set()
    await asyncio.gather(*tasks)
