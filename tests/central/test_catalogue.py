import asyncio
import json
from pathlib import Path

import pytest

from central import encode
from central.store.store import FoundHolder
from core import errors
from core.rpc import CENTRAL_MESSAGE
from core.signing import new_request_id
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry


def content(number):
    return number.to_bytes(32, "big")


async def listed(network, **request):
    return await network.stub.ListFiles(pb2.ListFilesRequest(**request))


async def paths(network, **request):
    return [file.path for file in (await listed(network, **request)).files]


async def pages(call, request, field):
    """Returns the items of all pages, of which each but the last has a token."""
    items = []
    while True:
        page = await call(request)
        items += getattr(page, field)
        if not page.next_page_token:
            return items
        request.page_token = page.next_page_token


async def test_published_files_are_listed_with_all_that_is_known_of_them(network):
    peer, other = await network.logged_in(), await network.logged_in()
    file = FileEntry(path="d/a b.txt", content_id=content(1), size_bytes=5, executable=True)
    file.modify_time.FromSeconds(1_600_000_000)
    assert (await peer.publish(added=[file])).catalogue_version == peer.version
    await other.publish({"other.txt": content(1)})
    (found,) = (await listed(network, query="a b")).files
    assert (found.path, found.content_id, found.size_bytes, found.executable) == ("d/a b.txt", content(1), 5, True)
    assert found.modify_time.seconds == 1_600_000_000
    assert found.publish_time.seconds == int(network.clock.wall())
    assert found.holder_count == 2


async def test_a_batch_replaces_removes_and_starts_over(network):
    peer = await network.logged_in()
    await peer.publish({"a": content(1), "b": content(2)})
    await peer.publish({"a": content(3)}, removed_paths=["b", "never/there"])
    assert [(file.path, file.content_id) for file in (await listed(network)).files] == [("a", content(3))]
    await peer.publish({"c": content(4)}, base_version=0)
    assert await paths(network) == ["c"]


async def test_versions_count_upwards_from_one_that_no_earlier_library_had(network):
    peer = await network.logged_in()
    seen = set()
    for _ in range(5):
        await peer.publish({"a": content(1)}, base_version=0)
        first = peer.version
        await peer.publish({"b": content(2)})
        assert peer.version == first + 1
        seen |= {first, first + 1}
    assert len(seen) == 10
    assert 0 not in seen


async def test_a_batch_on_another_version_is_a_conflict_that_tells_centrals(network, fails_with):
    peer = await network.logged_in()
    await peer.publish({"a": content(1)})
    held = peer.version
    with fails_with(errors.VersionConflict) as caught:
        await peer.publish({"b": content(1)}, base_version=held + 6)
    assert caught.error.metadata["version"] == str(held)
    assert await paths(network) == ["a"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"peer_id": ""}, "peer_id"),
        ({"session_id": "s"}, "session_id"),
        ({"request_id": "r"}, "request_id"),
        ({"base_version": 2**63}, "base_version"),
        ({"added": [FileEntry(path="../up", content_id=bytes(32))]}, "added[0].path"),
        ({"added": [FileEntry(path="a", content_id=bytes(31))]}, "added[0].content_id"),
        ({"added": [FileEntry(path="a", content_id=bytes(32), size_bytes=2**47 + 1)]}, "added[0].size_bytes"),
        (
            {"added": [FileEntry(path="a", content_id=bytes(32), modify_time={"seconds": 2**60})]},
            "added[0].modify_time",
        ),
        ({"added": [FileEntry(path="a", content_id=bytes(32), modify_time={"nanos": -1})]}, "added[0].modify_time"),
        ({"added": [FileEntry(path="a", content_id=bytes(32))] * 2}, "added"),
        ({"added": [FileEntry(path="a", content_id=bytes(32))], "removed_paths": ["a"]}, "added"),
        ({"removed_paths": ["/etc/passwd"]}, "removed_paths[0]"),
        ({"removed_paths": [f"f{number}" for number in range(1001)]}, "added"),
        ({"stored_content_ids": [b"x"]}, "stored_content_ids[0]"),
        ({"stored_content_ids": [bytes(32)], "dropped_content_ids": [bytes(32)]}, "stored_content_ids"),
        ({"stored_content_ids": [bytes(32)] * 1001}, "stored_content_ids"),
        ({"dropped_content_ids": [b"x"]}, "dropped_content_ids[0]"),
        ({"declined": [pb2.DeclinedCopy(placement_id="x")]}, "declined[0].placement_id"),
        ({"declined": [pb2.DeclinedCopy(placement_id="0" * 32, reason="x" * 501)]}, "declined[0].reason"),
    ],
)
async def test_a_batch_that_breaks_a_rule_names_the_field_and_changes_nothing(network, fails_with, changed, field):
    peer = await network.logged_in()
    await peer.publish({"kept": content(1)})
    with fails_with(errors.InvalidInput) as caught:
        await peer.publish(**changed)
    assert caught.error.field == field
    assert await paths(network) == ["kept"]


def corpus(name):
    lines = (Path(__file__).parents[1] / "data" / name).read_text("utf-8").splitlines()
    names = [json.loads(line) for line in lines if line and not line.startswith("#")]
    return [name for name in names if not any("\ud800" <= char <= "\udfff" for char in name)]  # protobuf refuses these


async def test_every_hostile_name_is_refused_wherever_a_path_stands(network, fails_with):
    peer = await network.logged_in()
    await peer.publish({"kept": content(1)})
    for name in corpus("hostile_names.txt"):
        for request in (peer.publish_request({name: content(1)}), peer.publish_request(removed_paths=[name])):
            with fails_with(errors.InvalidInput):
                await network.stub.PublishFiles(request)
        with fails_with(errors.InvalidInput):
            await peer.place(content(1), path=name)
    assert await paths(network) == ["kept"]


async def test_every_allowed_name_is_published_and_listed_as_it_is(network):
    peer = await network.logged_in()
    names = corpus("allowed_names.txt")
    await peer.publish(dict.fromkeys(names, content(1)))
    assert sorted(await paths(network, page_size=1000)) == sorted(set(names))


async def test_a_repeated_publish_is_answered_as_the_first_and_changes_nothing(network):
    peer = await network.logged_in()
    request = peer.publish_request({"a": content(1)})
    answers = await asyncio.gather(*(network.stub.PublishFiles(request) for _ in range(10)))
    (first,) = {answer.catalogue_version for answer in answers}
    peer.version = first
    await peer.publish(removed_paths=["a"])
    assert (await network.stub.PublishFiles(request)).catalogue_version == first
    assert await paths(network) == []
    await peer.login()
    assert peer.version == first + 1


async def test_a_repeated_publish_is_answered_even_when_the_session_has_ended(network, fails_with):
    peer = await network.logged_in()
    request = peer.publish_request({"a": content(1)})
    first = await network.stub.PublishFiles(request)
    await network.pass_time(8)
    assert await network.stub.PublishFiles(request) == first
    request.request_id = new_request_id()
    with fails_with(errors.SessionUnknown):
        await network.stub.PublishFiles(request)


async def test_receipts_are_forgotten_only_after_requests_have_become_too_old(network, fails_with):
    peer = network.peer()
    request = peer.login_request()
    first = await network.stub.Login(request)
    network.clock.advance(599)
    await network.directory.purge()
    assert await network.stub.Login(request) == first
    network.clock.advance(2)
    await network.directory.purge()
    with fails_with(errors.ClockSkew):
        await network.stub.Login(request)


@pytest.mark.parametrize("order", [0, 1, 2])
async def test_a_list_in_pages_is_the_whole_list_in_order(network, order):
    peer, other = await network.logged_in(), await network.logged_in()
    for number in range(3):
        network.clock.advance(1)
        await peer.publish({f"{letter}{number}": content(number) for letter in "ZaB"})
        await other.publish({f"{letter}{number}": content(number) for letter in "Zy"})
    request = pb2.ListFilesRequest(order=order, page_size=2)
    found = [file.path for file in await pages(network.stub.ListFiles, request, "files")]
    if order == pb2.FILE_ORDER_BY_NAME:
        assert found == ["a0", "a1", "a2", "B0", "B1", "B2", "y0", "y1", "y2", "Z0", "Z1", "Z2"]
    else:
        assert [path[1] for path in found] == ["2"] * 4 + ["1"] * 4 + ["0"] * 4
    assert len(set(found)) == 12


async def test_a_list_that_would_be_too_large_for_a_message_ends_early_and_goes_on(network):
    peer = await network.logged_in()
    names = [f"{'/'.join(['d' * 250] * 16)}/{number:04}" for number in range(300)]
    for start in (0, 150):
        await peer.publish(dict.fromkeys(names[start : start + 150], content(1)))
    for order in (pb2.FILE_ORDER_NEWEST_FIRST, pb2.FILE_ORDER_BY_NAME):
        first = await listed(network, page_size=1000, order=order)
        assert 200 < len(first.files) < 300
        request = pb2.ListFilesRequest(page_size=1000, order=order)
        found = [file.path for file in await pages(network.stub.ListFiles, request, "files")]
        assert sorted(found) == names


async def test_a_page_token_holds_for_its_filter_and_order_only(network, fails_with):
    peer = await network.logged_in()
    await peer.publish({f"a{number}": content(number) for number in range(5)})
    token = (await listed(network, query="a", page_size=2)).next_page_token
    assert len((await listed(network, query="a", page_size=3, page_token=token)).files) == 3
    for changed in ({"query": "b"}, {"query": "a", "order": pb2.FILE_ORDER_BY_NAME}, {"reference": "a"}, {}):
        with fails_with(errors.InvalidInput) as caught:
            await listed(network, page_token=token, **changed)
        assert caught.error.field == "page_token"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"query": "x" * 4097}, "query"),
        ({"reference": "x" * 4097}, "reference"),
        ({"reference": ""}, "reference"),
        ({"order": 3}, "order"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
    ],
)
async def test_a_list_request_that_breaks_a_rule_names_the_field(network, fails_with, request_, field):
    with fails_with(errors.InvalidInput) as caught:
        await listed(network, **request_)
    assert caught.error.field == field


async def test_a_reference_finds_a_path_a_name_or_a_content_id(network):
    peer = await network.logged_in()
    await peer.publish({"d/ñ.txt": b"\xab\xcd" + bytes(30), "e/x.txt": content(2)})
    assert await paths(network, reference="d/ñ.txt") == ["d/ñ.txt"]
    assert await paths(network, reference="n\u0303.txt") == ["d/ñ.txt"]
    assert await paths(network, reference="abcd") == ["d/ñ.txt"]


async def test_every_live_holder_is_located_in_pages(network):
    peers = [await network.logged_in() for _ in range(5)]
    for peer in peers:
        await peer.publish({f"{peer.name}.bin": content(9)})
    await peers[0].logout()
    request = pb2.LocateFileRequest(content_id=content(9), page_size=2)
    holders = await pages(network.stub.LocateFile, request, "holders")
    assert [holder.peer.peer_id for holder in holders] == sorted(peer.id for peer in peers[1:])
    assert all(holder.complete and holder.peer.addresses for holder in holders)
    assert (await network.stub.LocateFile(request)).size_bytes == 10


async def test_a_content_that_nobody_holds_is_not_found(network, fails_with):
    with fails_with(errors.NotFound):
        await network.stub.LocateFile(pb2.LocateFileRequest(content_id=content(1)))
    with fails_with(errors.InvalidInput) as caught:
        await network.stub.LocateFile(pb2.LocateFileRequest(content_id=b"x"))
    assert caught.error.field == "content_id"
    with fails_with(errors.InvalidInput):
        await network.stub.LocateFile(pb2.LocateFileRequest(content_id=content(1), page_size=-1))


async def test_many_contents_are_located_in_one_call_and_each_holder_is_described_once(network, fails_with):
    peers = [await network.logged_in() for _ in range(3)]
    for peer in peers:
        await peer.publish({f"{peer.name}-{number}": content(number) for number in range(20)})
    request = pb2.LocateFilesRequest(content_ids=[content(number) for number in (3, 99, 5)])
    answer = await network.stub.LocateFiles(request)
    assert sorted(holder.peer.peer_id for holder in answer.holders) == sorted(peer.id for peer in peers)
    assert all(holder.complete and holder.peer.addresses for holder in answer.holders)
    assert [sorted(file.holders) for file in answer.files] == [[0, 1, 2], [], [0, 1, 2]]
    for ids in ([], [content(1)] * 501, [b"x"]):
        with fails_with(errors.InvalidInput) as caught:
            await network.stub.LocateFiles(pb2.LocateFilesRequest(content_ids=ids))
        assert caught.error.field == "content_ids"


def test_an_answer_about_many_contents_ends_before_it_is_too_large_for_a_message():
    addresses = tuple(f"{'h' * 200}-{number}.example:1" for number in range(16))
    found = [[FoundHolder(f"{of_one}-{number}".ljust(52, "a"), "n" * 64, addresses) for number in range(8)]
             for of_one in range(500)]  # fmt: skip
    answer = encode.located_files(found, (), lambda _: True)
    assert CENTRAL_MESSAGE * 0.8 < answer.ByteSize() < CENTRAL_MESSAGE
    assert 1 < len(answer.files) < 500
    for of_one, file in zip(found, answer.files, strict=False):
        assert [answer.holders[at].peer.peer_id for at in file.holders] == [each.peer_id for each in of_one]


async def test_a_directory_is_listed_whatever_its_name_means_in_a_pattern(network, fails_with):
    peer = await network.logged_in()
    await peer.publish({"d [1]*/x": content(1), "d 1/x": content(2)})
    assert await paths(network, directory="d [1]*") == ["d [1]*/x"]
    for wrong in ("", "/", "d/", "../d", "d//e"):
        with fails_with(errors.InvalidInput) as caught:
            await listed(network, directory=wrong)
        assert caught.error.field == "directory"


async def test_the_version_in_the_beat_follows_what_is_published(network):
    peer = await network.logged_in()
    beats = await peer.live()
    await peer.publish({"a": content(1)})
    first = peer.version
    await peer.publish({"b": content(1)})
    assert (await beats.beat()).catalogue_version == peer.version == first + 1
