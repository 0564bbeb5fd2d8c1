"""A daemon that answers by a script, on the control socket of a home, and the command line run against it."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from core.access import OWN_SOCKET
from core.content import digest
from core.names import last_part
from core.rpc import Server
from peer.cli import relevo
from peer.settings import control_address
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import content_pb2
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.peer_control_pb2_grpc import PeerControlServicer, add_PeerControlServicer_to_server

ANA = content_pb2.PeerInfo(peer_id="a" * 52, name="ana", addresses=["127.0.0.1:4321", "[::1]:4321"])
BEN = content_pb2.PeerInfo(peer_id="b" * 52, name="ben", addresses=["127.0.0.1:4400"])


def catalogue_file(path, size=5, *, content=None, holders=2, published=1_700_000_000):
    """A file of the catalogue; its content id comes from `content`, or from its path."""
    return content_pb2.CatalogueFile(
        path=path,
        content_id=digest((content or path).encode()),
        size_bytes=size,
        holder_count=holders,
        publish_time={"seconds": published},
        modify_time={"seconds": published - 60, "nanos": 250_000_000},
    )


def step(done, size, state="RUNNING", **fields):
    """One look at a transfer."""
    sources = [pb2.TransferSource(peer=ANA, bytes=done), pb2.TransferSource(peer=BEN)] if done else []
    return pb2.Transfer(
        **{
            "done_bytes": done,
            "size_bytes": size,
            "state": pb2.TransferState.Value(f"TRANSFER_STATE_{state}"),
            "sources": sources,
            "start_time": {"seconds": 1_700_000_000},
            "end_time": {"seconds": 1_700_000_002} if state in {"DONE", "FAILED", "CANCELLED"} else None,
            **fields,
        }
    )


def _name_and_size(source):
    return Path(source).name, Path(source).stat().st_size


class ScriptedDaemon(PeerControlServicer):
    """Answers as peer_control.proto says, from what a test put into its attributes."""

    ana, ben = ANA, BEN
    step = staticmethod(step)

    def __init__(self):
        self.files = []
        self.listings = []
        self.neighbours = content_pb2.Neighbours(primary=ANA, backup=BEN)
        self.route = pb2.Route(
            kind=pb2.ROUTE_KIND_PRIMARY, peer=ANA, address="127.0.0.1:4321", took={"nanos": 3_000_000}
        )
        self.status = pb2.GetStatusResponse(peer=ANA, shared_directory="/srv/ana", central="127.0.0.1:7400")
        self.problems = []  # of every set
        self.steps = {}  # path -> looks at its transfer; the last one stays
        self.placements = []  # successive answers; the last one stays
        self.ended = pb2.PeerControlEndPlacementResponse()
        self.listed_transfers = []
        self.failures = {}  # RPC, or (RPC, path) -> error, or what returns one or None
        self.requests = []
        self.under_way = {}
        self.waiting_calls = asyncio.Event()  # set when the last look was asked for again
        self.left = asyncio.Event()
        self.asked_to_start = asyncio.Event()
        self.begins = asyncio.Event()  # while it is not set, no download begins
        self.begins.set()
        self.page = 500
        self.confirms = True

    def offer(self, path, size=5, **fields):
        """Adds a file to the catalogue, and returns it."""
        self.files.append(catalogue_file(path, size, **fields))
        return self.files[-1]

    def asked(self, rpc):
        """Returns the requests that came for one RPC."""
        return [request for name, request in self.requests if name == rpc]

    def _begin(self, rpc, request, path=""):
        self.requests.append((rpc, request))
        error = self.failures.get((rpc, path)) or self.failures.get(rpc)
        if callable(error):
            error = error()
        if error:
            raise error

    async def GetStatus(self, request, context):
        self._begin("GetStatus", request)
        return self.status

    async def ListFiles(self, request, context):
        asked = request.request
        self._begin("ListFiles", asked)
        if asked.WhichOneof("filter") == "reference":
            found = self._meant(asked.reference)
        elif asked.WhichOneof("filter") == "directory":
            found = [file for file in self.files if file.path.startswith(f"{asked.directory}/")]
        else:
            found = [file for file in self.files if asked.query.casefold() in file.path.casefold()]
        first = int(asked.page_token or 0)
        last = first + min(asked.page_size or 100, self.page)
        answer = central_pb2.ListFilesResponse(
            files=found[first:last], next_page_token=str(last) if last < len(found) else ""
        )
        return pb2.PeerControlListFilesResponse(response=answer, route=self.route)

    def _meant(self, reference):
        rules = (
            lambda file: file.path == reference,
            lambda file: last_part(file.path) == reference,
            lambda file: len(reference) >= 4 and file.content_id.hex().startswith(reference),
        )
        return next(filter(None, ([file for file in self.files if rule(file)] for rule in rules)), [])

    async def ListPeers(self, request, context):
        asked = request.request
        self._begin("ListPeers", asked)
        first = int(asked.page_token or 0)
        last = first + min(asked.page_size, self.page)
        token = str(last) if last < len(self.listings) else ""
        answer = central_pb2.ListPeersResponse(peers=self.listings[first:last], next_page_token=token)
        return pb2.PeerControlListPeersResponse(response=answer)

    async def GetNeighbours(self, request, context):
        self._begin("GetNeighbours", request)
        return pb2.PeerControlGetNeighboursResponse(neighbours=self.neighbours, route=self.route)

    async def StartDownload(self, request, context):
        self._begin("StartDownload", request, request.file.path)
        await self._may_begin()
        name = last_part(request.file.path)
        fields = {"target": f"{request.directory}/{name}", "content_id": request.file.content_id}
        looks = self.steps.get(request.file.path)
        looks = looks or [step(request.file.size_bytes, request.file.size_bytes, "DONE")]
        return pb2.StartDownloadResponse(transfer=self._start("DOWNLOAD", request.file.path, looks, **fields))

    async def StartSetDownload(self, request, context):
        names = [one.pattern or f"{one.beneath}/" for one in request.selections]
        path = ", ".join(names)
        self._begin("StartSetDownload", request, path)
        await self._may_begin()
        looks = self.steps.get(path) or [step(9, 9, "DONE", set={"found_count": 2, "listed": True, "done_count": 2})]
        return pb2.StartSetDownloadResponse(transfer=self._start("DOWNLOAD", path, looks, target=request.directory))

    async def StartUpload(self, request, context):
        name, size = _name_and_size(request.source)
        self._begin("StartUpload", request, name)
        fields = {"target": f"/srv/ana/{name}", "content_id": digest(name.encode())}
        if request.replicas:
            fields["placement_id"] = "0" * 32
        looks = self.steps.get(name) or [step(size, size, "RUNNING"), step(size, size, "DONE")]
        return pb2.StartUploadResponse(transfer=self._start("UPLOAD", name, looks, **fields))

    async def _may_begin(self):
        self.asked_to_start.set()
        await self.begins.wait()

    def _start(self, kind, path, looks, **fields):
        transfer_id = f"{len(self.under_way) + 1:016x}"
        common = pb2.Transfer(
            **fields, path=path, transfer_id=transfer_id, kind=pb2.TransferKind.Value(f"TRANSFER_KIND_{kind}")
        )
        # Of two messages one after the other, the later one's fields count: what the script says beats what is common.
        whole = [pb2.Transfer.FromString(common.SerializeToString() + look.SerializeToString()) for look in looks]
        self.under_way[transfer_id] = whole
        return whole[0]

    async def GetTransfer(self, request, context):
        self._begin("GetTransfer", request)
        looks = self.under_way[request.transfer_id]
        if len(looks) > 1:
            looks.pop(0)
        else:
            self.waiting_calls.set()
        problems = self.problems[request.known_problem_count :][:100] if looks[0].HasField("set") else ()
        return pb2.GetTransferResponse(transfer=looks[0], problems=problems)

    async def CancelTransfer(self, request, context):
        self._begin("CancelTransfer", request)
        listed = {transfer.transfer_id: transfer for transfer in self.listed_transfers}
        look = listed.get(request.transfer_id) or self.under_way[request.transfer_id][-1]
        look.state = pb2.TRANSFER_STATE_CANCELLED
        return pb2.CancelTransferResponse(transfer=look)

    def _steered(self, rpc, request, kind, **changes):
        self._begin(rpc, request, request.transfer_id)
        listed = {transfer.transfer_id: transfer for transfer in self.listed_transfers}
        listed[request.transfer_id].MergeFrom(pb2.Transfer(**changes))
        return kind(transfer=listed[request.transfer_id])

    async def PauseTransfer(self, request, context):
        return self._steered("PauseTransfer", request, pb2.PauseTransferResponse, state=pb2.TRANSFER_STATE_PAUSED)

    async def ResumeTransfer(self, request, context):
        return self._steered("ResumeTransfer", request, pb2.ResumeTransferResponse, state=pb2.TRANSFER_STATE_RUNNING)

    async def SetTransferPriority(self, request, context):
        kind = pb2.SetTransferPriorityResponse
        return self._steered("SetTransferPriority", request, kind, priority=request.priority)

    async def SetRateLimits(self, request, context):
        self._begin("SetRateLimits", request)
        limits = self.status.rate_limits
        for field in ("upload_bytes_per_second", "download_bytes_per_second"):
            if request.HasField(field):
                setattr(limits, field, getattr(request, field))
        return pb2.SetRateLimitsResponse(rate_limits=limits)

    async def ListTransfers(self, request, context):
        self._begin("ListTransfers", request)
        first = int(request.page_token or 0)
        last = first + min(request.page_size, self.page)
        token = str(last) if last < len(self.listed_transfers) else ""
        return pb2.ListTransfersResponse(transfers=self.listed_transfers[first:last], next_page_token=token)

    async def GetPlacement(self, request, context):
        self._begin("GetPlacement", request.request)
        if len(self.placements) == 1:
            self.waiting_calls.set()
        placement = self.placements.pop(0) if len(self.placements) > 1 else self.placements[0]
        return pb2.PeerControlGetPlacementResponse(response=central_pb2.GetPlacementResponse(placement=placement))

    async def EndPlacement(self, request, context):
        self._begin("EndPlacement", request)
        return self.ended

    async def Logout(self, request, context):
        self._begin("Logout", request)
        self.left.set()
        return pb2.PeerControlLogoutResponse(confirmed=self.confirms)


@pytest.fixture
def home():
    """A home whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="relevo-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def daemon(home):
    """A scripted daemon that serves `home`; it stops after a logout."""
    scripted = ScriptedDaemon()
    server = Server(way_in=OWN_SOCKET)
    server.listen(control_address(home))
    add_PeerControlServicer_to_server(scripted, server.server)
    await server.start("relevo.v1.PeerControl")

    async def stop_after_logout():
        await scripted.left.wait()
        await server.stop(1)

    leaving = asyncio.create_task(stop_after_logout())
    yield scripted
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await server.stop(0)


@pytest.fixture
def run(home):
    """Runs `relevo --home HOME …` in a thread, and returns click's result."""

    async def run_in_thread(*args, **options):
        arguments = ["--home", str(home), *map(str, args)]
        return await asyncio.to_thread(CliRunner().invoke, relevo, arguments, prog_name="relevo", **options)

    return run_in_thread


@pytest.fixture
def spawn(home):
    """Starts `python -m peer --home HOME …` as a process of its own; whatever still runs at the end is killed."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'generated'}"}
    started = []

    async def start(*args, **options):
        streams = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options}
        arguments = ["-m", "peer", "--home", str(home), *map(str, args)]
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment, **streams)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
