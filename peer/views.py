"""What the command line is shown: the daemon's state as messages."""

import grpc

from core.times import to_duration, to_timestamp
from peer.membership import Membership
from peer.transfers import Kind, State, Transfer
from peer.ways import Taken
from relevo.v1.peer_control_pb2 import MembershipStatus, Route, TransferKind, TransferSource, TransferState
from relevo.v1.peer_control_pb2 import Transfer as TransferMessage

_KINDS = {
    Kind.DOWNLOAD: TransferKind.TRANSFER_KIND_DOWNLOAD,
    Kind.UPLOAD: TransferKind.TRANSFER_KIND_UPLOAD,
    Kind.STORE: TransferKind.TRANSFER_KIND_STORE,
}
_STATES = {
    State.WAITING: TransferState.TRANSFER_STATE_WAITING,
    State.RUNNING: TransferState.TRANSFER_STATE_RUNNING,
    State.DONE: TransferState.TRANSFER_STATE_DONE,
    State.FAILED: TransferState.TRANSFER_STATE_FAILED,
    State.CANCELLED: TransferState.TRANSFER_STATE_CANCELLED,
}


def utf8(text: str) -> str:
    """Returns `text`, such as a path of this machine, with what no message can hold escaped."""
    return text.encode(errors="backslashreplace").decode()


def route_message(taken: Taken) -> Route:
    """Returns which way a directory call went."""
    contact = taken.way.contact
    return Route(
        kind=taken.way.kind,
        peer=contact.to_info() if contact else None,
        address=taken.way.address,
        took=to_duration(taken.seconds),
    )


def membership_message(membership: Membership, renew_time: float) -> MembershipStatus:
    """Returns what makes this peer a member; `renew_time` is in seconds since 1970."""
    return MembershipStatus(
        network_id=membership.network_id,
        certificate_expire_time=to_timestamp(membership.expires),
        renew_time=to_timestamp(renew_time),
        trust_version=membership.trust.version,
        revoked_count=len(membership.trust.revoked),
    )


def transfer_message(transfer: Transfer, now: float) -> TransferMessage:
    """Returns a transfer as it stands; `now` is monotonic and dates the rate."""
    progress = transfer.progress
    sources = sorted(progress.sources.values(), key=lambda source: -source.bytes)
    return TransferMessage(
        transfer_id=transfer.transfer_id,
        kind=_KINDS[transfer.kind],
        state=_STATES[transfer.state],
        path=transfer.path,
        target=utf8(transfer.target),
        content_id=transfer.content_id,
        size_bytes=progress.size,
        done_bytes=progress.done_bytes,
        resumed_bytes=progress.resumed_bytes,
        copied_bytes=progress.copied_bytes,
        sources=[
            TransferSource(
                peer=source.contact.to_info(),
                bytes=source.bytes,
                in_flight=source.in_flight,
                dropped_reason=source.dropped_reason,
            )
            for source in sources
        ],
        rate_bytes_per_second=round(progress.rate(now)) if transfer.running else 0,
        start_time=to_timestamp(transfer.start_time),
        end_time=None if transfer.end_time is None else to_timestamp(transfer.end_time),
        error_code=grpc.StatusCode[transfer.error.code].value[0] if transfer.error else 0,
        error_message=str(transfer.error) if transfer.error else "",
        placement_id=transfer.placement_id,
    )
