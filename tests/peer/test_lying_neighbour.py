"""A neighbour that lies: whatever it answers in central's name, the right answer comes another way."""

import asyncio
import logging
import random
import socket
import time

import grpc
import pytest

from core import errors
from core.identity import Identity
from core.manifest import manifest_of
from core.rpc import Server
from core.signing import sign_request
from peer.directory import routes
from peer.directory.routes import LONG_REST, REST, Routes
from peer.fetching.holders import Holders
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.transfer import Downloader, DownloadSettings, FetchRequest
from peer.giving.serving import Serving
from peer.links.channels import Channels
from peer.links.dialling import Dialler
from peer.relay_servicer import RelayServicer
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import CatalogueFile, Holder, Neighbours, PeerInfo, Placement, PlacementCopy
from relevo.v1.peer_control_pb2 import RouteKind
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer, add_PeerRelayServicer_to_server

PRIMARY, BACKUP, CENTRAL = (
    RouteKind.ROUTE_KIND_PRIMARY,
    RouteKind.ROUTE_KIND_BACKUP,
    RouteKind.ROUTE_KIND_CENTRAL,
)
ME = Identity.generate()
CONTENT = b"c" * 32
ANA, BEN = "a" * 52, "b" * 52


def info(peer_id=ANA, name="ana", addresses=("192.0.2.1:5000",)):
    return PeerInfo(peer_id=peer_id, name=name, addresses=addresses)


def file(**changed):
    return CatalogueFile(**{"path": "docs/report.pdf", "content_id": CONTENT, "size_bytes": 7, **changed})


def placement(**changed):
    copies = [PlacementCopy(peer=info())]
    fields = {"placement_id": "1" * 32, "content_id": CONTENT, "path": "report.pdf", "wanted_copies": 2}
    return Placement(**{**fields, "copies": copies, **changed})


FILES = pb2.ListFilesResponse(files=[file()])
HOLDERS = pb2.LocateFileResponse(size_bytes=7, holders=[Holder(peer=info(), complete=True)])
MANY_HOLDERS = pb2.LocateFilesResponse(holders=HOLDERS.holders, files=[pb2.LocatedFile(holders=[0])] * 2)
PLACED = pb2.PlaceFileResponse(placement=placement())
NEIGHBOURS = pb2.GetNeighboursResponse(neighbours=Neighbours(primary=info()))
DETAILS = pb2.PlaceFileDetails(content_id=CONTENT, path="report.pdf", replicas=2)
SIGNED = sign_request(ME, "/relevo.v1.CentralDirectory/PlaceFile", DETAILS.SerializeToString(), 1.0)
REQUESTS = {
    "ListFiles": pb2.ListFilesRequest(reference="report.pdf"),
    "LocateFile": pb2.LocateFileRequest(content_id=CONTENT),
    "LocateFiles": pb2.LocateFilesRequest(content_ids=[CONTENT, b"e" * 32]),
    "PlaceFile": pb2.PlaceFileRequest(signed=SIGNED),
    "GetNeighbours": pb2.GetNeighboursRequest(peer_id=ME.peer_id),
}
TRUE = {
    "ListFiles": FILES,
    "LocateFile": HOLDERS,
    "LocateFiles": MANY_HOLDERS,
    "PlaceFile": PLACED,
    "GetNeighbours": NEIGHBOURS,
}
CALLS = {"ListFiles": "list_files", "LocateFile": "locate_file", "PlaceFile": "place_file"}
CALLS["LocateFiles"] = "locate_files"
CALLS["GetNeighbours"] = "get_neighbours"


class Answers:
    """Answers each RPC as `answers` says: a message, an error to raise, or a function of the request."""

    def __init__(self, answers):
        self.answers = dict(answers)
        self.asked = []

    async def answer(self, rpc, request):
        self.asked.append((rpc, request))
        found = self.answers[rpc]
        if callable(found):
            found = await found(request)
        if isinstance(found, Exception):
            raise found
        return found


class Central(Answers, CentralDirectoryServicer):
    async def ListFiles(self, request, context):
        return await self.answer("ListFiles", request)

    async def LocateFile(self, request, context):
        return await self.answer("LocateFile", request)

    async def LocateFiles(self, request, context):
        return await self.answer("LocateFiles", request)

    async def PlaceFile(self, request, context):
        return await self.answer("PlaceFile", request)

    async def GetNeighbours(self, request, context):
        return await self.answer("GetNeighbours", request)


class Neighbour(Answers, PeerRelayServicer):
    async def ListFiles(self, request, context):
        return relay_pb2.PeerRelayListFilesResponse(response=await self.answer("ListFiles", request.request))

    async def LocateFile(self, request, context):
        return relay_pb2.PeerRelayLocateFileResponse(response=await self.answer("LocateFile", request.request))

    async def LocateFiles(self, request, context):
        return relay_pb2.PeerRelayLocateFilesResponse(response=await self.answer("LocateFiles", request.request))

    async def PlaceFile(self, request, context):
        return relay_pb2.PeerRelayPlaceFileResponse(response=await self.answer("PlaceFile", request.request))

    async def GetNeighbours(self, request, context):
        return relay_pb2.PeerRelayGetNeighboursResponse(response=await self.answer("GetNeighbours", request.request))


class World:
    """One peer's routes, a central, and neighbours that say what a test has them say."""

    def __init__(self):
        self.now = 100.0
        self.channels = Channels()
        self.servers = []
        self.central = Central(TRUE)
        self.routes = None

    async def start(self):
        self.central_server = await self.serve(add_CentralDirectoryServicer_to_server, self.central)
        address = f"127.0.0.1:{self.central_server.port}"
        self.routes = Routes(self.channels, address, (), lambda: self.now)

    async def serve(self, add, servicer, address="127.0.0.1:0"):
        server = Server()
        add(servicer, server.server)
        server.listen(address)
        await server.start()
        self.servers.append(server)
        return server

    async def neighbour(self, role, **answers):
        """Makes a neighbour that is honest but for `answers`."""
        servicer = Neighbour({**TRUE, **answers})
        server = await self.serve(add_PeerRelayServicer_to_server, servicer)
        peer_id = {"primary": ANA, "backup": BEN}[role]
        found = info(peer_id, role, [f"127.0.0.1:{server.port}"])
        getattr(self.routes.neighbours, role).CopyFrom(found)
        return servicer

    async def call(self, rpc, request=None):
        async with asyncio.timeout(20):
            return await getattr(self.routes, CALLS[rpc])(request or REQUESTS[rpc])

    def first_way(self, later=0.0):
        return self.routes.ways(self.now + later)[0].kind


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(routes, "PATIENCE", 10.0)  # a loaded machine is not silent
    world = World()
    await world.start()
    yield world
    await world.channels.close()
    await asyncio.gather(*(server.stop(0) for server in world.servers))


FORGED = [
    errors.NotFound("no live peer holds it"),
    errors.SessionUnknown("log in anew"),
    errors.Refused("not for you"),
    errors.Revoked("you are revoked"),
    errors.Unauthenticated("not your signature"),
    errors.InvalidInput("query", "central does not take this"),
    errors.AlreadyExists("it is there"),
    errors.VersionConflict("publish anew"),
    errors.OverQuota("too much", 60.0),
]
# What the transport or a broken neighbour answers: no word of central's, so nobody is caught lying.
BROKEN = [
    errors.NotPossible("no"),
    errors.Busy("later", 1000.0),
    errors.Corrupt("rotten"),
    errors.Defect("a bug"),
    errors.CertificateExpired("renew it"),
]


@pytest.mark.parametrize("rpc", REQUESTS)
@pytest.mark.parametrize("forged", FORGED, ids=lambda error: type(error).__name__)
async def test_an_error_that_a_neighbour_invents_is_asked_again_of_central(world, caplog, rpc, forged):
    await world.neighbour("primary", **{rpc: forged})
    backup = await world.neighbour("backup")
    with caplog.at_level(logging.WARNING, "relevo.routes"):
        answer, taken = await world.call(rpc)
    assert answer == TRUE[rpc]
    assert taken.way.kind == CENTRAL
    assert not backup.asked, "the second call is the one to central"
    assert f"{ANA} at 127.0.0.1" in caplog.text
    assert world.first_way(REST + 1) == BACKUP, "it rests longer than one that is only silent"
    assert world.first_way(LONG_REST + 1) == PRIMARY


@pytest.mark.parametrize("rpc", REQUESTS)
@pytest.mark.parametrize("broken", BROKEN, ids=lambda error: type(error).__name__)
async def test_a_broken_neighbour_is_passed_over_for_a_while(world, rpc, broken):
    await world.neighbour("primary", **{rpc: broken})
    await world.neighbour("backup")
    assert (await world.call(rpc))[0] == TRUE[rpc]
    assert world.first_way() == BACKUP
    assert world.first_way(REST + 1) == PRIMARY


MISFITS = {
    "an empty list": ("ListFiles", pb2.ListFilesResponse()),
    "an empty list that goes on": ("ListFiles", pb2.ListFilesResponse(next_page_token="more")),
    "another file": ("ListFiles", pb2.ListFilesResponse(files=[file(path="docs/other.pdf")])),
    "one file too many": ("ListFiles", pb2.ListFilesResponse(files=[file(), file(path="x")])),
    "more files than asked": ("ListFiles", pb2.ListFilesResponse(files=[file()] * 101)),
    "a path that leads outside": ("ListFiles", pb2.ListFilesResponse(files=[file(path="../report.pdf")])),
    "an absolute path": ("ListFiles", pb2.ListFilesResponse(files=[file(path="/report.pdf")])),
    "escape codes": ("ListFiles", pb2.ListFilesResponse(files=[file(path="\x1b[2J/report.pdf")])),
    "a short content id": ("ListFiles", pb2.ListFilesResponse(files=[file(content_id=b"c" * 31)])),
    "an endless size": ("ListFiles", pb2.ListFilesResponse(files=[file(size_bytes=2**63)])),
    "no holder": ("LocateFile", pb2.LocateFileResponse(size_bytes=7)),
    "an endless content": ("LocateFile", pb2.LocateFileResponse(size_bytes=2**63, holders=HOLDERS.holders)),
    "too many holders": ("LocateFile", pb2.LocateFileResponse(holders=list(HOLDERS.holders) * 101)),
    **{
        f"a holder {what}": ("LocateFile", pb2.LocateFileResponse(holders=[Holder(peer=peer, complete=True)]))
        for what, peer in {
            "without an id": info(""),
            "with an odd id": info("A" * 52),
            "without a name": info(name=""),
            "with escape codes": info(name="\x1b[31m"),
            "on a socket": info(addresses=["unix:/run/docker.sock"]),
            "on another kind of socket": info(addresses=["unix:1"]),
            "on port 0": info(addresses=["192.0.2.1:0"]),
            "without a port": info(addresses=["192.0.2.1"]),
            "everywhere": info(addresses=["192.0.2.1:1"] * 17),
        }.items()
    },
    "holders of nothing": ("LocateFiles", pb2.LocateFilesResponse(holders=HOLDERS.holders)),
    "no holder of either": ("LocateFiles", pb2.LocateFilesResponse(files=[pb2.LocatedFile()] * 2)),
    "holders of a third": (
        "LocateFiles",
        pb2.LocateFilesResponse(holders=HOLDERS.holders, files=[pb2.LocatedFile(holders=[0])] * 3),
    ),
    "a holder that is not described": (
        "LocateFiles",
        pb2.LocateFilesResponse(holders=HOLDERS.holders, files=[pb2.LocatedFile(holders=[1])]),
    ),
    "more holders of one than asked": (
        "LocateFiles",
        pb2.LocateFilesResponse(holders=list(HOLDERS.holders) * 9, files=[pb2.LocatedFile(holders=range(9))]),
    ),
    "many holders, one of them odd": (
        "LocateFiles",
        pb2.LocateFilesResponse(holders=[Holder(peer=info("x"))], files=[pb2.LocatedFile(holders=[0])]),
    ),
    "no neighbour": ("GetNeighbours", pb2.GetNeighboursResponse()),
    "the peer itself": ("GetNeighbours", pb2.GetNeighboursResponse(neighbours=Neighbours(primary=info(ME.peer_id)))),
    "an odd backup": (
        "GetNeighbours",
        pb2.GetNeighboursResponse(neighbours=Neighbours(primary=info(), backup=info("x"))),
    ),
    **{
        f"a placement {what}": ("PlaceFile", pb2.PlaceFileResponse(placement=placement(**changed)))
        for what, changed in {
            "of another content": {"content_id": b"d" * 32},
            "of another path": {"path": "other.pdf"},
            "of fewer copies": {"wanted_copies": 1},
            "without an id": {"placement_id": ""},
            "on its author": {"copies": [PlacementCopy(peer=info(ME.peer_id))]},
            "on nobody": {"copies": [PlacementCopy()]},
            "that central never made": {"placement_id": "2" * 32},
        }.items()
    },
    "no placement": ("PlaceFile", pb2.PlaceFileResponse()),
}


@pytest.mark.parametrize(("rpc", "lie"), MISFITS.values(), ids=MISFITS)
async def test_an_answer_that_is_none_to_what_was_asked_is_asked_again_of_central(world, rpc, lie):
    await world.neighbour("primary", **{rpc: lie})
    answer, taken = await world.call(rpc)
    assert answer == TRUE[rpc]
    assert taken.way.kind == CENTRAL
    assert world.first_way(REST + 1) == CENTRAL, "the liar is asked last"


async def test_a_file_that_is_not_beneath_the_directory_asked_for_is_asked_again_of_central(world):
    await world.neighbour("primary", ListFiles=pb2.ListFilesResponse(files=[file(path="docs2/report.pdf")]))
    _, taken = await world.call("ListFiles", pb2.ListFilesRequest(directory="docs"))
    assert taken.way.kind == CENTRAL
    assert world.first_way(REST + 1) == CENTRAL, "the liar is asked last"


@pytest.mark.parametrize("rpc", REQUESTS)
async def test_a_forged_placement_is_asked_again_with_the_same_signed_request(world, rpc):
    await world.neighbour("primary", **{rpc: errors.NotFound("forged")})
    await world.call(rpc)
    assert world.central.asked == [(rpc, REQUESTS[rpc])]


@pytest.mark.parametrize("rpc", ["ListFiles", "LocateFile", "LocateFiles", "GetNeighbours"])
async def test_an_honest_neighbour_that_finds_something_costs_one_call(world, rpc):
    primary = await world.neighbour("primary")
    answer, taken = await world.call(rpc)
    assert (answer, taken.way.kind, len(primary.asked)) == (TRUE[rpc], PRIMARY, 1)
    assert not world.central.asked


@pytest.mark.parametrize("rpc", REQUESTS)
async def test_an_honest_no_costs_one_more_call_and_leaves_the_neighbour_trusted(world, rpc):
    no = errors.NotFound("nobody has it")
    primary = await world.neighbour("primary", **{rpc: no})
    backup = await world.neighbour("backup")
    world.central.answers[rpc] = no
    with pytest.raises(errors.NotFound, match="nobody has it"):
        await world.call(rpc)
    assert (len(primary.asked), len(backup.asked), len(world.central.asked)) == (1, 0, 1)
    assert world.first_way() == PRIMARY


async def test_central_that_is_busy_says_so_and_for_how_long(world):
    busy = errors.Busy("later", 3.0)
    await world.neighbour("primary", ListFiles=busy)
    world.central.answers["ListFiles"] = busy
    with pytest.raises(errors.Busy, match="later") as caught:
        await world.call("ListFiles")
    assert caught.value.retry_after == 3.0


async def test_an_honest_empty_list_leaves_the_neighbour_trusted(world):
    world.central.answers["ListFiles"] = empty = pb2.ListFilesResponse()
    await world.neighbour("primary", ListFiles=empty)
    assert (await world.call("ListFiles"))[0] == empty
    assert world.first_way() == PRIMARY


async def test_an_honest_neighbour_of_a_newer_central_is_no_liar(world):
    world.central.answers["ListFiles"] = odd = pb2.ListFilesResponse(files=[file(path="a\\report.pdf")])
    await world.neighbour("primary", ListFiles=odd)
    assert (await world.call("ListFiles"))[0] == odd
    assert world.first_way() == PRIMARY


async def test_an_honest_placement_is_the_same_both_ways(world):
    await world.neighbour("primary")
    answer, _ = await world.call("PlaceFile")
    assert answer == PLACED
    assert world.first_way() == PRIMARY


# Central cannot be reached from here.


@pytest.fixture
async def cut_off(world):
    port = world.central_server.port
    await world.central_server.stop(0)
    with socket.socket() as nobody:  # else a neighbour's server may get the port
        nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        nobody.bind(("127.0.0.1", port))
        yield world


async def test_without_central_two_neighbours_that_agree_are_believed(cut_off):
    for role in ("primary", "backup"):
        await cut_off.neighbour(role, LocateFile=errors.NotFound("nobody has it"), ListFiles=pb2.ListFilesResponse())
    with pytest.raises(errors.NotFound, match="nobody has it"):
        await cut_off.call("LocateFile")
    assert not (await cut_off.call("ListFiles"))[0].files
    assert (await cut_off.call("PlaceFile"))[0] == PLACED


@pytest.mark.parametrize("rpc", ["ListFiles", "LocateFile", "GetNeighbours"])
async def test_without_central_an_honest_backup_beats_a_lying_primary(cut_off, rpc):
    await cut_off.neighbour("primary", **{rpc: errors.Refused("forged")})
    await cut_off.neighbour("backup")
    answer, taken = await cut_off.call(rpc)
    assert (answer, taken.way.kind) == (TRUE[rpc], BACKUP)


async def test_without_central_two_liars_of_different_minds_are_not_believed(cut_off):
    await cut_off.neighbour("primary", LocateFile=errors.Refused("forged"))
    await cut_off.neighbour("backup", LocateFile=errors.NotFound("forged"))
    with pytest.raises(errors.Unreachable, match="disagree"):
        await cut_off.call("LocateFile")


async def test_without_central_two_different_placements_of_one_request_are_not_believed(cut_off):
    await cut_off.neighbour("primary")
    await cut_off.neighbour("backup", PlaceFile=pb2.PlaceFileResponse(placement=placement(placement_id="2" * 32)))
    with pytest.raises(errors.Unreachable, match="disagree"):
        await cut_off.call("PlaceFile")


async def test_without_central_a_no_of_one_peer_alone_is_told_as_what_it_is(cut_off):
    await cut_off.neighbour("primary", LocateFile=errors.NotFound("nobody has it"))
    with pytest.raises(errors.Unreachable, match=r"one peer alone.*nobody has it"):
        await cut_off.call("LocateFile")


async def test_without_central_and_with_one_neighbour_copies_can_still_be_placed(cut_off):
    await cut_off.neighbour("primary")
    assert (await cut_off.call("PlaceFile"))[0] == PLACED


# Calls that are dropped, and bytes that are no answer.


async def test_a_dropped_call_is_made_another_way(world, monkeypatch):
    monkeypatch.setattr(routes, "PATIENCE", 0.1)
    never = asyncio.Event()

    async def drop(request):
        await never.wait()

    await world.neighbour("primary", PlaceFile=drop)
    answer, taken = await world.call("PlaceFile")
    assert (answer, taken.way.kind) == (PLACED, CENTRAL)


RUBBISH = {
    "no message": b"\xff" * 40,
    "another message": b"\x0a\x02\x08\x01\x12\x03abc",
    "nothing": b"",
    "three MiB": bytes(3 << 20),
    "endless nesting": b"\x0a\x7f" * 100_000,
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("rpc", REQUESTS)
async def test_bytes_that_are_no_answer_are_passed_over(world, rpc, rubbish):
    async def answer(request, context):
        return rubbish

    def register(method, server):
        handler = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("relevo.v1.PeerRelay", {rpc: handler}),))

    server = grpc.aio.server(options=[("grpc.max_send_message_length", 8 << 20)])
    register(rpc, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    world.routes.neighbours.primary.CopyFrom(info(addresses=[f"127.0.0.1:{port}"]))
    found, taken = await world.call(rpc)
    assert (found, taken.way.kind) == (TRUE[rpc], CENTRAL)
    assert world.first_way() == CENTRAL
    await server.stop(0)


async def test_a_list_goes_on_another_way_where_it_stopped(world):
    pages = {"": ("one", "next"), "next": ("two", "")}

    async def page(request):
        path, token = pages[request.page_token]
        return pb2.ListFilesResponse(files=[file(path=path)], next_page_token=token)

    world.central.answers["ListFiles"] = page
    primary = await world.neighbour("primary", ListFiles=page)
    first, taken = await world.call("ListFiles", pb2.ListFilesRequest())
    assert taken.way.kind == PRIMARY
    primary.answers["ListFiles"] = errors.InvalidInput("page_token", "forged")
    request = pb2.ListFilesRequest(page_token=first.next_page_token)
    second, taken = await world.call("ListFiles", request)
    assert taken.way.kind == CENTRAL
    assert [found.path for found in (*first.files, *second.files)] == ["one", "two"]


# Downloads that a neighbour would spoil.


class Memory:
    """One content in memory."""

    def __init__(self, data):
        self.data, self.manifest_ = data, manifest_of(data)

    async def manifest(self, content_id):
        if content_id != self.manifest_.content_id:
            raise errors.NotFound("not held")
        return self.manifest_

    async def read_run(self, content_id, index, count=1):
        layout = self.manifest_.layout
        offset = layout.block_offset(index)
        return self.data[offset : offset + layout.run_length(index, count)]


async def download(world, data, directory):
    async def not_here(content_id):
        return None

    settings = DownloadSettings(first_retry=0.02, max_retry=0.05, address_patience=0.1, patience=5.0)
    dialler = Reach(Dialler(world.channels, lambda: world.routes.central, time.monotonic))
    find = Holders(world.routes).find
    downloader = Downloader(find, dialler, not_here, ME.peer_id, time.monotonic, settings)
    request = FetchRequest(manifest_of(data).content_id, len(data), directory, "file")
    async with asyncio.timeout(20):
        return (await downloader.fetch(request, Progress(0))).location.read_bytes()


INVENTED = {
    "a dead one": info(BEN, "ben", ["127.0.0.1:1"]),
    "one nobody can dial": info(BEN, "ben", []),
    "the peer itself": info(ME.peer_id, "me", ["127.0.0.1:1"]),
}


@pytest.mark.parametrize("invented", INVENTED.values(), ids=INVENTED)
async def test_holders_that_a_neighbour_invented_do_not_keep_a_download_from_the_real_ones(world, tmp_path, invented):
    data = random.Random(1).randbytes(300_000)
    server = await world.serve(
        add_PeerRelayServicer_to_server, RelayServicer(Serving(Memory(data), time.monotonic), None)
    )
    honest = info("h" * 52, "honest", [f"127.0.0.1:{server.port}"])
    world.central.answers["LocateFile"] = pb2.LocateFileResponse(holders=[Holder(peer=honest, complete=True)])
    lie = pb2.LocateFileResponse(holders=[Holder(peer=invented, complete=True)])
    primary = await world.neighbour("primary", LocateFile=lie)
    assert await download(world, data, tmp_path) == data
    assert len(primary.asked) == 1
    assert world.first_way(REST + 1) == CENTRAL, "the liar is asked last"


async def test_a_neighbour_that_denies_all_holders_does_not_keep_a_download_from_them(world, tmp_path):
    data = random.Random(1).randbytes(300_000)
    server = await world.serve(
        add_PeerRelayServicer_to_server, RelayServicer(Serving(Memory(data), time.monotonic), None)
    )
    honest = info("h" * 52, "honest", [f"127.0.0.1:{server.port}"])
    world.central.answers["LocateFile"] = pb2.LocateFileResponse(holders=[Holder(peer=honest, complete=True)])
    await world.neighbour("primary", LocateFile=errors.NotFound("no live peer holds it"))
    assert await download(world, data, tmp_path) == data
