"""What the command line is shown: the daemon's state as messages."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import grpc

from core.errors import NotPossible, RelevoError
from core.status import from_code
from core.times import from_timestamp, to_duration, to_timestamp
from peer.directory.ways import Taken
from peer.fetching.pieces import unlimited
from peer.fetching.progress import Progress
from peer.fetching.reaching import How
from peer.membership.entrance import Entrance
from peer.membership.membership import Membership
from peer.relays.reachability import Reachability
from peer.sets.set_progress import SetProgress
from peer.work.orders import PRIORITIES
from peer.work.work import Kind, State, Transfer
from relevo.v1.peer_control_pb2 import (
    EntranceStatus,
    FileProgress,
    MembershipStatus,
    Route,
    SetProblem,
    TransferKind,
    TransferSource,
    TransferState,
)
from relevo.v1.peer_control_pb2 import Reachability as ReachabilityMessage
from relevo.v1.peer_control_pb2 import SetProgress as SetProgressMessage
from relevo.v1.peer_control_pb2 import Transfer as TransferMessage

K = TypeVar("K")

_KINDS = {
    Kind.DOWNLOAD: TransferKind.TRANSFER_KIND_DOWNLOAD,
    Kind.UPLOAD: TransferKind.TRANSFER_KIND_UPLOAD,
    Kind.STORE: TransferKind.TRANSFER_KIND_STORE,
}
REACHABILITIES = {
    Reachability.UNKNOWN: ReachabilityMessage.REACHABILITY_UNSPECIFIED,
    Reachability.DIALABLE: ReachabilityMessage.REACHABILITY_DIALABLE,
    Reachability.HIDDEN: ReachabilityMessage.REACHABILITY_HIDDEN,
}
# Problems in one answer.
_PROBLEMS = 100
_STATES = {
    State.WAITING: TransferState.TRANSFER_STATE_WAITING,
    State.RUNNING: TransferState.TRANSFER_STATE_RUNNING,
    State.PAUSED: TransferState.TRANSFER_STATE_PAUSED,
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


def entrance_message(entrance: Entrance) -> EntranceStatus | None:
    """Returns where newcomers are let through, and how many; None when there is no such place."""
    if not entrance.address:
        return None
    return EntranceStatus(address=entrance.address, led_count=entrance.led, refused_count=entrance.refused)


def transfer_message(transfer: Transfer, now: float) -> TransferMessage:
    """Returns a transfer as it stands; `now` is monotonic and dates the rate."""
    progress = transfer.progress
    rate = progress.rate(now) if transfer.state is State.RUNNING else 0.0
    rest = progress.size - progress.done_bytes
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
                reversed_bytes=source.by[How.REVERSED],
                relayed_bytes=source.by[How.RELAYED],
            )
            for source in sources
        ],
        rate_bytes_per_second=round(rate),
        start_time=to_timestamp(transfer.start_time),
        end_time=None if transfer.end_time is None else to_timestamp(transfer.end_time),
        error_code=_code(transfer.error) if transfer.error else 0,
        error_message=str(transfer.error) if transfer.error else "",
        placement_id=transfer.placement_id,
        waiting_reason=transfer.waiting_reason,
        priority=PRIORITIES[transfer.priority] if transfer.kind is Kind.DOWNLOAD else None,
        rate_limit_bytes_per_second=round(transfer.allowance.own.rate),
        detached=transfer.detached,
        remaining_time=to_duration(rest / rate) if round(rate) and rest >= 0 else None,
        set=_set_message(progress) if isinstance(progress, SetProgress) else None,
    )


def _set_message(progress: SetProgress) -> SetProgressMessage:
    return SetProgressMessage(
        found_count=progress.found,
        listed=progress.listed,
        done_count=progress.done,
        present_count=progress.present_files,
        failed_count=progress.failed,
        large_files=[
            FileProgress(path=path, size_bytes=part.size, done_bytes=part.done_bytes)
            for path, part in progress.parts.items()
        ],
    )


def problem_messages(transfer: Transfer, known: int) -> list[SetProblem]:
    """Returns the problems of a set after the first `known`, at most a page of them; none of anything else."""
    progress = transfer.progress
    problems = progress.problems[known : known + _PROBLEMS] if isinstance(progress, SetProgress) else []
    return [
        SetProblem(path=utf8(one.path), error_code=_code(one.error), error_message=utf8(str(one.error)))
        for one in problems
    ]


def _code(error: RelevoError) -> int:
    code: int = grpc.StatusCode[error.code].value[0]
    return code


def ended_transfer(message: TransferMessage) -> Transfer:
    """Returns a transfer that ended before this daemon started, from what `transfer_message` made of it then.

    Raises:
        ValueError: it is of a kind, or in a state, that this version does not know.
    """
    nobody = unlimited()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    failed = message.error_code != 0
    return Transfer(
        transfer_id=message.transfer_id,
        kind=_back(_KINDS, message.kind),
        path=message.path,
        target=message.target,
        progress=progress_of(message),
        start_time=from_timestamp(message.start_time),
        work=_over,
        allowance=nobody,
        ended=ended,
        content_id=message.content_id,
        priority=_back(PRIORITIES, message.priority),
        detached=message.detached,
        state=_back(_STATES, message.state),
        end_time=from_timestamp(message.end_time),
        error=from_code(message.error_code, message.error_message) if failed else None,
    )


def progress_of(message: TransferMessage) -> Progress:
    """Returns how far a transfer was, from what `transfer_message` made of it; without who gave how much."""
    figures = (message.size_bytes, message.done_bytes, message.resumed_bytes, message.copied_bytes)
    if not message.HasField("set"):
        return Progress(*figures)
    return SetProgress(
        *figures,
        found=message.set.found_count,
        listed=message.set.listed,
        done=message.set.done_count,
        present_files=message.set.present_count,
        failed=message.set.failed_count,
    )


async def _over(transfer: Transfer) -> None:
    raise NotPossible(f"{transfer.transfer_id} has ended")


def _back(table: Mapping[K, int], value: int) -> K:
    for key, number in table.items():
        if number == value:
            return key
    raise ValueError(f"{value} is not known")
