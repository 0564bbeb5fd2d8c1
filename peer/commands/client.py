"""The command line's connection to its own daemon. Answers are pb2 messages, failures are those of core.errors.

The synchronous gRPC API serves best here: a command asks, shows and ends.
"""

import socket
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from core.errors import InvalidInput, RelevoError, Unreachable
from core.status import from_code, from_rpc_error
from peer.sets.selections import Selection
from peer.settings import control_address, control_socket
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile, FileEntry, Placement
from relevo.v1.peer_control_pb2_grpc import PeerControlStub

Request = TypeVar("Request")
Answer = TypeVar("Answer")

# The daemon tries several ways to central, each for some seconds, before it gives up.
TIMEOUT = 30.0
PAGE = 500
# A page of the longest names must fit.
_OPTIONS = (("grpc.max_receive_message_length", 16 * 1024 * 1024), ("grpc.enable_http_proxy", 0))


def runs(home: Path) -> bool:
    """Tells whether a daemon listens on the control socket of `home`."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(control_socket(home)))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        return True


class Daemon:
    """The daemon of a home; a context manager. Every method raises the errors that its RPC documents.

    Raises:
        Unreachable: no daemon runs for this home.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        if not runs(home):
            raise Unreachable(
                f"no daemon runs for this home: start one with `relevo serve DIR` (the home is {home}; --home or "
                "RELEVO_HOME names another)"
            )
        self._channel = grpc.insecure_channel(control_address(home), options=_OPTIONS)
        self._stub = PeerControlStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def runs(self) -> bool:
        """Tells whether the daemon still runs."""
        return runs(self._home)

    def status(self) -> pb2.GetStatusResponse:
        """Returns what the daemon is, shares and skips."""
        return self._call(self._stub.GetStatus, pb2.GetStatusRequest(skipped_page_size=1000))

    def files(self, query: str, *, by_name: bool = False, limit: int | None = None) -> Iterator[CatalogueFile]:
        """Yields what a search finds, page after page, at most `limit` files."""
        order = central_pb2.FILE_ORDER_BY_NAME if by_name else central_pb2.FILE_ORDER_NEWEST_FIRST
        request = central_pb2.ListFilesRequest(
            query=_text(query, "PATTERN"), order=order, page_size=min(limit or PAGE, PAGE)
        )
        return islice(self._files(request), limit)

    def candidates(self, reference: str) -> Iterator[CatalogueFile]:
        """Yields the files that `reference` may mean: an exact path, else last part, else beginning of a content id."""
        return self._files(central_pb2.ListFilesRequest(reference=_text(reference, "NAME"), page_size=PAGE))

    def has_files_beneath(self, directory: str) -> bool:
        """Tells whether the network has files beneath a directory of the catalogue."""
        request = central_pb2.ListFilesRequest(directory=_text(directory, "NAME"), page_size=1)
        return bool(self._call(self._stub.ListFiles, pb2.PeerControlListFilesRequest(request=request)).response.files)

    def _files(self, request: central_pb2.ListFilesRequest) -> Iterator[CatalogueFile]:
        while True:
            answer = self._call(self._stub.ListFiles, pb2.PeerControlListFilesRequest(request=request)).response
            yield from answer.files
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def peers(self) -> Iterator[central_pb2.PeerListing]:
        """Yields the live peers, the most recently joined first."""
        request = central_pb2.ListPeersRequest(page_size=PAGE)
        while True:
            answer = self._call(self._stub.ListPeers, pb2.PeerControlListPeersRequest(request=request)).response
            yield from answer.peers
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def neighbours(self) -> pb2.PeerControlGetNeighboursResponse:
        """Returns the peer's neighbours and the way that the answer came."""
        return self._call(self._stub.GetNeighbours, pb2.PeerControlGetNeighboursRequest())

    def start_download(
        self, file: CatalogueFile, directory: Path, options: pb2.DownloadOptions | None = None
    ) -> pb2.Transfer:
        """Starts to fetch `file` into `directory`, an absolute path, as `options` say."""
        entry = FileEntry(
            path=file.path,
            content_id=file.content_id,
            size_bytes=file.size_bytes,
            modify_time=file.modify_time if file.HasField("modify_time") else None,
            executable=file.executable,
        )
        request = pb2.StartDownloadRequest(file=entry, directory=_text(str(directory), "--to"), options=options)
        return self._call(self._stub.StartDownload, request).transfer

    def start_set(
        self, selections: Sequence[Selection], directory: Path, options: pb2.DownloadOptions | None = None
    ) -> pb2.Transfer:
        """Starts to fetch what is selected into `directory`, an absolute path, in one transfer."""
        messages = [
            pb2.FileSelection(beneath=_text(one.directory, "NAME"))
            if one.directory
            else pb2.FileSelection(pattern=_text(one.pattern, "NAME"))
            for one in selections
        ]
        request = pb2.StartSetDownloadRequest(
            selections=messages, directory=_text(str(directory), "--to"), options=options
        )
        return self._call(self._stub.StartSetDownload, request).transfer

    def start_upload(self, source: Path, replicas: int) -> pb2.Transfer:
        """Starts to share `source`, an absolute path, and to place `replicas` copies of it."""
        request = pb2.StartUploadRequest(source=_text(str(source), "FILE"), replicas=replicas)
        return self._call(self._stub.StartUpload, request).transfer

    def transfers(self, limit: int | None = None) -> Iterator[pb2.Transfer]:
        """Yields the daemon's transfers, the latest first, at most `limit`."""
        return islice(self._transfers(min(limit or PAGE, PAGE)), limit)

    def _transfers(self, page: int) -> Iterator[pb2.Transfer]:
        request = pb2.ListTransfersRequest(page_size=page)
        while True:
            answer = self._call(self._stub.ListTransfers, request)
            yield from answer.transfers
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def transfer(self, transfer_id: str) -> pb2.Transfer:
        """Returns one transfer as it stands."""
        return self.look(transfer_id).transfer

    def look(self, transfer_id: str, known: int = 0) -> pb2.GetTransferResponse:
        """Returns one transfer as it stands, and of a set the next of the problems after the first `known`."""
        request = pb2.GetTransferRequest(transfer_id=transfer_id, known_problem_count=known)
        return self._call(self._stub.GetTransfer, request)

    def cancel(self, transfer_id: str) -> pb2.Transfer:
        """Stops a transfer and returns how it ended."""
        return self._call(self._stub.CancelTransfer, pb2.CancelTransferRequest(transfer_id=transfer_id)).transfer

    def pause(self, transfer_id: str) -> pb2.Transfer:
        """Stops a download until it is resumed, and returns how it stands."""
        return self._call(self._stub.PauseTransfer, pb2.PauseTransferRequest(transfer_id=transfer_id)).transfer

    def resume(self, transfer_id: str) -> pb2.Transfer:
        """Lets a paused download go on, and returns how it stands."""
        return self._call(self._stub.ResumeTransfer, pb2.ResumeTransferRequest(transfer_id=transfer_id)).transfer

    def prioritise(self, transfer_id: str, priority: str) -> pb2.Transfer:
        """Gives a download the priority `high`, `normal` or `low`, and returns how it stands."""
        request = pb2.SetTransferPriorityRequest(transfer_id=transfer_id, priority=priority_value(priority))
        return self._call(self._stub.SetTransferPriority, request).transfer

    def set_rate_limits(self, upload: int | None = None, download: int | None = None) -> pb2.RateLimits:
        """Sets limits in bytes a second, 0 for none, and returns what counts; None leaves one as it is."""
        request = pb2.SetRateLimitsRequest(upload_bytes_per_second=upload, download_bytes_per_second=download)
        return self._call(self._stub.SetRateLimits, request).rate_limits

    def placement(self, placement_id: str) -> Placement:
        """Returns how far a placement is."""
        request = central_pb2.GetPlacementRequest(placement_id=placement_id)
        envelope = pb2.PeerControlGetPlacementRequest(request=request)
        return self._call(self._stub.GetPlacement, envelope).response.placement

    def end_placement(self, content_id: bytes) -> pb2.PeerControlEndPlacementResponse:
        """Gives up the claim to copies of a content, and returns what that ended."""
        return self._call(self._stub.EndPlacement, pb2.PeerControlEndPlacementRequest(content_id=content_id))

    def logout(self) -> bool:
        """Makes the daemon log out and stop; returns whether central confirmed."""
        return self._call(self._stub.Logout, pb2.PeerControlLogoutRequest()).confirmed

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Answer]", request: Request) -> Answer:
        try:
            return method(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            if isinstance(found, Unreachable) and not self.runs():
                found = Unreachable("the daemon has stopped; start it again with `relevo serve`")
            raise found from error


def _text(value: str, field: str) -> str:
    """Returns `value`, which can travel as it is.

    Raises:
        InvalidInput: it is not valid Unicode, which names on a disk sometimes are not.
    """
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInput(field, f"{value!r} is not valid UTF-8; rename it first")
    return value


def priority_value(priority: str) -> pb2.TransferPriority:
    """Returns the value of `high`, `normal` or `low` in messages."""
    values: dict[str, pb2.TransferPriority] = {
        "low": pb2.TRANSFER_PRIORITY_LOW,
        "normal": pb2.TRANSFER_PRIORITY_NORMAL,
        "high": pb2.TRANSFER_PRIORITY_HIGH,
    }
    return values[priority]


def error_of(transfer: pb2.Transfer) -> RelevoError:
    """Returns the error that a failed transfer ended with."""
    return from_code(transfer.error_code, transfer.error_message or "the transfer failed; the daemon's log says why")
