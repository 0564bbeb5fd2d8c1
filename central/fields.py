"""Checks of single fields: each returns the value, or says which field breaks which documented rule."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from core.addresses import MOST_ADDRESSES, is_loopback, leads_astray, split_address
from core.content import DIGEST_BYTES, MAX_SIZE
from core.errors import InvalidInput
from core.life import NONCE_BYTES
from core.names import printable
from core.times import from_timestamp

MAX_QUERY = 4096
MAX_BATCH = 1000
MAX_LOCATED = 500
MAX_FETCHING = 64
MAX_REASON = 500
# What the storage engines can keep in an integer.
_MAX_INTEGER = 2**63 - 1
# 0001-01-01 and the end of 9999-12-31, which is what a Timestamp may hold.
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_799


def content_id(value: bytes, field: str = "content_id") -> bytes:
    """Returns a content id: 32 bytes."""
    if len(value) != DIGEST_BYTES:
        raise InvalidInput(field, f"a content id is {DIGEST_BYTES} bytes, not {len(value)}")
    return value


def nonce(value: bytes, field: str = "nonce") -> bytes:
    """Returns a nonce: 32 bytes."""
    if len(value) != NONCE_BYTES:
        raise InvalidInput(field, f"a nonce is {NONCE_BYTES} bytes, not {len(value)}")
    return value


def size(value: int, field: str) -> int:
    """Returns a content's size in bytes, at most 2^47."""
    if value > MAX_SIZE:
        raise InvalidInput(field, "a file has at most 2^47 bytes")
    return value


def free_bytes(value: int) -> int:
    """Returns an amount of space; more than an engine can count is as good as the most that it can."""
    return min(value, _MAX_INTEGER)


def version(value: int, field: str) -> int:
    """Returns a catalogue version on which another can follow."""
    if value >= _MAX_INTEGER:
        raise InvalidInput(field, "it is larger than any version")
    return value


def time(value: Timestamp, field: str) -> float:
    """Returns a time in seconds since 1970; unset is 1970 itself."""
    if not (_MIN_SECONDS <= value.seconds <= _MAX_SECONDS and 0 <= value.nanos < 10**9):
        raise InvalidInput(field, "it is not within the years 1 and 9999")
    return from_timestamp(value)


def text(value: str, field: str, most: int) -> str:
    """Returns a text of at most `most` bytes."""
    if len(value.encode()) > most:
        raise InvalidInput(field, f"it is longer than {most} bytes")
    return value


def at_most(count: int, most: int, field: str) -> None:
    """Checks the number of items."""
    if count > most:
        raise InvalidInput(field, f"{count} items are too many for one request; send at most {most}")


def distinct(values: Iterable[str | bytes], field: str) -> None:
    """Checks that no value comes twice."""
    seen: set[str | bytes] = set()
    for value in values:
        if value in seen:
            shown = printable(value) if isinstance(value, str) else value.hex()
            raise InvalidInput(field, f"{shown} comes twice in one request")
        seen.add(value)


def addresses(values: Iterable[str], field: str, observed: str) -> tuple[str, ...]:
    """Returns at most 16 addresses at which others can dial a peer, which central sees at `observed`.

    So none has port 0, and none leads whoever dials it to itself, unless the peer is on central's own machine.
    """
    here = not observed or is_loopback(split_address(observed)[0])
    found = tuple(values)
    at_most(len(found), MOST_ADDRESSES, field)
    for index, value in enumerate(found):
        host, port = split_address(value, f"{field}[{index}]")
        if port == 0:
            raise InvalidInput(f"{field}[{index}]", f"{value} has port 0, which nobody can dial")
        if leads_astray(host) and not here:
            raise InvalidInput(
                f"{field}[{index}]",
                f"{value} leads other machines to themselves, not to this peer; choose another with --advertise",
            )
    return found


def message(data: bytes, into: Message, field: str) -> None:
    """Parses a serialized message."""
    try:
        into.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput(field, f"it is not a {into.DESCRIPTOR.full_name}") from error
