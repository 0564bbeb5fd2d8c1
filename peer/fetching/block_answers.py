"""The answer that carries a block, to bytes and back, without a copy of the block that is not needed.

Protobuf copies a block into the message, out of it into the bytes of the message, and again whenever the field is read:
at hundreds of megabytes a second that was a tenth of all processor time. What is sent is the same to the byte, but for
the order of fields, which no reader may rely on: the block comes last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo.v1.peer_relay_pb2 import GetBlockRequest, GetBlockResponse

if TYPE_CHECKING:
    from peer.fetching.reaching import Way

METHOD = "/relevo.v1.PeerRelay/GetBlock"
_VARINT, _LENGTH_DELIMITED = 0, 2
_KEY = GetBlockResponse.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
# A varint of 64 bits has ten bytes at most.
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """What a holder has answered: a block, or a piece of it, which block it is, whether first hand, and how it came."""

    index: int
    data: bytes | memoryview
    first_hand: bool = False
    way: "Way | None" = None


def encoded(answer: GetBlockResponse, data: bytes | memoryview) -> bytes:
    """Returns the bytes of `answer`, which has no data of its own, with `data`."""
    if not data:
        return answer.SerializeToString()
    return b"".join((answer.SerializeToString(), bytes((_KEY,)), _to_varint(len(data)), data))


def decoded(raw: bytes) -> BlockAnswer:
    """Returns the answer whose bytes are `raw`; its data is a view of them.

    Raises:
        DecodeError: they are no GetBlockResponse.
    """
    found = _block_at_the_end(raw)
    if found is None:
        message = GetBlockResponse.FromString(raw)
        return BlockAnswer(message.index, message.data, message.first_hand)
    at, begin = found
    message = GetBlockResponse.FromString(raw[:at])
    return BlockAnswer(message.index, memoryview(raw)[begin:], message.first_hand)


def asking(make: Callable[..., Any]) -> Any:
    """Returns what calls PeerRelay.GetBlock and is answered with a BlockAnswer; `make` is a channel's method."""
    return make(METHOD, request_serializer=GetBlockRequest.SerializeToString, response_deserializer=decoded)


def _block_at_the_end(raw: bytes) -> tuple[int, int] | None:
    """Returns where the field of the data begins, and where the data; None unless it is the last field."""
    at = 0
    try:
        while True:
            key, after = _from_varint(raw, at)
            length = 0
            if key & 7 == _LENGTH_DELIMITED:
                length, after = _from_varint(raw, after)
            elif key & 7 == _VARINT:
                _, after = _from_varint(raw, after)
            else:
                return None
            if key == _KEY:
                return (at, after) if after + length == len(raw) else None
            at = after + length
    except (IndexError, ValueError):
        return None


def _from_varint(raw: bytes, at: int) -> tuple[int, int]:
    """Returns the number at a place, and the place after it. Raises IndexError or ValueError when there is none."""
    number = 0
    for count in range(_LONGEST_VARINT):
        byte = raw[at + count]
        number |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return number, at + count + 1
    raise ValueError("no varint is so long")


def _to_varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
