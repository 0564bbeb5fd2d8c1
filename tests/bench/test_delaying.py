"""The delaying proxy is a line: whole, late by as much as it says, and no wider than it says."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from bench.delaying import serve

DELAY = 0.05


@asynccontextmanager
async def line(answer, window):
    """A server that calls `answer`, and the address of a line to it."""
    ready = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy = asyncio.create_task(serve("127.0.0.1:0", f"{host}:{port}", DELAY, window, ready.set_result))
    try:
        yield (await ready).split(":")
    finally:
        proxy.cancel()
        await asyncio.gather(proxy, return_exceptions=True)
        server.close()


async def echo(reader, writer):
    writer.write(await reader.read())
    writer.write_eof()
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("window", [10_000, 1 << 24])
async def test_every_byte_arrives_in_order_and_the_end_after_it(window):
    data = os.urandom(100_000)
    async with line(echo, window) as (host, port):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()


async def test_an_answer_takes_the_delay_twice():
    loop = asyncio.get_running_loop()
    async with line(echo, 1 << 20) as (host, port):
        reader, writer = await asyncio.open_connection(host, int(port))
        began = loop.time()
        writer.write(b"?")
        writer.write_eof()
        assert await reader.read() == b"?"
        assert loop.time() - began >= 2 * DELAY
        writer.close()


async def test_no_more_than_the_window_goes_in_a_round_trip():
    loop = asyncio.get_running_loop()

    async def tell(_, writer):
        writer.write(bytes(40_000))
        writer.close()

    async with line(tell, 10_000) as (host, port):
        began = loop.time()
        reader, writer = await asyncio.open_connection(host, int(port))
        assert len(await reader.read()) == 40_000
        # Four windows: the first arrives after one delay, each further one after two more.
        assert loop.time() - began >= 7 * DELAY
        writer.close()
