import asyncio

import grpc
import pytest

from core import errors
from core.rpc import CENTRAL_MESSAGE, open_channel
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub


async def test_every_beat_is_answered_with_its_sequence_terms_version_and_neighbours(network):
    other, peer = await network.logged_in(), await network.logged_in()
    await peer.publish({"a.txt": bytes(32)})
    beats = peer.stream()
    for number in range(1, 40):
        answer = await beats.beat()
        assert answer.sequence == number
        assert answer.terms.lease.ToMilliseconds() == 7000
        assert answer.catalogue_version == peer.version
        assert answer.neighbours.primary.peer_id == other.id


async def test_beats_sent_at_once_are_all_answered_in_order(network):
    beats = (await network.logged_in()).stream()
    for _ in range(100):
        await beats.send()
    await beats.call.done_writing()
    assert [(await beats.read()).sequence for _ in range(100)] == list(range(1, 101))
    assert await beats.read() is grpc.aio.EOF


async def test_a_session_is_suspect_until_its_first_beat(network):
    peer = await network.logged_in()
    assert network.state(peer) == "SUSPECT"
    await peer.live()
    assert network.state(peer) == "LIVE"


async def test_changed_neighbours_are_pushed_unasked(network):
    peer = await network.logged_in()
    beats = await peer.live()
    second = await network.logged_in()
    answer = await beats.until(lambda answer: answer.neighbours.HasField("primary"))
    assert (answer.sequence, answer.neighbours.primary.peer_id) == (0, second.id)
    third = await network.logged_in()
    answer = await beats.until(lambda answer: answer.neighbours.HasField("backup"))
    assert (answer.sequence, answer.neighbours.backup.peer_id) == (0, third.id)


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_broken_stream_makes_suspect_at_once_and_expired_after_the_grace(network, fails_with, how):
    peer = await network.logged_in()
    if how == "cancel":
        (await peer.live()).call.cancel()
    else:
        channel = open_channel(network.central.address, CENTRAL_MESSAGE)
        beats = peer.stream()
        beats.call = CentralDirectoryStub(channel).Heartbeat()
        await beats.beat()
        await channel.close()
    await network.until_suspect(peer)
    await network.pass_time(2.4)
    assert network.state(peer) == "SUSPECT"
    await network.pass_time(0.2)
    assert peer.id not in network.directory.roster
    with fails_with(errors.SessionUnknown):
        await peer.stream().beat()


async def test_a_suspect_that_opens_another_stream_lives_on(network):
    peer = await network.logged_in()
    (await peer.live()).call.cancel()
    await network.until_suspect(peer)
    await network.pass_time(2)
    await peer.live()
    await network.pass_time(4.4)
    assert network.state(peer) == "LIVE"


async def test_silence_expires_the_lease_ends_the_stream_and_withdraws_the_files(network, fails_with):
    silent, other = await network.logged_in(), await network.logged_in()
    await silent.publish({"a.txt": bytes(32)})
    beats, watching = await silent.live(), await other.live()
    await network.pass_time(4)
    await watching.beat()
    await network.pass_time(3)
    with fails_with(errors.SessionUnknown):
        await beats.ended()
    answer = await watching.until(lambda answer: not answer.neighbours.HasField("primary"))
    assert answer.sequence == 0
    assert not (await network.stub.ListFiles(pb2.ListFilesRequest())).files
    assert [listing.peer.peer_id for listing in (await network.stub.ListPeers(pb2.ListPeersRequest())).peers] == [
        other.id
    ]


async def test_a_peer_that_returns_after_expiry_need_not_publish_again(network):
    peer = await network.logged_in()
    version = (await peer.publish({"a.txt": bytes(32)})).catalogue_version
    await network.pass_time(8)
    assert (await peer.login()).catalogue_version == version
    assert [file.path for file in (await network.stub.ListFiles(pb2.ListFilesRequest())).files] == ["a.txt"]


async def test_a_stream_that_breaks_after_a_newer_one_was_opened_changes_nothing(network):
    peer = await network.logged_in()
    older = await peer.live()
    newer = await peer.live()
    await older.ended()
    older.call.cancel()
    await newer.beat()
    assert network.state(peer) == "LIVE"
    await network.pass_time(3)
    assert network.state(peer) == "LIVE"
    newer.call.cancel()
    await network.until_suspect(peer)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"peer_id": "x"}, "peer_id"),
        ({"session_id": "x"}, "session_id"),
        ({"sequence": 0}, "sequence"),
    ],
)
async def test_a_beat_that_breaks_a_rule_names_the_field(network, fails_with, changed, field):
    peer = await network.logged_in()
    with fails_with(errors.InvalidInput) as caught:
        await peer.stream().beat(**changed)
    assert caught.error.field == field
    beats = await peer.live()
    with fails_with(errors.InvalidInput) as caught:
        await beats.beat(**changed)
    assert caught.error.field == field


@pytest.mark.parametrize("field", ["peer_id", "session_id"])
async def test_a_stream_that_changes_its_session_midway_is_invalid(network, fails_with, field):
    peer, other = await network.logged_in(), await network.logged_in()
    beats = await peer.live()
    with fails_with(errors.InvalidInput, "one session only"):
        await beats.beat(**{field: {"peer_id": other.id, "session_id": other.session_id}[field]})


async def test_beats_that_do_not_count_upwards_are_invalid(network, fails_with):
    beats = await (await network.logged_in()).live()
    with fails_with(errors.InvalidInput) as caught:
        await beats.beat(sequence=1)
    assert caught.error.field == "sequence"


async def test_a_stream_without_a_first_beat_is_ended_after_the_lease(network, fails_with, monkeypatch):
    monkeypatch.setattr(network.directory.roster.leases, "_beat_interval", 0.01)
    call = network.stub.Heartbeat()
    await call.wait_for_connection()
    with fails_with(errors.InvalidInput, "no beat came"):
        async with asyncio.timeout(20):
            await call.read()


async def test_a_stream_that_is_closed_before_its_first_beat_is_invalid(network, fails_with):
    call = network.stub.Heartbeat()
    await call.done_writing()
    with fails_with(errors.InvalidInput, "before its first beat"):
        await call.read()


async def test_a_client_that_stops_reading_hinders_nobody_and_expires(network):
    long = [f"{'h' * 240}:{port}" for port in range(1, 17)]
    stalled, other = await network.logged_in(addresses=long), await network.logged_in(addresses=long)
    beats = stalled.stream()

    async def flood():
        while True:
            await beats.send()

    flooding = asyncio.create_task(flood())
    roster = network.directory.roster
    await network.until(lambda: stalled.id in roster._streams)
    stream = roster._streams[stalled.id]
    await network.until(lambda: not stream._room.is_set() and stalled_for(stream, 100))
    healthy = await other.live()
    for _ in range(100):
        stream.poke()
        await healthy.beat()
    assert len(stream._owed) <= 16
    await network.pass_time(4)
    await healthy.beat()
    await network.pass_time(4)
    assert stalled.id not in roster
    assert other.id in roster
    with pytest.raises(grpc.RpcError):  # what was under way comes first, then the end
        await beats.ended()
    with pytest.raises(grpc.RpcError):
        await flooding


def stalled_for(stream, looks):
    """Tells whether central has read no beat at so many looks in a row, though more are there.

    Seconds would not do: while the machine is busy with something else, nobody reads either.
    """
    if getattr(stream, "seen", None) != stream.beat:
        stream.seen, stream.looks = stream.beat, 0
    stream.looks += 1
    return stream.looks > looks


async def test_the_interval_grows_with_the_number_of_peers_and_all_are_told(network, monkeypatch):
    monkeypatch.setattr(network.directory.roster.leases, "_max_beats", 0.5)
    peer = await network.logged_in()
    beats = await peer.live()
    await network.logged_in()
    assert (await network.peer().login()).terms.beat_interval.ToMilliseconds() == 6000
    answer = await beats.beat()
    assert answer.terms.beat_interval.ToMilliseconds() == 6000
    assert answer.terms.lease.ToMilliseconds() == 21000
    await network.pass_time(18)
    assert network.state(peer) == "LIVE"


async def test_central_ends_heartbeats_politely_when_it_stops(network, fails_with):
    peer = await network.logged_in()
    beats, waiting = await peer.live(), network.stub.Heartbeat()
    await waiting.wait_for_connection()
    stopping = asyncio.create_task(network.stop_central())
    with fails_with(errors.Unreachable, "central is stopping"):
        await beats.ended()
    with pytest.raises(grpc.RpcError):  # why may be lost when everything closes at once
        await waiting.read()
    await stopping
