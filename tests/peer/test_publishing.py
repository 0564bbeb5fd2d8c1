"""Differences between the library and what central holds of it."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from core.rpc import Server
from peer.channels import Channels
from peer.library import LibraryFile
from peer.publishing import MAX_BATCH_BYTES, MAX_ITEMS, Batch, Published, Publisher, differences
from peer.session import Login
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import LeaseTerms

paths = st.text("abcé空", min_size=1, max_size=3)
libraries = st.dictionaries(paths, st.binary(min_size=32, max_size=32), max_size=8)
contents = st.sets(st.binary(min_size=32, max_size=32), max_size=6)


def as_files(library):
    return {path: LibraryFile(path, content, 1, 0.0, executable=False) for path, content in library.items()}


@given(libraries, contents, libraries, contents)
def test_applying_the_differences_makes_central_equal_to_the_library(before, stored_before, after, stored_after):
    published = Published(version=3, files=as_files(before), stored=set(stored_before))
    batches = list(differences(published, as_files(after), stored_after, set()))
    for batch in batches:
        published.apply(batch)
    assert published.files == as_files(after)
    assert published.stored == stored_after
    assert published.version == 3 + len(batches)
    assert list(differences(published, as_files(after), stored_after, set())) == []


def test_batches_stay_below_centrals_limits():
    long = {f"{number:05d}/{'x' * 200}" * 15: b"i" * 32 for number in range(3000)}
    batches = list(differences(Published(), as_files(long), set(), set()))
    assert sum(len(batch.added) for batch in batches) == 3000
    assert all(len(batch.added) <= MAX_ITEMS for batch in batches)
    assert all(sum(len(file.path) for file in batch.added) <= MAX_BATCH_BYTES for batch in batches)


def test_a_stored_content_that_central_asks_for_again_is_named_once_more():
    held = b"c" * 32
    published = Published(version=1, stored={held})
    assert list(differences(published, {}, {held}, {held})) == [Batch(stored=(held,))]


def test_a_content_that_is_not_stored_is_never_confirmed():
    assert list(differences(Published(version=1), {}, set(), {b"c" * 32})) == []


class Central(CentralDirectoryServicer):
    """Takes batches as central does, and tells when it has some files."""

    def __init__(self):
        self.version = 0
        self.files = set()
        self.news = asyncio.Condition()

    async def PublishFiles(self, request, context):
        if request.base_version not in {0, self.version}:
            raise errors.VersionConflict("another version", {"version": "not a number"})
        if request.base_version == 0:
            self.files = set()
        self.files = (self.files - set(request.removed_paths)) | {entry.path for entry in request.added}
        self.version = request.base_version + 1
        async with self.news:
            self.news.notify_all()
        return pb2.PublishFilesResponse(catalogue_version=self.version)

    async def has(self, *paths):
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: self.files == set(paths))


class OneLibrary:
    def __init__(self, *paths):
        self.stored = {}
        self.news = asyncio.Event()
        self.share(*paths)

    def share(self, *paths):
        self.files = as_files(dict.fromkeys(paths, b"c" * 32))
        self.news.set()

    async def changed(self):
        await self.news.wait()
        self.news.clear()


class LoggedIn:
    peer_id = "ana"

    def __init__(self, central):
        self.login = Login("s" * 32, LeaseTerms(), central, ())

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

        def publisher(library, session):
            publisher = Publisher(library, session, channels)
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
