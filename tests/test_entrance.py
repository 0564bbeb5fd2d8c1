"""A daemon with an entrance, in a network of real ones: what newcomers and strangers find there."""

import asyncio
import contextlib

import grpc
import pytest

from central import encode
from central.settings import Settings
from core import errors
from core.certificates import central_name, to_pem
from core.identity import Identity
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import sign_request
from core.tls import Material
from peer.membership import membership
from peer.membership.enrolling import Enrolling
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import enrolment_pb2, peer_relay_pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.enrolment_pb2_grpc import EnrolmentStub
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub
from tests.door import DoorNetwork, begun, lists, via

HOST, NOWHERE = "127.0.0.2", "127.0.0.9:7400"
WEEK = 7 * 86_400.0


@pytest.fixture
async def network(tmp_path):
    async with begun(DoorNetwork, tmp_path) as network:
        yield network


async def with_entrance(network):
    return await network.join("ana", listen="0.0.0.0:0", advertise="127.0.0.1", entrance=f"{HOST}:0")


def at(peer):
    return f"{HOST}:{peer.server.port}"


async def test_a_newcomer_never_reaches_central_and_is_a_member_like_others(network):
    ana = await with_entrance(network)
    token = await network.central.invite(addresses=(NOWHERE,), via=(at(ana),))
    ben = await network.start("ben", join=token.to_text(), centrals=())
    assert via(ben) == at(ana)
    await lists(ana, "ana.txt", "ben.txt")
    await network.stop("ben")
    ben = await network.start("ben", centrals=(NOWHERE,), via=(at(ana),))
    assert via(ben) == at(ana)
    await lists(ana, "ana.txt", "ben.txt")


async def test_a_member_that_was_off_for_weeks_comes_back_through_an_entrance(network):
    ana = await with_entrance(network)
    await network.join("ben")
    await network.stop("ben")
    home = network.base / "ben" / "home"
    key = Identity.load_or_create(home / "key.pem")
    then = network.central.network.now() - WEEK
    issued = await network.central.network.run(lambda one: one.renew(key.peer_id, key.public_key, then, 86_400.0))
    membership.save(home, membership.Membership.from_message(encode.membership(issued), key.peer_id))
    ben = await network.start("ben", centrals=(NOWHERE,), via=(at(ana),))
    assert via(ben) == at(ana)
    await lists(ana, "ben.txt")


async def test_a_stranger_reaches_enrolment_through_an_entrance_and_nothing_else(network):
    ana = await with_entrance(network)
    authority = network.central.network.trust().authorities[0]
    material = Material(b"", b"", to_pem((authority,)))
    name = central_name(network.central.network_id)
    somebody = Identity.generate()
    async with open_channel(ana.entrance.address, CENTRAL_MESSAGE, material, name) as channel:
        calls = [
            (CentralDirectoryStub(channel).ListPeers, pb2.ListPeersRequest()),
            (CentralDirectoryStub(channel).Carry, pb2.CarryRequest()),
            (PeerRelayStub(channel).Probe, peer_relay_pb2.ProbeRequest()),
        ]
        for call, request in calls:
            with pytest.raises(grpc.RpcError) as refused:
                await call(request, timeout=10)
            assert refused.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED}
        signed = sign_request(somebody, "/relevo.v1.Enrolment/Renew", b"", network.central.network.now())
        request = enrolment_pb2.RenewRequest(signed=signed, public_key=somebody.public_key)
        with pytest.raises(grpc.RpcError, match="does not know the peer"):  # it is central who answers
            await EnrolmentStub(channel).Renew(request, timeout=10)


async def test_strangers_that_use_up_what_a_host_may_ask_keep_no_member_of_it_from_renewing(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        network = DoorNetwork(tmp_path, stack)
        await network.start_central(settings=Settings(enrolment_rate=0.01))  # one request, and the next much later
        ana = await with_entrance(network)
        before = ana.credentials.membership
        with pytest.raises(errors.Busy):
            await Enrolling(ana.identity, ana.session.time).renew(before, (network.central.address,))
        await ana.renewal._renew(before)
        assert ana.credentials.membership.certificates != before.certificates
        with pytest.raises(errors.Busy):  # members are counted too
            await ana.renewal._renew(ana.credentials.membership)


async def test_an_entrance_is_shut_unless_it_is_asked_for(network):
    ana = await network.join("ana", listen="0.0.0.0:0")
    assert ana.entrance.address == ""
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection(HOST, network.central.enrolment_port)


async def test_a_daemon_that_stops_shuts_its_entrance(network):
    await with_entrance(network)
    await network.stop("ana")
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection(HOST, network.central.enrolment_port)
