"""Copies for others: what is stored, confirmed, declined, tried again, and dropped."""

import asyncio

import pytest

from core import errors
from core.manifest import manifest_of
from peer.fetching.partial import partial_name
from peer.fetching.transfer import Fetched
from peer.links.contacts import Contact
from peer.work import storing
from peer.work.storing import AT_ONCE, Storing
from peer.work.transfers import Kind, State, Transfers
from relevo.v1 import central_directory_pb2 as pb2

QUOTA = 1000


class Downloader:
    """Writes what a test has put into `contents`, or fails as it says, when `gate` is open."""

    def __init__(self):
        self.contents = {}
        self.failures = []
        self.requests = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Condition()

    def offer(self, data):
        manifest = manifest_of(data)
        self.contents[manifest.content_id] = data
        return manifest.content_id

    async def fetch(self, request, progress, allowance):
        async with self.asked:
            self.requests.append(request)
            self.asked.notify_all()
        progress.source(Contact("p", "ana", ())).bytes += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        data = self.contents[request.content_id]
        location = request.directory / request.name
        location.write_bytes(data)
        return Fetched(location, manifest_of(data))

    async def has_been_asked(self, times):
        async with asyncio.timeout(10), self.asked:
            await self.asked.wait_for(lambda: len(self.requests) >= times)


class Publisher:
    """Notes what central would be told."""

    def __init__(self):
        self.confirmed = []
        self.declined = {}

    def confirm(self, content_id):
        self.confirmed.append(content_id)

    def decline(self, placement_id, reason):
        self.declined[placement_id] = reason


class Stage:
    def __init__(self, library, home):
        self.library, self.home = library, home
        self.downloader, self.publisher, self.transfers = Downloader(), Publisher(), Transfers(lambda: 0.0)
        self.storing = Storing(
            library=library,
            downloader=self.downloader,
            publisher=self.publisher,
            transfers=self.transfers,
            quota=QUOTA,
            home=home,
        )

    def ask(self, content_id, size, placement_id="p1"):
        store = pb2.StoreDirective(placement_id=placement_id, content_id=content_id, size_bytes=size)
        self.storing.obey([pb2.Directive(store=store)])

    def drop(self, content_id):
        self.storing.obey([pb2.Directive(drop=pb2.DropDirective(content_id=content_id))])

    async def dropped(self):
        """Waits until everything that was to be dropped is."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.storing._dropping.values())

    async def ended(self):
        """Waits until nothing is under way, and returns the latest transfer."""
        running = [transfer.task for transfer in self.transfers.running()]
        if running:
            await asyncio.wait(running, timeout=10)
        return self.transfers.latest_first()[0]


@pytest.fixture
async def stage(library_bench):
    library = await library_bench.open()
    stage = Stage(library, library_bench.home)
    yield stage
    stage.downloader.gate.set()
    await stage.storing.close()
    await stage.transfers.close()


async def test_a_copy_is_fetched_into_the_store_and_offered(stage):
    content_id = stage.downloader.offer(b"bytes")
    stage.ask(content_id, 5)
    transfer = await stage.ended()
    assert (transfer.kind, transfer.state, transfer.placement_id) == (Kind.STORE, State.DONE, "p1")
    assert stage.library.stored == {content_id: 5}
    assert stage.library.store_path(content_id).read_bytes() == b"bytes"
    assert stage.library.store_path(content_id).parent.stat().st_mode & 0o077 == 0
    assert stage.publisher.declined == {}
    assert stage.storing.free_bytes() == QUOTA - 5
    assert stage.downloader.requests[0].most == 5  # no more than there was room for


async def test_a_directive_that_is_repeated_is_carried_out_once_and_then_confirmed(stage):
    content_id = stage.downloader.offer(b"bytes")
    stage.downloader.gate.clear()
    for placement_id in ("p1", "p1", "p2"):
        stage.ask(content_id, 5, placement_id)
    stage.downloader.gate.set()
    await stage.ended()
    assert len(stage.downloader.requests) == 1
    assert stage.publisher.confirmed == []
    stage.ask(content_id, 5)
    assert stage.publisher.confirmed == [content_id]
    assert len(stage.transfers.latest_first()) == 1


async def test_a_directive_of_an_unknown_kind_is_ignored(stage):
    stage.storing.obey([pb2.Directive()])
    assert stage.transfers.latest_first() == []
    assert stage.publisher.declined == {}


async def test_what_is_promised_counts_until_it_is_stored_or_given_up(stage):
    stage.downloader.gate.clear()
    stage.ask(stage.downloader.offer(b"a" * 600), 600, "fits")
    assert stage.storing.free_bytes() == QUOTA - 600
    stage.ask(stage.downloader.offer(b"b" * 600), 600, "does not")
    assert stage.publisher.declined == {"does not": "no room within the quota"}
    await stage.transfers.close()
    assert stage.storing.free_bytes() == QUOTA


async def test_the_free_space_of_the_disk_is_a_limit_too(stage, monkeypatch):
    class Usage:
        free = 10

    monkeypatch.setattr(storing.shutil, "disk_usage", lambda _: Usage)
    assert stage.storing.free_bytes() == 10
    stage.ask(stage.downloader.offer(b"bytes" * 3), 15)
    assert "no room" in stage.publisher.declined["p1"]

    def gone(home):
        raise FileNotFoundError

    monkeypatch.setattr(storing.shutil, "disk_usage", gone)
    assert stage.storing.free_bytes() == 0


async def test_what_is_on_disk_already_is_not_promised_twice(stage, monkeypatch):
    class Usage:
        free = 700

    monkeypatch.setattr(storing.shutil, "disk_usage", lambda _: Usage)
    stage.downloader.gate.clear()
    content_id = stage.downloader.offer(b"a" * 600)
    stage.ask(content_id, 600)
    assert stage.storing.free_bytes() == 100
    stage.transfers.latest_first()[0].progress.done_bytes = 450
    Usage.free -= 450
    assert stage.storing.free_bytes() == 100
    assert stage.storing.used_bytes == 600


async def test_only_a_few_copies_are_fetched_at_once(stage):
    stage.downloader.gate.clear()
    for number in range(AT_ONCE + 2):
        stage.ask(stage.downloader.offer(bytes([number])), 1, f"p{number}")
    await stage.downloader.has_been_asked(AT_ONCE)
    states = [transfer.state for transfer in stage.transfers.latest_first()]
    assert (states.count(State.RUNNING), states.count(State.WAITING)) == (AT_ONCE, 2)
    stage.downloader.gate.set()
    await stage.ended()
    assert len(stage.library.stored) == AT_ONCE + 2


async def test_copies_of_nothing_do_not_pile_up_without_bound(stage, monkeypatch):
    monkeypatch.setattr(storing, "MOST_PROMISED", 2)
    stage.downloader.gate.clear()
    for number in range(3):
        stage.ask(bytes([number]) * 32, 0, f"p{number}")
    assert list(stage.publisher.declined) == ["p2"]


async def test_what_can_never_be_stored_is_declined_for_everybody_who_asked(stage):
    stage.downloader.gate.clear()
    stage.downloader.failures = [errors.Corrupt("the file is listed with 5 bytes, but has 6")]
    content_id = stage.downloader.offer(b"bytes")
    stage.ask(content_id, 5, "p1")
    stage.ask(content_id, 5, "p2")
    stage.downloader.gate.set()
    assert (await stage.ended()).state is State.FAILED
    assert stage.publisher.declined == dict.fromkeys(("p1", "p2"), "the file is listed with 5 bytes, but has 6")
    assert stage.storing.free_bytes() == QUOTA


async def test_a_copy_that_nobody_gives_is_tried_again_and_not_declined(stage, monkeypatch):
    monkeypatch.setattr(storing, "RETRY_PAUSE", 0.01)
    content_id = stage.downloader.offer(b"bytes")
    stage.downloader.failures = [errors.Unreachable("no holder answers"), errors.NotFound("nobody holds it")]
    sleeping, asleep = asyncio.sleep, []

    async def asked_again(pause):
        asleep.append(stage.transfers.latest_first()[0].state)
        stage.ask(content_id, 5)
        await sleeping(pause)

    monkeypatch.setattr(storing.asyncio, "sleep", asked_again)
    stage.ask(content_id, 5)
    transfer = await stage.ended()
    assert asleep == [State.WAITING, State.WAITING]
    assert transfer.state is State.DONE
    assert stage.transfers.received_bytes == 3
    assert stage.publisher.declined == {}
    assert content_id in stage.library.stored


async def test_a_copy_that_nobody_gives_is_given_up_when_central_does_not_ask_again(stage, monkeypatch):
    monkeypatch.setattr(storing, "RETRY_PAUSE", 0.01)
    content_id = stage.downloader.offer(b"bytes")
    stage.downloader.failures = [errors.Unreachable("no holder answers")]
    stage.ask(content_id, 5)
    assert isinstance((await stage.ended()).error, errors.Unreachable)
    assert stage.publisher.declined == {}
    stage.ask(content_id, 5)
    assert (await stage.ended()).state is State.DONE


async def test_a_copy_that_the_user_stops_is_declined_and_not_begun_again(stage):
    stage.downloader.gate.clear()
    stage.ask(stage.downloader.offer(b"bytes"), 5)
    await stage.downloader.has_been_asked(1)
    await stage.transfers.cancel(stage.transfers.latest_first()[0].transfer_id)
    assert "stopped it" in stage.publisher.declined["p1"]
    assert stage.storing.free_bytes() == QUOTA


async def test_a_store_that_cannot_be_written_declines_and_says_why(stage):
    (stage.home / "store").write_bytes(b"in the way")
    stage.ask(stage.downloader.offer(b"bytes"), 5)
    transfer = await stage.ended()
    assert isinstance(transfer.error, errors.NotPossible)
    assert stage.publisher.declined["p1"] == str(transfer.error)
    assert stage.downloader.requests == []


async def test_a_defect_declines_without_its_text(stage):
    stage.downloader.failures = [ZeroDivisionError("secret")]
    stage.ask(stage.downloader.offer(b"bytes"), 5)
    assert isinstance((await stage.ended()).error, errors.Defect)
    assert "secret" not in stage.publisher.declined["p1"]


async def stored(stage, data=b"bytes"):
    content_id = stage.downloader.offer(data)
    stage.ask(content_id, len(data))
    await stage.ended()
    assert stage.library.stores(content_id)
    return content_id


async def test_a_dropped_copy_is_deleted_its_room_is_free_at_once_and_central_is_told(stage):
    content_id = await stored(stage)
    place = stage.library.store_path(content_id)
    for _ in range(3):  # central repeats it
        stage.drop(content_id)
    await stage.dropped()
    assert not place.exists()
    assert not stage.library.stores(content_id)
    assert stage.storing.free_bytes() == QUOTA
    assert stage.publisher.confirmed == [content_id]


async def test_a_drop_of_what_is_not_here_is_confirmed_all_the_same(stage):
    for content_id in (b"c" * 32, b"short"):
        stage.drop(content_id)
    await stage.dropped()
    assert stage.publisher.confirmed == [b"c" * 32]


async def test_a_file_of_the_users_own_is_never_dropped(library_bench, stage):
    library_bench.write("mine.txt", b"bytes")
    await library_bench.until(stage.library, lambda: "mine.txt" in stage.library.files)
    content_id = await stored(stage)
    assert stage.library.files["mine.txt"].content_id == content_id
    own = library_bench.shared / "mine.txt"
    assert stage.library.own_location(content_id) == own
    stage.drop(content_id)
    await stage.dropped()
    assert own.read_bytes() == b"bytes"
    assert "mine.txt" in stage.library.files
    assert await stage.library.read_run(content_id, 0) == b"bytes"


async def test_only_a_copy_for_others_is_no_own_file(stage):
    content_id = await stored(stage)
    assert stage.library.own_location(content_id) is None
    assert stage.library.own_location(b"c" * 32) is None


async def test_a_copy_that_is_being_fetched_when_it_is_to_be_dropped_leaves_nothing_and_is_not_declined(stage):
    stage.downloader.gate.clear()
    content_id = stage.downloader.offer(b"bytes")
    stage.ask(content_id, 5)
    await stage.downloader.has_been_asked(1)
    leftover = stage.library.store_path(content_id).parent / partial_name(content_id)
    leftover.write_bytes(b"byt")
    stage.drop(content_id)
    stage.ask(content_id, 5, "late")  # from before central was told
    await stage.dropped()
    assert stage.transfers.latest_first()[0].state is State.CANCELLED
    assert stage.publisher.declined == {}
    assert stage.publisher.confirmed == [content_id]
    assert not leftover.exists()
    assert stage.storing.free_bytes() == QUOTA


async def test_what_was_fetched_of_a_copy_that_fails_takes_no_room(stage):
    stage.downloader.gate.clear()
    stage.downloader.failures = [errors.Corrupt("the file is listed with 5 bytes, but has 6")]
    content_id = stage.downloader.offer(b"bytes")
    stage.ask(content_id, 5)
    await stage.downloader.has_been_asked(1)
    leftover = stage.library.store_path(content_id).parent / partial_name(content_id)
    leftover.write_bytes(b"byt")
    stage.downloader.gate.set()
    await stage.ended()
    assert not leftover.exists()


async def test_a_copy_that_cannot_be_deleted_is_not_said_to_be_gone_and_is_tried_again(stage, monkeypatch):
    monkeypatch.setattr(storing, "RETRY_PAUSE", 0.01)
    content_id = await stored(stage)

    async def fails(content_id):
        raise errors.NotPossible("the disk is read-only")

    deleting = stage.library.drop_stored
    monkeypatch.setattr(stage.library, "drop_stored", fails)
    stage.drop(content_id)
    await stage.dropped()
    assert stage.publisher.confirmed == []
    monkeypatch.setattr(stage.library, "drop_stored", deleting)
    stage.drop(content_id)
    await stage.dropped()
    assert stage.publisher.confirmed == [content_id]


async def test_who_tells_another_size_of_a_content_does_not_have_it_declined_for_others(stage):
    stage.downloader.gate.clear()
    stage.downloader.failures = [errors.Corrupt("the file is listed with 4 bytes, but has 5")]
    content_id = stage.downloader.offer(b"bytes")
    stage.ask(content_id, 4, "a lie")
    stage.ask(content_id, 5, "the truth")
    stage.downloader.gate.set()
    await stage.ended()
    assert list(stage.publisher.declined) == ["a lie"]
    stage.ask(content_id, 5, "the truth")
    await stage.ended()
    assert stage.library.stores(content_id)
