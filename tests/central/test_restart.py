from central.sessions.neighbours import Assignment
from core import errors
from relevo.v1 import central_directory_pb2 as pb2

CONTENT = b"c" * 32


async def test_after_a_restart_everything_is_there_and_peers_go_on_with_their_sessions(network):
    peers = [await network.logged_in() for _ in range(4)]
    await peers[0].publish({"a.txt": CONTENT, "b.txt": b"b" * 32})
    await peers[1].live()
    placement = await peers[0].place(CONTENT)
    neighbours = [await peer.neighbours() for peer in peers]
    request = peers[3].login_request()
    last = await network.stub.Login(request)
    peers[3].session_id = last.session_id
    await network.restart()
    first = await peers[1].stream().beat()
    assert [directive.store.placement_id for directive in first.directives] == [placement.placement_id]
    assert {file.path for file in (await network.stub.ListFiles(pb2.ListFilesRequest())).files} == {"a.txt", "b.txt"}
    assert [await peer.neighbours() for peer in peers] == neighbours
    assert (await network.stub.Login(request)).session_id == last.session_id
    for peer in peers:
        answer = await (await peer.live()).beat()
        assert answer.catalogue_version == peer.version
        expected = [placement.placement_id] if peer is peers[1] else []
        assert [directive.store.placement_id for directive in answer.directives] == expected
    await peers[0].publish({"c.txt": CONTENT})
    found = await network.stub.GetPlacement(pb2.GetPlacementRequest(placement_id=placement.placement_id))
    assert found.placement.copies[0].peer.peer_id == peers[1].id


async def test_after_a_restart_everybody_has_a_whole_lease_and_ten_seconds_to_come_back(network):
    quiet, peer = await network.logged_in(), await network.logged_in()
    network.clock.advance(6.5)
    await network.restart()
    await network.pass_time(9.9)
    assert len(network.directory.roster) == 2
    await peer.live()
    await network.pass_time(1)
    assert [live.peer_id for live in network.directory.roster] == [peer.id]
    assert quiet.id not in network.directory.roster


async def test_after_a_restart_ended_sessions_are_still_told_apart(network, fails_with):
    expired = await network.logged_in()
    await network.pass_time(8)
    superseded = await network.logged_in()
    older = superseded.session_id
    await superseded.login()
    await network.restart()
    with fails_with(errors.SessionUnknown):
        await expired.stream().beat()
    with fails_with(errors.SessionSuperseded):
        await superseded.stream().beat(session_id=older)


async def test_a_newcomer_after_a_restart_joined_last(network):
    first = await network.logged_in()
    second = await network.logged_in()
    await network.restart()
    third = await network.logged_in()
    assert await third.neighbours() == (second.id, first.id)


async def test_recorded_neighbours_that_do_not_hold_any_more_are_mended_at_the_start(network):
    peers = [await network.logged_in() for _ in range(3)]
    stranger = network.peer().id
    store = network.directory._store
    await store.set_neighbours([(peers[2].id, stranger, peers[2].id)])
    await network.restart()
    assert set(await peers[2].neighbours()) == {peers[0].id, peers[1].id}
    recorded = {
        live.peer_id: Assignment(live.primary, live.backup) for live in await network.directory._store.live_peers()
    }
    assert recorded == {peer.id: network.directory.roster.neighbours.of(peer.id) for peer in peers}
