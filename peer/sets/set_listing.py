"""Lists the files of a set: page after page, by the daemon's own ways to central."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Protocol

from core.content import DIGEST_BYTES, MAX_SIZE
from core.errors import AlreadyExists, InvalidInput, NotPossible, Unreachable
from core.names import folded, path_problem
from core.times import from_timestamp
from peer.directory.ways import Taken, Way
from peer.sets.selections import Entry, Selection
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

log = logging.getLogger("relevo.downloads")

PAGE = 1000
# More files are not listed for one selection: a neighbour that lies could go on for ever.
MOST_FILES = 2_000_000
# Lists that are begun again because a neighbour's pages are not one.
_MOST_LIES = 4
# Digits of a content id in an error that has a choice.
_DIGITS = 12
_RPC = "ListFiles"


class ListsFiles(Protocol):
    """Lists files of the catalogue; `peer.directory.routes.Routes` does."""

    async def list_files(
        self, request: pb2.ListFilesRequest, *, directly: bool = False
    ) -> tuple[pb2.ListFilesResponse, Taken]:
        """Answers CentralDirectory.ListFiles. Raises RelevoError."""
        ...

    def distrust(self, way: Way, rpc: str) -> None:
        """Has a neighbour asked last for a good while."""
        ...


async def entries(routes: ListsFiles, selection: Selection) -> AsyncIterator[list[Entry | AlreadyExists]]:
    """Yields the files of a selection, some at a time; an error for each path that has several contents.

    Raises:
        RelevoError: central, or whoever speaks for it, does not say what there is.
    """
    group: list[CatalogueFile] = []
    async for page in _pages(routes, selection):
        found: list[Entry | AlreadyExists] = []
        for file in page:
            if group and group[0].path != file.path:
                found.append(_one_of(group, selection))
                group = []
            # A path and content that is told with two sizes is one file: the content proves its size.
            if all(file.content_id != other.content_id for other in group):
                group.append(file)
        yield found
    if group:
        yield [_one_of(group, selection)]


def _one_of(group: list[CatalogueFile], selection: Selection) -> Entry | AlreadyExists:
    file = group[0]
    if len(group) == 1:
        return Entry(
            file.path,
            selection.target(file.path),
            file.content_id,
            file.size_bytes,
            from_timestamp(file.modify_time) if file.HasField("modify_time") else None,
            file.executable,
        )
    ids = " or ".join(
        f"{each.content_id.hex()[:_DIGITS]} ({each.size_bytes} bytes, held by {each.holder_count})" for each in group
    )
    return AlreadyExists(
        f"{file.path} is the name of {len(group)} different files; fetch the one that you mean by its id, "
        f"with `relevo get ID`: {ids}"
    )


Key = tuple[str, str, bytes, int]


async def _pages(routes: ListsFiles, selection: Selection) -> AsyncIterator[list[CatalogueFile]]:
    """Yields the pages of a list; goes on at central itself when a neighbour's are not one list."""
    request = pb2.ListFilesRequest(order=pb2.FILE_ORDER_BY_NAME, page_size=PAGE)
    if selection.directory:
        request.directory = selection.directory
    else:
        request.query = selection.pattern
    last: Key | None = None
    told_by: Way | None = None
    directly, lies, count = False, 0, 0
    while lies < _MOST_LIES:
        try:
            response, taken = await routes.list_files(request, directly=directly)
        except InvalidInput:  # perhaps a token that is not central's own
            if told_by is None:
                raise
            broken = True
        else:
            told_by = None if taken.way.direct else taken.way
            files = list(_after(last, response.files, selection))
            broken = len(files) < len(response.files)
        if broken and told_by is not None:
            routes.distrust(told_by, _RPC)
            lies += 1
            directly, told_by, request.page_token = True, None, ""
            continue
        if files:
            count += len(files)
            last = _key(files[-1])
            yield files
        request.page_token = response.next_page_token
        if not request.page_token:
            return
        if count > MOST_FILES:
            raise NotPossible(f"{selection.name} are more than {MOST_FILES:,} files; choose fewer at once")
    raise Unreachable("no peer that answers lists the files in order; try again when central can be reached")


def _after(last: Key | None, files: Iterable[CatalogueFile], selection: Selection) -> Iterator[CatalogueFile]:
    """Yields those files that keep the rules and the order of the list, and come after what was listed."""
    for file in files:
        key = _key(file)
        if (last is not None and key <= last) or not _is_file(file, selection):
            continue
        last = key
        yield file


def _key(file: CatalogueFile) -> Key:
    return folded(file.path), file.path, file.content_id, file.size_bytes


def _is_file(file: CatalogueFile, selection: Selection) -> bool:
    beneath = f"{selection.directory}/" if selection.directory else ""
    return (
        not path_problem(file.path)
        and file.path.startswith(beneath)
        and len(file.content_id) == DIGEST_BYTES
        and file.size_bytes <= MAX_SIZE
    )
