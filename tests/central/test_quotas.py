"""What one peer may have at central: the row after the last is refused, and who is over a limit can still shrink."""

import asyncio
from dataclasses import fields, replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from central import process
from central.__main__ import cli
from central.catalogue.reputation import MEMORY, Reputation
from central.quotas import Held, Placed, Quotas, check_held, check_placed, check_reports
from core import errors
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry

counts = st.integers(0, 6)
held = st.builds(Held, counts, counts, counts)
placed = st.builds(Placed, counts, counts)
limits = st.builds(
    Quotas, entries=counts, path_bytes=counts, copies=counts, placements=counts, placed_bytes=counts, reports=counts
)


def content(number):
    return number.to_bytes(32, "big")


# The rule


def refusal(check, quotas, before, after):
    """Returns the limit that a change is refused for, or None."""
    try:
        check(quotas, before, after)
    except errors.OverQuota as error:
        return error.metadata["quota"]
    return None


def grown_beyond(quotas, before, after):
    names = [field.name for field in fields(after)]
    grown = [name for name in names if getattr(after, name) > getattr(before, name)]
    return [name for name in grown if getattr(after, name) > getattr(quotas, name)]


@given(limits, held, held)
def test_only_what_grows_beyond_a_limit_is_refused(quotas, before, after):
    assert refusal(check_held, quotas, before, after) in (grown_beyond(quotas, before, after) or [None])


@given(limits, placed, placed)
def test_the_same_holds_for_placements(quotas, before, after):
    assert refusal(check_placed, quotas, before, after) in (grown_beyond(quotas, before, after) or [None])


def test_a_refusal_says_the_limit_what_to_do_and_when_to_come_back():
    with pytest.raises(errors.OverQuota) as caught:
        check_held(Quotas(), Held(), Held(entries=1_000_001))
    assert str(caught.value) == (
        "central lets one peer have 1,000,000 files, and this would be more; remove or ignore some of them, "
        "or have central's operator raise --max-entries"
    )
    assert caught.value.retry_after == 60.0
    with pytest.raises(errors.OverQuota, match=r"10 TiB of copies on other peers.*--max-placed-bytes"):
        check_placed(Quotas(), Placed(), Placed(1, (10 << 40) + 1))
    with pytest.raises(errors.OverQuota, match="5 bytes of paths"):
        check_held(Quotas(path_bytes=5), Held(), Held(1, 6))
    with pytest.raises(errors.OverQuota, match="100 holders") as caught:
        check_reports(Quotas(), 101, 12.5)
    assert caught.value.retry_after == 12.5


# The catalogue


async def limited(network, **quotas):
    """Restarts central with these limits."""
    network.settings = replace(network.settings, quotas=Quotas(**{"retry_after": 7.0, **quotas}))
    await network.restart()


async def listed(network):
    return sorted(file.path for file in (await network.stub.ListFiles(pb2.ListFilesRequest())).files)


async def test_the_row_after_the_last_is_refused_with_all_of_its_batch_and_no_receipt(network, fails_with):
    await limited(network, entries=3)
    peer, other = await network.logged_in(), await network.logged_in()
    await peer.publish({"a": content(1), "b": content(2), "c": content(3)})
    request = peer.publish_request({"d": content(4), "a": content(9)}, stored_content_ids=[content(7)])
    with fails_with(errors.OverQuota, "3 files") as caught:
        await network.stub.PublishFiles(request)
    assert caught.error.retry_after == 7.0
    assert await listed(network) == ["a", "b", "c"]
    with fails_with(errors.NotFound):
        await network.stub.LocateFile(pb2.LocateFileRequest(content_id=content(7)))
    await peer.publish(removed_paths=["b", "c"])  # the version is as it was
    request.base_version = peer.version
    await network.stub.PublishFiles(request)  # the same request id was not answered before
    assert await listed(network) == ["a", "d"]
    await other.publish({"of another": content(1)})


async def test_replacing_renaming_and_removing_work_at_the_limit(network):
    await limited(network, entries=2, path_bytes=2)
    peer = await network.logged_in()
    await peer.publish({"a": content(1), "b": content(2)})
    await peer.publish({"a": content(3), "b": content(4)})
    await peer.publish({"c": content(4)}, removed_paths=["b"])
    assert await listed(network) == ["a", "c"]
    await peer.publish({"x": content(1), "y": content(1)}, base_version=0)
    await peer.publish(removed_paths=["x", "never"])
    await peer.publish({"z": content(1)})
    assert await listed(network) == ["y", "z"]


async def test_starting_over_is_no_way_round_the_limit(network, fails_with):
    await limited(network, entries=2)
    peer = await network.logged_in()
    await peer.publish({"a": content(1), "b": content(1)})
    with fails_with(errors.OverQuota):
        await peer.publish({"x": content(1), "y": content(1), "z": content(1)}, base_version=0)
    assert await listed(network) == ["a", "b"]


async def test_paths_count_by_their_bytes(network, fails_with):
    await limited(network, path_bytes=4096)
    peer = await network.logged_in()
    long = "/".join(["ñ" * 127] * 16)
    await peer.publish({long: content(1)})
    with fails_with(errors.OverQuota, "4 KiB of paths"):
        await peer.publish({"x" * 20: content(2)})
    await peer.publish({"x" * (4096 - len(long.encode())): content(2)})


async def test_a_peer_that_had_more_before_the_limit_was_lowered_may_still_shrink(network, fails_with):
    peer = await network.logged_in()
    await peer.publish({str(number): content(number) for number in range(6)}, stored_content_ids=[content(9)])
    await limited(network, entries=2, copies=1)
    await peer.login()
    await peer.publish({"0": content(7)}, removed_paths=["1"])
    await peer.publish({"new": content(7)}, removed_paths=["2", "3"])
    with fails_with(errors.OverQuota):
        await peer.publish({"one more": content(7)})
    await peer.publish(removed_paths=["4", "5"])
    assert await listed(network) == ["0", "new"]


async def test_what_a_peer_published_counts_for_it_when_it_comes_back(network, fails_with):
    await limited(network, entries=2, placements=1)
    peer = await network.logged_in()
    await peer.publish({"a": content(1), "b": content(2)})
    await peer.place(content(1), path="a")
    await peer.logout()
    await network.restart()
    other = await network.logged_in()
    await other.publish({"x": content(1), "y": content(2)})
    await peer.login()
    with fails_with(errors.OverQuota):
        await peer.publish({"c": content(3)})
    with fails_with(errors.OverQuota):
        await peer.place(content(2), path="b")


async def test_batches_at_once_do_not_pass_together(network):
    await limited(network, entries=10)
    peer = await network.logged_in()
    await peer.publish({str(number): content(1) for number in range(9)})
    requests = [peer.publish_request({f"n{number}": content(1)}) for number in range(8)]
    answers = await asyncio.gather(*map(network.stub.PublishFiles, requests), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert len(await listed(network)) == 10


async def test_copies_for_others_are_limited_too(network, fails_with):
    await limited(network, copies=2)
    peer = await network.logged_in()
    await peer.publish(stored_content_ids=[content(1), content(2)])
    await peer.publish(stored_content_ids=[content(1), content(2)])  # named again, they are no more
    with fails_with(errors.OverQuota, "2 copies for others"):
        await peer.publish(stored_content_ids=[content(3)])
    await peer.publish(stored_content_ids=[content(3)], dropped_content_ids=[content(1), content(8)])
    await peer.publish(dropped_content_ids=[content(2)])
    await peer.publish(stored_content_ids=[content(4)])
    with fails_with(errors.OverQuota):
        await peer.publish(stored_content_ids=[content(5)])


# Placements


async def author_of(network, count, size=10):
    author = await network.logged_in()
    await author.publish(added=[FileEntry(path=str(n), content_id=content(n), size_bytes=size) for n in range(count)])
    return author


async def test_the_placement_after_the_last_is_refused_and_chooses_nobody(network, fails_with):
    await limited(network, placements=2)
    author = await author_of(network, 3)
    storer = await network.logged_in()
    beats = await storer.live()
    for number in range(2):
        await author.place(content(number), path=str(number))
    request = author.place_request(content(2), path="2")
    with fails_with(errors.OverQuota, "2 files to be copied") as caught:
        await network.stub.PlaceFile(request)
    assert caught.error.retry_after == 7.0
    assert len((await beats.beat()).directives) == 2
    assert (await author.place(content(1), path="1", replicas=3)).wanted_copies == 3
    await author.publish({"0": content(8)})  # the placement goes on to other bytes, and is no further one
    with fails_with(errors.OverQuota):
        await network.stub.PlaceFile(request)
    await author.end(content(8))
    assert (await network.stub.PlaceFile(request)).placement.path == "2"


async def test_wanted_bytes_count_by_size_and_copies_and_a_change_by_its_difference(network, fails_with):
    await limited(network, placed_bytes=100)
    author = await author_of(network, 3)
    await author.place(content(0), path="0", replicas=8)
    with fails_with(errors.OverQuota, "100 bytes of copies on other peers"):
        await author.place(content(0), path="0", replicas=11)
    await author.place(content(0), path="0", replicas=10)
    with fails_with(errors.OverQuota):
        await author.place(content(1), path="1")
    await author.place(content(0), path="0", replicas=9)
    await author.place(content(1), path="1")
    with fails_with(errors.OverQuota):
        await author.place(content(1), path="1", replicas=2)
    await limited(network, placed_bytes=50)
    await author.login()
    await author.place(content(0), path="0", replicas=8)
    with fails_with(errors.OverQuota):
        await author.place(content(0), path="0", replicas=9)


async def test_wishes_at_once_do_not_pass_together(network):
    await limited(network, placements=3)
    author = await author_of(network, 9)
    wishes = (author.place(content(number), path=str(number)) for number in range(9))
    answers = await asyncio.gather(*wishes, return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 3


# Reports


def test_one_reporter_cannot_make_central_forget_what_others_say():
    reputation = Reputation(Quotas(reports=2))
    for reporter in ("r1", "r2", "r3"):
        reputation.accuse("liar", reporter, 0.0)
    reputation.accuse("a", "flood", 10.0)
    reputation.accuse("b", "flood", 20.0)
    reputation.accuse("a", "flood", 30.0)  # said twice, it is no more
    with pytest.raises(errors.OverQuota) as caught:
        reputation.accuse("c", "flood", 30.0)
    assert caught.value.retry_after == 20.0 + MEMORY - 30.0
    assert reputation.doubted("liar", 30.0)
    reputation.accuse("c", "flood", 20.0 + MEMORY)
    with pytest.raises(errors.OverQuota):
        reputation.accuse("d", "flood", 20.0 + MEMORY)


def test_who_has_long_been_silent_is_forgotten():
    reputation = Reputation(Quotas())
    for number in range(50):
        reputation.accuse("liar", f"r{number}", float(number))
    reputation.accuse("liar", "last", 20.0 + MEMORY)
    assert len(reputation._told) == 30


async def test_the_report_after_the_last_is_refused(network, fails_with):
    await limited(network, reports=2)
    peer = await network.logged_in()

    def report(letter):
        said = {"content_id": content(1), "holder_peer_id": letter * 52, "fault": pb2.HOLDER_FAULT_WRONG_BYTES}
        request = pb2.ReportHolderRequest(peer_id=peer.id, session_id=peer.session_id, **said)
        return network.stub.ReportHolder(request)

    for letter in "aba":
        await report(letter)
    with fails_with(errors.OverQuota, "2 holders reported within the hour") as caught:
        await report("c")
    assert caught.error.retry_after > 100
    network.clock.advance(MEMORY)
    await report("c")


# The settings


def test_every_limit_is_an_option(monkeypatch):
    ran = []
    monkeypatch.setattr(process, "run", lambda *given, **named: ran.append((given, named)))
    chosen = {"entries": 10, "path_bytes": 5000, "copies": 3, "placements": 0, "placed_bytes": 7, "reports": 1}
    flags = [f"--max-{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    result = CliRunner().invoke(cli, ["serve", *flags], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert Quotas(**chosen) in [each.quotas for each in ran[0][0] if hasattr(each, "quotas")]


@pytest.mark.parametrize("flag", ["--max-entries=0", "--max-path-bytes=4095", "--max-reports=-1", "--max-copies=x"])
def test_a_limit_that_cannot_be_is_refused(flag):
    assert CliRunner().invoke(cli, ["serve", flag]).exit_code == 2
