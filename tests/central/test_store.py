"""The contract of central's storage, run on every engine. A further engine is one more line in ENGINES."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from central.quotas import Quotas
from central.sqlite_store import SqliteStore
from central.store import (
    Batch,
    Copy,
    Entry,
    FileQuery,
    FoundHolder,
    Order,
    PeerRecord,
    PlacementRecord,
    Receipt,
    SessionEnd,
    Store,
)
from core.errors import InvalidInput, NotFound, OverQuota, SessionUnknown, VersionConflict

ENGINES = {"sqlite": SqliteStore.open}

ANA, BEA, CAI = "a" * 52, "b" * 52, "c" * 52
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


async def all_pending(store):
    """Returns all pending placements, read page by page."""
    found, after = [], 0
    while after is not None:
        page = await store.pending_placements(after, 2)
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
        receipt = Receipt(ANA, f"{number:032x}", b"first %d" % number, 100.0)
        first = await mutate(receipt)
        assert (first.answer, first.repeated) == (receipt.answer, False)
        before = [await store.live_peers(), await store.list_files(FileQuery()), await all_pending(store)]
        again = await mutate(replace(receipt, answer=b"second", time=150.0))
        assert (again.answer, again.repeated) == (receipt.answer, True)
        after = [await store.live_peers(), await store.list_files(FileQuery()), await all_pending(store)]
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
    before = [await store.live_peers(), await store.list_files(FileQuery()), await all_pending(store)]
    await store.close()
    store = await engine(tmp_path / "data")
    after = [await store.live_peers(), await store.list_files(FileQuery()), await all_pending(store)]
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
    assert await all_pending(store) == []
    await leave(store, CAI)
    assert await all_pending(store) == [replace(kept, copies=(Copy(BEA, confirmed=True),))]


async def test_the_authors_own_copy_does_not_count(store):
    await join(store, ANA)
    await publish(store, ANA, entry("f"), stored=(X,))
    number = await place(store, wanted=1)
    assert (await store.placement(number)).copies == ()
    assert len(await all_pending(store)) == 1


async def test_asking_again_changes_the_wanted_number_and_keeps_confirmations(store):
    await join(store, ANA, BEA, CAI)
    await publish(store, ANA, entry("f"))
    number = await place(store, wanted=1, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await place(store, wanted=2, copies=[BEA, CAI])
    (pending,) = await all_pending(store)
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


async def test_a_chosen_peer_that_is_gone_for_good_is_not_chosen_any_more(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await leave(store, BEA)
    await store.purge(1000.0, 1000.0)
    await store.login(peer(BEA, 3), fresh(BEA))
    assert (await store.placement(number)).copies == ()


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
    assert len(await all_pending(store)) == 1


async def test_a_storing_peer_that_starts_over_stays_chosen(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await store.publish(BEA, Batch(0), fresh(BEA), QUOTAS)
    assert (await store.placement(number)).copies == (Copy(BEA),)


async def test_pending_placements_come_the_oldest_first(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"), entry("g", Y))
    await place(store, content=Y, path="g", number=9)
    await place(store, number=1)
    assert [int(one.placement_id, 16) for one in await all_pending(store)] == [9, 1]
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


async def test_new_bytes_at_its_path_end_a_placement(store):
    await join(store, ANA, BEA)
    await publish(store, ANA, entry("f"))
    number = await place(store, copies=[BEA])
    await publish(store, BEA, stored=(X,))
    await publish(store, BEA, entry("f", Z))
    assert await store.placement(number) is not None
    await publish(store, ANA, entry("f", Y))
    assert await store.placement(number) is None
    assert [file.content_id for file in (await store.list_files(FileQuery())).items] == [Y, Z]


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
    wanted = [placement[1] for (one, _), placement in placed.items() if one == author]
    return {"placements": len(wanted), "placed_bytes": 10 * sum(wanted)}


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
        for _, _, _, refused in self.placed.values():
            refused.discard(one)
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
            tuple(placement_id(*key) for key in self.placed) if declined else (),
        )
        if over(quotas, of_library(files, held), of_library(files_after, held_after)):
            self.refused(self.store.publish, one, batch, quotas)
            return
        self.versions[one], self.files[one], self.stored[one] = base + 1, files_after, held_after
        for author, content in list(self.placed):
            path, _, chosen, refused = self.placed[author, content]
            if author == one and added.get(path, content) != content:
                del self.placed[author, content]
            if content in dropped - stored:
                chosen.discard(one)
            if declined and one in chosen:
                chosen.discard(one)
                refused.add(one)
        self.mutate(partial(self.store.publish, quotas=quotas), one, batch)

    @precondition(lambda self: any(self.files.values()))
    @rule(data=st.data(), wanted=st.integers(1, 2), chosen=st.sets(PEERS, max_size=2), quotas=LIMITS)
    def place(self, data, wanted, chosen, quotas):
        owned = [(one, path, content) for one in self.files for path, content in sorted(self.files[one].items())]
        author, path, content = data.draw(st.sampled_from(owned))
        before = self.placed.get((author, content), (path, wanted, set(), set()))
        after = self.placed | {(author, content): (path, wanted, before[2] | chosen, before[3] - chosen)}
        copies = tuple(Copy(one) for one in sorted(chosen))
        record = PlacementRecord(placement_id(author, content), author, content, path, 10, wanted, copies)
        if over(quotas, of_author(self.placed, author), of_author(after, author)):
            self.refused(self.store.place, record, quotas)
            return
        self.placed = after
        self.mutate(partial(self.store.place, quotas=quotas), record)

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
            del self.versions[one], self.files[one], self.stored[one]
            for _, _, chosen, refused in self.placed.values():
                chosen.discard(one)
                refused.discard(one)
        self.run(self.store.purge(1e9, 1e9))

    def holders(self, content):
        return {one for one in self.live if content in self.files[one].values() or content in self.stored[one]}

    @invariant()
    def the_catalogue_is_the_models(self):
        shown = {item for one in self.live for item in self.files[one].items()}
        stored = {content for one in self.live for content in self.stored[one]}
        shown |= {(path, c) for (_, c), (path, *_) in self.placed.items() if c in stored}
        expected = {(path, content, len(self.holders(content))) for path, content in shown}
        for query in (FileQuery(), FileQuery(order=Order.BY_NAME)):
            items = self.run(self.store.list_files(query)).items
            assert {(file.path, file.content_id, file.holder_count) for file in items} == expected
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

    @invariant()
    def the_placements_are_the_models(self):
        pending = {one.placement_id for one in self.run(all_pending(self.store))}
        for (author, content), (path, wanted, chosen, refused) in self.placed.items():
            confirmed = {one for one in self.live if content in self.stored[one]} - {author}
            copies = sorted(confirmed | (chosen & self.live.keys()) - {author})
            record = self.run(self.store.placement_of(author, content))
            assert record.copies == tuple(Copy(one, one in confirmed) for one in copies)
            assert (record.path, record.wanted, record.declined) == (path, wanted, tuple(sorted(refused)))
            assert (record.placement_id in pending) == (len(confirmed) < wanted)
        assert len(pending) <= len(self.placed)


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
