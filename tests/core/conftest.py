"""A real server in the test's own loop, whose answers a test chooses."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from core.rpc import Server, open_channel
from relevo.v1.central_directory_pb2_grpc import (
    CentralDirectoryServicer,
    CentralDirectoryStub,
    add_CentralDirectoryServicer_to_server,
)

SERVICE = "relevo.v1.CentralDirectory"


class Directory(CentralDirectoryServicer):
    """Answers ListPeers and Heartbeat as the test says."""

    def __init__(self, answer: Callable[..., Awaitable[object]]) -> None:
        self._answer = answer

    async def ListPeers(self, request, context):
        return await self._answer(request)

    async def Heartbeat(self, requests, context):
        async for request in requests:
            yield await self._answer(request)


@pytest.fixture
async def directory():
    """Returns a function: given what answers, starts a server and returns it with a stub for it."""
    async with AsyncExitStack() as stack:

        async def start(answer, max_message=1 << 20):
            server = Server(max_message)
            server.listen("127.0.0.1:0")
            add_CentralDirectoryServicer_to_server(Directory(answer), server.server)
            await server.start(SERVICE)
            stack.push_async_callback(server.stop, 0)
            channel = open_channel(f"127.0.0.1:{server.port}", 8 << 20)
            stack.push_async_callback(channel.close)
            return server, CentralDirectoryStub(channel)

        yield start
