"""The documented rules of what peers ask of each other, where no other module looks at it."""

from collections.abc import Iterable

from core import checks
from core.addresses import MOST_ADDRESSES, split_address
from core.errors import InvalidInput
from core.names import check_peer_name
from relevo.v1.peer_relay_pb2 import Invitation


def addresses(values: Iterable[str], field: str) -> list[tuple[str, int]]:
    """Returns hosts and ports of at most 16 addresses."""
    found = [split_address(value, field) for value in values]
    if len(found) > MOST_ADDRESSES:
        raise InvalidInput(field, f"a peer has {MOST_ADDRESSES} addresses at most")
    return found


def invitation(value: Invitation) -> Invitation:
    """Returns an invitation of a peer that can be dialled."""
    checks.peer_id(value.host.peer_id, "invitation.host.peer_id")
    check_peer_name(value.host.name)
    if not addresses(value.host.addresses, "invitation.host.addresses"):
        raise InvalidInput("invitation.host.addresses", "who invites another says where it can be dialled")
    checks.hex_id(value.invitation, "invitation.invitation")
    return value
