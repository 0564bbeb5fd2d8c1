"""Checks of identifiers in messages: each returns the value, or says which field breaks which documented rule."""

import re

from core.addresses import join_address, split_address
from core.errors import InvalidInput
from core.identity import PEER_ID

_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")


def peer_id(value: str, field: str = "peer_id") -> str:
    """Returns a peer id: 52 characters of lowercase base32."""
    if not PEER_ID.fullmatch(value):
        raise InvalidInput(field, "a peer id is 52 characters of a-z and 2-7")
    return value


def hex_id(value: str, field: str) -> str:
    """Returns an id of 32 hexadecimal digits."""
    if not _HEX_ID.fullmatch(value):
        raise InvalidInput(field, "it is not 32 hexadecimal digits")
    return value


def split_friend(text: str, field: str = "friend") -> tuple[str, str]:
    """Returns the peer id and the `host:port` in `PEER_ID@HOST:PORT`, or no id and that in `HOST:PORT`.

    Raises:
        InvalidInput: it is of neither form.
    """
    peer_id, at, address = text.rpartition("@")
    if at and not PEER_ID.fullmatch(peer_id):
        raise InvalidInput(field, f"{text!r} is not PEER_ID@HOST:PORT; `relevo status` there shows its id")
    return peer_id, join_address(*split_address(address, field))
