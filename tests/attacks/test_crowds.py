"""Connections that somebody holds on to keep nobody else out.

The attackers have addresses of their own (127.0.0.2 and so on), as far as a test is about hosts.
"""

import asyncio
import contextlib
import ssl

import grpc
import pytest

from relevo.v1.peer_relay_pb2 import GetManifestRequest

MOST = 50
WATCH = "/grpc.health.v1.Health/Watch"
SOON = 10.0


async def gets_in(server):
    """A member that was not there before makes a call, once more when its connection was the newest of its host."""
    asked = GetManifestRequest(content_id=server.content_id)
    async with asyncio.timeout(SOON), server.honest() as stub:
        while True:
            try:
                return await stub.GetManifest(asked, timeout=SOON, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


async def holds(raw, server, **how):
    """Opens so many connections that no more would be taken; some may be closed as they come."""
    for _ in range(MOST):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            yield await raw(server, **how)


async def test_a_member_that_holds_every_connection_and_calls_nothing_lets_a_new_one_in(victim, raw):
    """One host for both, so that only what the connections do tells them apart."""
    server = victim(f"connections={MOST}", "idle=1")
    mallory = server.network.member()
    holding = [held async for held in holds(raw, server, material=mallory)]
    await gets_in(server)
    async with asyncio.timeout(10):
        await asyncio.gather(*(each.closed.wait() for each in holding))


async def test_a_connection_with_a_call_under_way_is_never_idle(victim, raw):
    server = victim("idle=0.3")
    watching = await raw(server)
    stream = await watching.call(WATCH)
    await watching.begun(stream)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await watching.closed.wait()


async def test_calls_that_meet_the_end_of_an_idle_connection_are_answered_on_a_new_one(victim):
    """gRPC sees to that, but for the very moment of the end: then whoever calls asks again, as all of Relevo does."""
    server = victim("idle=0.2")
    met = 0
    async with server.honest() as stub:
        for _ in range(30):
            request = GetManifestRequest(content_id=server.content_id)
            try:
                await stub.GetManifest(request, timeout=5)
            except grpc.RpcError as error:
                if "connection idle" not in str(error):
                    raise
                met += 1
                await stub.GetManifest(request, timeout=5)
            await asyncio.sleep(0.3)
    assert met < 5


@pytest.mark.parametrize("calling", [False, True], ids=["idle", "calling"])
async def test_a_host_that_holds_every_connection_loses_some_to_another(victim, raw, calling):
    server = victim(f"connections={MOST}", "idle=600", "calls_each=500")
    mallory = server.network.member()
    holding = []
    async for held in holds(raw, server, material=mallory, host="127.0.0.2"):
        holding.append(held)
        with contextlib.suppress(ConnectionError):
            await held.call(WATCH) if calling else None
    await gets_in(server)
    still = [held for held in holding if not held.closed.is_set()]
    assert len(still) > MOST // 2, "no more are closed than is needed for others to come in"


async def test_a_host_without_a_certificate_that_opens_ever_more_connections_keeps_no_other_out(victim):
    server = victim(f"connections={MOST}", "handshake=600")
    mine, full = [], asyncio.Event()

    async def opening():
        while True:
            with contextlib.suppress(OSError):
                mine.append(await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0)))
            if len(mine) == 2 * MOST:
                full.set()
            await asyncio.sleep(0.05)  # slower than what is left free is filled between two looks

    attack = asyncio.create_task(opening())
    await full.wait()
    try:
        for _ in range(3):
            await gets_in(server)
    finally:
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)
        for _, writer in mine:
            writer.transport.abort()


async def test_who_was_there_first_and_has_few_connections_keeps_them(victim, raw):
    server = victim(f"connections={MOST}", "idle=600")
    async with server.honest() as stub:
        asked = GetManifestRequest(content_id=server.content_id)
        early = await raw(server, host="127.0.0.3")
        await early.begun(await early.call(WATCH))
        many = [held async for held in holds(raw, server, host="127.0.0.2")]
        await asyncio.wait([asyncio.ensure_future(each.closed.wait()) for each in many], return_when="FIRST_COMPLETED")
        await stub.GetManifest(asked, timeout=5)
        assert not early.closed.is_set()
