"""Channels: one for each address, and never very many."""

import asyncio
import contextlib
import time

import grpc
import pytest

from core.access import Certificates
from core.errors import CertificateExpired, Revoked, Unreachable, WrongIdentity
from core.identity import Identity
from core.rpc import Server
from core.status import from_rpc_error
from core.tls import server_credentials
from peer.links import channels as module
from peer.links.channels import Channels
from peer.links.credentials import Credentials
from relevo.v1.peer_relay_pb2 import GetManifestRequest, GetManifestResponse
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer, add_PeerRelayServicer_to_server


@pytest.fixture
async def channels(monkeypatch):
    monkeypatch.setattr(module, "MOST_PEERS", 2)
    channels = Channels()
    yield channels
    await channels.close()


async def test_an_address_keeps_its_channel(channels):
    channels.peer("127.0.0.1:1", "a")
    first = channels._peers["127.0.0.1:1", "a"]
    channels.peer("127.0.0.1:2", "a")
    channels.peer("127.0.0.1:1", "a")
    assert channels._peers["127.0.0.1:1", "a"] is first


async def test_the_least_recently_used_of_too_many_is_closed(channels):
    for port in (1, 2, 1, 3):
        channels.peer(f"127.0.0.1:{port}", "a")
    assert list(channels._peers) == [("127.0.0.1:1", "a"), ("127.0.0.1:3", "a")]
    await asyncio.gather(*channels._closing)
    with pytest.raises(grpc.RpcError):
        await channels.peer("127.0.0.1:1", "a").GetManifest(GetManifestRequest(), timeout=5)


async def test_the_channel_to_central_is_never_closed_for_others(channels):
    channels.central("127.0.0.1:9")
    central = channels._centrals["127.0.0.1:9"]
    for port in range(1, 6):
        channels.peer(f"127.0.0.1:{port}", "a")
    channels.central("127.0.0.1:9")
    assert channels._centrals["127.0.0.1:9"] is central


async def test_the_stub_for_central_is_made_once_for_each_channel(channels):
    first = channels.central("127.0.0.1:9")
    assert channels.central("127.0.0.1:9") is first
    channels.renew()
    assert channels.central("127.0.0.1:9") is not first


class Relay(PeerRelayServicer):
    def __init__(self):
        self.called = asyncio.Event()
        self.answer = asyncio.Event()

    async def GetManifest(self, request, context):
        self.called.set()
        await self.answer.wait()
        return GetManifestResponse()


class Member:
    """A peer of a network: its key, and what it shows and accepts."""

    def __init__(self, network, home, **membership):
        self.identity = Identity.generate()
        self.credentials = Credentials(self.identity, home, network.membership(self.identity, **membership))
        self.peer_id = self.identity.peer_id


class Stage:
    """A network in which `ben` serves as a daemon does, and others call him."""

    def __init__(self, network, base, stack):
        self.network, self.base, self.stack = network, base, stack
        self.relay = Relay()
        self.wall = time.time

    async def open(self):
        self.ben = self.member()
        way_in = Certificates(self.ben.credentials.trust, lambda: self.wall())  # noqa: PLW0108 - a test moves it
        server = Server(way_in=way_in, credentials=server_credentials(self.ben.credentials.material))
        add_PeerRelayServicer_to_server(self.relay, server.server)
        self.address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
        await server.start()
        self.stack.push_async_callback(server.stop, 0)

    def member(self, network=None, **membership):
        member = Member(network or self.network, self.base, **membership)
        self.stack.push_async_callback(member.credentials.close)
        return member

    def channels(self, credentials):
        channels = Channels(credentials)
        self.stack.push_async_callback(channels.close)
        return channels

    async def call(self, channels, peer_id=None):
        try:
            await channels.peer(self.address, self.ben.peer_id if peer_id is None else peer_id).GetManifest(
                GetManifestRequest(), timeout=5
            )
        except grpc.RpcError as error:
            return type(from_rpc_error(error))
        return None


@pytest.fixture
async def stage(enrolment_bench, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        stage = Stage(enrolment_bench, tmp_path, stack)
        await stage.open()
        yield stage


async def test_members_reach_each_other_by_their_ids(stage):
    stage.relay.answer.set()
    ana = stage.channels(stage.member().credentials)
    assert await stage.call(ana) is None


async def test_a_peer_with_another_key_than_is_meant_fails_in_the_handshake(stage):
    ana = stage.channels(stage.member().credentials)
    assert await stage.call(ana, Identity.generate().peer_id) is WrongIdentity
    assert await stage.call(ana, "") is WrongIdentity
    assert not stage.relay.called.is_set()
    stage.relay.answer.set()
    assert await stage.call(ana) is None
    assert await stage.call(ana, Identity.generate().peer_id) is WrongIdentity  # by no channel of somebody else's


async def test_whoever_has_no_certificate_of_the_network_is_not_let_in(stage, other_enrolment_bench):
    ana = stage.member()
    rogue = stage.member(other_enrolment_bench)
    expired = stage.member(now=time.time() - 86_400, life=3600.0)
    trusting = stage.member(other_enrolment_bench)  # shows the other network's certificate, and accepts this one's
    trusting.credentials._material = type(rogue.credentials.material())(
        key=trusting.credentials.material().key,
        chain=trusting.credentials.material().chain,
        authorities=ana.credentials.material().authorities,
    )
    assert await stage.call(stage.channels(None)) is Unreachable
    assert await stage.call(stage.channels(rogue.credentials)) is WrongIdentity
    assert await stage.call(stage.channels(trusting.credentials)) is Unreachable
    assert await stage.call(stage.channels(expired.credentials)) is Unreachable
    assert not stage.relay.called.is_set()


async def test_a_certificate_that_expires_or_is_revoked_ends_an_open_connection_too(stage):
    stage.relay.answer.set()
    ana, eva = stage.member(), stage.member()
    by_ana, by_eva = stage.channels(ana.credentials), stage.channels(eva.credentials)
    assert (await stage.call(by_ana), await stage.call(by_eva)) == (None, None)
    stage.network.revoke(ana.peer_id)
    stage.ben.credentials.hear(stage.network.trust)
    assert (await stage.call(by_ana), await stage.call(by_eva)) == (Revoked, None)
    stage.wall = lambda: time.time() + 90_000
    assert await stage.call(by_eva) is CertificateExpired


async def test_a_revoked_peer_is_not_called_any_more(stage):
    stage.relay.answer.set()
    ana = stage.member()
    channels = stage.channels(ana.credentials)
    assert await stage.call(channels) is None
    stage.network.revoke(stage.ben.peer_id)
    ana.credentials.hear(stage.network.trust)
    with pytest.raises(Unreachable, match="revoked"):
        channels.peer(stage.address, stage.ben.peer_id)


async def test_calls_in_flight_finish_on_the_old_channel_while_later_ones_use_a_new(stage):
    ana = stage.member()
    channels = stage.channels(ana.credentials)
    first = asyncio.create_task(stage.call(channels))
    await stage.relay.called.wait()
    old = channels._peers[stage.address, stage.ben.peer_id]
    channels.renew()
    stage.relay.called.clear()
    second = asyncio.create_task(stage.call(channels))
    await stage.relay.called.wait()
    assert channels._peers[stage.address, stage.ben.peer_id] is not old
    assert not first.done()
    stage.relay.answer.set()
    assert (await first, await second) == (None, None)


async def test_members_of_before_and_after_a_change_of_the_authority_reach_each_other(stage):
    stage.relay.answer.set()
    ana = stage.member()
    stage.network.rotate()
    late = stage.member()
    assert await stage.call(stage.channels(late.credentials)) is None  # ben has not heard of it yet
    for trusting in (ana, stage.ben):
        trusting.credentials.hear(stage.network.trust)
    assert await stage.call(stage.channels(ana.credentials)) is None
    stage.ben.credentials.renewed(stage.network.membership(stage.ben.identity), stage.ben.credentials.membership)
    assert await stage.call(stage.channels(ana.credentials)) is None
    assert await stage.call(stage.channels(late.credentials)) is None
