"""Who is fetching what: by itself, and as peers tell and ask over the wire."""

from collections import defaultdict
from random import Random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.catalogue.catalogue import PARTIAL_HOLDERS
from central.catalogue.fetching import Fetching
from core import errors
from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2

ID = b"f" * 32
OTHER = b"o" * 32


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sets(st.sampled_from([b"1", b"2", b"3"])))), st.integers(1, 5))
def test_what_each_peer_said_last_counts(said, most):
    fetching, last = Fetching(), defaultdict(set)
    for peer_id, content_ids in said:
        fetching.update(peer_id, tuple(content_ids))
        last[peer_id] = content_ids
        for content_id in (b"1", b"2", b"3"):
            peers = {peer for peer, ids in last.items() if content_id in ids}
            assert set(fetching.some(content_id, 10, Random(0))) == peers
            some = fetching.some(content_id, most, Random(0))
            assert len(set(some)) == len(some) == min(most, len(peers))
    for peer_id in "abcd":
        fetching.update(peer_id, ())
    assert not fetching._by_peer
    assert not fetching._by_content


def test_of_many_others_are_named_each_time():
    fetching, random = Fetching(), Random(1)
    for number in range(100):
        fetching.update(str(number), [ID])
    assert len({name for _ in range(40) for name in fetching.some(ID, 10, random)}) > 90


async def located(network, content_id=ID, **more):
    """The holders as {peer id: complete}; none when it is not found."""
    try:
        answer = await network.stub.LocateFile(pb2.LocateFileRequest(content_id=content_id, **more))
    except grpc.RpcError as error:
        assert type(from_rpc_error(error)) is errors.NotFound  # noqa: PT017 - both are looked for
        return {}
    return {holder.peer.peer_id: holder.complete for holder in answer.holders}


async def test_a_peer_that_fetches_is_named_from_its_next_beat_on_until_one_without(network):
    owner, peer = await network.logged_in(), await network.logged_in()
    await owner.publish({"a.bin": ID})
    beats = await peer.live()
    assert await located(network) == {owner.id: True}
    await beats.beat(fetching_content_ids=[ID, OTHER])
    assert await located(network) == {owner.id: True, peer.id: False}
    assert await located(network, OTHER) == {peer.id: False}, "it may have all that there is of it"
    await beats.beat(fetching_content_ids=[OTHER])
    assert await located(network) == {owner.id: True}
    await beats.beat()
    assert await located(network, OTHER) == {}


async def test_a_peer_that_has_published_what_it_fetched_is_named_as_complete_at_once(network):
    peer = await network.logged_in()
    beats = await peer.live()
    await beats.beat(fetching_content_ids=[ID])
    await peer.publish({"a.bin": ID})
    assert await located(network) == {peer.id: True}


@pytest.mark.parametrize("how", ["logout", "expiry", "login"])
async def test_a_peer_that_has_left_is_fetching_nothing(network, how):
    peer = await network.logged_in()
    await (await peer.live()).beat(fetching_content_ids=[ID])
    assert await located(network) == {peer.id: False}
    match how:
        case "logout":
            await peer.logout()
        case "expiry":
            await network.pass_time(60)
        case "login":
            await peer.login()
    assert await located(network) == {}
    assert not network.directory.roster.fetching._by_peer


async def test_a_central_that_has_restarted_knows_again_with_the_next_beat(network):
    peer = await network.logged_in()
    await (await peer.live()).beat(fetching_content_ids=[ID])
    await network.restart()
    assert await located(network) == {}
    await peer.stream().beat(fetching_content_ids=[ID])
    assert await located(network) == {peer.id: False}


@pytest.mark.parametrize(
    "ids", [[bytes([number]) * 32 for number in range(65)], [b"short"], [ID, b"x" * 33], [ID, b""]]
)
async def test_a_beat_names_few_contents_and_each_by_its_whole_id(network, fails_with, ids):
    peer = await network.logged_in()
    beats = await peer.live()
    with fails_with(errors.InvalidInput) as caught:
        await beats.beat(fetching_content_ids=ids)
    assert caught.error.field == "fetching_content_ids"
    assert await located(network) == {}


async def test_as_many_as_a_beat_may_name_are_named(network):
    peer = await network.logged_in()
    ids = [bytes([number]) * 32 for number in range(64)]
    await (await peer.live()).beat(fetching_content_ids=ids)
    assert await located(network, ids[63]) == {peer.id: False}


async def test_peers_that_fetch_share_the_first_page_with_complete_holders_and_none_is_left_out(network):
    owners = [await network.logged_in() for _ in range(5)]
    for owner in owners:
        await owner.publish({f"{owner.name}.bin": ID})
    fetching = [await network.logged_in() for _ in range(4)]
    for peer in fetching:
        await (await peer.live()).beat(fetching_content_ids=[ID])
    for size in range(1, 12):
        request, found, count = pb2.LocateFileRequest(content_id=ID, page_size=size), [], 0
        while count == 0 or request.page_token:
            page = await network.stub.LocateFile(request)
            assert len(page.holders) <= size, "a longer page would be taken for a lie of whoever carried it"
            assert page.size_bytes == 10
            found += [holder.peer.peer_id for holder in page.holders if holder.complete]
            partial = {holder.peer.peer_id for holder in page.holders if not holder.complete}
            assert partial <= ({peer.id for peer in fetching} if count == 0 else set())
            assert bool(partial) == (count == 0 and size > 1)
            request.page_token, count = page.next_page_token, count + 1
        assert found == sorted(owner.id for owner in owners)


async def test_of_very_many_that_fetch_some_are_named(network):
    for number in range(PARTIAL_HOLDERS + 5):
        peer = await network.logged_in(addresses=[f"127.0.0.1:{number + 1}"])
        network.directory.roster.fetching.update(peer.id, [ID])
    assert len(await located(network)) == PARTIAL_HOLDERS
    assert len(await located(network, page_size=7)) == 7


def test_of_few_enough_peers_each_comes_first_for_somebody():
    fetching, random = Fetching(), Random(1)
    for number in range(40):
        fetching.update(f"peer-{number:02}", [ID])
    assert {fetching.some(ID, 50, random)[0] for _ in range(400)} == {f"peer-{number:02}" for number in range(40)}
