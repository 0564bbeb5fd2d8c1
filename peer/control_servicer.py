"""PeerControl: decode, one call, encode. What the command line asks of this daemon."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import errors
from core.pages import decode_token, encode_token, page_size
from core.times import to_duration, to_timestamp
from peer.directory.publishing import Publisher
from peer.directory.routes import TIMEOUT, Routes
from peer.directory.session import Session
from peer.fetching.reaching import How
from peer.giving.serving import Serving
from peer.library import Library
from peer.links.contacts import Contact
from peer.links.credentials import Credentials
from peer.membership.entrance import Entrance
from peer.membership.renewal import Renewal
from peer.relays.attaching import Attaching
from peer.relays.experiment import Experiment
from peer.relays.relaying import Relaying
from peer.sets.sets import Sets
from peer.views import (
    REACHABILITIES,
    entrance_message,
    membership_message,
    problem_messages,
    route_message,
    transfer_message,
    utf8,
)
from peer.work.downloads import Downloads
from peer.work.orders import checked_rate, order_of, priority_of
from peer.work.storing import Storing
from peer.work.transfers import Transfers
from peer.work.uploads import Uploads
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.peer_control_pb2_grpc import PeerControlServicer

Context = Any
MAX_REPLICAS = 32


@dataclass(frozen=True, slots=True)
class Parts:
    """The daemon's parts that the command line can see."""

    contact: Callable[[], Contact]
    home: Path
    library: Library
    publisher: Publisher
    session: Session
    routes: Routes
    transfers: Transfers
    downloads: Downloads
    sets: Sets
    uploads: Uploads
    storing: Storing
    serving: Serving
    relaying: Relaying
    attaching: Attaching
    entrance: Entrance
    experiment: Experiment
    clock: Callable[[], float]
    credentials: Credentials | None
    renewal: Renewal | None
    leave: Callable[[], Any]
    version: str


class ControlServicer(PeerControlServicer):
    """Serves PeerControl on the daemon's Unix socket."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def GetStatus(self, request: pb2.GetStatusRequest, context: Context) -> pb2.GetStatusResponse:
        parts, session, library = self._parts, self._parts.session, self._parts.library
        skipped = sorted({**library.skipped, **parts.publisher.skipped}.items())
        shown = skipped[: page_size(request.skipped_page_size, "skipped_page_size")]
        live = session.live
        return pb2.GetStatusResponse(
            peer=parts.contact().to_info(),
            shared_directory=utf8(str(library.shared)),
            home=utf8(str(parts.home)),
            central=session.central,
            session_state=pb2.SESSION_STATE_LIVE if live else pb2.SESSION_STATE_CONNECTING,
            session_state_time=to_timestamp(session.since),
            session_problem=session.problem,
            neighbours=parts.routes.neighbours,
            last_route=route_message(parts.routes.last) if parts.routes.last else None,
            file_count=library.totals.files,
            file_bytes=library.totals.file_bytes,
            unhashed_count=library.unhashed_count,
            stored_count=library.totals.copies,
            stored_bytes=library.totals.copy_bytes,
            store_quota_bytes=parts.storing.quota,
            skipped=[pb2.SkippedFile(path=path, reason=reason) for path, reason in shown],
            skipped_count=len(skipped),
            sent_bytes=parts.serving.sending.sent_bytes,
            received_bytes=parts.transfers.received_bytes,
            version=parts.version,
            session_id=session.login.session_id if session.login else "",
            membership=self._membership(),
            publishing_problem=parts.publisher.problem,
            rate_limits=self._rate_limits(),
            max_downloads=parts.transfers.at_once,
            carrier=session.carrier.to_info() if session.carrier else None,
            reachability=REACHABILITIES[parts.experiment.verdict],
            received_reversed_bytes=parts.transfers.received_by[How.REVERSED],
            received_relayed_bytes=parts.transfers.received_by[How.RELAYED],
            relay=pb2.RelayStatus(
                attached_count=parts.relaying.attached_count,
                relayed_bytes=parts.relaying.relayed_bytes,
                attached_to=[relay.to_info() for relay in parts.attaching.attached_to],
            ),
            entrance=entrance_message(parts.entrance),
            clock_ahead=to_duration(session.time.off) if live and session.time.off else None,
        )

    def _membership(self) -> pb2.MembershipStatus | None:
        credentials, renewal = self._parts.credentials, self._parts.renewal
        if credentials is None or renewal is None:
            return None
        return membership_message(credentials.membership, renewal.due)

    async def ListFiles(
        self, request: pb2.PeerControlListFilesRequest, context: Context
    ) -> pb2.PeerControlListFilesResponse:
        response, taken = await self._parts.routes.list_files(request.request)
        return pb2.PeerControlListFilesResponse(response=response, route=route_message(taken))

    async def ListPeers(
        self, request: pb2.PeerControlListPeersRequest, context: Context
    ) -> pb2.PeerControlListPeersResponse:
        response = await self._parts.routes.at_central(
            lambda central: central.ListPeers(request.request, timeout=TIMEOUT)
        )
        return pb2.PeerControlListPeersResponse(response=response)

    async def GetNeighbours(
        self, request: pb2.PeerControlGetNeighboursRequest, context: Context
    ) -> pb2.PeerControlGetNeighboursResponse:
        asked = central_pb2.GetNeighboursRequest(peer_id=self._parts.session.peer_id)
        response, taken = await self._parts.routes.get_neighbours(asked)
        return pb2.PeerControlGetNeighboursResponse(neighbours=response.neighbours, route=route_message(taken))

    async def GetPlacement(
        self, request: pb2.PeerControlGetPlacementRequest, context: Context
    ) -> pb2.PeerControlGetPlacementResponse:
        response = await self._parts.routes.at_central(
            lambda central: central.GetPlacement(request.request, timeout=TIMEOUT)
        )
        return pb2.PeerControlGetPlacementResponse(response=response)

    async def StartDownload(self, request: pb2.StartDownloadRequest, context: Context) -> pb2.StartDownloadResponse:
        order = order_of(request, request.options)
        transfer = self._parts.downloads.start(request.file, request.directory, order)
        await self._parts.transfers.kept(transfer)
        return pb2.StartDownloadResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def StartSetDownload(
        self, request: pb2.StartSetDownloadRequest, context: Context
    ) -> pb2.StartSetDownloadResponse:
        transfer = self._parts.sets.start(request, order_of(request, request.options))
        await self._parts.transfers.kept(transfer)
        return pb2.StartSetDownloadResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def StartUpload(self, request: pb2.StartUploadRequest, context: Context) -> pb2.StartUploadResponse:
        if request.replicas > MAX_REPLICAS:
            raise errors.InvalidInput("replicas", f"at most {MAX_REPLICAS} copies can be wanted")
        source = Path(request.source)
        if not source.is_absolute() or "\0" in request.source:
            raise errors.InvalidInput("source", "the source is an absolute path")
        transfer = self._parts.uploads.start(source, request.replicas)
        return pb2.StartUploadResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def ListTransfers(self, request: pb2.ListTransfersRequest, context: Context) -> pb2.ListTransfersResponse:
        size = page_size(request.page_size)
        after = decode_token(request.page_token, str)
        transfers = self._parts.transfers.latest_first()
        if after is not None:
            ids = [transfer.transfer_id for transfer in transfers]
            transfers = transfers[ids.index(str(after[0])) + 1 :] if after[0] in ids else []
        shown, rest = transfers[:size], transfers[size:]
        now = self._parts.clock()
        return pb2.ListTransfersResponse(
            transfers=[transfer_message(transfer, now) for transfer in shown],
            next_page_token=encode_token(shown[-1].transfer_id) if rest else "",
        )

    async def GetTransfer(self, request: pb2.GetTransferRequest, context: Context) -> pb2.GetTransferResponse:
        transfer = self._parts.transfers.get(request.transfer_id)
        return pb2.GetTransferResponse(
            transfer=transfer_message(transfer, self._parts.clock()),
            problems=problem_messages(transfer, request.known_problem_count),
        )

    async def CancelTransfer(self, request: pb2.CancelTransferRequest, context: Context) -> pb2.CancelTransferResponse:
        transfer = await self._parts.transfers.cancel(request.transfer_id)
        return pb2.CancelTransferResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def PauseTransfer(self, request: pb2.PauseTransferRequest, context: Context) -> pb2.PauseTransferResponse:
        transfer = await self._parts.transfers.pause(request.transfer_id)
        return pb2.PauseTransferResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def ResumeTransfer(self, request: pb2.ResumeTransferRequest, context: Context) -> pb2.ResumeTransferResponse:
        transfer = await self._parts.transfers.resume(request.transfer_id)
        return pb2.ResumeTransferResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def SetTransferPriority(
        self, request: pb2.SetTransferPriorityRequest, context: Context
    ) -> pb2.SetTransferPriorityResponse:
        priority = priority_of(request.priority)
        transfer = await self._parts.transfers.prioritise(request.transfer_id, priority)
        return pb2.SetTransferPriorityResponse(transfer=transfer_message(transfer, self._parts.clock()))

    async def SetRateLimits(self, request: pb2.SetRateLimitsRequest, context: Context) -> pb2.SetRateLimitsResponse:
        wanted = {
            limiter: checked_rate(getattr(request, field), field)
            for field, limiter in (
                ("upload_bytes_per_second", self._parts.serving.sending.limiter),
                ("download_bytes_per_second", self._parts.transfers.limiter),
            )
            if request.HasField(field)
        }
        for limiter, rate in wanted.items():
            limiter.change(rate)
        return pb2.SetRateLimitsResponse(rate_limits=self._rate_limits())

    def _rate_limits(self) -> pb2.RateLimits:
        return pb2.RateLimits(
            upload_bytes_per_second=round(self._parts.serving.sending.limiter.rate),
            download_bytes_per_second=round(self._parts.transfers.limiter.rate),
        )

    async def EndPlacement(
        self, request: pb2.PeerControlEndPlacementRequest, context: Context
    ) -> pb2.PeerControlEndPlacementResponse:
        response = await self._parts.uploads.give_up(request.content_id)
        own = self._parts.library.own_location(request.content_id)
        return pb2.PeerControlEndPlacementResponse(response=response, shared_location=utf8(str(own)) if own else "")

    async def Logout(self, request: pb2.PeerControlLogoutRequest, context: Context) -> pb2.PeerControlLogoutResponse:
        return pb2.PeerControlLogoutResponse(confirmed=await self._parts.leave())
