"""Every RPC of every service, called by everybody: who gets in, who does not, and how each is told.

The RPCs are read from the descriptors, so that a new one without a rule fails here on the day it is added. Who may call
what is said here once more, apart from the table in `core.access`.
"""

import asyncio
import importlib
import time
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2

from central.server import running_central
from central.settings import Settings
from core.access import ENROLMENT, OWN_SOCKET, RULES, Certificates, Role
from core.certificates import Authority, Kind, Subject, central_name, peer_name, to_pem
from core.errors import CertificateExpired, Refused, Revoked, Unauthenticated, Unreachable, WrongIdentity
from core.identity import Identity
from core.rpc import PEER_MESSAGE, REFLECTION_V1, REFLECTION_V1ALPHA, Server, open_channel
from core.signing import new_request_id, sign_request
from core.status import from_rpc_error
from core.tls import Material, server_credentials
from core.trust import Trust
from peer.daemon import running_peer
from peer.settings import ServeSettings, control_address
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

PROTOS = Path(__file__).parents[1] / "protos" / "relevo" / "v1"
DAY = 86_400.0
NOT_SERVED, REACHED = "not served there", "reached"
# Whatever else a call ends with is its handler's answer to an empty request.
REFUSALS = {CertificateExpired, Refused, Revoked, Unauthenticated, Unreachable, WrongIdentity}
TO_MEMBERS = ("central", "relay")
MEMBERS = {"peer": Role.PEER, "operator": Role.ADMIN}
NOBODY = ("no certificate", "rogue authority", "expired", "central's own", "plaintext")


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
    f"/{CENTRAL}/{name}"
    for name in (
        "Login", "Logout", "Heartbeat", "PublishFiles", "PlaceFile", "EndPlacement", "ReportHolder", "ReportProbe",
        "Beat", "Carry",
    )
} | {
    f"/{RELAY}/{name}"
    for name in (
        "PlaceFile", "EndPlacement", "Carry", "GetBlock", "GetContents", "Probe", "DialBack", "Attach",
        "Deliver", "Invite",
    )
}  # fmt: skip


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
    """The four ways into a network, and certificates of all kinds.

    Attributes:
        late: how much later than it is the servers believe it to be, in seconds.
        reached: methods whose handlers were called, where handlers tell.
        ways: for each server its address, the service that it is there for, and the name that is expected of it.
    """

    def __init__(self, base, stack):
        self.base = base
        self.stack = stack
        self.rogue = Authority.create(time.time(), 365 * DAY)
        self.ben = Identity.generate()
        self.late = 0.0
        self.reached = []
        self.ways = {}

    def wall(self):
        return time.time() + self.late

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

    def channel(self, server, shown):
        address, _, name = self.ways[server]
        return open_channel(address, PEER_MESSAGE, shown, name)

    def expected(self, server, role):
        """What each RPC answers to a caller of that role."""
        served = {self.ways[server][1]} | (INSPECTION if server != "enrolment" else set())
        return {
            method: NOT_SERVED
            if method.split("/")[1] not in served
            else (REACHED if role in allowed(method) else Refused)
            for method in METHODS
        }

    async def outcomes(self, channel):
        """Calls every RPC of every service on a channel; the one that ends a daemon comes last."""
        in_order = sorted(METHODS, key=f"/{CONTROL}/Logout".__eq__)
        return {method: await self._outcome(channel, method) for method in in_order}

    async def _outcome(self, channel, method):
        before = len(self.reached)
        error = await failure_of(channel.unary_stream(method)(b"", timeout=10))
        if error is None:
            self.check_reached(method, self.reached[before:])
            return REACHED
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return NOT_SERVED
        found = type(from_rpc_error(error))
        if found not in REFUSALS:
            return REACHED
        assert self.reached[before:] == []
        return found

    def check_reached(self, method, reached):
        """Checks that the handler of that method was called, where handlers tell."""


async def failure_of(call):
    """Returns the error that a call ends with; None when it is answered."""
    try:
        if await call.read() is not grpc.aio.EOF:
            call.cancel()
            return None
    except grpc.RpcError as error:
        return error
    if await call.code() is grpc.StatusCode.OK:
        return None
    told = await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    return grpc.aio.AioRpcError(await call.code(), *told)


class Handlers(World):
    """Servers as both programs make them, with handlers that answer whatever is asked and remember it."""

    async def start(self):
        self.authority = Authority.create(time.time(), 365 * DAY)
        self.revoked = set()
        ana = Identity.generate()
        central, peer = self.material(Kind.CENTRAL), self.material(Kind.PEER, ana)
        members = Certificates(lambda: Trust(1, (self.authority.certificate,), frozenset(self.revoked)), self.wall)
        central_is = central_name(self.authority.network_id)
        to_join = server_credentials(lambda: central, mutual=False)
        for name, service, named, server in (
            ("central", CENTRAL, central_is, Server(way_in=members, credentials=server_credentials(lambda: central))),
            (
                "relay",
                RELAY,
                peer_name(ana.peer_id),
                Server(way_in=members, credentials=server_credentials(lambda: peer)),
            ),
            ("enrolment", JOINING, central_is, Server(way_in=ENROLMENT, credentials=to_join, inspectable=False)),
            ("control", CONTROL, "", Server(way_in=OWN_SOCKET)),
        ):
            server.server.add_generic_rpc_handlers((self._handlers(service),))
            address = f"unix:{self.base}/control"
            if name != "control":
                address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
            else:
                server.listen(address)
            await server.start(service)
            self.stack.push_async_callback(server.stop, 0)
            self.ways[name] = address, service, named

    def _handlers(self, service):
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

    def check_reached(self, method, reached):
        assert reached == [method] * (method.split("/")[1] not in INSPECTION)

    async def revoke(self, peer_id):
        self.revoked.add(peer_id)


class Programs(World):
    """A central and a peer as they run."""

    async def start(self):
        often = Settings(enrolment_rate=1e6, enrolment_total_rate=1e6, sweep_interval=0.05, drain=0.1)
        central = await self.stack.enter_async_context(
            running_central(self.base / "central", settings=often, wall=self.wall)
        )
        self.authority = Authority.from_pem((self.base / "central" / "authorities" / "1.pem").read_bytes())
        self.network = central.network
        token = await central.invite()
        (self.base / "shared").mkdir()
        settings = ServeSettings(
            home=self.base / "home",
            shared=self.base / "shared",
            centrals=(),
            name="ana",
            listen="127.0.0.1:0",
            join=token.to_text(),
        )
        self.peer = await self.stack.enter_async_context(running_peer(settings, wall=self.wall))
        await self.peer.session.wait_live()
        central_is = central_name(self.authority.network_id)
        joining = f"127.0.0.1:{central.enrolment_port}"
        relay = f"127.0.0.1:{self.peer.server.port}"
        self.ways = {
            "central": (central.address, CENTRAL, central_is),
            "relay": (relay, RELAY, peer_name(self.peer.identity.peer_id)),
            "enrolment": (joining, JOINING, central_is),
            "control": (control_address(settings.home), CONTROL, ""),
        }

    async def revoke(self, peer_id):
        """Revokes as the command line does, and waits until the peer has heard of it."""

        def revoked(network):
            with network.register.changing():
                network.register.add_member(peer_id, "ben", time.time())
                network.register.certified(peer_id, time.time() + DAY)
            network.revoke(peer_id, time.time())

        await self.network.run(revoked)
        async with asyncio.timeout(20):
            while peer_id not in self.peer.credentials.trust().revoked & self.network.trust().revoked:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)


@pytest.fixture(params=[Handlers, Programs], ids=["handlers", "programs"])
async def world(tmp_path, request):
    async with AsyncExitStack() as stack:
        world = request.param(tmp_path, stack)
        await world.start()
        yield world


async def test_who_has_no_certificate_that_counts_does_not_get_past_the_handshake(world):
    for server, who in product(TO_MEMBERS, NOBODY):
        async with world.channel(server, world.shown_by(who)) as channel:
            assert await world.outcomes(channel) == dict.fromkeys(METHODS, Unreachable), (server, who)
            assert channel.get_state() is not grpc.ChannelConnectivity.READY
    assert world.reached == []


async def test_members_reach_what_is_for_them_and_nothing_else(world):
    for server, (who, role) in product(TO_MEMBERS, MEMBERS.items()):
        async with world.channel(server, world.shown_by(who)) as channel:
            assert await world.outcomes(channel) == world.expected(server, role), (server, who)


async def refused_on_open_connections(world, members, change, error):
    """Has members make every call, changes something, and has them make every call again on the same connections."""
    async with AsyncExitStack() as stack:
        channels = {
            (server, who): await stack.enter_async_context(world.channel(server, world.shown_by(who)))
            for server, who in product(TO_MEMBERS, members)
        }
        for (server, who), channel in channels.items():
            assert await world.outcomes(channel) == world.expected(server, MEMBERS[who])
        await change()
        world.reached.clear()
        for (server, who), channel in channels.items():
            served = world.expected(server, MEMBERS[who]).items()
            refused = {method: NOT_SERVED if outcome is NOT_SERVED else error for method, outcome in served}
            assert await world.outcomes(channel) == refused, (server, who)
        assert world.reached == []


async def test_a_certificate_that_expires_while_its_connection_is_open_ends_every_call(world):
    async def time_passes():
        world.late = 2 * DAY

    await refused_on_open_connections(world, MEMBERS, time_passes, CertificateExpired)


async def test_a_peer_that_is_revoked_while_its_connection_is_open_is_refused_at_every_call(world):
    await refused_on_open_connections(world, ["peer"], lambda: world.revoke(world.ben.peer_id), Revoked)


@pytest.mark.parametrize("error", [CertificateExpired, Revoked])
async def test_an_open_stream_ends_at_the_next_message_once_its_certificate_does_not_count(tmp_path, error):
    async with AsyncExitStack() as stack:
        world = Handlers(tmp_path, stack)
        await world.start()
        channel = await stack.enter_async_context(world.channel("central", world.shown_by("peer")))
        call = channel.stream_stream(f"/{CENTRAL}/Heartbeat")(timeout=10)
        await call.write(b"")
        assert await call.read() == b""
        if error is Revoked:
            await world.revoke(world.ben.peer_id)
        else:
            world.late = 2 * DAY
        await call.write(b"")
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
        assert type(from_rpc_error(caught.value)) is error


@pytest.mark.parametrize("error", [CertificateExpired, Revoked])
async def test_a_stream_on_which_nothing_comes_ends_too_once_its_certificate_does_not_count(tmp_path, error):
    """Whoever watches a server's health hears nothing for as long as it is well."""
    async with AsyncExitStack() as stack:
        world = Handlers(tmp_path, stack)
        await world.start()
        watches = []
        for server in TO_MEMBERS:
            channel = await stack.enter_async_context(world.channel(server, world.shown_by("peer")))
            watches.append(HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20))
            assert (await watches[-1].read()).status == health_pb2.HealthCheckResponse.SERVING
        if error is Revoked:
            await world.revoke(world.ben.peer_id)
        else:
            world.late = 2 * DAY
        for watch in watches:
            with pytest.raises(grpc.RpcError) as caught:
                await watch.read()
            assert type(from_rpc_error(caught.value)) is error


async def test_on_the_enrolment_port_everybody_is_a_stranger_and_only_joining_is_served(world):
    for who in {*NOBODY, *MEMBERS} - {"plaintext"}:
        async with world.channel("enrolment", world.shown_by(who)) as channel:
            assert await world.outcomes(channel) == world.expected("enrolment", Role.STRANGER), who


async def test_on_the_control_socket_the_owner_reaches_the_daemon_and_not_the_network(world):
    async with world.channel("control", None) as channel:
        assert await world.outcomes(channel) == world.expected("control", Role.OWNER)


async def test_with_its_own_certificate_a_peer_cannot_speak_for_another(tmp_path):
    """Mallory knows the victim's id and session, and even what it has signed, and is a member."""
    victim, mallory = Identity.generate(), Identity.generate()
    async with AsyncExitStack() as stack:
        world = Programs(tmp_path, stack)
        await world.start()
        victims, mallorys = [
            CentralDirectoryStub(
                await stack.enter_async_context(world.channel("central", world.material(Kind.PEER, identity)))
            )
            for identity in (victim, mallory)
        ]
        details = pb2.LoginDetails(name="victim", min_protocol_version=1, max_protocol_version=1)
        signed = sign_request(victim, f"/{CENTRAL}/Login", details.SerializeToString(), time.time())
        login = pb2.LoginRequest(signed=signed, public_key=victim.public_key)
        session = {"peer_id": victim.peer_id, "session_id": (await victims.Login(login)).session_id}
        beats = victims.Heartbeat()
        await beats.write(pb2.HeartbeatRequest(**session, sequence=1))
        assert (await beats.read()).sequence == 1

        stolen = mallorys.Heartbeat()
        await stolen.write(pb2.HeartbeatRequest(**session, sequence=1))
        report = {"holder_peer_id": mallory.peer_id, "content_id": bytes(32), "fault": pb2.HOLDER_FAULT_LACKS_CONTENT}
        for attempt in (
            mallorys.Login(login),
            mallorys.Logout(pb2.LogoutRequest(**session, request_id=new_request_id())),
            mallorys.PublishFiles(pb2.PublishFilesRequest(**session, request_id=new_request_id())),
            mallorys.ReportHolder(pb2.ReportHolderRequest(**session, **report)),
            stolen.read(),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                await attempt
            assert type(from_rpc_error(caught.value)) is Refused

        await beats.write(pb2.HeartbeatRequest(**session, sequence=2))
        answer = await beats.read()
        while answer.sequence != 2:
            answer = await beats.read()
        published = await victims.PublishFiles(pb2.PublishFilesRequest(**session, request_id=new_request_id()))
        assert published.catalogue_version
        beats.cancel()
