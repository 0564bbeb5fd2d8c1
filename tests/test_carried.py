"""Peers that do not reach central: they join, stay and store through others, and go back when they can.

Central and all peers are real, in one process; some of them have a door before central that can be shut.
"""

import asyncio
import contextlib
import itertools

import grpc
import pytest

from core.signing import session_name
from peer.directory import carried_central, detour
from peer.work.transfers import State
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_KEPT, FileEntry
from tests.door import DoorNetwork, at, begun, lists, staying, via
from tests.network import eventually


@pytest.fixture
async def network(tmp_path):
    async with begun(DoorNetwork, tmp_path) as network:
        yield network


@pytest.fixture
def returning_soon(monkeypatch):
    monkeypatch.setattr(detour, "RETURN_PAUSE", 0.2)
    monkeypatch.setattr(detour, "LAST_RETURN_PAUSE", 0.4)


async def fetched(peer, file, directory):
    directory.mkdir()
    entry = FileEntry(path=file.path, content_id=file.content_id, size_bytes=file.size_bytes)
    transfer = peer.downloads.start(entry, str(directory))
    await asyncio.wait([transfer.task], timeout=40)
    assert transfer.state is State.DONE, transfer.error
    return (directory / file.path).read_bytes()


async def test_a_peer_that_does_not_reach_central_joins_shares_and_stores_through_another(network, tmp_path):
    ana = await network.join("ana")
    await network.door.shut()
    ben = await network.behind_the_door("ben", via=(at(ana),))
    assert via(ben) == at(ana)
    secret = network.roster.get(ben.identity.peer_id).session_id
    assert ben.session.login.session_id == session_name(secret)
    cho = await network.join("cho")
    files = await lists(cho, "ana.txt", "ben.txt")
    assert await fetched(cho, files["ben.txt"], tmp_path / "got") == b"ben" * 1000
    await lists(ben, "ana.txt", "ben.txt", "cho.txt")
    (tmp_path / "new").write_bytes(b"new" * 1000)
    upload = cho.uploads.start(tmp_path / "new", 2)
    await asyncio.wait([upload.task], timeout=40)

    async def kept():
        asked = pb2.GetPlacementRequest(placement_id=upload.placement_id)
        answer = await ben.routes.at_central(lambda central: central.GetPlacement(asked, timeout=5))
        return answer.placement.state == PLACEMENT_STATE_KEPT

    await eventually(kept)
    assert ben.library.totals.copies == 1
    carriers = {one.peer.name: one.carrier_peer_id for one in (await _peers(ben)).peers}
    assert carriers == {"ana": "", "ben": ana.identity.peer_id, "cho": ""}
    carry = relay_pb2.PeerRelayCarryRequest()
    with pytest.raises(grpc.RpcError, match="does not reach central either"):  # nobody carries who is carried
        await ana.channels.peer(at(ben), ben.identity.peer_id).Carry(carry, timeout=20)


async def _peers(peer):
    return await peer.routes.at_central(lambda central: central.ListPeers(pb2.ListPeersRequest(), timeout=5))


async def test_a_carrier_that_dies_is_replaced_by_the_backup_under_the_same_session(network, monkeypatch):
    monkeypatch.setattr(carried_central, "PATIENCE", 20.0)  # who dies refuses; who is slow is not replaced here
    ana, cho = await network.join("ana"), await network.join("cho")
    await network.door.shut()
    ben = await network.behind_the_door("ben", via=(at(ana), at(cho)))
    assert via(ben) == at(ana)
    await lists(cho, "ben.txt")
    before = ben.session.login
    async with staying(network, ben):
        await network.die(ana)
        await eventually(lambda: ben.session.live and via(ben) == at(cho))
    assert ben.session.login is before
    await lists(cho, "ben.txt")


async def test_carriers_that_reach_nobody_are_asked_again_soon_and_then_ever_more_rarely(network):
    """They may be logging in anew themselves, or central may be away, and all of its peers ask."""
    ana = await network.join("ana")
    await network.door.shut()
    ben = await network.behind_the_door("ben", via=(at(ana),))
    await network.die(ana)
    now, asked = 0.0, []
    way = detour.Detour(ben.session.detour.central, lambda: now)
    while len(asked) < 8:
        before = way._not_before
        assert await way.log_in(ben.session._logins, network.door.address) is None
        asked += [now] if way._not_before != before else []
        now += 0.05
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert pauses[0] < 1.1
    assert sum(pauses[:3]) < 7
    assert all(5 <= pause < 15.1 for pause in pauses[4:])


async def test_a_peer_whose_way_to_central_breaks_goes_on_through_its_neighbours_and_returns(
    network, returning_soon, caplog
):
    await network.join("ana")
    cho = await network.join("cho")
    ben = await network.behind_the_door("ben")
    await lists(cho, "ben.txt")
    assert ben.session.carrier is None
    version = await eventually(lambda: network.roster.get(ben.identity.peer_id).catalogue_version)
    async with staying(network, ben):
        await network.door.shut()
        await eventually(lambda: ben.session.live and ben.session.carrier)
        await lists(cho, "ben.txt")
        await network.door.open()
        await eventually(lambda: ben.session.live and not ben.session.carrier)
    await lists(cho, "ben.txt")
    assert network.roster.get(ben.identity.peer_id).catalogue_version == version, "nothing was published anew"
    assert network.roster.get(ben.identity.peer_id).session_id == ben.session.login.session_id


async def test_a_peer_finds_its_last_neighbours_again_after_a_restart(network):
    await network.join("ana")
    await network.join("cho")
    await network.behind_the_door("ben")
    await network.stop("ben")
    await network.door.shut()
    ben = await network.behind_the_door("ben")
    assert ben.session.carrier.name in {"ana", "cho"}


async def test_central_restarts_and_a_carried_peer_goes_on_as_before(network):
    ana = await network.join("ana")
    await network.door.shut()
    ben = await network.behind_the_door("ben", via=(at(ana),))
    await lists(ana, "ben.txt")
    before, address = ben.session.login, network.central.address
    await network.stop_central()
    await eventually(lambda: not ben.session.live)
    await network.start_central(address)
    await eventually(lambda: ana.session.live and ben.session.live and ben.session.carrier)
    assert ben.session.login is before
    await lists(ana, "ben.txt")


async def test_a_carried_peer_renews_its_certificate_and_hears_of_a_new_authority(network):
    ana = await network.join("ana")
    await network.door.shut()
    ben = await network.behind_the_door("ben", via=(at(ana),))
    before = ben.credentials.membership
    await ben.renewal._renew(before)
    assert ben.credentials.membership.certificates != before.certificates
    await network.central.network.run(lambda enrolment: enrolment.authorities.rotate(network.central.network.now()))
    await eventually(lambda: len(ben.credentials.trust().authorities) == 2)
    await eventually(lambda: ben.session.live and ben.session.carrier)


async def test_in_plaintext_a_peer_is_carried_too(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        network = DoorNetwork(tmp_path, stack)
        await network.start_central(insecure=True)
        ana = await network.start("ana", insecure=True)
        ben = await network.start("ben", insecure=True, centrals=("127.0.0.1:1",), via=(at(ana),))
        assert via(ben) == at(ana)
        await lists(ana, "ben.txt")
        carried = {one.peer.name: (one.carried, one.carrier_peer_id) for one in (await _peers(ana)).peers}
        assert carried == {"ana": (False, ""), "ben": (True, "")}
