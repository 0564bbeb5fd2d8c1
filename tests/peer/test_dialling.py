"""Dialling addresses that others have named: not one knock where no other machine can be."""

import asyncio
import contextlib
import socket

import pytest

from core import errors
from peer.directory.routes import Routes
from peer.fetching.lines import Line
from peer.fetching.reaching import Reach
from peer.links import dialling as module
from peer.links.channels import Channels
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Neighbours, PeerInfo
from relevo.v1.peer_relay_pb2 import GetManifestRequest

ELSEWHERE = "192.0.2.1:7400"
HOSTS = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0", "0", "[::1]"]


class Canary:
    """A listener on every address of this machine that notes each knock."""

    def __init__(self, port):
        self.port = port
        self.knocks = 0
        self.knocked = asyncio.Event()

    def addresses(self):
        return [f"{host}:{self.port}" for host in HOSTS]


@pytest.fixture
async def canary():
    with socket.create_server(("0.0.0.0", 0)) as listening:
        found = Canary(listening.getsockname()[1])

        def knock(reader, writer):
            found.knocks += 1
            found.knocked.set()
            writer.close()

        server = await asyncio.start_server(knock, sock=listening)
        yield found
        server.close()


@pytest.fixture
async def channels():
    channels = Channels()
    yield channels
    await channels.close()


def dialler(channels, central=ELSEWHERE):
    return Dialler(channels, lambda: central, lambda: 0.0)


async def ask(channels, central, address):
    line = Line(Reach(dialler(channels, central)), Contact("holder", "holder", (address,)), 0.1)
    await line.get_manifest(GetManifestRequest(), 2.0)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_holder_cannot_have_others_knock_at_themselves(channels, canary, host):
    with pytest.raises(errors.Unreachable, match="leads back to this machine"):
        await ask(channels, ELSEWHERE, f"{host}:{canary.port}")
    assert (canary.knocks, channels._peers) == (0, {})


@pytest.mark.parametrize("central", ["127.0.0.1:7400", "[::1]:7400", "localhost:7400"])
async def test_on_a_network_of_one_machine_loopback_is_dialled(channels, canary, central):
    with pytest.raises(errors.Unreachable, match="nobody answers"):
        await ask(channels, central, f"127.0.0.1:{canary.port}")
    async with asyncio.timeout(5):
        await canary.knocked.wait()


async def test_a_neighbour_cannot_have_others_knock_at_themselves(channels, canary):
    routes = Routes(channels, ELSEWHERE, (), lambda: 0.0)
    info = PeerInfo(peer_id="a" * 52, name="ana", addresses=canary.addresses())
    routes.neighbours = Neighbours(primary=info, backup=info)
    with contextlib.suppress(TimeoutError, errors.Unreachable):
        async with asyncio.timeout(1.0):
            await routes.list_files(pb2.ListFilesRequest())
    assert (canary.knocks, channels._peers) == (0, {})


async def test_a_friend_whom_the_user_named_is_dialled_wherever_it_is(channels, canary):
    routes = Routes(channels, ELSEWHERE, (f"127.0.0.1:{canary.port}",), lambda: 0.0)
    routes.central = "127.0.0.1:1"
    with pytest.raises(errors.Unreachable):
        await routes.list_files(pb2.ListFilesRequest())
    assert canary.knocks


@contextlib.contextmanager
def names(monkeypatch, found):
    """Has names lead where `found` says, and counts the look-ups."""
    asked = []

    async def getaddrinfo(host, port, **_):
        asked.append(host)
        if host not in found:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found[host]]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        yield asked


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "0.0.0.0", "::ffff:127.0.0.1", "ff02::1"]
)
async def test_a_name_that_leads_home_is_not_dialled(channels, canary, monkeypatch, address):
    home = {"innocent.example": [address]}
    with names(monkeypatch, home), pytest.raises(errors.Unreachable, match="leads back to this machine"):
        await ask(channels, ELSEWHERE, f"innocent.example:{canary.port}")
    assert (canary.knocks, channels._peers) == (0, {})


async def test_a_name_is_dialled_in_the_numbers_that_were_looked_at_and_looked_up_once(channels, monkeypatch):
    found = {"lab-3": ["fe80::3%eth0", "192.0.2.3", "192.0.2.4"]}
    with names(monkeypatch, found) as asked:
        dialling = dialler(channels)
        for _ in range(3):
            await dialling.peer("lab-3:5000", "a")
        assert asked == ["lab-3"]
    assert [address for address, _ in channels._peers] == ["192.0.2.3:5000"]


async def test_a_name_is_looked_up_again_after_a_while(channels, monkeypatch):
    now = 0.0
    with names(monkeypatch, {"lab-3": ["192.0.2.3"]}) as asked:
        dialling = Dialler(channels, lambda: ELSEWHERE, lambda: now)
        await dialling.peer("lab-3:5000", "a")
        now = 60.0
        await dialling.peer("lab-3:5000", "a")
        assert asked == ["lab-3", "lab-3"]


async def test_a_name_that_cannot_be_looked_up_any_more_leads_where_it_led(channels, monkeypatch):
    now = 0.0
    found = {"lab-3": ["192.0.2.3"]}
    with names(monkeypatch, found) as asked:
        dialling = Dialler(channels, lambda: ELSEWHERE, lambda: now)
        await dialling.peer("lab-3:5000", "a")
        found.clear()
        now = 60.0
        for _ in range(3):
            await dialling.peer("lab-3:5000", "a")
        assert asked == ["lab-3", "lab-3"]


async def test_a_name_server_that_is_silent_holds_nobody_up_for_long(channels, monkeypatch):
    monkeypatch.setattr(module, "LOOK_UP", 0.01)
    clock = [0.0]
    found = Dialler(channels, lambda: ELSEWHERE, lambda: clock[0])
    with names(monkeypatch, {"lab-3": ["192.0.2.3"]}):
        await found.peer("lab-3:9", "ben")

    async def getaddrinfo(*_, **__):
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        clock[0] = 61.0
        async with asyncio.timeout(10):
            await found.peer("lab-3:9", "ben")  # where it led
            with pytest.raises(errors.Unreachable, match="no address is known"):
                await found.peer("lab-4:9", "ben")


async def test_an_unknown_name_is_not_looked_up_for_every_call(channels, monkeypatch):
    now = 0.0
    with names(monkeypatch, {}) as asked:
        dialling = Dialler(channels, lambda: ELSEWHERE, lambda: now)
        for now in (0.0, 4.0, 5.0):  # noqa: B007 - the clock reads it
            with pytest.raises(errors.Unreachable):
                await dialling.peer("lab-3:5000", "a")
        assert asked == ["lab-3", "lab-3"]


async def test_very_many_names_take_a_bounded_place(channels, monkeypatch):
    found = {f"lab-{number}": ["192.0.2.3"] for number in range(1000)}
    with names(monkeypatch, found):
        dialling = dialler(channels)
        for name in found:
            await dialling.peer(f"{name}:5000", "a")
    assert len(dialling._known) <= 256


async def test_an_unknown_name_is_said_to_be_unknown(channels, monkeypatch):
    with names(monkeypatch, {}), pytest.raises(errors.Unreachable, match="no address is known for lab-9"):
        await dialler(channels).peer("lab-9:5000", "a")


async def test_a_central_whose_name_leads_to_this_machine_is_on_it(channels, monkeypatch):
    with names(monkeypatch, {"here.example": ["127.0.1.1"], "there.example": ["127.0.1.1", "192.0.2.9"]}):
        await dialler(channels, "here.example:7400").peer("127.0.0.1:5000", "a")
        with pytest.raises(errors.Unreachable):
            await dialler(channels, "there.example:7400").peer("127.0.0.1:5001", "a")


@pytest.mark.parametrize(
    "address",
    ["", "unix:/run/docker.sock", "unix:1", "dns:///x:1", "ipv4:127.0.0.1:80", "vsock:2:5", "host", "http://host:80"],
)
@pytest.mark.parametrize("central", [ELSEWHERE, "127.0.0.1:7400"])
async def test_what_is_no_host_and_port_is_never_handed_to_grpc(channels, central, address):
    with pytest.raises(errors.Unreachable, match="cannot be dialled"):
        await dialler(channels, central).peer(address, "a")
    assert channels._peers == {}


def test_a_friend_is_an_id_and_an_address_or_an_address():
    peer_id = "a" * 52
    assert Contact.from_friend(f"{peer_id}@lab-3:5000") == Contact(peer_id, "", ("lab-3:5000",))
    assert Contact.from_friend("[::1]:5000") == Contact("", "", ("[::1]:5000",))


@pytest.mark.parametrize(
    "text", ["", "@", "ana@lab-3:5000", "@lab-3:5000", "A" * 52 + "@h:1", "a" * 52 + "@h", "h:1@h:1"]
)
def test_what_is_no_friend_is_refused(text):
    with pytest.raises(errors.InvalidInput) as caught:
        Contact.from_friend(text)
    assert caught.value.field == "friend"
