"""The RPCs of CentralDirectory: decode, one call, encode. Errors become statuses in `core.status`.

Look-ups take turns: a search may take long, and whoever makes many is to wait for itself.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from central import decode, fields
from central.carried import Carried
from central.directory import Directory
from central.sessions.heartbeats import Heartbeats
from central.sessions.single_beats import SingleBeats
from central.turns import Turns
from core import checks
from core.access import caller
from core.addresses import observed
from core.callers import who_calls
from core.pages import page_size
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer

# Look-ups at once. The store reads one thing more at a time, so that what changes something finds it free.
LOOKUPS = 3


class DirectoryServicer(CentralDirectoryServicer):
    """CentralDirectory on a directory."""

    def __init__(self, directory: Directory, heartbeats: Heartbeats, carried: Carried) -> None:
        self._directory = directory
        self._sessions = directory.sessions
        self._catalogue = directory.catalogue
        self._placements = directory.placements
        self._reports = directory.reports
        self._suspects = directory.suspects
        self._heartbeats = heartbeats
        self._beats = SingleBeats(directory, heartbeats)
        self._carried = carried
        self._turns = Turns(LOOKUPS, directory.clock)

    async def Login(self, request: pb2.LoginRequest, context: Any) -> pb2.LoginResponse:
        newcomer = decode.newcomer(request, observed(context.peer()), self._directory.wall())
        caller().check_is(newcomer.peer_id)
        return pb2.LoginResponse.FromString(await self._sessions.login(newcomer))

    async def Logout(self, request: pb2.LogoutRequest, context: Any) -> pb2.LogoutResponse:
        author = decode.caller(request)
        caller().check_is(author.peer_id)
        return pb2.LogoutResponse.FromString(await self._sessions.logout(author))

    async def GetNeighbours(self, request: pb2.GetNeighboursRequest, context: Any) -> pb2.GetNeighboursResponse:
        neighbours = self._sessions.neighbours(checks.peer_id(request.peer_id))
        return pb2.GetNeighboursResponse(neighbours=neighbours)

    async def ListPeers(self, request: pb2.ListPeersRequest, context: Any) -> pb2.ListPeersResponse:
        size = page_size(request.page_size)
        return await self._turns.run(who_calls(context), lambda: self._sessions.list_peers(request.page_token, size))

    def Heartbeat(
        self, request_iterator: AsyncIterator[pb2.HeartbeatRequest], context: Any
    ) -> AsyncIterator[pb2.HeartbeatResponse]:
        return self._heartbeats.serve(request_iterator, context)

    async def PublishFiles(self, request: pb2.PublishFilesRequest, context: Any) -> pb2.PublishFilesResponse:
        author = decode.caller(request)
        caller().check_is(author.peer_id)
        answer = await self._catalogue.publish(author, partial(decode.batch, request))
        return pb2.PublishFilesResponse.FromString(answer)

    async def ListFiles(self, request: pb2.ListFilesRequest, context: Any) -> pb2.ListFilesResponse:
        return await self._turns.run(who_calls(context), lambda: self._catalogue.list_files(request))

    async def LocateFile(self, request: pb2.LocateFileRequest, context: Any) -> pb2.LocateFileResponse:
        content_id = fields.content_id(request.content_id)
        token, size = request.page_token, page_size(request.page_size)
        return await self._turns.run(who_calls(context), lambda: self._catalogue.locate(content_id, token, size))

    async def LocateFiles(self, request: pb2.LocateFilesRequest, context: Any) -> pb2.LocateFilesResponse:
        wanted = decode.wanted_contents(request)
        return await self._turns.run(who_calls(context), lambda: self._catalogue.locate_many(wanted))

    async def PlaceFile(self, request: pb2.PlaceFileRequest, context: Any) -> pb2.PlaceFileResponse:
        return pb2.PlaceFileResponse.FromString(await self._placements.place_file(request.signed))

    async def EndPlacement(self, request: pb2.EndPlacementRequest, context: Any) -> pb2.EndPlacementResponse:
        return pb2.EndPlacementResponse.FromString(await self._placements.end_placement(request.signed))

    async def GetPlacement(self, request: pb2.GetPlacementRequest, context: Any) -> pb2.GetPlacementResponse:
        placement_id = checks.hex_id(request.placement_id, "placement_id")
        found = await self._turns.run(who_calls(context), lambda: self._placements.get_placement(placement_id))
        return pb2.GetPlacementResponse(placement=found)

    async def ReportHolder(self, request: pb2.ReportHolderRequest, context: Any) -> pb2.ReportHolderResponse:
        report = decode.report(request)
        caller().check_is(report.peer_id)
        await self._reports.report(report)
        return pb2.ReportHolderResponse()

    async def ReportProbe(self, request: pb2.ReportProbeRequest, context: Any) -> pb2.ReportProbeResponse:
        suspect, nonce = checks.peer_id(request.suspect_peer_id, "suspect_peer_id"), fields.nonce(request.nonce)
        self._suspects.proved(suspect, nonce, request.signature)
        return pb2.ReportProbeResponse()

    async def Beat(self, request: pb2.BeatRequest, context: Any) -> pb2.BeatResponse:
        return await self._beats.answer(*decode.single_beat(request))

    async def Carry(self, request: pb2.CarryRequest, context: Any) -> pb2.CarryResponse:
        return pb2.CarryResponse(answer=await self._carried.carry(request, context))
