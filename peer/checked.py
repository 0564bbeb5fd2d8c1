"""The documented rules of what peers ask of each other, where no other module looks at it."""

import re
from collections.abc import Iterable

from core.addresses import MOST_ADDRESSES, split_address
from core.errors import InvalidInput
from core.identity import PEER_ID
from core.names import check_peer_name
from relevo.v1.peer_relay_pb2 import Invitation

_HEX_ID = re.compile(r"[0-9a-f]{32}")


def peer_id(value: str, field: str) -> str:
    """Returns a peer id."""
    if not PEER_ID.fullmatch(value):
        raise InvalidInput(field, "it is no peer id")
    return value


def hex_id(value: str, field: str) -> str:
    """Returns an id of 32 hexadecimal digits."""
    if not _HEX_ID.fullmatch(value):
        raise InvalidInput(field, "it is not 32 hexadecimal digits")
    return value


def addresses(values: Iterable[str], field: str) -> list[tuple[str, int]]:
    """Returns hosts and ports of at most 16 addresses."""
    found = [split_address(value, field) for value in values]
    if len(found) > MOST_ADDRESSES:
        raise InvalidInput(field, f"a peer has {MOST_ADDRESSES} addresses at most")
    return found


def invitation(value: Invitation) -> Invitation:
    """Returns an invitation of a peer that can be dialled."""
    peer_id(value.host.peer_id, "invitation.host.peer_id")
    check_peer_name(value.host.name)
    if not addresses(value.host.addresses, "invitation.host.addresses"):
        raise InvalidInput("invitation.host.addresses", "who invites another says where it can be dialled")
    hex_id(value.invitation, "invitation.invitation")
    return value
