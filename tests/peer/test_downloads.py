"""Downloads that the local user asks for, as the daemon starts them."""

import asyncio

import pytest

from core import errors
from core.content import digest
from core.manifest import manifest_of
from peer.fetching.transfer import Downloader
from peer.work.downloads import Downloads
from peer.work.transfers import State, Transfers
from relevo.v1.content_pb2 import FileEntry


@pytest.fixture
async def downloads():
    """Downloads that go on for ever: nobody can be asked who holds what."""

    async def never(content_id, *, directly=False):
        await asyncio.Event().wait()

    transfers = Transfers(lambda: 0.0)
    yield Downloads(Downloader(never, None, lambda _: asyncio.sleep(0), "self", lambda: 0.0), None, transfers)
    await transfers.close()


def entry(path, content):
    return FileEntry(path=path, content_id=digest(content), size_bytes=9)


async def test_the_same_content_to_the_same_place_is_one_download(downloads, tmp_path):
    first = downloads.start(entry("a/film", b"one"), str(tmp_path))
    assert downloads.start(entry("b/film", b"one"), str(tmp_path)) is first


async def test_another_content_to_the_same_place_is_refused_before_anything_is_fetched(downloads, tmp_path):
    downloads.start(entry("a/film", b"one"), str(tmp_path))
    with pytest.raises(errors.AlreadyExists, match="another file is on its way"):
        downloads.start(entry("b/film", b"two"), str(tmp_path))
    (tmp_path / "other").mkdir()
    assert downloads.start(entry("b/film", b"two"), str(tmp_path / "other")).running


async def test_a_file_that_is_in_place_is_done_even_when_it_cannot_be_offered(tmp_path, caplog):
    class Library:
        async def add_fetched(self, location, path, manifest):
            raise errors.NotFound("its user has moved it already")

    async def no_holders(content_id, *, directly=False):
        return []

    transfers = Transfers(lambda: 0.0)
    downloader = Downloader(no_holders, None, None, "self", lambda: 0.0)
    empty = manifest_of(b"")
    file = FileEntry(path="a/empty", content_id=empty.content_id)
    transfer = Downloads(downloader, Library(), transfers).start(file, str(tmp_path))
    await transfer.task
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "empty").read_bytes() == b""
    assert "not offered" in caplog.text
