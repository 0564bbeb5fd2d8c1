"""A holder that is dialled says which block it is going to send, when that is wanted; what comes is all it says."""

import asyncio

import grpc
import pytest

from core import errors
from core.rpc import open_channel
from peer.fetching.reaching import BLOCK_KEY, Dialled
from peer.links.channels import RelayStub
from relevo.v1 import peer_relay_pb2 as pb2

BLOCK = pb2.GetBlockResponse(index=3, data=b"block")


class Holder(grpc.GenericRpcHandler):
    """Answers GetBlock in steps, as `answer` says."""

    def __init__(self):
        self.requests = []
        self.may = asyncio.Event()

    def service(self, handler_call_details):
        return grpc.unary_stream_rpc_method_handler(
            self.get_block, pb2.GetBlockRequest.FromString, pb2.GetBlockResponse.SerializeToString
        )

    async def get_block(self, request, context):
        self.requests.append(request)
        await context.send_initial_metadata(((BLOCK_KEY, "3"),))
        await self.may.wait()
        async for answer in self.answer(context):
            yield answer

    async def answer(self, context):
        yield BLOCK

    async def peer(self, address, who):
        return RelayStub(self.channel)


@pytest.fixture
async def holder():
    holder = Holder()
    server = grpc.aio.server(handlers=[holder])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as holder.channel:
        yield holder
    await server.stop(0)


async def test_which_block_is_going_to_come_is_told_while_it_has_not_come(holder):
    told = asyncio.get_running_loop().create_future()
    way = Dialled(holder, "there", "holder")
    asked = asyncio.create_task(way.block(pb2.GetBlockRequest(), 20.0, told.set_result))
    assert await told == 3
    assert not asked.done()
    holder.may.set()
    answer = await asked
    assert (answer.index, answer.data) == (3, b"block")


async def test_a_block_is_had_without_being_told_before(holder):
    holder.may.set()
    answer = await Dialled(holder, "there", "holder").block(pb2.GetBlockRequest(unannounced=True), 20.0, None)
    assert (answer.index, answer.data) == (3, b"block")


@pytest.mark.parametrize("announced", [print, None], ids=["announced", "unannounced"])
async def test_an_error_after_the_block_is_the_answer(holder, announced):
    async def answer(context):
        yield BLOCK
        await context.abort(grpc.StatusCode.DATA_LOSS, "the rest of it is lost")

    holder.answer = answer
    holder.may.set()
    with pytest.raises(errors.Corrupt, match="lost"):
        await Dialled(holder, "there", "holder").block(pb2.GetBlockRequest(), 20.0, announced)


@pytest.mark.parametrize("announced", [print, None], ids=["announced", "unannounced"])
async def test_an_end_without_a_block_is_no_answer(holder, announced):
    async def answer(context):
        return
        yield

    holder.answer = answer
    holder.may.set()
    with pytest.raises(errors.RelevoError):
        await Dialled(holder, "there", "holder").block(pb2.GetBlockRequest(), 20.0, announced)
