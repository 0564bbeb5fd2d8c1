import asyncio
import logging

import pytest

from core import errors
from core.signing import new_request_id
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_KEPT, PLACEMENT_STATE_PENDING, FileEntry

CONTENT, NEWER = b"c" * 32, b"n" * 32


async def author_with_a_file(network, content=CONTENT, path="a.txt"):
    author = await network.logged_in()
    await author.publish({path: content})
    return author


async def storers(network, count, **fields):
    """Returns peers whose heartbeat is in order, with their streams."""
    found = {}
    for _ in range(count):
        peer = await network.logged_in(**fields)
        found[peer] = await peer.live()
    return found


def chosen(placement):
    return {copy.peer.peer_id for copy in placement.copies}


async def current(network, placement):
    request = pb2.GetPlacementRequest(placement_id=placement.placement_id)
    return (await network.stub.GetPlacement(request)).placement


def told(answer):
    return [directive.store.placement_id for directive in answer.directives if directive.HasField("store")]


def to_drop(answer):
    return [directive.drop.content_id for directive in answer.directives if directive.HasField("drop")]


async def test_a_placement_chooses_peers_tells_them_and_is_kept_once_they_confirm(network):
    author = await author_with_a_file(network)
    peers = await storers(network, 4)
    placement = await author.place(CONTENT, replicas=2)
    assert placement.state == PLACEMENT_STATE_PENDING
    assert (placement.wanted_copies, placement.live_copies, placement.size_bytes) == (2, 0, 10)
    assert (placement.path, placement.content_id) == ("a.txt", CONTENT)
    assert len(chosen(placement)) == 2
    storing = {peer: beats for peer, beats in peers.items() if peer.id in chosen(placement)}
    assert len(storing) == 2
    for number, (peer, beats) in enumerate(storing.items()):
        answer = await beats.until(lambda answer: answer.directives)
        (directive,) = answer.directives
        assert answer.sequence == 0
        assert directive.store.placement_id == placement.placement_id
        assert (directive.store.content_id, directive.store.size_bytes) == (CONTENT, 10)
        assert told(await beats.beat()) == [placement.placement_id]
        await peer.publish(stored_content_ids=[CONTENT])
        assert told(await beats.beat()) == []
        assert (await current(network, placement)).live_copies == number + 1
    assert (await current(network, placement)).state == PLACEMENT_STATE_KEPT
    for peer, beats in peers.items():
        assert told(await beats.beat()) == [], peer.name


async def test_a_suspect_the_author_and_a_full_peer_are_never_chosen(network):
    author = await author_with_a_file(network)
    await author.live()
    await network.logged_in()
    await storers(network, 2, free_bytes=9)
    placement = await author.place(CONTENT, replicas=3)
    assert chosen(placement) == set()


async def test_a_holder_is_not_chosen(network):
    author = await author_with_a_file(network)
    holder, other = (await storers(network, 2)).keys()
    await holder.publish({"mine.txt": CONTENT})
    assert chosen(await author.place(CONTENT, replicas=2)) == {other.id}


async def test_promised_space_counts_as_used(network):
    author = await network.logged_in()
    await author.publish({"a": b"a" * 32, "b": b"b" * 32})
    (peer,) = await storers(network, 1, free_bytes=15)
    assert chosen(await author.place(b"a" * 32, path="a")) == {peer.id}
    assert chosen(await author.place(b"b" * 32, path="b")) == set()


async def test_a_placement_with_too_few_peers_is_filled_when_one_joins(network):
    author = await author_with_a_file(network)
    placement = await author.place(CONTENT, replicas=2)
    assert chosen(placement) == set()
    ((peer, beats),) = (await storers(network, 1)).items()
    answer = await beats.until(lambda answer: answer.directives)
    assert told(answer) == [placement.placement_id]
    assert chosen(await current(network, placement)) == {peer.id}


async def test_another_is_chosen_when_a_storing_peer_is_lost_before_it_confirmed(network):
    author = await author_with_a_file(network)
    peers = await storers(network, 2)
    placement = await author.place(CONTENT)
    (lost,) = [peer for peer in peers if peer.id in chosen(placement)]
    (other,) = [peer for peer in peers if peer is not lost]
    await lost.logout()
    assert told(await peers[other].until(lambda answer: answer.directives)) == [placement.placement_id]
    assert chosen(await current(network, placement)) == {other.id}


async def test_another_is_chosen_when_a_storing_peer_declines_and_it_is_not_asked_again(network):
    author = await author_with_a_file(network)
    peers = await storers(network, 2)
    placement = await author.place(CONTENT)
    (unwilling,) = [peer for peer in peers if peer.id in chosen(placement)]
    (other,) = [peer for peer in peers if peer is not unwilling]
    await unwilling.publish(declined=[pb2.DeclinedCopy(placement_id=placement.placement_id, reason="no room")])
    assert told(await peers[other].until(lambda answer: answer.directives)) == [placement.placement_id]
    assert told(await peers[unwilling].beat()) == []
    await other.publish(declined=[pb2.DeclinedCopy(placement_id=placement.placement_id)])
    await network.directory.upkeep.refill()
    assert chosen(await current(network, placement)) == set()


async def test_the_log_says_why_a_copy_was_declined_and_nothing_of_those_that_were_not(network, caplog):
    author = await author_with_a_file(network)
    ((unwilling, _),) = (await storers(network, 1)).items()
    placement = await author.place(CONTENT)
    with caplog.at_level(logging.INFO, "relevo.central"):
        await unwilling.publish(base_version=0)
        assert "declines" not in caplog.text
        refusal = pb2.DeclinedCopy(placement_id=placement.placement_id, reason="no room\x1b[2J")
        await unwilling.publish(declined=[refusal])
    assert f"peer {unwilling.id} declines a copy for placement {placement.placement_id}: no room\\x1b[2J" in caplog.text


async def test_new_bytes_at_the_path_take_the_placement_over_and_its_directives_end(network):
    author = await author_with_a_file(network)
    ((_, beats),) = (await storers(network, 1)).items()
    placement = await author.place(CONTENT)
    assert told(await beats.beat()) == [placement.placement_id]
    await author.publish({"a.txt": NEWER})
    await network.directory.upkeep.refill()
    answer = await beats.beat()
    assert to_drop(answer) == [CONTENT]  # it may be fetching that
    assert [one.store.content_id for one in answer.directives if one.HasField("store")] == [NEWER]


async def test_a_dropped_copy_is_replaced(network):
    author = await author_with_a_file(network)
    peers = await storers(network, 2)
    placement = await author.place(CONTENT)
    (first,) = [peer for peer in peers if peer.id in chosen(placement)]
    await first.publish(stored_content_ids=[CONTENT])
    await first.publish(dropped_content_ids=[CONTENT])
    await network.directory.upkeep.refill()
    assert (await current(network, placement)).live_copies == 0
    assert len(chosen(await current(network, placement))) == 1


async def test_placing_the_same_content_again_changes_the_wanted_number(network):
    author = await author_with_a_file(network)
    await storers(network, 4)
    first = await author.place(CONTENT, replicas=1)
    more = await author.place(CONTENT, replicas=3)
    assert more.placement_id == first.placement_id
    assert more.wanted_copies == 3
    assert chosen(first) < chosen(more)
    assert len(chosen(more)) == 3
    fewer = await author.place(CONTENT, replicas=1)
    assert (fewer.placement_id, fewer.wanted_copies) == (first.placement_id, 1)


async def test_a_repeated_place_is_answered_as_the_first_and_chooses_nobody_new(network):
    author = await author_with_a_file(network)
    await storers(network, 6)
    request = author.place_request(CONTENT, replicas=2)
    answers = await asyncio.gather(*(network.stub.PlaceFile(request) for _ in range(8)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert len(chosen(await current(network, answers[0].placement))) == 2
    await author.logout()
    assert await network.stub.PlaceFile(request) == answers[0]


async def test_only_the_author_can_place(network, fails_with):
    author, other = await author_with_a_file(network), await network.logged_in()
    request = other.place_request(CONTENT)
    request.signed.author = author.id
    with fails_with(errors.Unauthenticated):
        await network.stub.PlaceFile(request)
    request = author.place_request(CONTENT)
    request.signed.payload = pb2.PlaceFileDetails(content_id=CONTENT, path="a.txt", replicas=32).SerializeToString()
    with fails_with(errors.Unauthenticated):
        await network.stub.PlaceFile(request)
    request = pb2.PlaceFileRequest(signed=author.login_request().signed)
    with fails_with(errors.Unauthenticated, "was signed for"):
        await network.stub.PlaceFile(request)
    request = author.place_request(CONTENT)
    network.clock.advance(601)
    with fails_with(errors.ClockSkew):
        await network.stub.PlaceFile(request)


async def test_what_the_author_does_not_publish_cannot_be_placed(network, fails_with):
    author = await author_with_a_file(network)
    with fails_with(errors.NotFound, "does not publish"):
        await author.place(b"x" * 32)
    with fails_with(errors.NotFound, "does not publish"):
        await author.place(CONTENT, path="a name that others will look for.txt")
    with fails_with(errors.NotFound, "not logged in"):
        await network.peer().place(CONTENT)
    await author.logout()
    with fails_with(errors.NotFound, "not logged in"):
        await author.place(CONTENT)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": 33}, "replicas"),
        ({"path": "../a"}, "path"),
        ({"content": b"short"}, "content_id"),
        ({"request_id": "short"}, "signed.request_id"),
    ],
)
async def test_a_place_request_that_breaks_a_rule_names_the_field(network, fails_with, changed, field):
    author = await author_with_a_file(network)
    with fails_with(errors.InvalidInput) as caught:
        await author.place(**{"content": CONTENT, **changed})
    assert caught.error.field == field


async def test_an_unknown_placement_is_not_found(network, fails_with):
    with fails_with(errors.NotFound):
        await network.stub.GetPlacement(pb2.GetPlacementRequest(placement_id=new_request_id()))
    with fails_with(errors.InvalidInput) as caught:
        await network.stub.GetPlacement(pb2.GetPlacementRequest(placement_id="1"))
    assert caught.error.field == "placement_id"


async def test_no_more_than_a_hundred_directives_go_into_one_answer(network):
    author = await network.logged_in()
    contents = [number.to_bytes(32, "big") for number in range(150)]
    await author.publish({f"f{number}": content for number, content in enumerate(contents)})
    ((peer, beats),) = (await storers(network, 1)).items()
    for number, content in enumerate(contents):
        await author.place(content, path=f"f{number}")
    first = await beats.beat()
    assert len(first.directives) == 100
    done = [directive.store.content_id for directive in first.directives]
    await peer.publish(stored_content_ids=done)
    assert {directive.store.content_id for directive in (await beats.beat()).directives} == set(contents) - set(done)


async def test_the_size_of_a_placement_is_what_its_author_says_whoever_listed_the_file_first(network):
    liar = await network.logged_in()
    await liar.publish(added=[FileEntry(path="a.txt", content_id=CONTENT, size_bytes=2**47)])
    author = await author_with_a_file(network)
    peers = await storers(network, 1)
    placement = await author.place(CONTENT)
    assert placement.size_bytes == 10
    assert chosen(placement) == {peer.id for peer in peers}


async def test_any_number_of_pending_placements_is_filled_page_by_page(network, monkeypatch):
    monkeypatch.setattr("central.copies.upkeep.REFILL_PAGE", 2)
    author = await network.logged_in()
    contents = [number.to_bytes(32, "big") for number in range(7)]
    await author.publish({f"f{number}": content for number, content in enumerate(contents)})
    for number, content in enumerate(contents):
        await author.place(content, path=f"f{number}", replicas=2)
    ((peer, beats),) = (await storers(network, 1)).items()
    await network.directory.upkeep.refill()
    answer = await beats.beat()
    assert {directive.store.content_id for directive in answer.directives} == set(contents)
    await peer.publish(stored_content_ids=contents[:4])
    await author.publish({"f5": NEWER})
    await network.directory.upkeep.refill()
    wanted = {one.store.content_id for one in (await beats.beat()).directives if one.HasField("store")}
    assert wanted == {contents[4], contents[6], NEWER}
