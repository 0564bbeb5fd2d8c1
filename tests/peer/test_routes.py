"""The way of directory calls: neighbours first, nobody waits for one that is silent."""

import asyncio
import contextlib
import time

import pytest

from core import errors
from core.rpc import Server
from peer.directory import routes as module
from peer.directory.routes import PATIENCE, REST, TIMEOUT, Routes
from peer.giving.serving import Serving
from peer.links.channels import Channels
from peer.links.racing import first_success
from peer.relay_servicer import RelayServicer
from peer.relays.carrying import DirectCarrier, Joined
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import CatalogueFile, Neighbours, PeerInfo
from relevo.v1.peer_control_pb2 import RouteKind
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server


def listed(path, **changed):
    return CatalogueFile(**{"path": path, "content_id": b"c" * 32, "size_bytes": 7, **changed})


class Central(CentralDirectoryServicer):
    """Answers as told and counts what it is asked."""

    def __init__(self):
        self.calls = 0
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None

    async def ListFiles(self, request, context):
        self.calls += 1
        self.called.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return pb2.ListFilesResponse(files=[listed(request.query or "file")])

    async def LocateFile(self, request, context):
        raise errors.NotFound("no live peer holds it")


class Nothing:
    """A library without any content."""

    async def manifest(self, content_id):
        raise errors.NotFound("not here")

    async def read_run(self, content_id, index, count=1):
        raise errors.NotFound("not here")


class Network:
    """A central, relays that carry to it, and one peer's routes."""

    def __init__(self):
        self.central = Central()
        self.servers = []
        self.channels = Channels()
        self.now = 100.0

    async def start(self):
        server = Server()
        add_CentralDirectoryServicer_to_server(self.central, server.server)
        self.address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
        await server.start()
        self.servers.append(server)
        self.routes = Routes(self.channels, self.address, (), lambda: self.now)

    async def relay(self, name):
        server = Server()
        carrier = DirectCarrier(Routes(self.channels, self.address, (), lambda: self.now))
        add_PeerRelayServicer_to_server(RelayServicer(Serving(Nothing(), time.monotonic), carrier), server.server)
        port = server.listen("127.0.0.1:0")
        await server.start()
        self.servers.append(server)
        return PeerInfo(peer_id=name, name=name, addresses=[f"127.0.0.1:{port}"])


@pytest.fixture
async def network():
    network = Network()
    await network.start()
    yield network
    network.central.gate.set()
    await network.channels.close()
    for server in network.servers:
        await server.stop(0)


@pytest.fixture
def _patient(monkeypatch):
    """However loaded the machine is, whoever answers does so in time."""
    monkeypatch.setattr(module, "PATIENCE", 4.0)


async def test_a_peer_without_neighbours_asks_central_directly(network):
    answer, taken = await network.routes.list_files(pb2.ListFilesRequest(query="x"))
    assert answer.files[0].path == "x"
    assert taken.way.kind == RouteKind.ROUTE_KIND_CENTRAL
    assert network.routes.last is taken


async def test_that_ones_certificate_has_expired_is_no_answer_of_the_network(network):
    """Whoever is asked says so of himself; central, which renews it, is away."""
    network.central.error = errors.CertificateExpired("the certificate is not valid at this time; renew it")
    network.routes.neighbours = Neighbours(primary=await network.relay("ana"))
    with pytest.raises(errors.Unreachable, match="neither a neighbour nor central answers"):
        await network.routes.list_files(pb2.ListFilesRequest())


@pytest.mark.usefixtures("_patient")
async def test_the_primary_carries_before_anybody_else(network):
    network.routes.neighbours = Neighbours(primary=await network.relay("ana"), backup=await network.relay("ben"))
    _, taken = await network.routes.list_files(pb2.ListFilesRequest())
    assert (taken.way.kind, taken.way.contact.name) == (RouteKind.ROUTE_KIND_PRIMARY, "ana")


@pytest.mark.usefixtures("_patient")
async def test_the_backup_takes_over_from_a_dead_primary_and_the_primary_rests(network):
    dead = PeerInfo(peer_id="dead", name="dead", addresses=["127.0.0.1:1"])
    network.routes.neighbours = Neighbours(primary=dead, backup=await network.relay("ben"))
    _, taken = await network.routes.list_files(pb2.ListFilesRequest())
    assert taken.way.kind == RouteKind.ROUTE_KIND_BACKUP
    assert [way.kind for way in network.routes.ways(network.now)][-1] == RouteKind.ROUTE_KIND_PRIMARY
    assert network.routes.ways(network.now + REST + 1)[0].kind == RouteKind.ROUTE_KIND_PRIMARY


async def test_central_answers_when_both_neighbours_are_dead(network):
    dead = PeerInfo(peer_id="dead", name="dead", addresses=["127.0.0.1:1"])
    network.routes.neighbours = Neighbours(primary=dead, backup=dead)
    _, taken = await network.routes.list_files(pb2.ListFilesRequest())
    assert taken.way.kind == RouteKind.ROUTE_KIND_CENTRAL


@contextlib.asynccontextmanager
async def silent_addresses(count):
    """Gives addresses at which connections are taken and nothing is said."""
    taken = []

    async def swallow(reader, writer):
        taken.append(writer)

    servers = [await asyncio.start_server(swallow, "127.0.0.1", 0) for _ in range(count)]
    yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    for writer in taken:
        writer.close()
        await writer.wait_closed()


async def test_nobody_waits_for_a_silent_neighbour(network):
    async with silent_addresses(1) as addresses:
        network.routes.neighbours = Neighbours(primary=PeerInfo(peer_id="frozen", addresses=addresses))
        async with asyncio.timeout(3):
            _, taken = await network.routes.list_files(pb2.ListFilesRequest())
        assert taken.way.kind == RouteKind.ROUTE_KIND_CENTRAL


async def test_a_neighbour_that_was_silent_is_not_waited_for_at_the_next_call(network, monkeypatch):
    routes = Routes(network.channels, network.address, (), time.monotonic)
    async with silent_addresses(1) as addresses:
        routes.neighbours = Neighbours(primary=PeerInfo(peer_id="frozen", addresses=addresses))
        await routes.list_files(pb2.ListFilesRequest())
        assert routes.ways(time.monotonic())[0].kind == RouteKind.ROUTE_KIND_CENTRAL
        monkeypatch.setattr(module, "PATIENCE", 60.0)
        _, taken = await routes.list_files(pb2.ListFilesRequest())
        assert taken.seconds < TIMEOUT / 2, "otherwise it would have been the whole of that"


async def test_sixteen_silent_addresses_of_a_neighbour_cost_no_more_patience_than_one(network):
    async with silent_addresses(16) as addresses:
        network.routes.neighbours = Neighbours(primary=PeerInfo(peer_id="frozen", addresses=addresses))
        async with asyncio.timeout(10 * PATIENCE):
            _, taken = await network.routes.list_files(pb2.ListFilesRequest())
        assert taken.way.kind == RouteKind.ROUTE_KIND_CENTRAL


@pytest.mark.usefixtures("_patient")
async def test_a_neighbour_is_reached_at_whichever_of_its_addresses_works(network):
    ana = await network.relay("ana")
    async with silent_addresses(1) as addresses:
        ana.addresses[:] = [*addresses, *ana.addresses]
        network.routes.neighbours = Neighbours(primary=ana)
        _, taken = await network.routes.list_files(pb2.ListFilesRequest())
        assert (taken.way.kind, taken.way.address) == (RouteKind.ROUTE_KIND_PRIMARY, ana.addresses[-1])


async def test_with_nobody_left_the_error_says_what_to_do(network):
    routes = Routes(network.channels, "127.0.0.1:1", ("127.0.0.1:2",), lambda: 0.0)
    with pytest.raises(errors.Unreachable, match="try again"):
        await routes.list_files(pb2.ListFilesRequest())


async def test_a_friend_carries_when_central_cannot_be_reached_from_here(network):
    friend = await network.relay("friend")
    routes = Routes(network.channels, "127.0.0.1:1", tuple(friend.addresses), lambda: 0.0)
    _, taken = await routes.list_files(pb2.ListFilesRequest())
    assert taken.way.kind == RouteKind.ROUTE_KIND_FRIEND


@pytest.mark.usefixtures("_patient")
async def test_a_relay_joins_identical_lookups_in_flight(network):
    relay = await network.relay("ana")
    network.routes.neighbours = Neighbours(primary=relay)
    network.central.gate.clear()
    same = [asyncio.create_task(network.routes.list_files(pb2.ListFilesRequest(query="q"))) for _ in range(5)]
    await network.central.called.wait()
    # Everybody's call has to be at the relay: a later one on the same connection has been answered.
    with pytest.raises(errors.NotFound):
        await network.routes.locate_file(pb2.LocateFileRequest())
    network.central.gate.set()
    answers = await asyncio.gather(*same)
    assert {answer.files[0].path for answer, _ in answers} == {"q"}
    assert network.central.calls == 1


async def test_joined_work_survives_one_waiter_and_ends_with_the_last():
    joined, started, ended = Joined(), asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiters = [asyncio.create_task(joined.run("key", work)) for _ in range(2)]
    await started.wait()
    waiters[0].cancel()
    await asyncio.gather(waiters[0], return_exceptions=True)
    assert not ended.is_set()
    waiters[1].cancel()
    await asyncio.gather(waiters[1], return_exceptions=True)
    async with asyncio.timeout(20):
        await ended.wait()


async def test_whoever_asks_while_given_up_work_is_ending_begins_anew():
    joined, started, may_end = Joined(), asyncio.Event(), asyncio.Event()

    async def slow_to_end():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    async def answer():
        return "answer"

    first = asyncio.create_task(joined.run("key", slow_to_end))
    await started.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(joined.run("key", answer))
    async with asyncio.timeout(20):
        assert await second == "answer"
    may_end.set()


async def test_the_first_answer_counts_and_the_others_are_cancelled():
    cancelled = asyncio.Event()

    async def silent():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def quick():
        return "answer"

    assert await first_success([silent, quick], patience=0.01) == "answer"
    assert cancelled.is_set()
