"""Who holds a content, page by page; a neighbour that makes holders up; and whom a download may ask."""

import asyncio
from collections import deque

import pytest

from core import errors
from peer.directory.routes import Routes
from peer.directory.ways import Taken, Way
from peer.fetching.finder import MOST_COMPLETE, MOST_PARTIAL, Finder
from peer.fetching.holders import HOLDER_PAGES, Holders
from peer.fetching.reaching import Reach
from peer.links import contacts
from peer.links.channels import Channels
from peer.links.contacts import Contact
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Holder, PeerInfo
from relevo.v1.peer_control_pb2 import RouteKind

CENTRAL = Way(RouteKind.ROUTE_KIND_CENTRAL, "127.0.0.1:1")
LIAR = Way(RouteKind.ROUTE_KIND_PRIMARY, "127.0.0.1:2", Contact("liar", "liar", ("127.0.0.1:2",)))
CONTENT = b"c" * 32


class Scripted(Routes):
    """Answers LocateFile with the pages that a test scripts for a neighbour and for central; the last one for ever."""

    def __init__(self, neighbour=(), central=()):
        super().__init__(Channels(), CENTRAL.address, (), lambda: 0.0)
        self.pages = {LIAR: deque(neighbour), CENTRAL: deque(central)}
        self.tokens = []
        self.distrusted = []

    async def locate_file(self, request, *, directly=False):
        self.tokens.append(request.page_token)
        way = CENTRAL if directly or not self.pages[LIAR] else LIAR
        await asyncio.sleep(0)
        pages = self.pages[way]
        page = pages.popleft() if len(pages) > 1 else pages[0]
        if isinstance(page, Exception):
            raise page
        return page, Taken(way, 0.0)

    def distrust(self, way, rpc):
        self.distrusted.append(way)


def page(*names, token=""):
    holders = [Holder(peer=PeerInfo(peer_id=name, name=name)) for name in names]
    return pb2.LocateFileResponse(holders=holders, next_page_token=token)


def named(holders):
    return [holder.contact.name for holder in holders]


async def names(routes):
    async with asyncio.timeout(10):
        return named(await Holders(routes).find(CONTENT))


async def test_holders_come_from_all_pages():
    routes = Scripted([page("ben", token="next"), page("cho")])
    assert await names(routes) == ["ben", "cho"]
    assert routes.tokens == ["", "next"]


async def test_a_content_that_nobody_holds_has_no_holders():
    assert await names(Scripted(central=[errors.NotFound("nobody")])) == []


async def test_holders_that_leave_between_two_pages_take_none_of_the_others_with_them():
    assert await names(Scripted([page("ben", token="next"), errors.NotFound("nobody any more")])) == ["ben"]


async def test_a_neighbour_that_names_holders_for_ever_is_believed_for_some_pages_only():
    assert len(await names(Scripted([page("ben", token="more")]))) == HOLDER_PAGES


async def test_a_page_token_that_a_neighbour_invented_has_the_list_begun_again_at_central():
    refused = errors.InvalidInput("page_token", "this page token was not given out for this list")
    routes = Scripted([page("invented", token="invented"), refused], [page("ben", token="next"), page("cho")])
    assert await names(routes) == ["ben", "cho"]
    assert routes.distrusted == [LIAR]


async def test_a_request_that_central_itself_refuses_is_not_made_again():
    with pytest.raises(errors.InvalidInput):
        await names(Scripted(central=[errors.InvalidInput("content_id", "no")]))


async def test_a_neighbour_none_of_whose_holders_central_knows_is_distrusted():
    holders = Holders(routes := Scripted([page("invented", "too")], [page("ben")]))
    assert named(await holders.find(CONTENT)) == ["invented", "too"]
    assert named(await holders.find(CONTENT, directly=True)) == ["ben"]
    assert routes.distrusted == [LIAR]


async def test_a_neighbour_that_left_out_or_added_some_holders_may_have_asked_a_little_earlier():
    holders = Holders(routes := Scripted([page("ben", "gone")], [page("ben", "new")]))
    await holders.find(CONTENT)
    await holders.find(CONTENT, directly=True)
    assert routes.distrusted == []


async def test_what_neighbours_said_is_remembered_for_some_contents_only():
    holders = Holders(Scripted([page("ben")]))
    for number in range(3000):
        await holders.find(number.to_bytes(32))
    assert len(holders._hearsay) == 2048


# Whom a download may ask.


class Named:
    """Central's answers to one download: whom it names, and how it was asked."""

    def __init__(self, *names, doubted=(), partial=()):
        self.names, self.doubted, self.partial = list(names), set(doubted), set(partial)
        self.directly = []
        self.accused = []
        self.finder = Finder(CONTENT, self.find, Reach(None), "me", 0.1, self.accuse)

    async def find(self, content_id, *, directly=False):
        self.directly.append(directly)
        return [
            contacts.Holder(
                Contact(name, name, ("192.0.2.1:1",)), complete=name not in self.partial, doubted=name in self.doubted
            )
            for name in self.names
        ]

    def accuse(self, peer_id, content_id, lied):
        self.accused.append((peer_id, content_id, lied))

    async def look(self, **how):
        return {line.contact.name for line in await self.finder.look(**how)}


async def test_what_was_looked_up_already_is_looked_up_once_more_only_when_it_is_asked_for():
    named = Named("ben", "cho")
    found = await named.find(CONTENT)
    finder = Finder(CONTENT, named.find, Reach(None), "me", 0.1, named.accuse, found[:1])
    assert {line.contact.name for line in await finder.look()} == {"ben"}
    assert finder.named
    assert len(named.directly) == 1
    assert {line.contact.name for line in await finder.look()} == {"cho"}
    assert len(named.directly) == 2


async def test_a_holder_that_failed_is_given_up_while_there_is_another():
    named = Named("ben", "cho")
    assert await named.look() == {"ben", "cho"}
    named.finder.drop("ben", lied=False)
    assert await named.look() == set()
    assert named.accused == [("ben", CONTENT, False)]


async def test_a_holder_that_failed_is_asked_again_when_nobody_else_gives_anything():
    named = Named("ben", "cho")
    await named.look()
    named.finder.drop("ben", lied=False)
    assert await named.look(stuck=True) == {"ben"}
    named.finder.drop("ben", lied=False)
    named.names = ["ben"]
    named.finder.drop("cho", lied=False)
    assert await named.look() == {"ben"}, "it is the only one"


async def test_a_liar_is_never_asked_again():
    named = Named("ben")
    await named.look()
    named.finder.drop("ben", lied=True)
    assert await named.look(stuck=True) == set()
    assert named.accused == [("ben", CONTENT, True)]


async def test_of_thousands_of_holders_some_are_known_and_others_once_these_are_given_up():
    named = Named(*(f"holder-{number}" for number in range(3_000)))
    first = await named.look()
    assert len(first) == MOST_COMPLETE
    assert await named.look() == set()
    for name in list(first)[:40]:
        named.finder.drop(name, lied=False)
    others = await named.look()
    assert len(others) == 40
    assert not others & first


async def test_not_everybody_asks_the_same_ones_of_thousands():
    named, other = (Named(*(f"holder-{number}" for number in range(3_000))) for _ in range(2))
    other.finder = Finder(CONTENT, other.find, Reach(None), "somebody else", 0.1, other.accuse)
    assert len(await named.look() & await other.look()) < MOST_COMPLETE / 4


async def test_who_has_become_complete_makes_room_for_another_that_is_fetching():
    fetching = [f"fetching-{number}" for number in range(MOST_PARTIAL + 1)]
    named = Named(*fetching, partial=fetching)
    assert await named.look() == set(fetching[:-1])
    named.partial.remove(fetching[0])
    assert await named.look() == {fetching[0], fetching[-1]}


async def test_a_doubted_holder_is_asked_last():
    named = Named("ben", "cho", doubted=["ben"])
    assert await named.look() == {"cho"}
    assert await named.look(stuck=True) == {"ben"}
    assert await Named("ben", doubted=["ben"]).look() == {"ben"}


async def test_a_download_that_is_stuck_asks_central_itself():
    named = Named("ben")
    await named.look()
    await named.look(stuck=True)
    assert named.directly == [False, True]


async def test_a_peer_that_has_stopped_fetching_is_neither_accused_nor_given_up():
    named = Named("ben", "cho", partial=["cho"])
    await named.look()
    named.finder.drop("cho", lied=False)
    assert named.accused == []
    assert await named.look() == {"cho"}, "it may have begun again"


async def test_a_peer_that_lies_while_it_is_fetching_is_accused_and_never_asked_again():
    named = Named("ben", "cho", partial=["cho"])
    await named.look()
    named.finder.drop("cho", lied=True)
    assert named.accused == [("cho", CONTENT, True)]
    assert await named.look(stuck=True) == set()


async def test_of_peers_that_are_fetching_a_few_are_asked_and_further_ones_when_some_have_gone():
    names = [f"partial-{number}" for number in range(50)]
    named = Named("ben", *names, "cho", partial=names)
    found = await named.look()
    assert found == {"ben", "cho", *names[:30]}
    assert await named.look() == set()
    named.finder.drop(names[3], lied=False)
    named.names.remove(names[3])
    assert await named.look() == {names[30]}


async def test_a_peer_that_has_fetched_everything_is_asked_as_a_complete_holder():
    names = [f"partial-{number}" for number in range(31)]
    named = Named("ben", *names, partial=names)
    await named.look()
    named.partial.remove(names[3])
    assert await named.look() == {names[3], names[30]}, "it leaves its place to another"
    assert named.finder.lines[names[3]].complete
    named.partial.add(names[3])
    assert await named.look() == set()
    assert named.finder.lines[names[3]].complete, "what it had it still has, as far as is known"


# Many contents at once.


class Many(Scripted):
    """Answers LocateFiles: whom a neighbour names of each content, and whom central does."""

    def __init__(self, told, true, most=500):
        super().__init__()
        self.told, self.true, self.most = told, true, most
        self.asked = []

    async def locate_files(self, request, *, directly=False):
        self.asked.append((list(request.content_ids), directly))
        by_content = self.true if directly or self.told is None else self.told
        answer = pb2.LocateFilesResponse()
        for content_id in request.content_ids[: self.most]:
            positions = []
            for name in by_content.get(content_id, ()):
                answer.holders.add(peer=PeerInfo(peer_id=name, name=name), complete=True)
                positions.append(len(answer.holders) - 1)
            answer.files.add(holders=positions)
        return answer, Taken(CENTRAL if directly or self.told is None else LIAR, 0.0)


ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


async def many(routes, *content_ids, holders=None, directly=False):
    async with asyncio.timeout(10):
        found = await (holders or Holders(routes)).find_many(content_ids, directly=directly)
    return {content_id: named(of_one) for content_id, of_one in found.items()}


async def test_many_contents_are_looked_up_in_few_calls_also_when_an_answer_ends_early():
    true = {ONE: ["ben"], TWO: ["ben", "cho"]}
    for most, calls in ((500, 1), (1, 3)):
        routes = Many(None, true, most)
        assert await many(routes, ONE, TWO, THREE) == {ONE: ["ben"], TWO: ["ben", "cho"], THREE: []}
        assert len(routes.asked) == calls
    routes = Many(None, {})
    await many(routes, *(number.to_bytes(32) for number in range(1200)))
    assert [len(ids) for ids, _ in routes.asked] == [500, 500, 200]


async def test_only_the_contents_for_which_a_neighbour_names_nobody_are_asked_of_central():
    routes = Many({ONE: ["ben"]}, {ONE: ["ben"], TWO: ["cho"]})
    assert await many(routes, ONE, TWO, THREE) == {ONE: ["ben"], TWO: ["cho"], THREE: []}
    assert routes.asked == [([ONE, TWO, THREE], False), ([TWO, THREE], True)]


async def test_a_neighbour_that_names_nobody_even_when_central_cannot_be_asked_is_asked_once_more_only():
    class CutOff(Many):
        async def locate_files(self, request, *, directly=False):
            assert len(self.asked) < 3, "for ever"
            answer, _ = await super().locate_files(request)
            return answer, Taken(LIAR, 0.0)

    routes = CutOff({}, {})
    assert await many(routes, ONE) == {ONE: []}
    assert len(routes.asked) == 2


async def test_a_neighbour_that_invents_the_holders_of_many_contents_is_distrusted():
    routes = Many({ONE: ["invented"], TWO: ["ben"]}, {ONE: ["ben"], TWO: ["ben"]})
    holders = Holders(routes)
    await many(routes, ONE, TWO, holders=holders)
    assert routes.distrusted == []
    assert await many(routes, ONE, TWO, holders=holders, directly=True) == {ONE: ["ben"], TWO: ["ben"]}
    assert routes.distrusted == [LIAR]


async def test_an_answer_from_central_itself_that_is_none_ends_it_and_is_no_defect():
    class Odd(Many):
        async def locate_files(self, request, *, directly=False):
            return self.answer, Taken(CENTRAL, 0.0)

    routes = Odd(None, {})
    routes.answer = pb2.LocateFilesResponse()
    with pytest.raises(errors.Unreachable):
        await many(routes, ONE)
    routes.answer = pb2.LocateFilesResponse(files=[pb2.LocatedFile(holders=[7])])
    assert await many(routes, ONE) == {ONE: []}
