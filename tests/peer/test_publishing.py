"""Differences between the library and what central holds of it."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.rpc import Server
from peer.directory import publishing as publishing_module
from peer.directory.differences import MAX_BATCH_BYTES, MAX_ITEMS, Batch, Published, differences
from peer.directory.logins import Login
from peer.directory.publishing import Publisher
from peer.library import LibraryFile
from peer.library.holdings import Touched
from peer.library.index import Index
from peer.library.record import Record
from peer.links.channels import Channels
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import LeaseTerms

paths = st.text("abcé空", min_size=1, max_size=3)
libraries = st.dictionaries(paths, st.binary(min_size=32, max_size=32), max_size=8)
contents = st.sets(st.binary(min_size=32, max_size=32), max_size=6)


def as_files(library):
    return {path: LibraryFile(path, content, 1, 0.0, executable=False) for path, content in library.items()}


def whole(published, files, stored, confirm=frozenset()):
    """The differences to a library, with every path and content looked at."""
    paths, contents = {*files, *published.files}, {*stored, *published.stored, *confirm}
    offered = {path: files.get(path) for path in paths}
    return list(differences(published, offered, {content: content in stored for content in contents}, set(confirm)))


@given(libraries, contents, libraries, contents)
def test_applying_the_differences_makes_central_equal_to_the_library(before, stored_before, after, stored_after):
    published = Published(version=3, files=as_files(before), stored=set(stored_before))
    batches = whole(published, as_files(after), stored_after)
    for batch in batches:
        published.apply(batch)
    assert published.files == as_files(after)
    assert published.stored == stored_after
    assert published.version == 3 + len(batches)
    assert whole(published, as_files(after), stored_after) == []


def test_what_is_not_looked_at_stays_as_it_was_published():
    published = Published(version=1, files=as_files({"a": b"1" * 32, "b": b"1" * 32}), stored={b"c" * 32})
    assert list(differences(published, {"b": None}, {}, set())) == [Batch(removed=("b",))]


def test_batches_stay_below_centrals_limits():
    long = {f"{number:05d}/{'x' * 200}" * 15: b"i" * 32 for number in range(3000)}
    batches = whole(Published(), as_files(long), set())
    assert sum(len(batch.added) for batch in batches) == 3000
    assert all(len(batch.added) <= MAX_ITEMS for batch in batches)
    assert all(sum(len(file.path) for file in batch.added) <= MAX_BATCH_BYTES for batch in batches)


def test_a_stored_content_that_central_asks_for_again_is_named_once_more():
    held = b"c" * 32
    published = Published(version=1, stored={held})
    assert whole(published, {}, {held}, {held}) == [Batch(stored=(held,))]


def test_a_content_that_is_to_be_told_again_and_is_not_stored_is_told_to_be_dropped():
    gone = b"c" * 32
    assert whole(Published(version=1), {}, set(), {gone}) == [Batch(dropped=(gone,))]
    assert whole(Published(version=1, stored={gone}), {}, set(), {gone}) == [Batch(dropped=(gone,))]


class Here:
    """The worker of a test: does at once what is to be done."""

    async def run(self, function, *args):
        return function(*args)


_opened = []


@pytest.fixture(autouse=True)
def _databases_are_closed():
    """Python 3.13 minds those that are not, in whatever test it comes to see them."""
    yield
    while _opened:
        _opened.pop().close()


def memory_record():
    index = Index(Path(":memory:"))
    index.open()
    _opened.append(index)
    return Record(index, Here())


class Central(CentralDirectoryServicer):
    """Takes batches as central does, and tells when it has some files."""

    def __init__(self):
        self.version = 0
        self.files = set()
        self.stored = set()
        self.requests = []
        self.limit = 10_000
        self.retry_after = 60.0
        self.news = asyncio.Condition()

    def check(self, request):
        """Refuses names with a colon, and what would be more than the limit."""
        for index, entry in enumerate(request.added):
            if ":" in entry.path:
                raise errors.InvalidInput(f"added[{index}].path", "a colon")
        held = (self.files if request.base_version else set()) - set(request.removed_paths)
        after = held | {entry.path for entry in request.added}
        if len(after) > self.limit and len(after) > len(held):
            raise errors.OverQuota(f"at most {self.limit} files", self.retry_after)
        if len(self.stored | set(request.stored_content_ids)) > self.limit:
            raise errors.OverQuota(f"at most {self.limit} copies", self.retry_after)

    async def PublishFiles(self, request, context):
        self.requests.append(request)
        async with self.news:
            self.news.notify_all()
        self.check(request)
        if request.base_version not in {0, self.version}:
            raise errors.VersionConflict("another version", {"version": "not a number"})
        if request.base_version == 0:
            self.files = set()
        self.files = (self.files - set(request.removed_paths)) | {entry.path for entry in request.added}
        self.stored = (self.stored - set(request.dropped_content_ids)) | set(request.stored_content_ids)
        self.version = request.base_version + 1
        async with self.news:
            self.news.notify_all()
        return pb2.PublishFilesResponse(catalogue_version=self.version)

    async def has(self, *paths):
        await self.until(lambda: self.files == set(paths))

    async def until(self, condition):
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(condition)


class OneLibrary:
    """A library that is told what it has; the record is a real one, in memory."""

    def __init__(self, *paths, record=None):
        self.files, self.stored = {}, {}
        self.news, self.looked = asyncio.Event(), asyncio.Event()
        self.looked.set()
        self.record = record or memory_record()
        self.touched = Touched()
        self.share(*paths)

    def share(self, *paths, content=None):
        before, self.files = self.files, as_files(dict.fromkeys(paths, b"c" * 32) | (content or {}))
        self.touched.paths.update(path for path in {*before, *self.files} if before.get(path) != self.files.get(path))
        self.news.set()

    def store(self, *contents):
        before, self.stored = self.stored, dict.fromkeys(contents, 1)
        self.touched.contents.update(before.keys() ^ self.stored.keys())
        self.news.set()

    def file(self, path):
        return self.files.get(path)

    def stores(self, content_id):
        return content_id in self.stored

    def take_touched(self):
        touched, self.touched = self.touched, Touched()
        return touched

    async def wait_looked(self):
        await self.looked.wait()

    async def changed(self):
        await self.news.wait()
        self.news.clear()


class LoggedIn:
    peer_id = "ana"

    def __init__(self, central):
        self.login = Login("s" * 32, LeaseTerms(), central, ())
        self.channels = None

    def central_stub(self, login):
        return self.channels.central(login.central)

    async def wait_live(self):
        return self.login


@pytest.fixture
async def centrals():
    """Two centrals, and what gives a publisher that runs until the test ends."""
    async with contextlib.AsyncExitStack() as stack:
        channels = Channels()
        stack.push_async_callback(channels.close)
        both = []
        for _ in range(2):
            server, central = Server(), Central()
            add_CentralDirectoryServicer_to_server(central, server.server)
            central.address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, 0)
            both.append(central)

        def publisher(library, session, version=0):
            session.channels = channels
            publisher = Publisher(library, session)
            publisher.logged_in(version)
            task = asyncio.create_task(publisher.run())
            stack.push_async_callback(asyncio.wait, {task})
            stack.callback(task.cancel)
            return publisher

        yield (*both, publisher)


async def test_another_central_is_published_to_anew_even_when_it_holds_the_same_version(centrals):
    first, second, publishing = centrals
    second.version, second.files = 1, {"of long ago"}
    library, session = OneLibrary("a"), LoggedIn(first.address)
    publisher = publishing(library, session)
    await first.has("a")
    await publisher.published("a", b"c" * 32, 10)
    session.login = LoggedIn(second.address).login
    publisher.logged_in(second.version)
    await second.has("a")


async def test_a_conflict_is_mended_by_publishing_anew_whatever_version_it_tells(centrals):
    central, _, publishing = centrals
    library = OneLibrary("a")
    publisher = publishing(library, LoggedIn(central.address))
    await publisher.published("a", b"c" * 32, 10)
    central.version, central.files = 9, {"of another daemon"}
    library.share("a", "b")
    await central.has("a", "b")


async def test_an_empty_library_clears_what_central_had_after_a_conflict(centrals):
    central, _, publishing = centrals
    library = OneLibrary("a")
    publisher = publishing(library, LoggedIn(central.address))
    await publisher.published("a", b"c" * 32, 10)
    central.version, central.files = 9, {"of another daemon"}
    library.share()
    await central.has()


async def test_a_restart_publishes_what_has_changed_since_and_nothing_else(centrals):
    central, _, publishing = centrals
    record = memory_record()
    library = OneLibrary("a", "b", "c", record=record)
    library.store(b"s" * 32)
    publisher = publishing(library, LoggedIn(central.address))
    await publisher.published("c", b"c" * 32, 10)
    await until_noted(record, central)
    sent = len(central.requests)
    again = OneLibrary("a", "c", "d", record=record)
    again.store(b"s" * 32)
    publisher = publishing(again, LoggedIn(central.address), version=central.version)
    await central.has("a", "c", "d")
    changes = central.requests[sent:]
    assert [path for request in changes for path in request.removed_paths] == ["b"]
    assert [entry.path for request in changes for entry in request.added] == ["d"]
    assert not any(request.stored_content_ids or request.base_version == 0 for request in changes)


async def test_whoever_waits_for_a_file_hears_that_an_earlier_run_has_published_it(centrals):
    central, _, publishing = centrals
    record = memory_record()
    await publishing(OneLibrary("a", record=record), LoggedIn(central.address)).published("a", b"c" * 32, 10)
    await until_noted(record, central)
    library = OneLibrary("a", record=record)
    library.looked.clear()
    publisher = publishing(library, LoggedIn(central.address), version=central.version)
    waiting = asyncio.create_task(publisher.published("a", b"c" * 32, 10))
    await asyncio.sleep(0)
    library.looked.set()
    await waiting


async def test_a_restart_publishes_everything_to_a_central_that_holds_another_version(centrals):
    central, _, publishing = centrals
    record = memory_record()
    publisher = publishing(OneLibrary("a", "b", record=record), LoggedIn(central.address))
    await publisher.published("b", b"c" * 32, 10)
    await until_noted(record, central)
    central.version, central.files = central.version + 1, {"of another daemon"}
    publishing(OneLibrary("a", "b", record=record), LoggedIn(central.address), version=central.version)
    await central.has("a", "b")


async def test_nothing_is_withdrawn_before_the_library_has_been_looked_at(centrals):
    central, _, publishing = centrals
    record = memory_record()
    publisher = publishing(OneLibrary("a", record=record), LoggedIn(central.address))
    await publisher.published("a", b"c" * 32, 10)
    await until_noted(record, central)
    library = OneLibrary(record=record)
    library.looked.clear()
    sent = len(central.requests)
    publishing(library, LoggedIn(central.address), version=central.version)
    await asyncio.sleep(0.05)
    assert len(central.requests) == sent
    library.share("a", "b")
    library.looked.set()
    await central.has("a", "b")
    assert [path for request in central.requests[sent:] for path in request.removed_paths] == []


async def until_noted(record, central):
    """Waits until the record says what central holds."""
    async with asyncio.timeout(10):
        while (await record.load()).version != central.version:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.002)


async def test_what_changes_at_once_travels_together_and_one_change_does_not_wait(centrals, monkeypatch):
    monkeypatch.setattr(publishing_module, "SPACING", 30.0)
    central, _, publishing = centrals
    library = OneLibrary("a")
    publishing(library, LoggedIn(central.address))
    await central.has("a")  # at once
    for number in range(50):
        library.share("a", *(f"f{one}" for one in range(number)))
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert len(central.requests) == 1


def test_entries_that_replace_others_come_before_new_ones():
    published = Published(version=1, files=as_files({"old": b"1" * 32}))
    found = whole(published, as_files({"a": b"2" * 32, "old": b"2" * 32}), set())
    assert [[file.path for file in batch.added] for batch in found] == [["old"], ["a"]]


async def over_the_limit(publishing, central, library, limit):
    """Publishes all that central takes, and returns the publisher when it waits for room."""
    central.limit = limit
    publisher = publishing(library, LoggedIn(central.address))
    async with asyncio.timeout(10), publisher._settled:
        await publisher._settled.wait_for(lambda: publisher._refusals.over)
    return publisher


async def test_what_fits_is_published_and_the_rest_waits_as_long_as_central_says(centrals, caplog):
    central, _, publishing = centrals
    names = [f"f{number:03}" for number in range(100)]
    publisher = await over_the_limit(publishing, central, OneLibrary(*names), 37)
    assert len(central.files) == 37
    asked = len(central.requests)
    assert asked < 20
    publisher._wake.set()  # whatever happens meanwhile, central is not asked for more
    with pytest.raises(errors.OverQuota, match="f099 is shared, but not in the catalogue yet: at most 37 files"):
        await publisher.published("f099", b"c" * 32, 10)
    await publisher.published("f000", b"c" * 32, 10)
    assert "at most 37 files" in publisher.problem
    assert len(central.requests) == asked
    assert publisher._retry.when() - asyncio.get_running_loop().time() > 50
    publisher._try_again()  # to no avail, and without another line in the log
    await central.until(lambda: len(central.requests) > asked)
    async with asyncio.timeout(10), publisher._settled:
        await publisher._settled.wait_for(lambda: publisher._refusals.over)
    central.limit = 100
    publisher._try_again()
    await central.has(*names)
    assert [record.message for record in caplog.records if "at most 37" in record.message] == [
        "central does not take everything that this peer offers: at most 37 files"
    ]


async def test_the_rest_is_offered_again_after_the_time_that_central_told(centrals, monkeypatch):
    monkeypatch.setattr(publishing_module, "RETRY_PAUSE", 0.01)
    central, _, publishing = centrals
    central.retry_after = 0.02
    publisher = await over_the_limit(publishing, central, OneLibrary("a", "b"), 1)
    central.limit = 2
    await central.has("a", "b")
    await publisher.published("b", b"c" * 32, 10)
    async with asyncio.timeout(10):
        while publisher.problem:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.002)


async def test_a_busy_central_is_asked_again_when_it_said_and_not_before(centrals, monkeypatch):
    monkeypatch.setattr(publishing_module, "RETRY_PAUSE", 0.0)
    central, _, publishing = centrals
    asked = []

    def busy_once(request):
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 1:
            raise errors.Busy("too many calls at once", 0.4)

    central.check = busy_once
    publisher = publishing(OneLibrary("a"), LoggedIn(central.address))
    await publisher.published("a", b"c" * 32, 10)
    first, second = asked
    assert second - first >= 0.4


async def test_removals_and_replacements_get_through_at_the_limit_and_make_room(centrals):
    central, _, publishing = centrals
    library = OneLibrary("a", "b", "c")
    publisher = await over_the_limit(publishing, central, library, 2)
    assert central.files == {"a", "b"}
    library.share("a", "b", "c", content={"a": b"n" * 32})
    await central.until(
        lambda: central.requests[-1].added[:1] and central.requests[-1].added[0].content_id == b"n" * 32
    )
    library.share("b", "c")
    await central.has("b", "c")
    await publisher.published("c", b"c" * 32, 10)


async def test_copies_over_the_limit_hold_no_files_up(centrals):
    central, _, publishing = centrals
    library = OneLibrary("a")
    library.store(*(bytes([number]) * 32 for number in range(5)))
    publisher = await over_the_limit(publishing, central, library, 3)
    await central.has("a")
    assert len(central.stored) == 3
    assert "at most 3 copies" in publisher.problem
    (dropped, *_) = central.stored
    library.store(*(library.stored.keys() - {dropped}))
    await central.until(lambda: len(central.stored) == 3 and dropped not in central.stored)


async def test_an_entry_that_central_refuses_is_set_aside_and_holds_nothing_up(centrals, caplog):
    central, _, publishing = centrals
    library = OneLibrary("a", "b:", "c", "d:", "e")
    publisher = publishing(library, LoggedIn(central.address))
    await central.has("a", "c", "e")
    with pytest.raises(errors.NotPossible, match=r"d: is shared, but central does not take it.*a colon"):
        await publisher.published("d:", b"c" * 32, 10)
    assert set(publisher.skipped) == {"b:", "d:"}
    assert "a colon" in publisher.skipped["b:"]
    library.share("a", "b:")
    await central.has("a")
    assert set(publisher.skipped) == {"b:"}
    assert len([record for record in caplog.records if "b: is not published" in record.message]) == 1


async def test_a_changed_entry_is_offered_anew(centrals):
    central, _, publishing = centrals
    library = OneLibrary("b:")
    publisher = publishing(library, LoggedIn(central.address))
    with pytest.raises(errors.NotPossible):
        await publisher.published("b:", b"c" * 32, 10)
    central.check = lambda _: None
    library.share("b:", content={"b:": b"n" * 32})
    await central.has("b:")
    assert publisher.skipped == {}


async def test_a_library_of_refused_entries_only_still_clears_what_central_had(centrals):
    central, _, publishing = centrals
    central.version, central.files = 3, {"of long ago"}
    library = OneLibrary("b:")
    library.news.clear()
    publisher = publishing(library, LoggedIn(central.address), version=3)
    await central.has()
    assert set(publisher.skipped) == {"b:"}
