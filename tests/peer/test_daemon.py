"""The daemon's own part in what its parts do together."""

import asyncio

import pytest

from core import errors
from peer.daemon import HOLDER_PAGES, Peer
from peer.settings import ServeSettings
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Holder, PeerInfo


class Neighbour:
    """Answers LocateFile with the pages that a test scripts; the last one again and again."""

    def __init__(self, *pages):
        self.pages = list(pages)
        self.tokens = []

    async def locate_file(self, request):
        self.tokens.append(request.page_token)
        await asyncio.sleep(0)
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(page, Exception):
            raise page
        return page, None


def page(*names, token=""):
    return pb2.LocateFileResponse(holders=[Holder(peer=PeerInfo(name=name)) for name in names], next_page_token=token)


@pytest.fixture
async def peer(tmp_path):
    settings = ServeSettings(home=tmp_path, shared=tmp_path / "shared", centrals=("127.0.0.1:1",), name="ana")
    peer = Peer(settings, lambda: 0.0, lambda: 0.0)
    yield peer
    await peer.stop()


async def names(peer):
    async with asyncio.timeout(10):
        return [holder.contact.name for holder in await peer._find_holders(b"c" * 32)]


async def test_holders_come_from_all_pages(peer):
    peer.routes = Neighbour(page("ben", token="next"), page("cho"))
    assert await names(peer) == ["ben", "cho"]
    assert peer.routes.tokens == ["", "next"]


async def test_a_content_that_nobody_holds_has_no_holders(peer):
    peer.routes = Neighbour(errors.NotFound("nobody"))
    assert await names(peer) == []


async def test_holders_that_leave_between_two_pages_take_none_of_the_others_with_them(peer):
    peer.routes = Neighbour(page("ben", token="next"), errors.NotFound("nobody any more"))
    assert await names(peer) == ["ben"]


async def test_a_neighbour_that_names_holders_for_ever_is_believed_for_some_pages_only(peer):
    peer.routes = Neighbour(page("ben", token="more"))
    assert len(await names(peer)) == HOLDER_PAGES
