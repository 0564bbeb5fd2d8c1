"""Every RPC of every service, called by everybody: who gets in, who does not, and how each is told.

The RPCs are read from the descriptors, so that a new one without a rule fails here on the day it is added. Who may call
what is said here once more, apart from the table in `core.access`.
"""

import asyncio
import importlib
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from core.access import ENROLMENT, OWN_SOCKET, RULES, Certificates, Role
from core.certificates import Authority, Kind, Subject, central_name, peer_name, to_pem
from core.errors import CertificateExpired, Refused, Revoked, Unreachable
from core.identity import Identity
from core.rpc import CENTRAL_MESSAGE, PEER_MESSAGE, REFLECTION_V1, REFLECTION_V1ALPHA, Server, open_channel
from core.status import from_rpc_error
from core.tls import Material, server_credentials
from core.trust import Trust

PROTOS = Path(__file__).parents[1] / "protos" / "relevo" / "v1"
DAY = 86_400.0
NOT_SERVED, REACHED = "not served there", "reached"
NOBODY = {"no certificate", "rogue authority", "expired", "central's own", "plaintext"}


def services() -> dict[str, dict[str, MethodDescriptor]]:
    """Every service that any server of the project offers, by name, with its methods."""
    files = [importlib.import_module(f"relevo.v1.{path.stem}_pb2").DESCRIPTOR for path in PROTOS.glob("*.proto")]
    found = {
        service.full_name: service.methods_by_name
        for file in (*files, health_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
    }
    (reflection,) = reflection_pb2.DESCRIPTOR.services_by_name.values()
    return {**found, REFLECTION_V1: reflection.methods_by_name, REFLECTION_V1ALPHA: reflection.methods_by_name}


SERVICES = services()
METHODS = {f"/{service}/{name}": method for service, methods in SERVICES.items() for name, method in methods.items()}
INSPECTION = {health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, REFLECTION_V1, REFLECTION_V1ALPHA}
CENTRAL, RELAY, CONTROL, JOINING = (
    f"relevo.v1.{name}" for name in ("CentralDirectory", "PeerRelay", "PeerControl", "Enrolment")
)
# What changes something, or costs much, is for peers only; an operator looks on.
FOR_PEERS_ONLY = {
    f"/{CENTRAL}/{name}" for name in ("Login", "Logout", "Heartbeat", "PublishFiles", "PlaceFile", "ReportHolder")
} | {f"/{RELAY}/{name}" for name in ("PlaceFile", "GetBlock")}


def allowed(method: str) -> set[Role]:
    """Who may call a method."""
    service = method.split("/")[1]
    if service in INSPECTION:
        return {Role.PEER, Role.ADMIN, Role.OWNER, Role.PLAINTEXT}
    if service == CONTROL:
        return {Role.OWNER}
    if service == JOINING:
        return {Role.STRANGER}
    return {Role.PEER, Role.PLAINTEXT} | (set() if method in FOR_PEERS_ONLY else {Role.ADMIN})


def test_every_rpc_has_a_rule_and_every_rule_an_rpc():
    assert set(RULES) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_the_rules_are_what_was_decided(method):
    assert RULES[method] == allowed(method)


class World:
    """The four ways into a network, each with every service that belongs there, and certificates of all kinds.

    Attributes:
        reached: methods of this project's services whose handlers were called.
        late: how much later than it is the servers believe it to be, in seconds.
    """

    def __init__(self, base, stack):
        self.authority = Authority.create(time.time(), 365 * DAY)
        self.rogue = Authority.create(time.time(), 365 * DAY)
        self.ana, self.ben = Identity.generate(), Identity.generate()
        self.revoked = set()
        self.late = 0.0
        self.reached = []
        self._base = base
        self._stack = stack

    def material(self, kind, identity=None, *, authority=None, issued=0.0):
        identity = identity or Identity.generate()
        labels = {Kind.PEER: identity.peer_id, Kind.CENTRAL: self.authority.network_id, Kind.ADMIN: "operator"}
        subject, issued = Subject(kind, labels[kind]), time.time() + issued
        leaf = (authority or self.authority).issue(subject, identity.public_key, issued, DAY)
        return Material(identity.pem(), to_pem([leaf]), to_pem([self.authority.certificate]))

    def shown_by(self, who):
        """What a caller shows; None in plaintext."""
        return {
            "no certificate": lambda: Material(b"", b"", to_pem([self.authority.certificate])),
            "rogue authority": lambda: self.material(Kind.PEER, self.ben, authority=self.rogue),
            "expired": lambda: self.material(Kind.PEER, self.ben, issued=-2 * DAY),
            "central's own": lambda: self.material(Kind.CENTRAL),
            "plaintext": lambda: None,
            "operator": lambda: self.material(Kind.ADMIN),
            "peer": lambda: self.material(Kind.PEER, self.ben),
        }[who]()

    async def start(self):
        way_in = Certificates(self.trust, lambda: time.time() + self.late)
        central, ana = self.material(Kind.CENTRAL), self.material(Kind.PEER, self.ana)
        central_is, ana_is = central_name(self.authority.network_id), peer_name(self.ana.peer_id)
        own_socket = f"unix:{self._base}/control"
        self.servers = {
            "central": (
                CENTRAL,
                central_is,
                Server(CENTRAL_MESSAGE, way_in=way_in, credentials=server_credentials(lambda: central)),
            ),
            "relay": (
                RELAY,
                ana_is,
                Server(PEER_MESSAGE, way_in=way_in, credentials=server_credentials(lambda: ana)),
            ),
            "enrolment": (
                JOINING,
                central_is,
                Server(
                    way_in=ENROLMENT, credentials=server_credentials(lambda: central, mutual=False), inspectable=False
                ),
            ),
            "control": (CONTROL, "", Server(way_in=OWN_SOCKET)),
        }
        self.addresses = {}
        for name, (service, _, server) in self.servers.items():
            server.server.add_generic_rpc_handlers((self._handlers(service),))
            address = own_socket if name == "control" else "127.0.0.1:0"
            port = server.listen(address)
            self.addresses[name] = own_socket if name == "control" else f"127.0.0.1:{port}"
            await server.start(service)
            self._stack.push_async_callback(server.stop, 0)

    def trust(self):
        return Trust(1, (self.authority.certificate,), frozenset(self.revoked))

    def _handlers(self, service):
        """Handlers that answer whatever is asked, and remember it."""

        def handler(name):
            async def unary(request, context):
                self.reached.append(f"/{service}/{name}")
                return b""

            async def stream(requests, context):
                self.reached.append(f"/{service}/{name}")
                async for _ in requests:
                    yield b""

            if SERVICES[service][name].client_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, bytes, bytes)
            return grpc.unary_unary_rpc_method_handler(unary, bytes, bytes)

        return grpc.method_handlers_generic_handler(service, {name: handler(name) for name in SERVICES[service]})

    def channel(self, server, shown):
        return open_channel(self.addresses[server], PEER_MESSAGE, shown, self.servers[server][1])

    def inspected(self, server):
        return server != "enrolment"

    def expected(self, server, role):
        """What each RPC answers to a caller of that role."""
        served = {self.servers[server][0]} | (INSPECTION if self.inspected(server) else set())
        return {
            method: NOT_SERVED
            if method.split("/")[1] not in served
            else (REACHED if role in allowed(method) else Refused)
            for method in METHODS
        }

    async def outcomes(self, channel):
        """Calls every RPC of every service on a channel."""
        return {method: await self._outcome(channel, method) for method in METHODS}

    async def _outcome(self, channel, method):
        before = len(self.reached)
        call = channel.stream_stream(method)(timeout=10)
        try:
            await call.write(b"")
            await call.done_writing()
            if await call.read() is grpc.aio.EOF and await call.code() is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    await call.code(),
                    await call.initial_metadata(),
                    await call.trailing_metadata(),
                    await call.details(),
                )
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            assert self.reached[before:] == []
            failure = call if isinstance(error, asyncio.InvalidStateError) else error
            if isinstance(failure, grpc.RpcError) and failure.code() is grpc.StatusCode.UNIMPLEMENTED:
                return NOT_SERVED
            return type(from_rpc_error(error))
        else:
            ours = method.split("/")[1] not in INSPECTION
            assert self.reached[before:] == [method] * ours
            return REACHED
        finally:
            call.cancel()


@pytest.fixture
async def world(tmp_path):
    async with AsyncExitStack() as stack:
        world = World(tmp_path, stack)
        await world.start()
        yield world


@pytest.mark.parametrize("server", ["central", "relay"])
@pytest.mark.parametrize("who", sorted(NOBODY))
async def test_who_has_no_certificate_that_counts_does_not_get_past_the_handshake(world, server, who):
    async with world.channel(server, world.shown_by(who)) as channel:
        assert await world.outcomes(channel) == dict.fromkeys(METHODS, Unreachable)
        assert channel.get_state() is not grpc.ChannelConnectivity.READY
    assert world.reached == []


@pytest.mark.parametrize("server", ["central", "relay"])
@pytest.mark.parametrize(("who", "role"), [("peer", Role.PEER), ("operator", Role.ADMIN)])
async def test_members_reach_what_is_for_them_and_nothing_else(world, server, who, role):
    async with world.channel(server, world.shown_by(who)) as channel:
        assert await world.outcomes(channel) == world.expected(server, role)


@pytest.mark.parametrize("server", ["central", "relay"])
@pytest.mark.parametrize("who", ["peer", "operator"])
async def test_a_certificate_that_expires_while_its_connection_is_open_ends_every_call(world, server, who):
    async with world.channel(server, world.shown_by(who)) as channel:
        assert REACHED in (await world.outcomes(channel)).values()
        world.late = 2 * DAY
        world.reached.clear()
        expected = world.expected(server, Role.PEER)
        refused = {method: was if was is NOT_SERVED else CertificateExpired for method, was in expected.items()}
        assert await world.outcomes(channel) == refused
    assert world.reached == []


@pytest.mark.parametrize("server", ["central", "relay"])
async def test_a_peer_that_is_revoked_while_its_connection_is_open_is_refused_at_every_call(world, server):
    async with world.channel(server, world.shown_by("peer")) as channel:
        assert REACHED in (await world.outcomes(channel)).values()
        world.revoked.add(world.ben.peer_id)
        world.reached.clear()
        expected = world.expected(server, Role.PEER)
        refused = {method: was if was is NOT_SERVED else Revoked for method, was in expected.items()}
        assert await world.outcomes(channel) == refused
    assert world.reached == []


@pytest.mark.parametrize(("late", "revoked", "error"), [(2 * DAY, False, CertificateExpired), (0.0, True, Revoked)])
async def test_an_open_stream_ends_at_the_next_message_once_its_certificate_does_not_count(world, late, revoked, error):
    async with world.channel("central", world.shown_by("peer")) as channel:
        call = channel.stream_stream(f"/{CENTRAL}/Heartbeat")(timeout=10)
        await call.write(b"")
        assert await call.read() == b""
        world.late = late
        world.revoked.update([world.ben.peer_id] if revoked else [])
        await call.write(b"")
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
        assert type(from_rpc_error(caught.value)) is error


@pytest.mark.parametrize("who", ["no certificate", "rogue authority", "expired", "peer", "operator", "central's own"])
async def test_on_the_enrolment_port_everybody_is_a_stranger_and_only_joining_is_served(world, who):
    async with world.channel("enrolment", world.shown_by(who)) as channel:
        assert await world.outcomes(channel) == world.expected("enrolment", Role.STRANGER)


async def test_on_the_control_socket_the_owner_reaches_the_daemon_and_not_the_network(world):
    async with world.channel("control", None) as channel:
        assert await world.outcomes(channel) == world.expected("control", Role.OWNER)
