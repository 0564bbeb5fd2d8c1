"""A peer that only central does not hear is looked for by others; what proves that it lives is its own signature."""

import pytest

from central.sessions.membership import RETURN
from core import errors
from core.identity import Identity
from core.life import NONCE_BYTES, prove
from relevo.v1 import central_directory_pb2 as pb2


def probes(answer):
    return [one.probe for one in answer.directives if one.WhichOneof("action") == "probe"]


async def asked(beats):
    """The first probe directive that a peer is told, unasked."""
    return probes(await beats.until(probes))[0]


async def half_seconds(network, helping, count):
    """Has time pass; returns the probe directives that the helper is told meanwhile."""
    found = {}
    for _ in range(count):
        await network.pass_time(0.5)
        for probe in probes(await helping.beat()):
            found[probe.nonce] = probe
    return list(found.values())


def report(network, suspect, nonce, signature=None, identity=None):
    signature = prove(identity or suspect.identity, nonce) if signature is None else signature
    request = pb2.ReportProbeRequest(suspect_peer_id=suspect.id, nonce=nonce, signature=signature)
    return network.stub.ReportProbe(request)


async def cut(network, suspect, beats):
    """Breaks the path from a peer to central."""
    beats.call.cancel()
    await network.until_suspect(suspect)
    await network.pass_time(0.5)


@pytest.fixture
async def pair(network):
    """A peer that is cut off, and one that is in order and uses it."""
    suspect, helper = await network.logged_in(), await network.logged_in()
    await suspect.publish({"a.txt": bytes(32)})
    beats, helping = await suspect.live(), await helper.live()
    await cut(network, suspect, beats)
    return suspect, helping


async def listing_of(network, suspect):
    peers = (await network.stub.ListPeers(pb2.ListPeersRequest())).peers
    return next((peer for peer in peers if peer.peer.peer_id == suspect.id), None)


async def test_a_broken_stream_has_others_told_whom_to_look_for_and_where(network, pair):
    suspect, helping = pair
    probe = await asked(helping)
    assert probe.suspect.peer_id == suspect.id
    assert list(probe.suspect.addresses) == suspect.addresses
    assert len(probe.nonce) == NONCE_BYTES
    assert probe.patience.ToMilliseconds() == 2000


async def test_silence_has_others_look_before_the_lease_is_over(network):
    suspect, helper = await network.logged_in(), await network.logged_in()
    await suspect.live()
    helping = await helper.live()
    await network.pass_time(4)
    await helping.beat()
    await network.pass_time(0.6)
    assert network.state(suspect) == "SUSPECT"
    assert (await asked(helping)).suspect.peer_id == suspect.id


async def test_those_that_a_hidden_peer_is_attached_to_are_told_to_look_for_it_however_many_others_there_are(network):
    relays = [await network.logged_in() for _ in range(2)]
    hidden = await network.logged_in(addresses=())
    everybody = [*relays, *[await network.logged_in() for _ in range(10)]]
    beats = await hidden.live()
    for peer in everybody:
        await peer.live()
    await cut(network, hidden, beats)
    told = {peer.id for peer in everybody if network.directory.suspects.asked_of(peer.id)}
    assert {relay.id for relay in relays} < told


async def test_a_peer_that_others_reach_is_kept_and_marked_and_its_files_stay(network, pair):
    suspect, helping = pair
    found = [await asked(helping)]
    for _ in range(8):  # two leases and more
        for probe in found:
            await report(network, suspect, probe.nonce)
        found = (await half_seconds(network, helping, 4))[-1:]
    assert (await listing_of(network, suspect)).state == pb2.PEER_STATE_REACHED
    assert [file.path for file in (await network.stub.ListFiles(pb2.ListFilesRequest())).files] == ["a.txt"]


async def test_a_peer_that_others_reach_no_more_is_gone_one_lease_after_the_last_nonce_was_made(network, pair):
    suspect, helping = pair
    await report(network, suspect, (await asked(helping)).nonce)
    await half_seconds(network, helping, 13)
    assert await listing_of(network, suspect)
    await network.pass_time(0.5)
    assert await listing_of(network, suspect) is None


async def test_a_kept_peer_that_speaks_to_central_again_is_plainly_live(network, pair):
    suspect, helping = pair
    await report(network, suspect, (await asked(helping)).nonce)
    await suspect.live()
    assert (await listing_of(network, suspect)).state == pb2.PEER_STATE_LIVE
    await network.pass_time(0.5)
    assert not (await helping.beat()).directives


async def test_a_neighbour_that_lies_keeps_nobody_alive(network, pair, fails_with):
    suspect, helping = pair
    nonce = (await asked(helping)).nonce
    with fails_with(errors.Unauthenticated):
        await report(network, suspect, nonce, identity=helping.peer.identity)
    with fails_with(errors.Unauthenticated):
        await report(network, suspect, nonce, identity=Identity.generate())
    with fails_with(errors.Unauthenticated):
        await report(network, suspect, nonce, signature=b"it lives, believe me")
    await network.pass_time(2.5)
    assert await listing_of(network, suspect) is None


async def test_a_signature_that_is_brought_again_later_keeps_nobody_alive(network, pair, fails_with):
    suspect, helping = pair
    old = (await asked(helping)).nonce
    signature = prove(suspect.identity, old)
    await report(network, suspect, old, signature)
    await report(network, suspect, old, signature)  # the answer was lost: it changes nothing
    (new,) = {probe.nonce for probe in await half_seconds(network, helping, 5)} - {old}
    with fails_with(errors.NotFound):
        await report(network, suspect, old, signature)
    with fails_with(errors.Unauthenticated):
        await report(network, suspect, new, signature)
    await half_seconds(network, helping, 8)
    assert await listing_of(network, suspect)
    await half_seconds(network, helping, 1)
    assert await listing_of(network, suspect) is None


async def test_nobody_is_kept_whom_central_did_not_ask_about(network, fails_with):
    peer = await network.logged_in()
    await peer.live()
    with fails_with(errors.NotFound):
        await report(network, peer, bytes(NONCE_BYTES))
    with fails_with(errors.InvalidInput):
        await report(network, peer, b"", b"")


async def test_a_peer_that_logs_in_again_is_not_kept_by_what_its_older_self_has_signed(network, pair, fails_with):
    suspect, helping = pair
    nonce = (await asked(helping)).nonce
    await suspect.login()
    await report(network, suspect, nonce)  # it has a whole lease since later
    assert network.state(suspect) == "SUSPECT"
    await network.pass_time(0.5)
    with fails_with(errors.NotFound):
        await report(network, suspect, nonce)


async def test_nobody_who_is_suspect_itself_is_asked_to_look_for_others(network):
    first, second, third = [await network.logged_in() for _ in range(3)]
    streams = [await peer.live() for peer in (first, second, third)]
    for peer, beats in zip((first, second), streams, strict=False):
        beats.call.cancel()
        await network.until_suspect(peer)
    await network.pass_time(0.5)
    suspects = network.directory.suspects
    assert suspects.asked_of(first.id) == suspects.asked_of(second.id) == []
    assert {suspect.peer_id for _, suspect in suspects.asked_of(third.id)} == {first.id, second.id}


async def test_streams_that_broke_while_central_was_away_count_from_its_return_and_ten_seconds(network):
    peer, other = await network.logged_in(), await network.logged_in()
    beats = await peer.live()
    await other.live()
    network.directory.was_away(network.clock.monotonic(), 30.0)
    beats.call.cancel()
    await network.until_suspect(peer)
    await network.pass_time(RETURN + 2.4)
    assert await listing_of(network, peer)
    await network.pass_time(0.2)
    assert await listing_of(network, peer) is None


async def test_an_absence_that_breaks_no_streams_delays_nothing(network):
    peer = await network.logged_in()
    beats = await peer.live()
    network.directory.was_away(network.clock.monotonic(), 3.0)
    beats.call.cancel()
    await network.until_suspect(peer)
    await network.pass_time(2.6)
    assert await listing_of(network, peer) is None


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_time_of_day_that_jumps_by_an_hour_ends_no_session(network, hours):
    peer = await network.logged_in()
    beats = await peer.live()
    network.clock.began += hours * 3600
    for _ in range(6):
        await network.pass_time(2)
        await beats.beat()
    assert network.state(peer) == "LIVE"
    assert await listing_of(network, peer)
