"""Who holds a content, page by page."""

import asyncio

from core import errors
from peer.channels import Channels
from peer.routes import HOLDER_PAGES, Routes
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Holder, PeerInfo


class Neighbour(Routes):
    """Answers LocateFile with the pages that a test scripts; the last one again and again."""

    def __init__(self, *pages):
        super().__init__(Channels(), "127.0.0.1:1", (), lambda: 0.0)
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


async def names(routes):
    async with asyncio.timeout(10):
        return [holder.contact.name for holder in await routes.holders(b"c" * 32)]


async def test_holders_come_from_all_pages():
    routes = Neighbour(page("ben", token="next"), page("cho"))
    assert await names(routes) == ["ben", "cho"]
    assert routes.tokens == ["", "next"]


async def test_a_content_that_nobody_holds_has_no_holders():
    assert await names(Neighbour(errors.NotFound("nobody"))) == []


async def test_holders_that_leave_between_two_pages_take_none_of_the_others_with_them():
    assert await names(Neighbour(page("ben", token="next"), errors.NotFound("nobody any more"))) == ["ben"]


async def test_a_neighbour_that_names_holders_for_ever_is_believed_for_some_pages_only():
    assert len(await names(Neighbour(page("ben", token="more")))) == HOLDER_PAGES
