"""Who asks for much and reads none of it costs the others nothing."""

import asyncio
from itertools import count

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from relevo.v1.central_directory_pb2 import ListFilesRequest, ListPeersRequest
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.peer_relay_pb2 import GetBlockRequest, GetManifestRequest, PeerRelayListFilesRequest

BLOCK, LIST, MANIFEST = (f"/relevo.v1.PeerRelay/{name}" for name in ("GetBlock", "ListFiles", "GetManifest"))
MIB = 1 << 20


async def percentile_99(seconds, calls):
    took = sorted([await seconds(call()) for call in calls])
    return took[int(len(took) * 0.99)]


async def test_a_hundred_stalled_readers_do_not_slow_the_others(victim, raw, seconds):
    server = victim()
    attacker = server.network.member()
    readers = [await raw(server, material=attacker, window=0) for _ in range(100)]
    before = server.peak()
    for number, reader in enumerate(readers):
        asked = GetBlockRequest(content_id=server.content_id, index=number).SerializeToString()
        blocks = [await reader.call(BLOCK, asked, deadline=4) for _ in range(3)]
        await reader.call(LIST)
    async with server.honest() as stub:
        block = GetBlockRequest(content_id=server.content_id, index=1)
        page = GetManifestRequest(content_id=server.content_id)
        files = PeerRelayListFilesRequest(request=ListFilesRequest())
        honest = [
            lambda: stub.GetBlock(block, timeout=5),
            lambda: stub.GetManifest(page, timeout=5),
            lambda: stub.ListFiles(files, timeout=5),
        ]
        slow = await percentile_99(seconds, honest * 120)
    grown = server.peak() - before
    assert slow < 0.25
    # 32 blocks and 48 MiB of other answers, each of them twice: as bytes of Python's and of gRPC's.
    assert grown < 2 * (32 + 48) * MIB + 64 * MIB
    answers = [await reader.answer(stream) for reader in readers for stream in blocks]
    codes = {answer["grpc-status"] for answer in answers}
    assert codes == {"4", "8"}, "past the deadline, and over the share"


async def test_a_hundred_stalled_readers_do_not_slow_central(central, raw, seconds):
    readers = [await raw(central, window=0) for _ in range(100)]
    before = central.peak()
    for reader in readers:
        for method in ("ListPeers", "ListFiles", "Heartbeat"):
            await reader.call(f"/relevo.v1.CentralDirectory/{method}")
    await readers[-1].begun(1)
    async with central.channel() as channel:
        stub = CentralDirectoryStub(channel)
        honest = [
            lambda: stub.ListPeers(ListPeersRequest(), timeout=5),
            lambda: stub.ListFiles(ListFilesRequest(), timeout=5),
        ]
        slow = await percentile_99(seconds, honest * 150)
    assert slow < 0.25
    assert central.peak() - before < 64 * MIB


async def test_the_slots_come_back_at_the_deadline(victim, raw):
    server = victim()
    member = server.network.member()
    stalled = await raw(server, material=member, window=0)
    asked = GetBlockRequest(content_id=server.content_id, index=1)
    streams = [await stalled.call(BLOCK, asked.SerializeToString(), deadline=4) for _ in range(40)]
    refused = [await stalled.answer(stream) for stream in streams[32:]]
    assert {answer["grpc-status"] for answer in refused} == {"8"}
    async with server.honest(member) as stub:
        ended = [await stalled.answer(stream) for stream in streams[:32]]
        assert {answer["grpc-status"] for answer in ended} == {"4"}
        given = await asyncio.gather(*(stub.GetBlock(asked, timeout=20) for _ in range(32)))
    assert {answer.index for answer in given} == {1}


async def test_the_slots_come_back_when_the_connection_ends(victim, raw):
    server = victim()
    member = server.network.member()
    stalled = await raw(server, material=member, window=0)
    asked = GetBlockRequest(content_id=server.content_id, index=1)
    streams = [await stalled.call(BLOCK, asked.SerializeToString(), deadline=100) for _ in range(33)]
    assert (await stalled.answer(streams[-1]))["grpc-status"] == "8"
    await stalled.close()
    async with server.honest(member) as stub, asyncio.timeout(10):
        while True:
            calls = (stub.GetBlock(asked, timeout=5, wait_for_ready=True) for _ in range(8))
            given = await asyncio.gather(*calls, return_exceptions=True)
            failed = [one for one in given if isinstance(one, grpc.RpcError)]
            if not failed:
                break
            # The server hears of the end of one connection and of the next call when its loop comes to it.
            assert {error.code() for error in failed} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            await asyncio.sleep(0.05)
    assert {answer.index for answer in given} == {1}


async def test_answers_that_wait_to_be_read_are_bounded_for_each_caller(victim, raw):
    server = victim("unread_each=1000000")
    stalled = await raw(server, window=0)
    streams = [await stalled.call(LIST) for _ in range(8)]  # 200 kB each, and no deadline
    codes = [(await stalled.answer(stream))["grpc-status"] for stream in streams[5:]]
    assert codes == ["8"] * 3
    async with server.honest() as stub:
        await stub.ListFiles(PeerRelayListFilesRequest(), timeout=5)


async def test_calls_under_way_are_bounded_for_each_caller(victim, raw):
    server = victim("calls_each=10")
    member = server.network.member()
    stalled = [await raw(server, material=member, window=0) for _ in range(2)]
    for reader in stalled:
        for _ in range(5):
            await reader.begun(await reader.call("/grpc.health.v1.Health/Watch"))
    over = await stalled[1].call(MANIFEST)
    assert (await stalled[1].answer(over))["grpc-status"] == "8"
    async with server.honest() as stub:
        await stub.ListFiles(PeerRelayListFilesRequest(), timeout=5)


async def test_calls_whose_request_never_comes_count_too(victim, raw, frames):
    server = victim("calls_each=10")
    member = server.network.member()
    mute, streams = await raw(server, material=member, deaf=True), count(1, 2)

    async def begin():
        await mute.send(frames.frame(frames.HEADERS, frames.END_HEADERS, next(streams), frames.headers(LIST)))

    for _ in range(10):
        await begin()
    other = await raw(server, material=member)
    async with asyncio.timeout(10):
        while (await other.answer(await other.call(LIST)))["grpc-status"] != "8":
            await begin()  # one of the ten is refused when the other's call comes before it


async def test_a_stalled_watcher_keeps_nothing_from_the_others(victim, raw):
    server = victim()
    stalled = await raw(server, window=0)
    await stalled.begun(await stalled.call("/grpc.health.v1.Health/Watch"))
    async with server.channel() as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=10)
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        server.stop()
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
