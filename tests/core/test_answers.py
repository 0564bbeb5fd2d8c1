"""Answers that are no messages: whoever asks is told so, and nothing else happens."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest

from core.errors import Corrupt, Unreachable
from core.rpc import open_channel
from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

RUBBISH = b"\x0a\xff"
GOOD = pb2.HeartbeatResponse(sequence=1).SerializeToString()


@pytest.fixture
async def channel():
    """To a central that answers ListPeers with rubbish, ListFiles with nothing, a beat with an answer, then rubbish."""

    async def list_peers(request, context):
        return RUBBISH

    async def list_files(request, context):
        return
        yield

    async def heartbeat(requests, context):
        async for _ in requests:
            for answer in (GOOD, RUBBISH):
                yield answer

    handlers = {
        "ListPeers": grpc.unary_unary_rpc_method_handler(list_peers),
        "ListFiles": grpc.unary_stream_rpc_method_handler(list_files),
        "Heartbeat": grpc.stream_stream_rpc_method_handler(heartbeat),
    }
    async with AsyncExitStack() as stack:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("relevo.v1.CentralDirectory", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = open_channel(f"127.0.0.1:{port}")
        stack.push_async_callback(channel.close)
        yield channel


@pytest.fixture
def stub(channel):
    return CentralDirectoryStub(channel)


def is_unreadable(caught, caplog):
    error = from_rpc_error(caught.value)
    assert type(error) is Corrupt
    assert "no answer to /relevo.v1.CentralDirectory/" in str(error)
    assert not caplog.records


async def test_an_answer_that_is_no_message_fails_the_call_and_is_not_logged(stub, caplog):
    with pytest.raises(grpc.RpcError) as caught:
        await stub.ListPeers(pb2.ListPeersRequest(), timeout=10)
    is_unreadable(caught, caplog)


async def test_an_end_without_an_answer_fails_the_call_and_is_not_logged(stub, caplog):
    with pytest.raises(grpc.RpcError) as caught:
        await stub.ListFiles(pb2.ListFilesRequest(), timeout=10)
    is_unreadable(caught, caplog)


async def test_an_answer_that_is_no_message_ends_a_stream_that_is_iterated(stub, caplog):
    call = stub.Heartbeat(timeout=10)
    await call.write(pb2.HeartbeatRequest())
    seen = []
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - what came before the error counts
        async for answer in call:
            seen.append(answer.sequence)  # noqa: PERF401
    assert seen == [1]
    is_unreadable(caught, caplog)


async def test_an_answer_that_is_no_message_ends_a_stream_that_is_read(stub, caplog):
    call = stub.Heartbeat(timeout=10)
    await call.write(pb2.HeartbeatRequest())
    assert (await call.read()).sequence == 1
    with pytest.raises(grpc.RpcError) as caught:
        await call.read()
    is_unreadable(caught, caplog)


async def iterate(call):
    async for _ in call:
        pass


async def read(call):
    await call.read()


@pytest.mark.parametrize("wait", [iterate, read])
async def test_a_stream_whose_channel_is_closed_fails_like_one_that_breaks(channel, stub, wait):
    waiting = asyncio.create_task(wait(stub.Heartbeat(timeout=20)))
    await channel.channel_ready()
    await channel.close()
    done, _ = await asyncio.wait([waiting], timeout=20)
    assert done
    assert not waiting.cancelled()
    assert isinstance(from_rpc_error(waiting.exception()), Unreachable)


@pytest.mark.parametrize("wait", [iterate, read])
async def test_whoever_reads_a_stream_can_be_cancelled(channel, stub, wait):
    waiting = asyncio.create_task(wait(stub.Heartbeat(timeout=20)))
    await channel.channel_ready()
    waiting.cancel()
    await asyncio.wait([waiting], timeout=20)
    assert waiting.cancelled()
