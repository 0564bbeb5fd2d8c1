"""Look-ups of holders for downloads: all pages, and whether a neighbour has made them up."""

from collections.abc import Sequence

from core import errors
from peer.directory.routes import TIMEOUT, Routes
from peer.directory.ways import Way
from peer.links.contacts import Holder
from relevo.v1 import central_directory_pb2 as pb2

# Pages of up to 1,000 that are read for one download; a neighbour that lies could go on for ever.
HOLDER_PAGES = 10
PAGE = 1000
# Contents in one request about many.
MANY = 500
# For so many contents is remembered whom a neighbour named.
_REMEMBERED = 2048
_RPC = "LocateFile"


class Holders:
    """Finds who holds a content."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._hearsay: dict[bytes, tuple[Way, set[str]]] = {}

    async def find(self, content_id: bytes, *, directly: bool = False) -> list[Holder]:
        """Returns the holders that the network knows, more than a download can use; none is an empty list.

        `directly` asks central itself, if it can be reached: for when nobody whom a neighbour named gives anything. The
        neighbour is distrusted when central names none of those.

        Raises:
            RelevoError: as `Routes.locate_file`, but NotFound.
        """
        found, ways = await self._pages(content_id, directly=directly)
        if found is None:  # a neighbour gave a page token that is not central's
            self._routes.distrust(ways[0], _RPC)
            found, ways = await self._pages(content_id, directly=True)
        holders = found or []
        self._compare(content_id, holders, next((way for way in ways if not way.direct), None), directly=directly)
        return holders

    async def find_many(self, content_ids: Sequence[bytes], *, directly: bool = False) -> dict[bytes, list[Holder]]:
        """Returns some holders of each content, as `find` does; central itself is asked where a neighbour names none.

        Raises:
            RelevoError: as `Routes.locate_files`.
        """
        found: dict[bytes, list[Holder]] = {}
        none_named: list[bytes] = []
        rest = list(content_ids)
        while rest:
            request = pb2.LocateFilesRequest(content_ids=rest[:MANY])
            response, taken = await self._routes.locate_files(request, directly=directly)
            if not response.files:
                raise errors.Unreachable("central names holders of nothing that it was asked for; try again later")
            named = [Holder.from_message(holder) for holder in response.holders]
            for content_id, file in zip(rest, response.files, strict=False):
                holders = found[content_id] = [named[at] for at in file.holders if at < len(named)]
                self._compare(content_id, holders, None if taken.way.direct else taken.way, directly=directly)
                if not holders and not taken.way.direct:
                    none_named.append(content_id)
            rest = rest[len(response.files) :]
        if none_named and not directly:
            found |= await self.find_many(none_named, directly=True)
        return found

    def _compare(self, content_id: bytes, holders: Sequence[Holder], told_by: Way | None, *, directly: bool) -> None:
        """Remembers whom a neighbour names; one that named nobody whom central names is distrusted."""
        names = {holder.contact.peer_id for holder in holders}
        told = self._hearsay.pop(content_id, None)
        if told_by is None:
            if told is not None and directly and not told[1] & names:
                self._routes.distrust(told[0], _RPC)
        elif names:
            self._hearsay[content_id] = told_by, names
            if len(self._hearsay) > _REMEMBERED:
                del self._hearsay[next(iter(self._hearsay))]

    async def names(self, content_id: bytes, peer_id: str) -> bool:
        """Tells whether central itself names this peer for a content. Raises RelevoError when central cannot say."""
        token = ""
        for _ in range(HOLDER_PAGES):
            request = pb2.LocateFileRequest(content_id=content_id, page_size=PAGE, page_token=token)
            try:
                page = await self._page_at_central(request)
            except errors.NotFound:
                return False
            if any(holder.peer.peer_id == peer_id for holder in page.holders):
                return True
            token = page.next_page_token
            if not token:
                return False
        return False

    async def _page_at_central(self, request: pb2.LocateFileRequest) -> pb2.LocateFileResponse:
        return await self._routes.at_central(lambda central: central.LocateFile(request, timeout=TIMEOUT))

    async def _pages(self, content_id: bytes, *, directly: bool) -> tuple[list[Holder] | None, list[Way]]:
        """Returns the holders of all pages and the ways that they came; no holders for a token that central refused."""
        found: list[Holder] = []
        ways: list[Way] = []
        token = ""
        for _ in range(HOLDER_PAGES):
            request = pb2.LocateFileRequest(content_id=content_id, page_size=PAGE, page_token=token)
            try:
                response, taken = await self._routes.locate_file(request, directly=directly)
            except errors.NotFound:
                break
            except errors.InvalidInput:
                if ways and not ways[-1].direct:
                    return None, ways[-1:]
                raise
            ways.append(taken.way)
            found.extend(map(Holder.from_message, response.holders))
            token = response.next_page_token
            if not token:
                break
        return found, ways
