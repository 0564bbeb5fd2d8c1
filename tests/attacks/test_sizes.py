"""Whatever is too large is refused before it takes memory."""

import asyncio
import gzip
import zlib

import grpc
import pytest

from core.rpc import PEER_DELIVERY, PEER_REQUEST
from peer.giving.serving import MOST_BITMAP
from relevo.v1.peer_relay_pb2 import BlockSet, GetBlockRequest, GetManifestRequest

BLOCK = "/relevo.v1.PeerRelay/GetBlock"
MIB = 1 << 20
REFUSED, GIVEN = "8", "0"  # RESOURCE_EXHAUSTED, OK


@pytest.fixture
async def server(victim):
    """One that has served already, so that what it needs for that is not counted."""
    server = victim()
    async with server.honest() as stub:
        await stub.GetBlock(GetBlockRequest(content_id=server.content_id, index=0), timeout=10)
    return server


async def still_serves(server):
    async with server.honest() as stub:
        await stub.GetManifest(GetManifestRequest(content_id=server.content_id), timeout=10)


async def test_a_message_over_the_limit_is_refused(server, raw):
    connection, before = await raw(server), server.peak()
    stream = await connection.call(BLOCK, bytes(PEER_REQUEST + 1), deadline=10)
    assert (await connection.answer(stream))["grpc-status"] == REFUSED
    assert server.peak() - before < 16 * MIB
    await still_serves(server)


async def test_the_largest_set_of_blocks_is_no_message_over_the_limit(server):
    """What a download of 2 TiB lacks when it begins; here it is refused as what the content has not."""
    lacking = BlockSet(bitmap=b"\xff" * MOST_BITMAP)
    async with server.honest() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetBlock(GetBlockRequest(content_id=server.content_id, lacking=lacking), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_hundred_large_requests_at_once_take_little_memory(server):
    """They are 200 MiB, and would be 500 in a server that reads them."""
    before = server.peak()
    padded = GetBlockRequest(content_id=server.content_id, lacking=BlockSet(bitmap=bytes(2 * MIB - 4096)))
    async with server.honest() as stub:
        calls = [stub.GetBlock(padded, timeout=100) for _ in range(100)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {error.code() for error in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert server.peak() - before < 256 * MIB


async def test_a_message_that_says_that_it_is_huge_is_refused_at_once(server, raw):
    connection, before = await raw(server), server.peak()
    # What one method takes is known only when the message is read: until then the largest of all of them counts.
    for length in (PEER_DELIVERY + 1, 1 << 31, (1 << 32) - 1):
        stream = await connection.call(BLOCK, b"beginning", deadline=10, length=length)
        assert (await connection.answer(stream))["grpc-status"] == REFUSED
    assert server.peak() - before < 16 * MIB
    await still_serves(server)


@pytest.mark.parametrize(("encoding", "wrap"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_small_message_that_unpacks_to_a_large_one_is_refused(server, raw, encoding, wrap):
    bomb = wrap(bytes(128 * MIB))
    assert len(bomb) < PEER_REQUEST, "it passes the limit until it is unpacked"
    connection, before = await raw(server), server.peak()
    for _ in range(3):
        stream = await connection.call(BLOCK, bomb, deadline=10, compressed=True, encoding=encoding)
        assert (await connection.answer(stream))["grpc-status"] == REFUSED
    assert server.peak() - before < 32 * MIB
    await still_serves(server)


@pytest.mark.parametrize(
    "extra", [[("x", "a" * 20_000)], [(f"x-{number}", "a") for number in range(2_000)]], ids=["long", "many"]
)
async def test_metadata_over_the_limit_is_refused(server, raw, extra):
    connection, before = await raw(server), server.peak()
    # The limit counts from when the client has acknowledged it.
    await connection.answer(await connection.call(BLOCK, deadline=10))
    for _ in range(4):
        stream = await connection.call(BLOCK, deadline=10, extra=extra)
        assert (await connection.answer(stream))["grpc-status"] == REFUSED
    assert server.peak() - before < 16 * MIB
    await still_serves(server)


async def test_metadata_that_unpacks_from_little_is_refused(server, raw, frames):
    """Each byte of the compressed headers names a header of 4 kB again."""
    connection, before = await raw(server, deaf=True), server.peak()
    value = b"a" * 4_000
    stored = b"\x40\x01x\x7f" + _number(len(value) - 127) + value  # now in the table, as its number 62
    for stream in range(1, 201, 2):
        block = frames.headers(BLOCK) + (stored if stream == 1 else b"") + b"\xbe" * 8_000
        await connection.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block))
    await still_serves(server)
    assert server.peak() - before < 96 * MIB, "not the 3 GiB that they unpack to"


def _number(rest):
    """What follows a prefix that is full, in HPACK."""
    out = b""
    while rest >= 128:
        out, rest = out + bytes([rest % 128 + 128]), rest // 128
    return out + bytes([rest])


@pytest.mark.parametrize(("most", "size", "wanted"), [(4_096, 5_000, REFUSED), (65_536, 20_000, GIVEN)])
async def test_how_much_metadata_is_too_much_can_be_set(victim, raw, most, size, wanted):
    """On either side of the default, which is gRPC's own too."""
    server = victim(f"metadata={most}")
    connection = await raw(server)
    asked = GetBlockRequest(content_id=server.content_id, index=0).SerializeToString()
    await connection.answer(await connection.call(BLOCK, asked, deadline=10))
    for _ in range(20):
        stream = await connection.call(BLOCK, asked, deadline=10, extra=[("x", "a" * size)])
        assert (await connection.answer(stream))["grpc-status"] == wanted
