"""Floods of frames and connections: the next honest call is answered at once.

`make attacks` sends ten times as much as `make test`.
"""

import asyncio
import contextlib
from pathlib import Path
from statistics import median

import pytest

from relevo.v1.peer_relay_pb2 import GetBlockRequest, GetManifestRequest

BLOCK, LIST = "/relevo.v1.PeerRelay/GetBlock", "/relevo.v1.PeerRelay/ListFiles"
MIB = 1 << 20
AT_ONCE = 0.1
CANCEL = (8).to_bytes(4, "big")


@pytest.fixture
def server(victim):
    return victim()


async def send_all(connection, frames):
    """Sends in portions until everything is out or the server has closed."""
    with contextlib.suppress(ConnectionError):
        for first in range(0, len(frames), 200):
            await connection.send(b"".join(frames[first : first + 200]))


@pytest.fixture
def next_call(seconds):
    """Returns a function that floods, and says how soon the next call is answered."""

    async def measure(server, flood):
        return await _next_call(server, seconds, flood)

    return measure


async def _next_call(server, seconds, flood):
    """Floods five times and returns the median time of the call after it: what else the machine does is not its fault.

    The call goes over a connection that was there before.
    """
    took = []
    async with server.honest() as stub:
        asked = GetManifestRequest(content_id=server.content_id)
        for _ in range(5):
            await flood()
            took.append(await seconds(stub.GetManifest(asked, timeout=10)))
    return median(took)


async def test_calls_that_are_made_and_reset(victim, raw, frames, next_call, times):
    server = victim()
    asked = GetBlockRequest(content_id=server.content_id, index=1).SerializeToString()
    body = b"\0" + len(asked).to_bytes(4, "big") + asked

    async def flood():
        connection = await raw(server, deaf=True)
        calls = [
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, frames.headers(BLOCK, deadline=10))
            + frames.frame(frames.DATA, frames.END_STREAM, stream, body)
            + frames.frame(frames.RESET, 0, stream, CANCEL)
            for stream in range(1, 4_000 * times, 2)
        ]
        await send_all(connection, calls)

    before = server.peak()
    assert await next_call(server, flood) < AT_ONCE
    assert server.peak() - before < 128 * MIB


@pytest.fixture
def flooding_with(server, raw, frames, times):
    """Returns a function that returns a flood of frames of one kind."""
    opened = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.headers(LIST, deadline=10))
    kinds = {
        "ping": frames.frame(frames.PING, payload=b"12345678"),
        "settings": frames.frame(frames.SETTINGS, payload=b"\0\3\0\0\0\x64"),
        "window": frames.frame(frames.WINDOW, payload=b"\0\0\0\1"),
        "priority": frames.frame(frames.PRIORITY, stream=1, payload=bytes(5)),
        "empty data": frames.frame(frames.DATA, stream=1),
    }

    def flooding(what):
        async def flood():
            connection = await raw(server, deaf=True)
            await send_all(connection, [opened, *[kinds[what]] * (2_000 * times)])

        return flood

    return flooding


@pytest.mark.parametrize("what", ["ping", "settings", "window", "priority", "empty data"])
async def test_frames_that_ask_for_work_and_bring_nothing(what, server, flooding_with, next_call):
    flood = flooding_with(what)
    before = server.peak()
    assert await next_call(server, flood) < AT_ONCE
    assert server.peak() - before < 64 * MIB


async def test_headers_that_never_end(server, raw, frames, next_call, times):
    piece = frames.frame(frames.CONTINUATION, stream=1, payload=b"\x00\x01a\x01b" * 100)

    async def flood():
        connection = await raw(server, deaf=True)
        begun = frames.frame(frames.HEADERS, 0, 1, frames.headers(LIST))
        await send_all(connection, [begun, *[piece] * (100 * times)])

    before = server.peak()
    assert await next_call(server, flood) < AT_ONCE
    assert server.peak() - before < 64 * MIB


async def test_pings_beyond_what_is_usual_end_the_connection(server, raw, frames):
    connection = await raw(server)
    await send_all(connection, [frames.frame(frames.PING, payload=b"12345678")] * 2_000)
    async with asyncio.timeout(10):
        await connection.closed.wait()


@pytest.mark.parametrize(("interval", "stays"), [(0.1, True), (1.0, False)])
async def test_how_often_a_client_may_ping_can_be_set(victim, raw, frames, interval, stays):
    """Twice a second and with no call: by gRPC's own default once in five minutes would be too often."""
    connection = await raw(victim(f"ping_interval={interval}"))
    with contextlib.suppress(ConnectionError):
        for _ in range(6):
            await connection.send(frames.frame(frames.PING, payload=b"12345678"))
            await asyncio.wait([asyncio.ensure_future(connection.closed.wait())], timeout=0.5)
    assert connection.closed.is_set() is not stays


async def test_a_connection_has_so_many_streams_and_no_more(server, raw):
    connection = await raw(server)
    await connection.answer(await connection.call(LIST, deadline=5))
    assert connection.h2.remote_settings.max_concurrent_streams == 256


async def test_never_are_more_connections_open_than_the_limit(victim):
    """Not even for as long as it takes to see which of them to close."""
    server = victim("connections=50", "handshake=60")

    def files():
        return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))

    before, most, held = files(), 0, []
    for _ in range(20):
        opening = [asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        held += [one for one in await asyncio.gather(*opening, return_exceptions=True) if isinstance(one, tuple)]
        most = max(most, files() - before)
    for _, writer in held:
        writer.transport.abort()
    assert 40 <= most <= 50 + 20, "those that are being closed count too"


async def test_connections_over_the_limit_are_closed_and_those_before_them_are_served(victim, next_call, times):
    server = victim("connections=50", "handshake=60")
    many, closed = [], []

    async def flood():
        for _ in range(100 * times):
            with contextlib.suppress(ConnectionError):
                many.append(await asyncio.open_connection("127.0.0.1", server.port))

    async def read(reader):
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.append(reader)

    assert await next_call(server, flood) < AT_ONCE
    waiting = [asyncio.ensure_future(read(reader)) for reader, _ in many]
    async with asyncio.timeout(20):
        while len(closed) < len(many) - 50:
            await asyncio.wait([task for task in waiting if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    for _, writer in many:
        writer.transport.abort()
    await asyncio.gather(*waiting)
    async with server.honest() as stub:
        await stub.GetManifest(GetManifestRequest(content_id=server.content_id), timeout=10)
