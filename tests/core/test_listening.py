"""Where a server listens."""

import socket
from contextlib import closing

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from core.errors import InvalidInput
from core.listening import bind, check_plaintext
from core.rpc import Server, open_channel


def has_ipv6():
    with closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_every_interface_is_both_ipv6_and_ipv4():
    server = Server()
    assert bind(server, "[::]:0") == "::"
    await server.start()
    try:
        for host in ("[::1]", "127.0.0.1"):
            async with open_channel(f"{host}:{server.port}") as channel:
                answer = await HealthStub(channel).Check(HealthCheckRequest(), timeout=10, wait_for_ready=True)
            assert answer.status == HealthCheckResponse.SERVING
    finally:
        await server.stop(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "[::1]", "localhost", "[::ffff:127.0.0.1]"])
def test_plaintext_may_be_served_to_this_machine(host):
    check_plaintext(f"{host}:0", insecure=True, anywhere=False)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "[::]",
        "192.0.2.1",
        "[fd00::1]",
        "central.example",
        "foo.localhost",
        "localhost.",
        "localhost.example",
    ],
)
def test_plaintext_that_others_could_reach_is_refused_unless_allowed(host):
    with pytest.raises(InvalidInput, match="--insecure-anywhere"):
        check_plaintext(f"{host}:0", insecure=True, anywhere=False)
    check_plaintext(f"{host}:0", insecure=True, anywhere=True)
    check_plaintext(f"{host}:0", insecure=False, anywhere=False)


def test_what_allows_plaintext_to_others_is_refused_where_there_is_none():
    with pytest.raises(InvalidInput, match="give both, or neither"):
        check_plaintext("127.0.0.1:0", insecure=False, anywhere=True)
