"""An entrance: newcomers get through it to central's enrolment, and strangers get nothing else and not much of it."""

import asyncio
import contextlib
import socket
import time

import pytest

from core import errors
from core.access import ENROLMENT
from core.addresses import split_address
from core.identity import Identity
from core.rpc import Server
from core.tls import server_credentials
from peer.directory.central_time import CentralTime
from peer.membership import entrance as module
from peer.membership.enrolling import Enrolling
from peer.membership.entrance import AT_ONCE, AT_ONCE_EACH, Entrance, EntranceLimits
from relevo.v1.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
from tests.network import eventually
from tests.peer.conftest import EnrolmentBench

# Hosts of this machine: where the entrance is, and where nobody listens.
HOST, NOWHERE = "127.0.0.2", "127.0.0.9:7400"
PLENTY = 1e9
FOR_EVER = 60.0
LONG = EntranceLimits(silent=FOR_EVER, longest=FOR_EVER)


@pytest.fixture
async def enrolment_bench():
    """A network whose port for enrolment is free at the entrance's host too, whatever tests run beside this one."""
    bench, free = EnrolmentBench(), False
    while not free:
        await bench.open()
        with contextlib.suppress(OSError), socket.create_server((HOST, bench.port)):
            free = True
    yield bench
    await bench.close()


def newcomer(*entrances):
    return Enrolling(Identity.generate(), CentralTime(time.monotonic, time.time), entrances=entrances)


@contextlib.asynccontextmanager
async def opened(*centrals, port=0, limits=None, clock=time.monotonic):
    found = Entrance(lambda: centrals, clock, limits)
    await found.open(f"{HOST}:0", port)
    yield found
    await found.close()


def at(bench):
    return f"127.0.0.1:{bench.port}"


class Central:
    """Whatever stands where central's enrolment should be: keeps what comes, and answers as it is told."""

    def __init__(self):
        self.came, self.most, self.open = [], 0, 0
        self.changed = asyncio.Condition()
        self.answer = None
        self._writers = []

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        got = bytearray()
        self.came.append(got)
        self._writers.append(writer)
        self.open += 1
        self.most = max(self.most, self.open)
        await self._tell()
        with contextlib.suppress(OSError):
            answering = asyncio.ensure_future(self.answer(writer)) if self.answer else None
            while data := await reader.read(65536):
                got += data
                await self._tell()
        if answering:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        self.open -= 1
        writer.transport.abort()
        await self._tell()

    async def _tell(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, check):
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(check)

    async def stop(self):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def central():
    found = await Central().start()
    yield found
    await found.stop()


@pytest.fixture
async def stranger():
    """Returns a function that connects to an entrance, from a host of this machine."""
    writers = []

    async def connect(entrance, host="127.0.0.1"):
        reader, writer = await asyncio.open_connection(*split_address(entrance.address), local_addr=(host, 0))
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


async def ended(reader, most=1 << 20, seconds=20.0):
    """Waits until the connection is closed at the other end, or has brought more than `most` bytes; returns these."""
    got = b""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(OSError):
            while len(got) <= most and (data := await reader.read(65536)):
                got += data
    return got


class Crowd:
    """Connections that say hello and are held for as long as they are allowed to be."""

    def __init__(self, connect, entrance):
        self._connect, self._entrance = connect, entrance
        self._held = []

    def come(self, *hosts):
        self._held += [asyncio.create_task(self._hold(host)) for host in hosts]

    async def _hold(self, host):
        reader, writer = await self._connect(self._entrance, host)
        writer.write(b"hello")
        await ended(reader, seconds=FOR_EVER)
        writer.transport.abort()

    async def thinned(self, most):
        """Waits until so many are left at most."""
        await eventually(lambda: sum(not task.done() for task in self._held) <= most, 15)

    def go(self):
        for task in self._held:
            task.cancel()


# Newcomers


async def test_a_newcomer_joins_through_an_entrance_and_takes_less_than_half_of_what_it_may(enrolment_bench):
    for _ in range(400):  # more are not told in a membership
        enrolment_bench.revoke(Identity.generate().peer_id)
    whole = EntranceLimits()
    half = EntranceLimits(to_central=whole.to_central // 2, to_newcomer=whole.to_newcomer // 2)
    async with opened(at(enrolment_bench), port=enrolment_bench.port, limits=half):
        found = await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "b" * 64)
    assert found.network_id == enrolment_bench.network_id
    assert enrolment_bench.asked == ["Enroll"]


async def test_the_next_of_several_centrals_is_tried(enrolment_bench):
    async with opened(NOWHERE, at(enrolment_bench), port=enrolment_bench.port):
        await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "ben")
    assert enrolment_bench.asked == ["Enroll"]


async def test_a_member_that_was_off_until_its_certificate_expired_renews_through_an_entrance(enrolment_bench):
    ben = Identity.generate()
    old = enrolment_bench.membership(ben, now=time.time() - 8 * 86_400)
    enrolling = Enrolling(ben, CentralTime(time.monotonic, time.time), entrances=(f"{HOST}:7500",))
    async with opened(at(enrolment_bench), port=enrolment_bench.port):
        fresh = await enrolling.renew(old, (NOWHERE,))
    assert not fresh.expired(time.time())


async def test_where_no_peer_has_an_entrance_the_user_is_told_what_to_run_there(enrolment_bench):
    port = enrolment_bench.port
    words = f"central at 127.0.0.9:{port} does not answer, and at {HOST}:{port} no peer lets newcomers in.*--entrance"
    with pytest.raises(errors.Unreachable, match=words):
        await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "ben")


async def test_an_entrance_that_does_not_lead_to_central_is_told_on_both_sides_once(enrolment_bench, caplog):
    async with opened("127.0.0.9:1", port=enrolment_bench.port):
        for _ in range(2):
            with pytest.raises(errors.Unreachable, match=f"entrance at {HOST}:{enrolment_bench.port} does not lead to"):
                await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "ben")
    assert caplog.text.count("central's enrolment does not answer at 127.0.0.9:1") == 1
    assert enrolment_bench.asked == []


async def test_a_token_of_another_network_is_not_shown_to_this_one(enrolment_bench, other_enrolment_bench):
    async with opened(at(other_enrolment_bench), port=enrolment_bench.port):
        with pytest.raises(errors.WrongIdentity, match=f"{HOST}:{enrolment_bench.port} is not central of this network"):
            await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "ben")
    assert other_enrolment_bench.asked == []


@contextlib.asynccontextmanager
async def meddler(bench, *, upwards=True, position=-1):
    """What stands at an entrance's place, and changes one byte: the one at `position` of those that go one way.

    Gives how many bytes have passed: to the newcomer, and to central.
    """
    passed, tasks = [0, 0], set()

    async def pipe(reader, writer, way):
        with contextlib.suppress(OSError):
            while data := bytearray(await reader.read(65536)):
                at_byte = position - passed[way]
                if way is upwards and 0 <= at_byte < len(data):
                    data[at_byte] ^= 1
                passed[way] += len(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        answers, central = await asyncio.open_connection(*split_address(at(bench)))
        await asyncio.gather(pipe(reader, central, True), pipe(answers, writer, False))

    server = await asyncio.start_server(serve, HOST, bench.port)
    try:
        yield passed
    finally:
        server.close()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("part", [0.02, 0.2, 0.4, 0.6, 0.8, 0.95])
async def test_an_entrance_that_changes_one_byte_is_found_out_and_no_membership_comes_of_it(
    enrolment_bench, *, upwards, part
):
    token = enrolment_bench.token(NOWHERE)
    async with meddler(enrolment_bench) as sizes:
        await newcomer(f"{HOST}:7500").enroll(token, "ben")
    asked, position = enrolment_bench.asked[:], int(part * sizes[upwards])
    async with meddler(enrolment_bench, upwards=upwards, position=position) as passed:
        with pytest.raises(errors.Unreachable, match=r"changed on the way|is not central of this network"):
            await newcomer(f"{HOST}:7500").enroll(token, "ben")
    assert passed[upwards] > position
    assert not upwards or enrolment_bench.asked == asked, "central took what was changed"


@pytest.mark.parametrize("shows", ["nothing", "its own certificate"])
async def test_who_takes_centrals_place_is_not_told_the_secret(enrolment_bench, shows):
    """A member of the very network, or whoever is on the way: it would take the newcomer's token for itself."""
    liar = EnrolmentBench()
    credentials = None
    if shows != "nothing":
        identity = Identity.generate()
        material = enrolment_bench.membership(identity).material(identity)
        credentials = server_credentials(lambda: material, mutual=False)
    server = Server(way_in=ENROLMENT, credentials=credentials, inspectable=False)
    add_EnrolmentServicer_to_server(liar, server.server)
    server.listen(f"{HOST}:{enrolment_bench.port}")
    await server.start()
    with pytest.raises(errors.Unreachable):
        await newcomer(f"{HOST}:7500").enroll(enrolment_bench.token(NOWHERE), "ben")
    assert liar.asked == []
    await server.stop(0)


async def test_a_port_that_another_program_has_is_told(central):
    taken = Entrance(lambda: (), time.monotonic)
    with pytest.raises(errors.NotPossible, match="choose another host or port with --entrance"):
        await taken.open(central.address, 0)
    await taken.close()


@pytest.mark.parametrize("host", ["[::]", "0.0.0.0", "127.0.0.2"])
async def test_a_host_can_be_every_address(enrolment_bench, host):
    found = Entrance(lambda: (at(enrolment_bench),), time.monotonic)
    await found.open(f"{host}:0", 0)
    token = enrolment_bench.token(NOWHERE, enrolment_port=split_address(found.address)[1])
    await newcomer("127.0.0.2:1").enroll(token, "ben")
    await found.close()


# Strangers


async def test_who_says_nothing_costs_central_no_connection_and_is_sent_away(central, stranger):
    async with opened(central.address, limits=EntranceLimits(silent=0.2, longest=FOR_EVER)) as entrance:
        reader, _ = await stranger(entrance)
        assert await ended(reader) == b""
    assert central.came == []


@pytest.mark.parametrize("drips", [True, False])
async def test_a_connection_is_ended_when_its_time_is_over_whether_something_passes_or_not(central, stranger, *, drips):
    limits = EntranceLimits(silent=FOR_EVER, longest=2.0, to_central=1 << 30)
    async with opened(central.address, limits=limits) as entrance:
        reader, writer = await stranger(entrance)

        async def drip():
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05 if drips else FOR_EVER)

        dripping = asyncio.create_task(drip())
        assert await ended(reader) == b""
        dripping.cancel()
        await central.until(lambda: central.came and central.open == 0)


async def test_who_sends_for_ever_brings_central_a_few_kibibytes(central, stranger):
    async with opened(central.address, limits=LONG) as entrance:
        reader, writer = await stranger(entrance)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                writer.write(bytes(65536))
                await writer.drain()
        await ended(reader)
        await central.until(lambda: central.came and central.open == 0)
    assert [len(got) for got in central.came] == [LONG.to_central]


async def test_what_answers_for_ever_is_cut_off(central, stranger):
    async def flood(writer):
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    central.answer = flood
    async with opened(central.address, limits=LONG) as entrance:
        reader, writer = await stranger(entrance)
        writer.write(b"hello")
        assert 0 < len(await ended(reader, LONG.to_newcomer)) <= LONG.to_newcomer


async def test_who_reads_nothing_is_sent_away(central, stranger):
    async def fill(writer):
        writer.write(bytes(8 << 20))
        await writer.drain()

    central.answer = fill
    limits = EntranceLimits(longest=2.0, to_newcomer=1 << 30)
    async with opened(central.address, limits=limits) as entrance:
        _, writer = await stranger(entrance)
        writer.write(b"hello")
        await central.until(lambda: central.came and central.open == 0)


async def test_a_host_that_opens_a_thousand_connections_gets_a_few_and_keeps_no_newcomer_out(
    central, stranger, monkeypatch
):
    monkeypatch.setattr(module, "RATE", PLENTY)
    monkeypatch.setattr(module, "RATE_EACH", PLENTY)
    async with opened(central.address, limits=LONG) as entrance:
        crowd = Crowd(stranger, entrance)
        for _ in range(10):
            crowd.come(*["127.0.0.3"] * 100)
            await crowd.thinned(AT_ONCE_EACH)
        _, writer = await stranger(entrance, "127.0.0.4")
        writer.write(b"newcomer")
        await central.until(lambda: b"newcomer" in central.came and central.open == AT_ONCE_EACH + 1)
        assert central.most == AT_ONCE_EACH + 1
        crowd.go()


async def test_many_hosts_together_get_so_many_connections(central, stranger, monkeypatch):
    monkeypatch.setattr(module, "RATE", PLENTY)
    async with opened(central.address, limits=LONG) as entrance:
        crowd = Crowd(stranger, entrance)
        crowd.come(*(f"127.0.0.{host}" for host in range(10, 40) for _ in range(4)))
        await crowd.thinned(AT_ONCE)
        await central.until(lambda: central.open == AT_ONCE)
        assert central.most == AT_ONCE
        crowd.go()


@pytest.mark.parametrize("hosts", [1, 40])
async def test_so_many_connections_come_in_a_while_however_short_they_are(stranger, caplog, hosts):
    """Ten seconds' worth at once, of one host and of all; the clock stands still."""
    most = 10 * (module.RATE_EACH if hosts == 1 else module.RATE)
    central = await Central().start()
    async with opened(central.address, clock=lambda: 7.0) as entrance:
        for turn in range(200):
            reader, writer = await stranger(entrance, f"127.0.1.{turn % hosts + 1}")
            with contextlib.suppress(OSError):  # it may have been turned away already
                writer.write(b"hello")
                writer.write_eof()
            await ended(reader)
    await central.until(lambda: len(central.came) == most and central.open == 0)
    assert caplog.text.count("so many come to the entrance") == 1
    assert (entrance.led, entrance.refused) == (most, 200 - most)
    await central.stop()


async def test_a_connection_that_ends_makes_room_for_the_next(central, stranger, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1)
    async with opened(central.address) as entrance:
        for turn in range(1, 4):
            _, writer = await stranger(entrance)
            writer.write(b"hello")
            await central.until(lambda turn=turn: len(central.came) == turn)
            writer.transport.abort()
            await central.until(lambda: central.open == 0)
            await eventually(lambda: not entrance._there)


async def test_closing_ends_what_passes_through(central, stranger):
    async with opened(central.address) as entrance:
        reader, writer = await stranger(entrance)
        writer.write(b"hello")
        await central.until(lambda: central.open == 1)
    assert await ended(reader) == b""
    with pytest.raises(OSError, match=r"refused|Connect"):
        await stranger(entrance)
