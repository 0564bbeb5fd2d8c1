"""How downloads are asked for: priorities and limits, read from messages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from core.errors import InvalidInput
from peer.links.rate_limit import LEAST_PIECE
from peer.work.turns import Priority
from peer.work.work import Order, Transfer
from relevo.v1.peer_control_pb2 import DownloadOptions, TransferPriority

# Characters in the name of a group of downloads that share a limit.
LONGEST_GROUP = 64
# As a float, which is what limits are kept as, the largest numbers of 64 bits are one more than a message holds.
_TOO_FAST = 1 << 63
PRIORITIES = {
    Priority.LOW: TransferPriority.TRANSFER_PRIORITY_LOW,
    Priority.NORMAL: TransferPriority.TRANSFER_PRIORITY_NORMAL,
    Priority.HIGH: TransferPriority.TRANSFER_PRIORITY_HIGH,
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a kind of request is begun again: its message, and what begins it."""

    message: type[Message]
    begin: Callable[[Any, Order], Transfer]


def order_of(request: Message, options: DownloadOptions) -> Order:
    """Returns how a download is asked for by `request`, which carries `options`.

    Raises:
        InvalidInput: there is no such priority, the limit is too low to be kept, or the group's name is too long.
    """
    if len(options.limit_group) > LONGEST_GROUP:
        raise InvalidInput("options.limit_group", f"a group's name has at most {LONGEST_GROUP} characters")
    return Order(
        request=request,
        priority=priority_of(options.priority or TransferPriority.TRANSFER_PRIORITY_NORMAL),
        rate=checked_rate(options.rate_limit_bytes_per_second, "options.rate_limit_bytes_per_second"),
        detached=options.detached,
        group=options.limit_group,
    )


def priority_of(value: int) -> Priority:
    """Returns a priority.

    Raises:
        InvalidInput: none is named.
    """
    for priority, named in PRIORITIES.items():
        if named == value:
            return priority
    raise InvalidInput("priority", "name a priority: low, normal or high")


def checked_rate(rate: int, field: str) -> float:
    """Returns a limit in bytes a second; 0: none.

    Raises:
        InvalidInput: it is lower than can be kept, or higher than can be told.
    """
    if 0 < rate < LEAST_PIECE or rate >= _TOO_FAST:
        raise InvalidInput(field, "a limit is at least 1 KiB and less than 8 EiB a second; 0 is none")
    return float(rate)
