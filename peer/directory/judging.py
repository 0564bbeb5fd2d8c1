"""What a carried answer is worth: whether it is what was asked for, and whether a neighbour's word for it will do."""

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any

from google.protobuf.message import DecodeError

from core.addresses import MOST_ADDRESSES, split_address
from core.content import DIGEST_BYTES, MAX_SIZE
from core.errors import InvalidInput
from core.identity import PEER_ID
from core.names import check_peer_name, last_part, normal, path_problem
from core.pages import page_size
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile, PeerInfo

_ID_DIGITS = 32
# Holders of each content in an answer about many.
_HOLDERS_EACH = 8


class Worth(Enum):
    """What an answer is worth when a neighbour brings it.

    GOOD names something of the right form: whoever acts on it finds out whether it is true, as blocks prove themselves.
    PROMISE is one that nobody finds out: central will care for copies, or has given them up. EMPTY names nothing. UNFIT
    is no answer to what was asked.
    """

    GOOD = auto()
    PROMISE = auto()
    EMPTY = auto()
    UNFIT = auto()


def worth(rpc: str, request: Any, answer: Any) -> Worth:
    """Returns what `answer` to the `request` of CentralDirectory's `rpc` is worth."""
    return _JUDGES[rpc](request, answer)


def _files(request: pb2.ListFilesRequest, answer: pb2.ListFilesResponse) -> Worth:
    if not answer.files:
        return Worth.UNFIT if answer.next_page_token else Worth.EMPTY
    reference = normal(request.reference)
    beneath = f"{request.directory}/" if request.directory else ""
    fits = len(answer.files) <= page_size(request.page_size) and all(
        _is_file(file) and (not reference or _is_meant(reference, file)) and file.path.startswith(beneath)
        for file in answer.files
    )
    return Worth.GOOD if fits else Worth.UNFIT


def _is_file(file: CatalogueFile) -> bool:
    return not path_problem(file.path) and len(file.content_id) == DIGEST_BYTES and file.size_bytes <= MAX_SIZE


def _is_meant(reference: str, file: CatalogueFile) -> bool:
    return reference in {file.path, last_part(file.path)} or file.content_id.hex().startswith(reference.lower())


def _holders(request: pb2.LocateFileRequest, answer: pb2.LocateFileResponse) -> Worth:
    fits = (
        answer.size_bytes <= MAX_SIZE
        and 0 < len(answer.holders) <= page_size(request.page_size)  # of a content that nobody holds it is NotFound
        and _are_peers(holder.peer for holder in answer.holders)
    )
    return Worth.GOOD if fits else Worth.UNFIT


def _many_holders(request: pb2.LocateFilesRequest, answer: pb2.LocateFilesResponse) -> Worth:
    """A content without holders is asked again by whoever looks for them: the others' holders are worth having."""
    named = [position for file in answer.files for position in file.holders]
    fits = (
        0 < len(answer.files) <= len(request.content_ids)
        and all(len(file.holders) <= _HOLDERS_EACH for file in answer.files)
        and max(named, default=-1) < len(answer.holders)
        and _are_peers(holder.peer for holder in answer.holders)
    )
    if not fits:
        return Worth.UNFIT
    return Worth.GOOD if named else Worth.EMPTY


def _neighbours(request: pb2.GetNeighboursRequest, answer: pb2.GetNeighboursResponse) -> Worth:
    named = [getattr(answer.neighbours, role) for role in ("primary", "backup") if answer.neighbours.HasField(role)]
    if not named:
        return Worth.EMPTY
    fits = _are_peers(named) and request.peer_id not in {peer.peer_id for peer in named}
    return Worth.GOOD if fits else Worth.UNFIT


def _placement(request: pb2.PlaceFileRequest, answer: pb2.PlaceFileResponse) -> Worth:
    details, placement = pb2.PlaceFileDetails(), answer.placement
    try:
        details.ParseFromString(request.signed.payload)
    except DecodeError:
        return Worth.UNFIT
    peers = [copy.peer for copy in placement.copies]
    fits = (
        (placement.content_id, placement.path) == (details.content_id, details.path)
        and placement.wanted_copies == details.replicas
        and len(placement.placement_id) == _ID_DIGITS
        and _are_peers(peers)
        and request.signed.author not in {peer.peer_id for peer in peers}
    )
    return Worth.PROMISE if fits else Worth.UNFIT


def _ended(request: pb2.EndPlacementRequest, answer: pb2.EndPlacementResponse) -> Worth:
    details, placement = pb2.EndPlacementDetails(), answer.placement
    try:
        details.ParseFromString(request.signed.payload)
    except DecodeError:
        return Worth.UNFIT
    fits = (
        placement.content_id == details.content_id
        and not path_problem(placement.path)
        and len(placement.placement_id) == _ID_DIGITS
        and _are_peers(copy.peer for copy in placement.copies)
    )
    return Worth.PROMISE if fits else Worth.UNFIT


def _are_peers(infos: Iterable[PeerInfo]) -> bool:
    return all(map(is_peer, infos))


def is_peer(info: PeerInfo) -> bool:
    """Tells whether a description of a peer has the right form."""
    try:
        check_peer_name(info.name)
        ports = [split_address(address)[1] for address in info.addresses]
    except InvalidInput:
        return False
    return PEER_ID.fullmatch(info.peer_id) is not None and len(ports) <= MOST_ADDRESSES and all(ports)


_JUDGES: dict[str, Callable[[Any, Any], Worth]] = {
    "ListFiles": _files,
    "LocateFile": _holders,
    "LocateFiles": _many_holders,
    "GetNeighbours": _neighbours,
    "PlaceFile": _placement,
    "EndPlacement": _ended,
}
