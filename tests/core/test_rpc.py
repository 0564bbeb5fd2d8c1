import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from core.errors import Busy, NotPossible
from core.limits import Limits
from core.rpc import MIB, REFLECTION_V1, REFLECTION_V1ALPHA, Server, open_channel, tune_allocator
from core.status import from_rpc_error
from relevo.v1.central_directory_pb2 import ListPeersRequest, ListPeersResponse
from relevo.v1.peer_relay_pb2 import DeliverRequest, DeliverResponse
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer, PeerRelayStub, add_PeerRelayServicer_to_server

SERVICE = "relevo.v1.CentralDirectory"
GRPCURL = Path(sys.executable).parent / "grpcurl"


async def nobody(request):
    return ListPeersResponse()


async def grpcurl(*args: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        GRPCURL, "-plaintext", *args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, output.decode()


async def health(port: int, service: str = "") -> str:
    async with open_channel(f"127.0.0.1:{port}") as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=10)
    return HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("reflection", [REFLECTION_V1, REFLECTION_V1ALPHA])
async def test_reflection_lists_what_is_served_in_both_versions(directory, reflection):
    from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

    server, _ = await directory(nobody)
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        ask = channel.stream_stream(
            f"/{reflection}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        call = ask(timeout=10)
        await call.write(ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
    names = {service.name for service in answer.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", REFLECTION_V1, REFLECTION_V1ALPHA}


async def test_the_real_grpcurl_lists_describes_and_calls(directory):
    server, _ = await directory(nobody)
    address = f"127.0.0.1:{server.port}"
    code, output = await grpcurl(address, "list")
    assert code == 0
    assert SERVICE in output.split()
    code, output = await grpcurl(address, "describe", SERVICE)
    assert "returns ( .relevo.v1.ListPeersResponse )" in output
    code, output = await grpcurl("-d", "{}", address, f"{SERVICE}/ListPeers")
    assert (code, json.loads(output)) == (0, {})
    code, output = await grpcurl(address, "grpc.health.v1.Health/Check")
    assert json.loads(output) == {"status": "SERVING"}


async def test_health_is_serving_and_then_not(directory):
    server, stub = await directory(nobody)
    assert await health(server.port) == "SERVING"
    assert await health(server.port, SERVICE) == "SERVING"
    await server.not_serving()
    assert await health(server.port) == "NOT_SERVING"
    assert await health(server.port, SERVICE) == "NOT_SERVING"
    assert await stub.ListPeers(ListPeersRequest(), timeout=10) == ListPeersResponse()


async def test_stop_lets_a_running_call_end(directory):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request):
        asked.set()
        await go_on.wait()
        return ListPeersResponse(next_page_token="done")

    server, stub = await directory(answer)
    call = stub.ListPeers(ListPeersRequest(), timeout=10)
    reply = asyncio.ensure_future(call)
    await asked.wait()
    stopping = asyncio.ensure_future(server.stop(10))
    go_on.set()
    assert (await reply).next_page_token == "done"
    await stopping


async def test_no_call_of_a_server_that_has_stopped_is_left(directory):
    def left():
        return [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "_schedule_rpc_coro"]

    for _ in range(10):
        server, _ = await directory(nobody)
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            await channel.channel_ready()
            calls = [HealthStub(channel).Check(HealthCheckRequest(), timeout=10) for _ in range(20)]
            await calls[0]
            await server.stop(0)
            assert left() == []
            await asyncio.gather(*calls, return_exceptions=True)


async def test_a_second_server_on_a_port_is_refused_with_what_to_do(directory, capfd):
    server, _ = await directory(nobody)
    second = Server()
    with pytest.raises(NotPossible, match=f"cannot listen on 127.0.0.1:{server.port}: .*--listen"):
        second.listen(f"127.0.0.1:{server.port}")
    await second.stop(0)
    capfd.readouterr()  # gRPC itself complains on stderr


async def test_a_port_that_any_program_has_is_refused(capfd):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server()
        with pytest.raises(NotPossible):
            server.listen(f"127.0.0.1:{taken.getsockname()[1]}")
        await server.stop(0)
    capfd.readouterr()


async def test_a_server_listens_on_a_unix_socket(tmp_path):
    server = Server()
    server.listen(f"unix:{tmp_path}/s")
    await server.start()
    async with open_channel(f"unix:{tmp_path}/s") as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
    assert answer.status == HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_request_over_the_limit_is_refused_before_it_is_read(directory):
    served = []

    async def answer(request):
        served.append(request)
        return ListPeersResponse()

    _, stub = await directory(answer, max_message=64 * 1024)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListPeers(ListPeersRequest(page_token="a" * 65 * 1024), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert type(from_rpc_error(caught.value)) is Busy
    assert "message larger than max" in caught.value.details(), "it was read, and refused by the size that it had"
    assert not served
    assert await stub.ListPeers(ListPeersRequest(), timeout=10) == ListPeersResponse()


async def test_a_compressed_request_over_the_limit_is_refused_too(directory):
    _, stub = await directory(nobody, max_message=64 * 1024)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListPeers(
            ListPeersRequest(page_token="a" * 4_000_000), timeout=10, compression=grpc.Compression.Gzip
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_answer_over_the_limit_is_refused_by_the_caller(directory):
    async def answer(request):
        return ListPeersResponse(next_page_token="a" * 100_000)

    server, _ = await directory(answer)
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

    async with open_channel(f"127.0.0.1:{server.port}", 64 * 1024) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await CentralDirectoryStub(channel).ListPeers(ListPeersRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_channel_finds_its_server_again_after_a_restart():
    first = Server()
    port = first.listen("127.0.0.1:0")
    await first.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = HealthStub(channel)
        await stub.Check(HealthCheckRequest(), timeout=10)
        await first.stop(0)
        while channel.get_state() is grpc.ChannelConnectivity.READY:  # it has not noticed yet
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        second = Server()
        second.listen(f"127.0.0.1:{port}")
        await second.start()
        try:
            answer = await stub.Check(HealthCheckRequest(), timeout=20, wait_for_ready=True)
        finally:
            await second.stop(0)
        assert answer.status == HealthCheckResponse.SERVING


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_tuning_the_allocator_is_harmless_everywhere(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    tune_allocator()
    tune_allocator()
    assert len(bytearray(32 << 20)) == 32 << 20


def test_tuning_the_allocator_is_harmless_without_glibc(monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", absent)
    tune_allocator()


_HERD = """
import json
import sys
from collections import Counter
import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

address, count = sys.argv[1], int(sys.argv[2])
options = [("grpc.use_local_subchannel_pool", 1)]
stubs = [HealthStub(grpc.insecure_channel(address, options)) for _ in range(max(1, count // 250))]
for stub in stubs:
    stub.Check(HealthCheckRequest(), timeout=10)
print("ready", flush=True)
sys.stdin.readline()
calls = [stubs[number % len(stubs)].Check.future(HealthCheckRequest(), timeout=30) for number in range(count)]
print("sent", flush=True)
print(json.dumps(Counter(call.code().name for call in calls)), flush=True)
"""


async def while_busy(limits: Limits, count: int) -> Counter[str]:
    """Makes so many calls to a server whose event loop does something else meanwhile; returns how they ended."""
    server = Server(limits=limits)
    server.listen("127.0.0.1:0")
    await server.start()
    process = subprocess.Popen(  # noqa: ASYNC220 - so that the loop can wait for it and do nothing else
        [sys.executable, "-c", _HERD, f"127.0.0.1:{server.port}", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )
    try:
        with process:
            assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "sent\n"
            time.sleep(2)  # noqa: ASYNC251 - until all of it has come
            return Counter(json.loads(await asyncio.to_thread(process.stdout.readline)))
    finally:
        process.kill()
        await server.stop(0)


async def test_calls_that_wait_for_a_busy_server_are_bounded():
    ended = await while_busy(Limits(pending=10), 200)
    assert ended.total() == 200
    assert 10 <= ended["OK"] <= 25, "twice the limit, and what the loop had asked for before"


async def test_a_herd_that_returns_at_once_fits():
    assert await while_busy(Limits(calls_each=10_000), 3_500) == Counter(OK=3_500)


async def test_requests_that_were_answered_are_kept_by_nobody():
    """Of each, gRPC would keep the bytes: of a relay all that passes it."""

    class Sink(PeerRelayServicer):
        async def Deliver(self, request, context):
            return DeliverResponse()

    server = Server(max_request=2 * MIB)
    add_PeerRelayServicer_to_server(Sink(), server.server)
    port = server.listen("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        deliver = PeerRelayStub(channel).Deliver
        for count in (20, 100):
            before = resident()
            for _ in range(count):
                await deliver(DeliverRequest(part=bytes(MIB)), timeout=20)
        assert resident() - before < 40 * MIB
    await server.stop(0)


def resident():
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
