"""Listing a set: every page, each path once, and no neighbour's list that is none."""

from types import SimpleNamespace

import pytest

from core import errors
from core.content import digest
from core.names import folded
from peer.sets import set_listing
from peer.sets.selections import Entry, Selection
from peer.sets.set_listing import entries
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

DIRECT, NEIGHBOUR = SimpleNamespace(direct=True), SimpleNamespace(direct=False)
EVERYTHING = Selection(pattern="*")


def file(path, content=None, size=3, **fields):
    return CatalogueFile(path=path, content_id=digest((content or path).encode()), size_bytes=size, **fields)


class Catalogue:
    """A central with files, and a neighbour that a test lets lie."""

    def __init__(self, *files, page=2, lie=None):
        self.files = sorted(files, key=lambda one: (folded(one.path), one.path, one.content_id, one.size_bytes))
        self.page, self.lie = page, lie
        self.asked, self.distrusted = [], []

    async def list_files(self, request, *, directly=False):
        self.asked.append((pb2.ListFilesRequest.FromString(request.SerializeToString()), directly))
        if request.page_token and not request.page_token.isdigit():
            raise errors.InvalidInput("page_token", "not mine")
        first = int(request.page_token or 0)
        last = first + self.page
        answer = pb2.ListFilesResponse(files=self.files[first:last])
        answer.next_page_token = str(last) if last < len(self.files) else ""
        if self.lie is None or directly:
            return answer, SimpleNamespace(way=DIRECT if directly or self.lie is None else NEIGHBOUR)
        return self.lie(answer, first), SimpleNamespace(way=NEIGHBOUR)

    def distrust(self, way, rpc):
        self.distrusted.append((way, rpc))


async def listed(catalogue, selection=EVERYTHING):
    return [one async for some in entries(catalogue, selection) for one in some]


async def paths(catalogue, selection=EVERYTHING):
    return [one.path for one in await listed(catalogue, selection)]


NAMES = ["B", "a", "b", "c/d", "c/e", "ñ", "z"]


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_every_page_is_read_and_each_file_comes_once(page):
    catalogue = Catalogue(*map(file, NAMES), page=page)
    assert sorted(await paths(catalogue)) == sorted(NAMES)
    assert all(asked.order == pb2.FILE_ORDER_BY_NAME for asked, _ in catalogue.asked)
    assert catalogue.distrusted == []


async def test_a_file_comes_with_all_that_is_listed_of_it_and_its_place():
    full = file("team/d/x", size=7, executable=True, modify_time={"seconds": 5, "nanos": 500_000_000})
    catalogue = Catalogue(full, file("team/d/y"))
    assert await listed(catalogue, Selection(directory="team/d")) == [
        Entry("team/d/x", "d/x", full.content_id, 7, 5.5, True),
        Entry("team/d/y", "d/y", file("team/d/y").content_id, 3, None, False),
    ]
    assert catalogue.asked[0][0].WhichOneof("filter") == "directory"


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_two_contents_at_a_path_are_one_error_that_names_both_wherever_the_page_ends(page):
    twins = [file("b", "one", 10, holder_count=1), file("b", "two", 20, holder_count=3)]
    found = await listed(Catalogue(file("a"), *twins, file("c"), page=page))
    assert [one.path for one in found if isinstance(one, Entry)] == ["a", "c"]
    (error,) = [one for one in found if not isinstance(one, Entry)]
    assert isinstance(error, errors.AlreadyExists)
    for twin in twins:
        shown = f"{twin.content_id.hex()[:12]} ({twin.size_bytes} bytes, held by {twin.holder_count})"
        assert shown in str(error)


async def test_a_content_whose_publishers_tell_two_sizes_is_one_file():
    assert await paths(Catalogue(file("a", "x", 5), file("a", "x", 6), file("b"), page=1)) == ["a", "b"]


async def test_nothing_is_an_empty_list():
    assert await listed(Catalogue()) == []


def backwards(answer, first):
    answer.files.sort(key=lambda one: one.path, reverse=True)
    return answer


def again(answer, first):
    return pb2.ListFilesResponse(files=[file("B"), file("a")], next_page_token="2")


def made_up_token(answer, first):
    answer.next_page_token = "not central's"
    return answer


def outside(answer, first):
    answer.files.add(path="../../etc/passwd", content_id=bytes(32))
    return answer


@pytest.mark.parametrize("lie", [backwards, again, made_up_token, outside])
async def test_a_neighbours_list_that_is_none_is_begun_again_at_central_and_nothing_comes_twice(lie):
    catalogue = Catalogue(*map(file, NAMES), lie=lie)
    assert sorted(await paths(catalogue)) == sorted(NAMES)
    assert catalogue.distrusted == [(NEIGHBOUR, "ListFiles")]
    assert catalogue.asked[-1][1], "central itself was asked"


async def test_liars_alone_end_in_an_error_and_not_in_an_endless_list(monkeypatch):
    catalogue = Catalogue(*map(file, NAMES), lie=again)
    honest = catalogue.list_files

    async def never_directly(request, *, directly=False):
        return await honest(request)

    monkeypatch.setattr(catalogue, "list_files", never_directly)
    with pytest.raises(errors.Unreachable):
        await listed(catalogue)


async def test_a_list_without_an_end_ends(monkeypatch):
    monkeypatch.setattr(set_listing, "MOST_FILES", 50)

    def endless(answer, first):
        return pb2.ListFilesResponse(files=[file(f"{first:08}")], next_page_token=str(first + 1))

    with pytest.raises(errors.NotPossible, match="choose fewer"):
        await listed(Catalogue(lie=endless))


async def test_what_central_itself_does_not_answer_is_told():
    class Silent(Catalogue):
        async def list_files(self, request, *, directly=False):
            raise errors.Unreachable("nobody answers")

    with pytest.raises(errors.Unreachable):
        await listed(Silent())
