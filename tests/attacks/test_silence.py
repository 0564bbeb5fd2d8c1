"""Who connects and says nothing is put out soon."""

import asyncio
import contextlib
import socket
import ssl
import time

import pytest

HANDSHAKE = 1.0


async def closed(reader) -> float:
    """Returns after how many seconds the server closes."""
    start = time.monotonic()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(10):
            while await reader.read(4096):
                pass
    return time.monotonic() - start


@pytest.fixture(scope="module")
def quick(lasting_victim):
    return lasting_victim(f"handshake={HANDSHAKE}")


async def test_a_connection_that_says_nothing_is_closed(quick):
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port)
    assert await closed(reader) < 5 * HANDSHAKE
    writer.transport.abort()


async def test_a_handshake_that_stops_after_its_first_words_is_closed(quick, tls):
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        tls(quick.network.member()).wrap_bio(ssl.MemoryBIO(), hello, server_hostname=quick.name).do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port)
    writer.write(hello.read())
    assert await closed(reader) < 5 * HANDSHAKE
    writer.transport.abort()


async def test_a_handshake_that_drips_is_closed(quick, tls):
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        tls(quick.network.member()).wrap_bio(ssl.MemoryBIO(), hello, server_hostname=quick.name).do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", quick.port)
    ended = asyncio.ensure_future(closed(reader))
    for byte in hello.read():
        writer.write(bytes([byte]))
        await asyncio.wait({ended}, timeout=0.05)
        if ended.done():
            break
    assert await ended < 5 * HANDSHAKE
    writer.transport.abort()


@pytest.mark.parametrize("words", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_a_member_that_never_gets_to_its_settings_is_closed(quick, raw, words):
    connection = await raw(quick, greet=False)
    start = time.monotonic()
    await connection.send(words)
    async with asyncio.timeout(10):
        await connection.closed.wait()
    assert time.monotonic() - start < 5 * HANDSHAKE


async def test_a_member_that_never_acknowledges_the_settings_is_closed(quick, raw):
    connection = await raw(quick, deaf=True)
    start = time.monotonic()
    async with asyncio.timeout(10):
        await connection.closed.wait()
    assert time.monotonic() - start < 5 * HANDSHAKE


async def test_a_member_that_greets_may_stay(quick, raw):
    connection = await raw(quick)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * HANDSHAKE):
            await connection.closed.wait()


async def test_many_that_come_and_go_without_a_word_keep_nobody_out_and_bring_nothing_down(quick, times):
    for number in range(20 * times):
        silent = [socket.create_connection(("127.0.0.1", quick.port)) for _ in range(100)]
        if number % 5 == 0:
            async with quick.honest():
                pass
        for one in silent:
            one.close()
    async with quick.honest():
        pass
    assert quick.process.poll() is None
