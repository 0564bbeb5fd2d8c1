import asyncio

import pytest

from core import errors
from core.identity import Identity
from core.signing import new_request_id, sign_request
from relevo.v1 import central_directory_pb2 as pb2

LOGIN = "/relevo.v1.CentralDirectory/Login"


async def test_a_login_answers_session_terms_neighbours_and_the_address_that_central_saw(network):
    first = await network.logged_in(name="ana")
    answer = await network.peer(name="blas").login()
    assert len(answer.session_id) == 32
    assert answer.session_id != first.session_id
    assert answer.terms.beat_interval.ToMilliseconds() == 2000
    assert answer.terms.lease.ToMilliseconds() == 7000
    assert answer.terms.grace.ToMilliseconds() == 2500
    assert answer.neighbours.primary.peer_id == first.id
    assert answer.neighbours.primary.name == "ana"
    assert list(answer.neighbours.primary.addresses) == first.addresses
    assert not answer.neighbours.HasField("backup")
    assert answer.observed_address.startswith("127.0.0.1:")
    assert answer.protocol_version == 1
    assert answer.catalogue_version == 0


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"addresses": ["nonsense"]}, "addresses[0]"),
        ({"addresses": ["h:1", "h:0"]}, "addresses[1]"),
        ({"addresses": ["h:65536"]}, "addresses[0]"),
        ({"addresses": ["h:1"] * 17}, "addresses"),
        ({"min_protocol_version": 0}, "min_protocol_version"),
        ({"min_protocol_version": 2, "max_protocol_version": 1}, "max_protocol_version"),
    ],
)
async def test_a_login_that_breaks_a_rule_names_the_field(network, fails_with, changed, field):
    with fails_with(errors.InvalidInput) as caught:
        await network.peer().login(**changed)
    assert caught.error.field == field


async def test_a_login_without_a_common_protocol_version_is_refused(network, fails_with):
    with fails_with(errors.NotPossible, "protocol versions"):
        await network.peer().login(min_protocol_version=2, max_protocol_version=9)
    answer = await network.peer().login(max_protocol_version=9)
    assert answer.protocol_version == 1


async def test_more_free_space_than_can_be_counted_is_no_error(network):
    peer = network.peer()
    await peer.login(free_bytes=2**64 - 1)
    assert (await network.stub.ListPeers(pb2.ListPeersRequest())).peers[0].free_bytes == 2**63 - 1


async def test_a_login_signed_by_another_key_is_refused(network, fails_with):
    request = network.peer().login_request()
    request.public_key = Identity.generate().public_key
    with fails_with(errors.Unauthenticated, "not that of the public key"):
        await network.stub.Login(request)


@pytest.mark.parametrize("change", ["payload", "method", "request_id", "signature"])
async def test_a_login_that_was_changed_on_the_way_is_refused(network, fails_with, change):
    peer = network.peer()
    request = peer.login_request()
    if change == "payload":
        request.signed.payload = peer.details(name="mallory").SerializeToString()
    elif change == "method":
        request.signed.CopyFrom(peer.signed("/relevo.v1.CentralDirectory/PlaceFile", peer.details()))
    elif change == "request_id":
        request.signed.request_id = new_request_id()
    else:
        signature = request.signed.signature
        request.signed.signature = signature[:-1] + bytes([signature[-1] ^ 1])
    with fails_with(errors.Unauthenticated):
        await network.stub.Login(request)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("author", "abc"),
        ("request_id", "abc"),
        ("request_id", "g" * 32),
        ("signature", b""),
        ("signature", b"x" * 73),
    ],
)
async def test_a_malformed_envelope_names_the_field(network, fails_with, field, value):
    request = network.peer().login_request()
    setattr(request.signed, field, value)
    with fails_with(errors.InvalidInput) as caught:
        await network.stub.Login(request)
    assert caught.error.field == f"signed.{field}"


async def test_a_payload_that_is_no_message_is_invalid(network, fails_with):
    peer = network.peer()
    signed = sign_request(peer.identity, LOGIN, b"\xff\xff\xff", network.clock.wall())
    with fails_with(errors.InvalidInput) as caught:
        await network.stub.Login(pb2.LoginRequest(signed=signed, public_key=peer.identity.public_key))
    assert caught.error.field == "signed.payload"


@pytest.mark.parametrize("seconds", [-601, 601])
async def test_a_login_with_another_time_tells_centrals(network, fails_with, seconds):
    peer = network.peer()
    request = peer.login_request()
    network.clock.advance(seconds)
    with fails_with(errors.ClockSkew) as caught:
        await network.stub.Login(request)
    assert float(caught.error.metadata["central_time"]) == network.clock.wall()


async def test_a_repeated_login_is_answered_as_the_first_and_changes_nothing(network):
    await network.logged_in()
    peer = network.peer()
    request = peer.login_request()
    first = await network.stub.Login(request)
    await network.logged_in()
    again = await network.stub.Login(request)
    assert again.SerializeToString() == first.SerializeToString()
    assert len(network.directory.roster) == 3


async def test_identical_logins_in_flight_at_once_open_one_session(network):
    request = network.peer().login_request()
    answers = await asyncio.gather(*(network.stub.Login(request) for _ in range(20)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert len(network.directory.roster) == 1


async def test_a_newer_login_supersedes_the_older_session(network, fails_with):
    peer = await network.logged_in()
    older = peer.session_id
    beats = await peer.live()
    await peer.login()
    with fails_with(errors.SessionSuperseded):
        await beats.ended()
    with fails_with(errors.SessionSuperseded):
        await peer.publish({"a": bytes(32)}, session_id=older)
    with fails_with(errors.SessionSuperseded):
        await peer.logout(session_id=older)
    peer.session_id, newer = older, peer.session_id
    with fails_with(errors.SessionSuperseded):
        await peer.stream().beat()
    peer.session_id = newer
    await peer.stream().beat()
    assert len(network.directory.roster) == 1


async def test_users_of_a_relay_hear_of_its_new_address(network):
    relay, user = await network.logged_in(), await network.logged_in()
    beats = await user.live()
    await relay.login(addresses=["127.0.0.1:999"], name="moved")
    answer = await beats.until(lambda answer: answer.neighbours.primary.name == "moved")
    assert answer.sequence == 0
    assert list(answer.neighbours.primary.addresses) == ["127.0.0.1:999"]


async def test_a_logout_withdraws_at_once_and_reassigns_those_who_used_the_peer(network, fails_with):
    ana, blas, caro = [await network.logged_in() for _ in range(3)]
    await blas.publish({"b.txt": b"b" * 32})
    assert blas.id in await caro.neighbours()
    beats, watching = await blas.live(), await caro.live()
    await blas.logout()
    with fails_with(errors.SessionUnknown):
        await beats.ended()
    answer = await watching.until(lambda answer: answer.neighbours.primary.peer_id == ana.id)
    assert not answer.neighbours.HasField("backup")
    assert not (await network.stub.ListFiles(pb2.ListFilesRequest())).files
    with fails_with(errors.NotFound):
        await blas.neighbours()
    with fails_with(errors.SessionUnknown):
        await blas.publish({"b.txt": b"b" * 32})


async def test_a_repeated_logout_is_answered_as_the_first(network, fails_with):
    peer = await network.logged_in()
    request_id = new_request_id()
    answers = await asyncio.gather(*(peer.logout(request_id=request_id) for _ in range(5)))
    assert len(answers) == 5
    with fails_with(errors.SessionUnknown):
        await peer.logout()


async def test_a_session_of_another_peer_or_of_nobody_is_refused(network, fails_with):
    victim, thief = await network.logged_in(), await network.logged_in()
    for call in (
        lambda: thief.logout(session_id=victim.session_id),
        lambda: thief.publish({"a": bytes(32)}, session_id=victim.session_id),
        lambda: thief.stream().beat(session_id=victim.session_id),
        lambda: victim.logout(peer_id=thief.id),
    ):
        with fails_with(errors.SessionMismatch):
            await call()
    for call in (
        lambda: thief.logout(session_id="0" * 32),
        lambda: thief.publish({"a": bytes(32)}, session_id="0" * 32),
        lambda: thief.stream().beat(session_id="0" * 32),
    ):
        with fails_with(errors.SessionUnknown):
            await call()
    assert len(network.directory.roster) == 2
    await victim.stream().beat()


async def test_a_stolen_request_id_gives_no_answer_to_another_session(network, fails_with):
    victim, thief = await network.logged_in(), await network.logged_in()
    request_id = new_request_id()
    await victim.publish({"a": bytes(32)}, request_id=request_id)
    with fails_with(errors.SessionUnknown):
        await thief.publish(peer_id=victim.id, session_id="0" * 32, request_id=request_id)
    with fails_with(errors.SessionMismatch):
        await thief.publish(peer_id=victim.id, session_id=thief.session_id, request_id=request_id)


async def test_peers_are_listed_the_most_recent_first_in_pages(network):
    peers = [await network.logged_in(free_bytes=number) for number in range(5)]
    await peers[1].publish({"a": bytes(32), "b": bytes(32)})
    beats = await peers[1].live()
    await beats.beat(free_bytes=77)
    found, token = [], ""
    while True:
        page = await network.stub.ListPeers(pb2.ListPeersRequest(page_size=2, page_token=token))
        assert len(page.peers) <= 2
        found += page.peers
        token = page.next_page_token
        if not token:
            break
    assert [listing.peer.peer_id for listing in found] == [peer.id for peer in reversed(peers)]
    assert [listing.state for listing in found] == [2, 2, 2, 1, 2]
    second = found[3]
    assert (second.file_count, second.free_bytes) == (2, 77)
    assert second.login_time.seconds == int(network.clock.wall())
    assert (second.primary_peer_id, second.backup_peer_id) == await peers[1].neighbours()


async def test_a_page_that_would_be_too_large_for_a_message_ends_early(network):
    host = "h" * 240
    for _ in range(270):
        await network.logged_in(addresses=[f"{host}:{port}" for port in range(1, 17)])
    first = await network.stub.ListPeers(pb2.ListPeersRequest(page_size=1000))
    assert 200 < len(first.peers) < 270
    second = await network.stub.ListPeers(pb2.ListPeersRequest(page_size=1000, page_token=first.next_page_token))
    assert len(first.peers) + len(second.peers) == 270
    assert not second.next_page_token


async def test_bad_pages_of_peers_are_refused(network, fails_with):
    for field, value in (("page_size", -1), ("page_token", "x"), ("page_token", "WyJhIl0=")):
        with fails_with(errors.InvalidInput) as caught:
            await network.stub.ListPeers(pb2.ListPeersRequest(**{field: value}))
        assert caught.error.field == field


async def test_neighbours_of_a_stranger_are_not_found(network, fails_with):
    with fails_with(errors.NotFound):
        await network.peer().neighbours()
    with fails_with(errors.InvalidInput):
        await network.stub.GetNeighbours(pb2.GetNeighboursRequest(peer_id="x"))


async def test_a_caller_that_hangs_up_leaves_a_whole_login_behind(network):
    request = network.peer().login_request()
    call = network.stub.Login(request)
    sent = asyncio.ensure_future(call.initial_metadata())
    await network.until(lambda: network.directory._mutations._running or sent.done())
    call.cancel()
    await network.directory.drained()
    answer = await network.stub.Login(request)
    assert network.directory.roster.owner(answer.session_id)
    live = await network.directory._store.live_peers()
    assert [peer.session_id for peer in live] == [answer.session_id]
    await asyncio.gather(sent, return_exceptions=True)


async def test_a_login_that_the_store_cannot_keep_leaves_neighbours_as_they_were(network, fails_with, monkeypatch):
    relay, user = await network.logged_in(), await network.logged_in()
    before = [await relay.neighbours(), await user.neighbours()]
    newcomer = network.peer()

    async def disk_is_full(peer, receipt):
        raise errors.Unreachable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(network.directory._store, "login", disk_is_full)
        with fails_with(errors.Unreachable, "disk is full"):
            await newcomer.login()
        with fails_with(errors.Unreachable, "disk is full"):
            await relay.login(addresses=[])
    assert [await relay.neighbours(), await user.neighbours()] == before
    assert newcomer.id not in network.directory.roster.neighbours
    await newcomer.login()
    assert set(await newcomer.neighbours()) == {relay.id, user.id}
