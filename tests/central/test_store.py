"""The contract of central's storage, run on every engine. A further engine is one more line in ENGINES."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from central.quotas import Quotas
from central.store.sqlite_store import SqliteStore
from central.store.store import (
    Batch,
    Copy,
    Entry,
    FileQuery,
    FoundHolder,
    Order,
    PeerRecord,
    PlacedContent,
    PlacementRecord,
    Receipt,
    SessionEnd,
    Store,
)
from core.errors import InvalidInput, NotFound, OverQuota, SessionUnknown, VersionConflict

ENGINES = {"sqlite": SqliteStore.open}

ANA, BEA, CAI, DOA = (letter * 52 for letter in "abcd")
X, Y, Z = (bytes([number]) * 32 for number in (0x0A, 0xBB, 0xCC))

QUOTAS = Quotas()


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


@pytest.fixture
async def store(engine, tmp_path):
    opened = await engine(tmp_path / "data")
    yield opened
    await opened.close()


def receipts():
    number = 0

    def receipt(author=ANA, now=100.0, answer=b"answer"):
        nonlocal number
        number += 1
        return Receipt(author, f"{number:032x}", answer, now)

    return receipt


fresh = receipts()


def peer(peer_id, joined=1, session=None):
    return PeerRecord(peer_id, b"key of " + peer_id.encode(), f"peer {peer_id[0]}", ("h:1", "[::1]:2"),
                      session or peer_id[0] * 32, joined, 50.0 + joined, free_bytes=1000)  # fmt: skip


def entry(path, content=X, size=10, modify_time=5.0, *, executable=False):
    return Entry(path, content, size, modify_time, executable)


async def join(store, *peer_ids):
    for joined, peer_id in enumerate(peer_ids, start=1):
        await store.login(peer(peer_id, joined), fresh(peer_id))


async def leave(store, *peer_ids, now=200.0):
    await store.end_sessions([peer_id[0] * 32 for peer_id in peer_ids], SessionEnd.LOGOUT, now, None)


async def publish(store, peer_id, *added, now=100.0, quotas=QUOTAS, **changes):
    base = await store.catalogue_version(peer_id)
    await store.publish(peer_id, Batch(base, added=added, **changes), fresh(peer_id, now), quotas)


async def place(store, *, author=ANA, content=X, path="f", wanted=2, copies=(), number=1, size=10, quotas=QUOTAS):
    record = PlacementRecord(f"{number:032x}", author, content, path, size, wanted, tuple(map(Copy, copies)))
    await store.place(record, fresh(author), quotas)
    return record.placement_id


async def all_unsettled(store):
    """Returns all placements that are to be looked at, read page by page."""
    found, after = [], 0
    while after is not None:
        page = await store.unsettled_placements(after, 2)
        found += page.items
        after = page.next
    return found


async def listed(store, text="", **query):
    return [file.path for file in (await store.list_files(FileQuery(text=text, **query))).items]


async def test_a_directory_lists_what_is_beneath_it_and_nothing_else_in_pages(store):
    await join(store, ANA)
    inside = ["d/a", "d/B", "d/b", "d/e/deep/x", "d/é"]
    others = ["d", "D/a", "d!/x", "d0", "da/x", "e/d/x"]
    await publish(store, ANA, *(entry(path) for path in inside + others))
    for order in Order:
        assert sorted(await listed(store, directory="d", order=order)) == sorted(inside)
        found, after = [], None
        while True:
            page = await store.list_files(FileQuery(directory="d", order=order, after=after, limit=2))
            found += [file.path for file in page.items]
            if (after := page.next) is None:
                break
        assert sorted(found) == sorted(inside)
    assert await listed(store, directory="d", order=Order.BY_NAME) == ["d/a", "d/B", "d/b", "d/e/deep/x", "d/é"]
    assert await listed(store, directory="d/e/deep") == ["d/e/deep/x"]
    assert await listed(store, directory="d/a") == []


async def test_many_contents_are_located_at_once_each_at_a_few_of_its_holders(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("x", X), entry("y", Y))
    await publish(store, BEA, entry("x", X))
    await publish(store, CAI, stored=(X,))
    found = await store.locate_many([Y, Z, X, Y], 8)
    assert [[holder.peer_id for holder in sorted(of_one, key=str)] for of_one in found] == [
        [ANA], [], [ANA, BEA, CAI], [ANA],
    ]  # fmt: skip
    assert found[0] == [FoundHolder(ANA, "peer a", ("h:1", "[::1]:2"))]
    seen = {holder.peer_id for _ in range(40) for holder in (await store.locate_many([X], 1))[0]}
    assert seen == {ANA, BEA, CAI}, "the load is spread"
    await leave(store, ANA)
    assert [len(of_one) for of_one in await store.locate_many([X, Y], 8)] == [2, 0]


# Sessions and receipts


async def test_a_login_makes_a_live_peer(store):
    await join(store, BEA, ANA)
    assert await store.live_peers() == [peer(BEA, 1), peer(ANA, 2)]
    assert await store.public_key(ANA) == b"key of " + ANA.encode()
    assert await store.public_key(CAI) is None


async def test_a_peer_may_offer_more_bytes_than_a_column_holds(store):
    await store.login(replace(peer(ANA), free_bytes=2**64 - 1), fresh())
    assert (await store.live_peers())[0].free_bytes >= 2**62


async def test_a_newer_login_supersedes_the_older_session(store):
    await join(store, ANA)
    await store.login(peer(ANA, 2, "e" * 32), fresh())
    assert [one.session_id for one in await store.live_peers()] == ["e" * 32]
    assert await store.session_end("a" * 32) == (ANA, SessionEnd.SUPERSEDED)
    assert await store.session_end("e" * 32) is None


async def test_ended_sessions_say_how_and_unknown_ones_are_ignored(store):
    await join(store, ANA, BEA)
    ends = ["a" * 32, "f" * 32]
    await store.end_sessions(ends, SessionEnd.EXPIRED, 200.0, None)
    assert [one.peer_id for one in await store.live_peers()] == [BEA]
    assert await store.session_end("a" * 32) == (ANA, SessionEnd.EXPIRED)
    assert await store.session_end("f" * 32) is None


async def test_neighbours_are_recorded_for_live_peers(store):
    await join(store, ANA, BEA)
    await store.set_neighbours([(ANA, BEA, ""), (CAI, ANA, BEA)])
    assert [(one.primary, one.backup) for one in await store.live_peers()] == [(BEA, ""), ("", "")]


async def test_a_repeated_mutation_is_answered_as_the_first_and_changes_nothing(store):
    await join(store, ANA, BEA)
    mutations = [
        lambda receipt: store.login(peer(ANA, 9, "9" * 32), receipt),
        lambda receipt: store.publish(ANA, Batch(0, added=(entry("f"),)), receipt, QUOTAS),
        lambda receipt: store.place(PlacementRecord("1" * 32, ANA, X, "f", 10, 3), receipt, QUOTAS),
        lambda receipt: store.end_sessions(["b" * 32], SessionEnd.LOGOUT, 200.0, receipt),
    ]
    for number, mutate in enumerate(mutations):
        receipt = Receipt(ANA, f"e{number:031x}", b"first %d" % number, 100.0)
        first = await mutate(receipt)
        assert (first.answer, first.repeated) == (receipt.answer, False)
        before = [await store.live_peers(), await store.list_files(FileQuery()), await all_unsettled(store)]
        again = await mutate(replace(receipt, answer=b"second", time=150.0))
        assert (again.answer, again.repeated) == (receipt.answer, True)
        after = [await store.live_peers(), await store.list_files(FileQuery()), await all_unsettled(store)]
        assert after == before
        assert await store.answer(ANA, receipt.request_id) == receipt.answer
    assert await store.answer(BEA, "0" * 32) is None


async def test_request_ids_of_two_authors_are_two_requests(store):
    await join(store, ANA, BEA)
    for author in (ANA, BEA):
        outcome = await store.publish(
            author, Batch(0, added=(entry("f"),)), Receipt(author, "5" * 32, b"", 100.0), QUOTAS
        )
        assert not outcome.repeated


# Publishing


async def test_a_batch_adds_replaces_and_removes_together(store):
    await join(store, ANA)
    await publish(store, ANA, entry("a"), entry("b"), entry("c"))
    await publish(store, ANA, entry("b", Y), entry("d"), removed=("a", "d", "unknown"))
    assert await listed(store, order=Order.BY_NAME) == ["b", "c", "d"]
    (only,) = await store.live_peers()
    assert (only.catalogue_version, only.file_count) == (2, 3)
    assert await store.entry(ANA, "b") == entry("b", Y)


async def test_a_batch_on_another_version_is_refused_and_leaves_nothing(store):
    await join(store, ANA)
    await publish(store, ANA, entry("a"))
    receipt = fresh()
    with pytest.raises(VersionConflict) as conflict:
        await store.publish(ANA, Batch(7, added=(entry("b"),)), receipt, QUOTAS)
    assert conflict.value.metadata == {"version": "1"}
    assert await listed(store) == ["a"]
    assert await store.answer(ANA, receipt.request_id) is None


async def test_base_version_zero_starts_over(store):
    await join(store, ANA)
    await publish(store, ANA, entry("a"), entry("b"), stored=(Z,))
    await store.publish(ANA, Batch(0, added=(entry("b"), entry("c"))), fresh(now=150.0), QUOTAS)
    assert [(file.path, file.publish_time) for file in (await store.list_files(FileQuery())).items] == [
        ("c", 150.0),
        ("b", 100.0),
    ]
    assert await store.holders_of(Z) == set()
    (only,) = await store.live_peers()
    assert (only.catalogue_version, only.file_count) == (1, 2)


async def test_whoever_never_logged_in_cannot_publish(store):
    with pytest.raises(SessionUnknown):
        await store.publish(ANA, Batch(0), fresh(), QUOTAS)


async def test_a_peer_that_returns_need_not_publish_again(store):
    await join(store, ANA)
    await publish(store, ANA, entry("a"))
    await leave(store, ANA)
    assert await listed(store) == []
    assert await store.catalogue_version(ANA) == 1
    await store.login(peer(ANA, 2, "e" * 32), fresh(now=300.0))
    assert await listed(store) == ["a"]
    assert (await store.live_peers())[0].file_count == 1


async def test_everything_is_there_after_reopening(engine, tmp_path):
    store = await engine(tmp_path / "data")
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("a"))
    await place(store, path="a", copies=[BEA])
    receipt = fresh()
    await store.publish(BEA, Batch(0, stored=(X,)), receipt, QUOTAS)
    before = [await store.live_peers(), await store.list_files(FileQuery()), await all_unsettled(store)]
    await store.close()
    store = await engine(tmp_path / "data")
    after = [await store.live_peers(), await store.list_files(FileQuery()), await all_unsettled(store)]
    assert after == before
    assert await store.answer(ANA, receipt.request_id) == receipt.answer
    await store.close()


# Purging


async def test_purge_removes_what_is_older_and_nothing_else(store):
    await join(store, ANA, BEA, CAI)
    for one in (ANA, BEA, CAI):
        await publish(store, one, entry(one[0]), now=100.0)
    await leave(store, ANA, now=200.0)
    await leave(store, BEA, now=300.0)
    old, young = fresh(now=100.0), fresh(now=300.0)
    for receipt in (old, young):
        await store.end_sessions([], SessionEnd.LOGOUT, 0.0, receipt)
    await store.purge(300.0, 300.0)
    assert await store.answer(ANA, old.request_id) is None
    assert await store.answer(ANA, young.request_id) == young.answer
    assert (await store.session_end("a" * 32), await store.public_key(ANA)) == (None, None)
    assert await store.session_end("b" * 32) == (BEA, SessionEnd.LOGOUT)
    assert [await store.catalogue_version(one) for one in (ANA, BEA, CAI)] == [0, 1, 1]
    await join(store, ANA, BEA)
    assert await listed(store, order=Order.BY_NAME) == ["b", "c"]


# Who holds what


async def test_a_file_tells_how_many_live_peers_hold_its_content(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("a", modify_time=5.0), entry("also a"))
    await publish(store, BEA, entry("a", modify_time=7.0, executable=True), now=120.0)
    await publish(store, CAI, stored=(X,))
    file = (await store.list_files(FileQuery(reference="a"))).items[0]
    assert (file.holder_count, file.modify_time, file.executable) == (3, 7.0, True)
    assert (file.size, file.publish_time) == (10, 100.0)
    await leave(store, BEA)
    file = (await store.list_files(FileQuery(reference="a"))).items[0]
    assert (file.holder_count, file.modify_time, file.executable) == (2, 5.0, False)


async def test_what_one_peer_says_of_a_contents_size_does_not_stand_for_others(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("a", size=2**47))
    await publish(store, BEA, entry("a", size=10))
    for order in Order:
        first = await store.list_files(FileQuery(order=order, limit=1))
        second = await store.list_files(FileQuery(order=order, limit=1, after=first.next))
        assert {file.size for file in (*first.items, *second.items)} == {10, 2**47}
        assert second.next is None
    assert (await store.entry(BEA, "a")).size == 10
    await publish(store, ANA, entry("a", size=10))
    assert [file.size for file in (await store.list_files(FileQuery())).items] == [10]


async def test_two_contents_of_one_path_are_two_files(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("a", Y))
    await publish(store, BEA, entry("a", X))
    for order in Order:
        files = (await store.list_files(FileQuery(order=order))).items
        assert [file.content_id for file in files] == [X, Y]


async def test_holders_are_found_page_by_page(store):
    await join(store, CAI, ANA, BEA)
    for one in (ANA, BEA):
        await publish(store, one, entry("x"), entry("y"))
    await publish(store, CAI, stored=(X,))
    size, page = await store.locate(X, "", 2)
    assert (size, [one.peer_id for one in page.items], page.next) == (10, [ANA, BEA], (BEA,))
    size, page = await store.locate(X, BEA, 2)
    assert page.items == (FoundHolder(CAI, "peer c", ("h:1", "[::1]:2")),)
    assert page.next is None
    assert await store.holders_of(X) == {ANA, BEA, CAI}
    await leave(store, ANA, BEA, CAI)
    with pytest.raises(NotFound):
        await store.locate(X, "", 2)


async def test_only_a_live_publisher_publishes(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("a", executable=True))
    await publish(store, BEA, stored=(X,))
    assert await store.entry(ANA, "a") == entry("a", executable=True)
    assert await store.entry(ANA, "b") is None
    assert await store.entry(BEA, "a") is None
    await leave(store, ANA)
    assert await store.entry(ANA, "a") is None


# Placements


async def test_a_placement_is_pending_until_enough_live_peers_store_it(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=2, copies=[BEA])
    assert (await store.placement(number)).copies == (Copy(BEA),)
    await publish(store, BEA, stored=(X,))
    await publish(store, CAI, stored=(X,))
    kept = await store.placement(number)
    assert kept.copies == (Copy(BEA, confirmed=True), Copy(CAI, confirmed=True))
    assert await store.placement_of(ANA, X) == kept
    assert await all_unsettled(store) == []
    await leave(store, CAI)
    assert await all_unsettled(store) == [replace(kept, copies=(Copy(BEA, confirmed=True),), away=(CAI,))]


async def test_the_authors_own_copy_does_not_count(store):
    await join(store, ANA)
    await publish(store, ANA, entry("f"), stored=(X,))
    number = await place(store, wanted=1)
    assert (await store.placement(number)).copies == ()
    assert len(await all_unsettled(store)) == 1


async def test_asking_again_changes_the_wanted_number_and_keeps_confirmations(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await place(store, wanted=2, copies=[BEA, CAI])
    (pending,) = await all_unsettled(store)
    assert (pending.placement_id, pending.wanted) == (number, 2)
    assert pending.copies == (Copy(BEA, confirmed=True), Copy(CAI))


async def test_asking_again_for_another_path_moves_the_placement(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"), entry("g", modify_time=9.0, executable=True))
    number = await place(store, path="f", copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await place(store, path="g")
    await publish(store, ANA, removed=("f", "g"))
    (file,) = (await store.list_files(FileQuery())).items
    assert (file.path, file.modify_time, file.executable) == ("g", 9.0, True)
    assert (await store.placement(number)).path == "g"


async def test_a_chosen_peer_that_is_forgotten_may_have_fetched_the_copy_and_is_to_drop_it_with_the_others(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await leave(store, BEA)
    await store.purge(1000.0, 1000.0)
    assert (await store.placement(number)).copies == ()
    await end(store, ANA, X)
    assert await store.to_drop(BEA) == [X]


async def test_a_declined_copy_is_remembered_until_it_is_chosen_again(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await store.add_copies(number, [CAI])
    await publish(store, BEA, declined={number: "no room", "f" * 32: ""})
    await publish(store, BEA, dropped=(X,))
    declined = await store.placement(number)
    assert (declined.copies, declined.declined) == ((Copy(CAI),), (BEA,))
    await store.add_copies(number, [BEA])
    again = await store.placement(number)
    assert (again.copies, again.declined) == ((Copy(BEA), Copy(CAI)), ())


async def test_a_peer_that_logs_in_anew_may_be_chosen_for_what_it_had_declined(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await publish(store, BEA, declined={number: "no room"})
    await store.login(peer(BEA, 3), fresh(BEA))
    assert (await store.placement(number)).declined == ()


async def test_a_dropped_copy_leaves_the_placement(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await publish(store, BEA, dropped=(X,))
    assert (await store.placement(number)).copies == ()
    assert len(await all_unsettled(store)) == 1


async def test_a_storing_peer_that_starts_over_stays_chosen(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await store.publish(BEA, Batch(0), fresh(BEA), QUOTAS)
    assert (await store.placement(number)).copies == (Copy(BEA),)


async def test_unsettled_placements_come_the_oldest_first(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"), entry("g", Y))
    await place(store, content=Y, path="g", number=9)
    await place(store, number=1)
    assert [int(one.placement_id, 16) for one in await all_unsettled(store)] == [9, 1]
    assert await store.placement("f" * 32) is None
    assert await store.placement_of(BEA, X) is None


async def test_a_placed_file_stays_listed_when_its_author_is_gone_for_good(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f", modify_time=7.0, executable=True))
    await place(store, copies=[BEA])
    await leave(store, ANA)
    assert await listed(store) == []
    await publish(store, BEA, stored=(X,))
    for _ in range(2):
        (file,) = (await store.list_files(FileQuery(text="f"))).items
        assert (file.path, file.holder_count, file.modify_time, file.executable) == ("f", 1, 7.0, True)
        size, page = await store.locate(X, "", 10)
        assert (size, [one.peer_id for one in page.items]) == (10, [BEA])
        await store.purge(1000.0, 1000.0)
    await leave(store, BEA)
    assert await listed(store) == []


async def test_a_placed_file_stays_when_its_author_deletes_it(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    await place(store, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await publish(store, ANA, removed=("f",))
    assert await listed(store) == ["f"]


async def placed(store, author, content):
    """Returns path and wanted copies of an author's placement, and whether older bytes wait for it; None for none."""
    record = await store.placement_of(author, content)
    return record and (record.path, record.wanted, record.supersedes)


async def end(store, author, content):
    return (await store.end_placement(author, content, fresh(author))).contents


async def test_new_bytes_at_its_path_take_a_placement_over_and_the_older_copies_wait(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await publish(store, BEA, entry("f", Z))
    assert await placed(store, ANA, X) == ("f", 1, False)
    await publish(store, ANA, entry("f", Y, 20))
    assert await placed(store, ANA, X) == ("f", 1, False)
    assert await placed(store, ANA, Y) == ("f", 1, True)
    assert (await store.placement_of(ANA, Y)).size == 20
    assert [file.content_id for file in (await store.list_files(FileQuery())).items] == [Y, Z]
    assert [one.content_id for one in await all_unsettled(store)] == [Y]
    new = (await store.placement_of(ANA, Y)).placement_id
    assert new != number
    await publish(store, BEA, stored=(Y,))
    assert [one.content_id for one in await all_unsettled(store)] == [Y]  # the older bytes are to be retired
    assert await store.retire(new) == [X]
    assert await store.placement(number) is None
    assert await placed(store, ANA, Y) == ("f", 1, False)
    assert await store.to_drop(BEA) == [X]
    assert await all_unsettled(store) == []
    assert await store.retire(new) == []
    assert await store.retire("f" * 32) == []


async def test_new_bytes_end_a_placement_that_nobody_has_stored_anything_for(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=2, copies=[BEA])
    await publish(store, ANA, entry("f", Y))
    assert await store.placement(number) is None
    assert await placed(store, ANA, Y) == ("f", 2, False)
    assert await store.to_drop(BEA) == [X]  # it was chosen, and may be fetching


async def test_of_many_changes_only_the_last_bytes_that_were_kept_wait(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    for content in (Y, Z):
        await publish(store, ANA, entry("f", content))
    assert [await placed(store, ANA, content) for content in (X, Y, Z)] == [("f", 1, False), None, ("f", 1, True)]
    await publish(store, BEA, stored=(Z,))
    await publish(store, ANA, entry("f", Y))
    assert [await placed(store, ANA, content) for content in (X, Y, Z)] == [None, ("f", 1, True), ("f", 1, False)]
    assert await store.to_drop(BEA) == [X]
    await publish(store, ANA, entry("f", Z))  # back to what it was
    assert [await placed(store, ANA, content) for content in (X, Y, Z)] == [None, None, ("f", 1, False)]
    assert await all_unsettled(store) == []


async def test_new_bytes_that_are_placed_from_another_path_already_are_wanted_as_often_as_the_most(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"), entry("g", Y))
    await place(store, wanted=3, copies=[BEA])
    await place(store, content=Y, path="g", wanted=2, number=2)
    await publish(store, BEA, stored=(X,))
    await publish(store, ANA, entry("f", Y))
    assert await placed(store, ANA, Y) == ("g", 3, True)


async def test_a_placement_stays_with_the_older_bytes_where_the_limits_forbid_more(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    limits = Quotas(placed_bytes=29)
    await publish(store, ANA, entry("f", Y, 20), quotas=limits)
    assert (await placed(store, ANA, X), await placed(store, ANA, Y)) == (("f", 1, False), None)
    with pytest.raises(OverQuota):
        await place(store, content=Y, wanted=1, number=2, size=20, quotas=limits)
    await place(store, content=Y, wanted=1, number=2, size=20, quotas=Quotas(placed_bytes=30, placements=1))
    assert await placed(store, ANA, Y) == ("f", 1, True)
    await publish(store, ANA, entry("f", Z), quotas=Quotas(placements=1))  # one file, one placement
    assert (await placed(store, ANA, X), await placed(store, ANA, Z)) == (("f", 1, False), ("f", 1, True))


async def test_an_ended_placement_is_dropped_by_everybody_who_has_a_copy_or_is_about_to(store):
    await join(store, ANA, BEA, CAI, DOA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA, CAI, DOA])
    await publish(store, BEA, stored=(X,))
    await publish(store, DOA, declined={number: "no room"})
    await leave(store, BEA)
    assert await end(store, ANA, X) == (X,)
    assert await end(store, ANA, X) == ()
    assert await store.placement(number) is None
    assert await listed(store) == ["f"]
    assert [await store.to_drop(one) for one in (BEA, CAI, DOA)] == [[X], [X], []]
    assert await store.placed_content(X) == PlacedContent(dropping=(CAI,))
    await store.login(peer(BEA, 3), fresh(BEA))
    assert await store.placed_content(X) == PlacedContent(dropping=(BEA, CAI))
    await publish(store, BEA, dropped=(X,))
    await publish(store, CAI, dropped=(X,))
    assert await store.placed_content(X) == PlacedContent()


async def test_a_copy_that_is_to_be_dropped_counts_no_more_and_is_not_chosen(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=1, copies=[BEA, CAI])
    await publish(store, BEA, stored=(X,))
    await publish(store, CAI, stored=(X,))
    (over,) = await all_unsettled(store)
    assert over.confirmed == 2
    await store.drop_copies(X, [CAI])
    assert await all_unsettled(store) == []
    assert (await store.placement(number)).copies == (Copy(BEA, confirmed=True),)
    (file,) = (await store.list_files(FileQuery())).items
    assert (file.wanted_copies, file.live_copies, file.holder_count) == (1, 1, 3)
    await leave(store, CAI)
    assert (await store.placement(number)).away == ()
    await store.login(peer(CAI, 9), fresh(CAI))
    await store.publish(CAI, Batch(0, stored=(X,)), fresh(CAI), QUOTAS)  # it starts over before it has dropped it
    assert (await store.placement(number)).copies == (Copy(BEA, confirmed=True),)
    await publish(store, CAI, dropped=(X,))
    assert await store.to_drop(CAI) == []
    assert (await store.placement(number)).copies == (Copy(BEA, confirmed=True),)


async def test_whoever_is_forgotten_is_to_drop_what_was_given_up_before_and_after(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"), entry("g", Y))
    await publish(store, BEA, entry("own"), stored=(X, Y, Z))
    for number, (path, content) in enumerate([("f", X), ("g", Y)], 1):
        await place(store, path=path, content=content, number=number)
    await end(store, ANA, X)
    await leave(store, BEA)
    await store.purge(1000.0, 1000.0)
    await store.purge(1000.0, 1000.0)
    assert (await store.placed_content(Y)).away == (BEA,)
    await end(store, ANA, Y)
    await store.purge(1000.0, 1000.0)
    assert await store.public_key(BEA) is None, "there is nothing left to know of it"
    await store.login(peer(BEA, 3), fresh(BEA))
    assert await store.to_drop(BEA) == [X, Y], "nobody has given up Z"


async def test_of_who_is_forgotten_the_copies_that_somebody_wants_are_there_again_at_its_login_and_nothing_else(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    await publish(store, BEA, entry("own", Z), stored=(X, Y))
    number = await place(store, path="f")
    before = await store.catalogue_version(BEA)
    await leave(store, BEA)
    for _ in range(2):
        await store.purge(1000.0, 1000.0)
        assert await store.catalogue_version(BEA) == before + 1, "it has to say anew what it has"
    await store.login(peer(BEA, 3), fresh(BEA))
    assert (await store.placement(number)).copies == (Copy(BEA, confirmed=True),)
    assert await listed(store) == ["f"]
    assert await store.holders_of(Y) == set()
    await store.publish(BEA, Batch(0, stored=(Y,)), fresh(BEA), QUOTAS)
    assert (await store.placement(number)).copies == (), "its store was emptied meanwhile"


async def test_two_owners_of_a_content_share_its_copies_and_each_ends_its_own_claim_only(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    await publish(store, BEA, entry("g"))
    await place(store, wanted=1, copies=[CAI])
    await place(store, author=BEA, path="g", wanted=2, number=2)
    await publish(store, CAI, stored=(X,))
    content = await store.placed_content(X)
    assert [(one.author, one.copies) for one in content.placements] == [(one, (Copy(CAI, True),)) for one in (ANA, BEA)]
    assert content.stored == (CAI,)
    files = (await store.list_files(FileQuery())).items
    assert {(file.path, file.wanted_copies, file.live_copies) for file in files} == {("f", 2, 1), ("g", 2, 1)}
    assert await end(store, BEA, X) == (X,)
    assert await store.to_drop(CAI) == []
    assert [one.author for one in (await store.placed_content(X)).placements] == [ANA]
    await end(store, ANA, X)
    assert await store.to_drop(CAI) == [X]


async def test_ending_a_placement_ends_those_of_older_bytes_too(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await publish(store, ANA, entry("f", Y))
    assert set(await end(store, ANA, Y)) == {X, Y}
    assert await store.to_drop(BEA) == [X]
    assert await all_unsettled(store) == []


# Lists and searches

NAMES = ["Informe Final.txt", "src/main.py", "src/sub/Main.py", "空の境界/第1章.txt", "MAÑANA/niño.txt", "100%_done.md",
         'quote"s and \'s.txt', "x[1].bin", "ab", "straße.txt", "\U0001f600 emoji.txt", "a" * 255]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", range(12)),
        ("*", range(12)),
        ("FINAL", [0]),
        ("main", [1, 2]),
        ("src/", [1, 2]),
        ("空の", [3]),
        ("空の境界", [3]),
        ("第1", [3]),
        ("ño", [4]),
        ("Mañana", [4]),
        ("man\u0303ana", [4]),
        ("%", [5]),
        ("_", [5]),
        ("%_d", [5]),
        ('"', [6]),
        ("'", [6]),
        ('e"s', [6]),
        ("[", [7]),
        ("]", [7]),
        ("x[", [7]),
        ("x[1", [7]),
        ("x[[]1].bin", [7]),
        ("x[1].bin", []),
        ("b", [2, 7, 8]),
        ("STRASSE", [9]),
        ("\U0001f600", [10]),
        ("aaaa", [11]),
        ("\\", []),
        ("zzz", []),
        ("AND", [6]),
        ("NEAR(a b)", []),
        ("*.py", [1, 2]),
        ("MAIN.*", [1, 2]),
        ("src/*.py", [1, 2]),
        ("s*/m*.py", [1, 2]),
        ("*/sub/*", [2]),
        ("?b", [8]),
        ("[!b-z]*", [3, 5, 8, 10, 11]),
        ("[ns]*", [4, 9]),
        ("*[!a-z.]txt", []),
        ("a" * 4096, []),
        ("*a" * 2000 + "*b", []),
        ("?" * 255, [11]),
    ],
)
async def test_a_search_finds_what_it_says(shelf, text, found):
    for order in Order:
        assert sorted(await listed(shelf, text, order=order)) == sorted(NAMES[at] for at in found)


@pytest.fixture
async def shelf(store):
    await join(store, ANA)
    await publish(store, ANA, *map(entry, NAMES))
    return store


@pytest.mark.parametrize("text", ["\0", "a\0b", "\x1b", "\ud800", "é" * 2049])
async def test_what_no_path_has_is_invalid_input(shelf, text):
    for query in (FileQuery(text=text), FileQuery(reference=text)):
        with pytest.raises(InvalidInput):
            await shelf.list_files(query)


async def test_a_reference_is_a_path_before_a_name_before_an_id(store):
    await join(store, ANA)
    files = [entry("abcd", X), entry("d/abcd", Y), entry("d/é.txt", Y), entry("e/é.txt", Z), entry("d/É.txt", Z)]
    await publish(store, ANA, *files, entry("f", b"\xab\xcd" + bytes(30)), entry("g", b"\xab\xce" + bytes(30)))

    async def meant(reference):
        return await listed(store, reference=reference, order=Order.BY_NAME)

    assert await meant("abcd") == ["abcd"]
    assert await meant("d/abcd") == ["d/abcd"]
    assert await meant("e\u0301.txt") == ["d/é.txt", "e/é.txt"]
    assert await meant("É.txt") == ["d/É.txt"]
    assert await meant("d/e") == []
    await publish(store, ANA, removed=("abcd",))
    assert await meant("abcd") == ["d/abcd"]
    await publish(store, ANA, removed=("d/abcd",))
    assert await meant("abcd") == ["f"]
    assert await meant("ABCD0") == ["f"]
    assert await meant("abc") == []
    assert await meant("BBBB") == ["d/é.txt"]
    assert await listed(store, reference="d/é.txt", text="zzz") == ["d/é.txt"]


async def test_a_reference_that_only_the_gone_fit_is_understood_another_way(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("bbbb", X))
    await publish(store, BEA, entry("other", Y))
    await leave(store, ANA)
    assert await listed(store, reference="bbbb") == ["other"]


@pytest.mark.parametrize("text", ["", "file", "a", "f*1?"])
@pytest.mark.parametrize("order", Order)
async def test_pages_are_whole_and_stable_while_files_are_added(store, order, text):
    await join(store, ANA)
    for now in (100.0, 100.0, 101.0):
        count = (await store.live_peers())[0].file_count
        names = [f"{'aA'[at % 2]}/file{at:02}" for at in range(count, count + 8)]
        await publish(store, ANA, *map(entry, names), now=now)
    whole = await listed(store, text, order=order)
    seen, after = [], None
    while True:
        page = await store.list_files(FileQuery(text=text, order=order, after=after, limit=5))
        seen += [file.path for file in page.items if not file.path.endswith("new")]
        if page.next is None:
            break
        after = page.next
        await publish(store, ANA, entry(f"0{len(seen):04}file new"), entry(f"z{len(seen):04}file new"), now=200.0)
    assert seen == whole
    assert len(whole) == (10 if "*" in text else 24)


async def test_newest_come_first_and_names_in_order_whatever_their_case(store):
    await join(store, ANA)
    await publish(store, ANA, entry("b"), entry("C"), now=100.0)
    await publish(store, ANA, entry("a"), entry("D"), now=101.0)
    assert await listed(store) == ["D", "a", "C", "b"]
    assert await listed(store, order=Order.BY_NAME) == ["a", "b", "C", "D"]


async def test_a_common_text_is_found_in_order_among_very_many(store):
    await join(store, ANA)
    for at in range(0, 4000, 1000):
        await publish(store, ANA, *[entry(f"common {n:04}") for n in range(at, at + 1000)], now=100.0 + at)
    assert await listed(store, "common", limit=2) == ["common 3000", "common 3001"]
    assert await listed(store, "common", limit=2, order=Order.BY_NAME) == ["common 0000", "common 0001"]
    assert await listed(store, "common 3?5*", limit=2) == ["common 3050", "common 3051"]


# Any order, any repetition: against a model


def placement_id(author, content):
    return f"{author[0]}{content[0]:02x}"


PEERS = st.sampled_from([ANA, BEA, CAI])
PATHS = st.sampled_from(["p", "q/ñ", "r"])
CONTENTS = st.sampled_from([X, Y])
CHANGES = st.fixed_dictionaries(
    {
        "added": st.dictionaries(PATHS, CONTENTS),
        "removed": st.sets(PATHS),
        "stored": st.sets(CONTENTS),
        "dropped": st.sets(CONTENTS),
        "declined": st.booleans(),
    }
)


LIMITS = st.just(QUOTAS) | st.builds(
    Quotas,
    entries=st.integers(0, 3),
    path_bytes=st.integers(0, 12),
    copies=st.integers(0, 2),
    placements=st.integers(0, 2),
    placed_bytes=st.integers(0, 40),
)


def of_library(files, stored):
    return {"entries": len(files), "path_bytes": sum(len(path.encode()) for path in files), "copies": len(stored)}


def of_author(placed, author):
    of_one = [claim for (one, _), claim in placed.items() if one == author]
    return {
        "placements": sum(claim.successor is None for claim in of_one),
        "placed_bytes": 10 * sum(claim.wanted for claim in of_one),
    }


@dataclass
class Claim:
    """A placement in the model: `successor` is the content that it waits for."""

    path: str
    wanted: int
    chosen: set = field(default_factory=set)
    refused: set = field(default_factory=set)
    successor: bytes | None = None


def over(quotas, before, after):
    return any(before[name] < after[name] > getattr(quotas, name) for name in after)


class Model(RuleBasedStateMachine):
    """Plain dictionaries beside a store. `engine` opens the store."""

    engine: ClassVar[Callable[[Path], Awaitable[Store]]]

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.store = self.run(type(self).engine(Path(self.directory.name)))
        self.receipt = receipts()
        self.joined = 0
        self.live, self.files, self.stored, self.versions, self.placed = {}, {}, {}, {}, {}
        self.dropping = set()
        self.done = []

    def teardown(self):
        self.run(self.store.close())
        self.runner.close()
        self.directory.cleanup()

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def mutate(self, method, *arguments):
        receipt = self.receipt(answer=b"%d" % len(self.done))
        assert not self.run(method(*arguments, receipt)).repeated
        self.done.append((method, arguments, receipt))

    def refused(self, method, *arguments):
        *others, quotas = arguments
        receipt = self.receipt()
        with pytest.raises(OverQuota):
            self.run(method(*others, receipt, quotas))
        assert self.run(self.store.answer(receipt.author, receipt.request_id)) is None

    @rule(one=PEERS)
    def log_in(self, one):
        self.joined += 1
        self.live[one] = f"{self.joined:032x}"
        self.files.setdefault(one, {})
        self.stored.setdefault(one, set())
        self.versions.setdefault(one, 0)
        for claim in self.placed.values():
            claim.refused.discard(one)
        self.mutate(self.store.login, peer(one, self.joined, self.live[one]))

    @rule(one=PEERS)
    def end(self, one):
        session = self.live.pop(one, "none")
        self.mutate(self.store.end_sessions, [session], SessionEnd.LOGOUT, 100.0)

    @rule(one=PEERS, anew=st.booleans(), changes=CHANGES, quotas=LIMITS)
    def publish(self, one, changes, quotas, *, anew):
        if one not in self.versions:
            return
        added, removed, declined = changes["added"], changes["removed"], changes["declined"]
        stored, dropped = changes["stored"], changes["dropped"]
        base = 0 if anew else self.versions[one]
        files, held = (self.files[one], self.stored[one]) if base else ({}, set())
        files_after = {path: content for path, content in files.items() if path not in removed} | added
        held_after = held - dropped | stored
        batch = Batch(
            base,
            tuple(entry(path, content) for path, content in added.items()),
            tuple(removed),
            tuple(stored),
            tuple(dropped),
            dict.fromkeys(self.id_of(*key) for key in self.placed) if declined else {},
        )
        if over(quotas, of_library(files, held), of_library(files_after, held_after)):
            self.refused(self.store.publish, one, batch, quotas)
            return
        self.versions[one], self.files[one], self.stored[one] = base + 1, files_after, held_after
        for (_, content), claim in self.placed.items():
            if content in dropped - stored:
                claim.chosen.discard(one)
            if declined and one in claim.chosen:
                claim.chosen.discard(one)
                claim.refused.add(one)
        self.dropping -= {(content, one) for content in dropped - stored}
        for path, content in added.items():
            self.follow(one, path, content, quotas)
        self.mutate(partial(self.store.publish, quotas=quotas), one, batch)

    @precondition(lambda self: any(self.files.values()))
    @rule(data=st.data(), wanted=st.integers(1, 2), chosen=st.sets(PEERS, max_size=2), quotas=LIMITS)
    def place(self, data, wanted, chosen, quotas):
        owned = [(one, path, content) for one in self.files for path, content in sorted(self.files[one].items())]
        author, path, content = data.draw(st.sampled_from(owned))
        known = self.placed.get((author, content), Claim(path, wanted))
        claim = Claim(path, wanted, known.chosen | chosen, known.refused - chosen)
        copies = tuple(Copy(one) for one in sorted(chosen))
        record = PlacementRecord(self.id_of(author, content), author, content, path, 10, wanted, copies)
        if self.too_much(author, path, content, claim, quotas):
            self.refused(self.store.place, record, quotas)
            return
        self.mutate(partial(self.store.place, quotas=quotas), record)
        self.placed[author, content] = claim
        self.succeed(author, path, content)

    def id_of(self, author, content):
        known = self.run(self.store.placement_of(author, content))
        return known.placement_id if known else placement_id(author, content)

    def older(self, author, path, content):
        """Returns the contents of an author's other placements at a path, none of which waits already."""
        return [
            other
            for (one, other), claim in self.placed.items()
            if (one, claim.path, claim.successor) == (author, path, None) and other != content
        ]

    def too_much(self, author, path, content, claim, quotas):
        after = of_author(self.placed | {(author, content): claim}, author)
        after["placements"] -= len(self.older(author, path, content))
        return over(quotas, of_author(self.placed, author), after)

    def follow(self, author, path, content, quotas):
        older = self.older(author, path, content)
        if not older:
            return
        wanted = max(self.placed[author, other].wanted for other in older)
        known = self.placed.get((author, content), Claim(path, 0))
        claim = replace(known, wanted=max(wanted, known.wanted), successor=None)
        if not self.too_much(author, path, content, claim, quotas):
            self.placed[author, content] = claim
            self.succeed(author, path, content)

    def succeed(self, author, path, content):
        for other in self.older(author, path, content):
            waiting = self.waiting(author, other)
            if waiting and len(self.confirmed(author, other)) >= self.placed[author, other].wanted:
                for one in waiting:
                    self.end_claim(author, one)
                waiting = []
            for one in waiting:
                self.placed[author, one].successor = content
            if waiting or not any(other in held for held in self.stored.values()):
                self.end_claim(author, other)
            else:
                self.placed[author, other].successor = content

    def waiting(self, author, content):
        return [other for (one, other), claim in self.placed.items() if (one, claim.successor) == (author, content)]

    def end_claim(self, author, content):
        involved = {one for one, held in self.stored.items() if content in held}
        for (_, other), claim in self.placed.items():
            involved |= claim.chosen if other == content else set()
        del self.placed[author, content]
        if not any(other == content for _, other in self.placed):
            self.dropping |= {(content, one) for one in involved}

    def confirmed(self, author, content):
        return {one for one in self.live if content in self.stored[one] and (content, one) not in self.dropping} - {
            author
        }

    @rule(author=PEERS, content=CONTENTS)
    def give_up(self, author, content):
        self.mutate(self.store.end_placement, author, content)
        if (author, content) in self.placed:
            for one in (*self.waiting(author, content), content):
                self.end_claim(author, one)

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def retire(self, data):
        author, content = data.draw(st.sampled_from(list(self.placed)))
        waiting = self.waiting(author, content)
        assert sorted(self.run(self.store.retire(self.id_of(author, content)))) == sorted(waiting)
        for one in waiting:
            self.end_claim(author, one)

    @rule(content=CONTENTS, peers=st.sets(PEERS, max_size=2))
    def drop(self, content, peers):
        self.run(self.store.drop_copies(content, sorted(peers)))
        self.dropping |= {(content, one) for one in peers}
        for (_, other), claim in self.placed.items():
            if other == content:
                claim.chosen -= peers
                claim.refused -= peers

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def repeat(self, data):
        method, arguments, receipt = data.draw(st.sampled_from(self.done))
        outcome = self.run(method(*arguments, replace(receipt, answer=b"new")))
        assert (outcome.answer, outcome.repeated) == (receipt.answer, True)

    @rule()
    def purge(self):
        self.done.clear()
        for one in [one for one in self.versions if one not in self.live]:
            wanted = self.stored[one] & {content for _, content in self.placed}
            if not wanted:
                del self.versions[one], self.files[one], self.stored[one]
            elif self.files[one]:
                self.versions[one], self.files[one], self.stored[one] = self.versions[one] + 1, {}, wanted
        self.run(self.store.purge(1e9, 1e9))

    def holders(self, content):
        return {one for one in self.live if content in self.files[one].values() or content in self.stored[one]}

    @invariant()
    def the_catalogue_is_the_models(self):
        shown = {item for one in self.live for item in self.files[one].items()}
        stored = {content for one in self.live for content in self.stored[one]}
        shown |= {(claim.path, c) for (_, c), claim in self.placed.items() if c in stored and claim.successor is None}
        expected = {
            (path, content, len(self.holders(content)), self.wanted(content), len(self.confirmed("", content)))
            for path, content in shown
        }
        for query in (FileQuery(), FileQuery(order=Order.BY_NAME)):
            items = self.run(self.store.list_files(query)).items
            assert {
                (file.path, file.content_id, file.holder_count, file.wanted_copies, file.live_copies) for file in items
            } == expected
            assert len(items) == len(expected)
        for content in (X, Y):
            assert self.run(self.store.holders_of(content)) == self.holders(content)

    @invariant()
    def the_peers_are_the_models(self):
        facts = [(one.peer_id, one.session_id, one.catalogue_version, one.file_count)
                 for one in self.run(self.store.live_peers())]  # fmt: skip
        assert facts == [(one, session, self.versions[one], len(self.files[one]))
                         for one, session in sorted(self.live.items(), key=lambda item: item[1])]  # fmt: skip
        for one in (ANA, BEA, CAI):
            assert self.run(self.store.catalogue_version(one)) == self.versions.get(one, 0)

    def wanted(self, content):
        return max((claim.wanted for (_, other), claim in self.placed.items() if other == content), default=0)

    @invariant()
    def the_placements_are_the_models(self):
        unsettled = {(one.author, one.content_id) for one in self.run(all_unsettled(self.store))}
        for (author, content), claim in self.placed.items():
            confirmed = self.confirmed(author, content)
            dropping = {one for other, one in self.dropping if other == content}
            copies = sorted(confirmed | (claim.chosen & self.live.keys()) - {author} - dropping)
            away = (
                {one for one, held in self.stored.items() if content in held} - self.live.keys() - {author} - dropping
            )
            supersedes = bool(self.waiting(author, content))
            record = self.run(self.store.placement_of(author, content))
            assert record.copies == tuple(Copy(one, one in confirmed) for one in copies)
            assert (record.path, record.wanted, record.declined) == (
                claim.path,
                claim.wanted,
                tuple(sorted(claim.refused)),
            )
            assert (record.away, record.supersedes) == (tuple(sorted(away)), supersedes)
            assert ((author, content) in unsettled) == (len(confirmed) != claim.wanted or supersedes)
        assert unsettled <= self.placed.keys()
        for one in (ANA, BEA, CAI):
            assert set(self.run(self.store.to_drop(one))) == {content for content, who in self.dropping if who == one}


def test_invariant_7_any_order_and_repetition_of_mutations_ends_in_the_models_state(engine):
    run_state_machine_as_test(
        type("Machine", (Model,), {"engine": staticmethod(engine)}),
        settings=settings(
            max_examples=16,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # each step is synced to disk, so shrinking takes minutes
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def test_mutations_at_once_are_each_applied_once(store):
    await join(store, ANA, BEA)
    once = [(one, Receipt(one, f"f{number:031x}", b"", 100.0)) for one in (ANA, BEA) for number in range(8)]
    outcomes = await asyncio.gather(
        *[
            store.publish(one, Batch(0, added=(entry(receipt.request_id),)), receipt, QUOTAS)
            for one, receipt in once * 3
        ]
    )
    assert sum(not outcome.repeated for outcome in outcomes) == len(once)
