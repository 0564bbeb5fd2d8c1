"""TLS as it is spoken: real servers, gRPC's clients, and Python's own TLS for what gRPC cannot ask for."""

import asyncio
import ssl
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core import certificates
from core.access import ENROLMENT, Certificates
from core.certificates import Authority, Kind, Subject, central_name, peer_name, to_pem
from core.errors import CertificateExpired, Refused, Unreachable, WrongIdentity, WrongTime
from core.identity import Identity
from core.rpc import PEER_MESSAGE, Server, open_channel
from core.status import from_rpc_error
from core.tls import Material, server_credentials
from core.trust import Trust

NOW, DAY = time.time(), 86_400.0
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}


class Net:
    """A network: its authorities, the latest last, and what its members are given."""

    def __init__(self):
        self.authorities = [Authority.create(NOW, 365 * DAY)]

    def rotate(self):
        self.authorities.append(Authority.create(NOW, 365 * DAY, self.authorities[-1]))

    def material(self, kind, label="", identity=None, *, issuer=-1, trusts=None, issued=NOW):
        identity = identity or Identity.generate()
        issuer = self.authorities[issuer]
        labels = {Kind.PEER: identity.peer_id, Kind.CENTRAL: issuer.network_id, Kind.ADMIN: "ana"}
        leaf = issuer.issue(Subject(kind, label or labels[kind]), identity.public_key, issued, DAY)
        older = self.authorities[: issuer.generation]
        vouching = [below.vouch_for(above, NOW, DAY) for below, above in pairwise(older)]
        trusted = self.authorities if trusts is None else [self.authorities[index] for index in trusts]
        return Material(identity.pem(), to_pem([leaf, *reversed(vouching)]), to_pem(one.certificate for one in trusted))

    @property
    def trust(self):
        return Trust(1, tuple(one.certificate for one in reversed(self.authorities)))


@asynccontextmanager
async def serving(net, material, *, mutual=True):
    """A server with nothing but health checking."""
    asked = material if callable(material) else lambda: material
    way_in = Certificates(lambda: net.trust, time.time) if mutual else ENROLMENT
    server = Server(PEER_MESSAGE, way_in=way_in, credentials=server_credentials(asked, mutual=mutual))
    server.listen("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0)


async def checked(address, material, name):
    """Makes one call on a new connection."""
    async with open_channel(address, PEER_MESSAGE, material, name) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def context_of(tmp_path, material, newest):
    """Python's own TLS, at most of the version `newest`, as strict about certificates as it can be."""
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(material.key)
    chain.write_bytes(material.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.maximum_version = newest
    context.load_verify_locations(cadata=material.authorities.decode())
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    return context


async def shaken(address, context, name):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    try:
        await reader.readexactly(9)  # the server's first frame: it has accepted the client's certificate too
        return writer.get_extra_info("ssl_object").version()
    finally:
        writer.transport.abort()


@pytest.fixture
def net():
    return Net()


@pytest.mark.parametrize("mutual", [True, False])
async def test_tls_1_3_is_spoken_and_1_2_refused(net, tmp_path, mutual):
    me = net.material(Kind.PEER)
    name = central_name(net.authorities[0].network_id)
    async with serving(net, net.material(Kind.CENTRAL), mutual=mutual) as address:
        assert await shaken(address, context_of(tmp_path, me, ssl.TLSVersion.TLSv1_3), name) == "TLSv1.3"
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await shaken(address, context_of(tmp_path, me, ssl.TLSVersion.TLSv1_2), name)


async def test_strict_verifiers_accept_the_certificates_also_after_two_rotations(net, tmp_path):
    me = net.material(Kind.PEER)
    name = central_name(net.authorities[0].network_id)
    net.rotate()
    net.rotate()
    async with serving(net, net.material(Kind.CENTRAL)) as address:
        assert await shaken(address, context_of(tmp_path, me, ssl.TLSVersion.TLSv1_3), name) == "TLSv1.3"


async def test_peers_name_each_other_by_their_keys(net):
    ana, ben = Identity.generate(), Identity.generate()
    async with serving(net, net.material(Kind.PEER, identity=ana)) as address:
        await checked(address, net.material(Kind.PEER, identity=ben), peer_name(ana.peer_id))
        with pytest.raises(WrongIdentity):
            await checked(address, net.material(Kind.PEER, identity=ben), peer_name(ben.peer_id))
        with pytest.raises(WrongIdentity):
            await checked(address, net.material(Kind.PEER, identity=ben), central_name(net.authorities[0].network_id))


async def test_a_server_of_another_network_is_not_who_was_expected(net):
    foreign, ana = Net(), Identity.generate()
    async with serving(foreign, foreign.material(Kind.PEER, identity=ana)) as address:
        with pytest.raises(WrongIdentity):
            await checked(address, net.material(Kind.PEER), peer_name(ana.peer_id))


@pytest.mark.parametrize(("days", "how"), [(-2, "has expired"), (2, "is not valid yet")])
async def test_a_server_whose_certificate_does_not_count_now_is_not_believed_and_the_clock_is_named(net, days, how):
    ana = Identity.generate()
    async with serving(net, net.material(Kind.PEER, identity=ana, issued=NOW + days * DAY)) as address:
        with pytest.raises(WrongTime, match=f"its certificate {how} by this machine's clock"):
            await checked(address, net.material(Kind.PEER), peer_name(ana.peer_id))


async def test_an_operator_cannot_serve_with_a_certificate_that_is_for_calling(net):
    async with serving(net, net.material(Kind.ADMIN)) as address:
        with pytest.raises(Unreachable):
            await checked(address, net.material(Kind.PEER), "ana.admin")


async def test_a_client_without_a_certificate_passes_where_none_is_asked_for_only(net):
    name = central_name(net.authorities[0].network_id)
    me = net.material(Kind.PEER)
    nobody = Material(b"", b"", me.authorities)
    async with serving(net, net.material(Kind.CENTRAL)) as address:
        with pytest.raises(Unreachable) as caught:
            await checked(address, nobody, name)
        assert type(caught.value) is Unreachable
    async with serving(net, net.material(Kind.CENTRAL), mutual=False) as address:
        with pytest.raises(Refused):  # it got in, and health checking is not for strangers
            await checked(address, nobody, name)


async def test_a_member_cannot_make_members(net, monkeypatch):
    """A certificate that a peer signed with its own key, for a name that it likes, shown with the peer's own."""
    ana, mallory = Identity.generate(), Identity.generate()
    member = net.material(Kind.PEER, identity=mallory)
    signer = Authority.create(NOW, DAY)
    signer._key = mallory._key
    with monkeypatch.context() as patched:
        # Whoever verifies looks for the issuer by its name, which is empty in a peer's certificate, and by its key; one
        # of the same name as its issuer would have signed itself.
        patched.setattr(Authority, "_name", "")
        patched.setattr(certificates, "_built", lambda _, *rest, built=certificates._built: built("forged", *rest))
        forged = signer.issue(Subject(Kind.PEER, ana.peer_id), ana.public_key, NOW, DAY)
    shown = Material(ana.pem(), to_pem([forged]) + member.chain, member.authorities)
    async with serving(net, net.material(Kind.CENTRAL)) as address:
        with pytest.raises(Unreachable):
            await checked(address, shown, central_name(net.authorities[0].network_id))


async def test_renewed_material_counts_from_the_next_handshake_and_open_connections_go_on(net):
    ana, ben = Identity.generate(), Identity.generate()
    shows = [net.material(Kind.PEER, identity=ana)]
    me = net.material(Kind.PEER)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(net, lambda: shows[-1]))
        open_one = await stack.enter_async_context(open_channel(address, PEER_MESSAGE, me, peer_name(ana.peer_id)))
        stub = health_pb2_grpc.HealthStub(open_one)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        shows.append(net.material(Kind.PEER, identity=ben))
        await checked(address, me, peer_name(ben.peer_id))
        with pytest.raises(WrongIdentity):
            await checked(address, me, peer_name(ana.peer_id))
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)


@pytest.mark.parametrize("rotations", [1, 2])
async def test_members_that_know_different_authorities_get_on_during_a_rotation(net, rotations):
    ana, ben = Identity.generate(), Identity.generate()
    for _ in range(rotations):
        net.rotate()
    sides = {
        "old": (0, [0]),  # issued by the first authority, and knows no other
        "between": (0, None),  # knows all, and is not renewed yet
        "new": (-1, None),
    }
    for issuer, trusts in sides.values():
        server = net.material(Kind.PEER, identity=ana, issuer=issuer, trusts=trusts)
        async with serving(net, server) as address:
            for issuer_of_client, trusts_of_client in sides.values():
                client = net.material(Kind.PEER, identity=ben, issuer=issuer_of_client, trusts=trusts_of_client)
                await checked(address, client, peer_name(ana.peer_id))


async def test_once_the_old_authority_is_dropped_its_certificates_are_refused(net):
    ana = Identity.generate()
    old = net.material(Kind.PEER, identity=ana)
    net.rotate()
    async with serving(net, net.material(Kind.CENTRAL, trusts=[1])) as address:
        with pytest.raises(Unreachable):
            await checked(address, old, central_name(net.authorities[0].network_id))


async def test_an_expired_certificate_fails_in_the_handshake_and_on_an_open_connection(net):
    name = central_name(net.authorities[0].network_id)
    late = [0.0]
    way_in = Certificates(lambda: net.trust, lambda: time.time() + late[0])
    central = net.material(Kind.CENTRAL)
    server = Server(PEER_MESSAGE, way_in=way_in, credentials=server_credentials(lambda: central))
    address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    await server.start()
    try:
        with pytest.raises(Unreachable):
            await checked(address, net.material(Kind.PEER, issued=NOW - 2 * DAY), name)
        async with open_channel(address, PEER_MESSAGE, net.material(Kind.PEER), name) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            late[0] = 2 * DAY
            with pytest.raises(grpc.RpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert type(from_rpc_error(caught.value)) is CertificateExpired
    finally:
        await server.stop(0)


def test_credentials_are_refused_where_grpc_was_imported_too_early_to_be_held_to_tls_1_3():
    programs = {
        "import grpc, core.tls": "would speak TLS 1.2",
        "import core.tls": "",
        "import central.__main__": "",
        "import peer.cli": "",
    }
    for imports, words in programs.items():
        code = f"{imports}; from core.tls import *; channel_credentials(Material(b'', b'', b''))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert words in done.stderr
        assert bool(words) == bool(done.returncode), done.stderr


def test_keys_are_not_shown_in_a_log(net):
    material = net.material(Kind.PEER)
    assert "PRIVATE" not in f"{material} {material!r}"
