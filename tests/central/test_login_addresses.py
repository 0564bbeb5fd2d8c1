"""The addresses that a peer may have central name to others, and that central itself dials nobody."""

import ast
import sys
from pathlib import Path

import pytest

import central
from central import decode
from core.errors import InvalidInput

ELSEWHERE = ["192.0.2.7:5000", "[2001:db8::7]:5000", "[::ffff:192.0.2.7]:5000"]
HERE = ["127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000", ""]  # none: a Unix socket
HOSTS = ["127.0.0.1", "127.1", "2130706433", "localhost", "169.254.169.254", "0.0.0.0", "224.0.0.1"]
ASTRAY = [f"{host}:7400" for host in HOSTS] + ["[::1]:7400", "[fe80::1%eth0]:7400", "[::ffff:169.254.169.254]:7400"]


def log_in(network, addresses, observed):
    request = network.peer(addresses=addresses).login_request()
    return decode.newcomer(request, observed, network.clock.wall())


@pytest.mark.parametrize("observed", ELSEWHERE)
@pytest.mark.parametrize("address", ASTRAY)
async def test_a_peer_elsewhere_cannot_have_others_knock_at_themselves(network, address, observed):
    with pytest.raises(InvalidInput, match="--advertise") as caught:
        log_in(network, ["192.0.2.7:4000", address], observed)
    assert caught.value.field == "addresses[1]"


@pytest.mark.parametrize("observed", HERE)
async def test_on_one_machine_loopback_is_where_everybody_is(network, observed):
    assert log_in(network, ASTRAY, observed).addresses == tuple(ASTRAY)


@pytest.mark.parametrize("observed", ELSEWHERE)
async def test_other_addresses_may_be_named_from_anywhere(network, observed):
    addresses = ["10.0.0.7:4000", "[fd00::7]:4000", "lab-3:4000", "8.8.8.8:4000"]
    assert log_in(network, addresses, observed).addresses == tuple(addresses)


# What opens a connection or a channel, wherever it is imported from.
DIALS = {"socket", "create_connection", "open_connection", "open_channel", "insecure_channel", "secure_channel"}


def test_no_module_of_central_can_open_a_connection():
    for path in Path(central.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                    assert name not in DIALS, f"{path.name}:{node.lineno} dials"


async def test_central_dials_nobody_whatever_peers_say(network):
    """The listener would have somebody at its door; the hook sees what Python itself connects."""
    import asyncio

    knocked, connected = [], []
    listener = await asyncio.start_server(lambda _, writer: knocked.append(writer), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    watching = True

    def hook(event, arguments):
        if watching and event == "socket.connect":
            connected.append(arguments[1])

    sys.addaudithook(hook)
    canary = [f"127.0.0.1:{port}", f"localhost:{port}"]
    first, second = await network.logged_in(addresses=canary), await network.logged_in(addresses=canary)
    streams = [await peer.live() for peer in (first, second)]
    await first.publish({"a.txt": b"c" * 32})
    await first.place(b"c" * 32)
    assert (await streams[1].until(lambda answer: answer.directives)).directives
    for peer in (first, second):
        await peer.logout()
    watching = False
    listener.close()
    assert not knocked
    assert not [address for address in connected if isinstance(address, tuple) and address[1] == port]
