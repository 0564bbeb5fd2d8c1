"""Join tokens: all that a newcomer needs to know of a network, on one line."""

import base64
import hashlib
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from core.addresses import MOST_ADDRESSES, split_address
from core.certificates import network_id_of
from core.checks import split_friend
from core.errors import InvalidInput
from relevo.v1.enrolment_pb2 import JoinToken as TokenMessage

PREFIX = "relevo1_"
INVITATION_BYTES = 8
SECRET_BYTES = 16
_CHECK_BYTES = 4
# Of the longest: with as many addresses and peers as there may be, at hosts with the longest names.
_MOST_CHARACTERS = 16 << 10


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What `relevo-central invite` prints.

    Attributes:
        addresses: central's, `host:port`, in the order in which to try them; at least one.
        enrolment_port: of Enrolment at these hosts.
        invitation_id: 8 bytes.
        secret: 16 bytes; never shown but in the token itself.
        authority: the certificate (DER) of the network's authority.
        via: peers through which to reach central where it does not answer, `host:port` or `peer id@host:port`.
    """

    addresses: tuple[str, ...]
    enrolment_port: int
    invitation_id: bytes
    secret: bytes
    authority: bytes
    via: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"JoinToken({self.invitation_id.hex()}, …)"

    def to_text(self) -> str:
        """Returns the token as one word of about 600 characters."""
        data = TokenMessage(
            addresses=self.addresses,
            enrolment_port=self.enrolment_port,
            invitation_id=self.invitation_id,
            secret=self.secret,
            authority=self.authority,
            via=self.via,
        ).SerializeToString()
        return PREFIX + _encoded(data + _check(data))

    @classmethod
    def from_text(cls, text: str) -> "JoinToken":
        """Returns the token that stands in `text`; blanks and line breaks, which pasting may add, do not count.

        Raises:
            InvalidInput: it is not such a token, or not all of it.
        """
        word = "".join(text.split())
        if not word.startswith(PREFIX):
            raise InvalidInput("token", f"a join token begins with {PREFIX}; `relevo-central invite` prints one")
        data = _decoded(word.removeprefix(PREFIX))
        message = TokenMessage()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise _damaged() from error
        return cls._checked(message)

    @classmethod
    def _checked(cls, message: TokenMessage) -> "JoinToken":
        try:
            network_id_of(message.authority)
        except InvalidInput as error:
            raise InvalidInput("token", "it names no network") from error
        if not 1 <= len(message.addresses) <= MOST_ADDRESSES:
            raise InvalidInput("token", f"it does not name 1 to {MOST_ADDRESSES} addresses of central")
        for address in message.addresses:
            split_address(address, "token")
        if len(message.via) > MOST_ADDRESSES:
            raise InvalidInput("token", f"it names more than {MOST_ADDRESSES} peers")
        for peer in message.via:
            split_friend(peer, "token")
        if not 0 < message.enrolment_port < 1 << 16:
            raise InvalidInput("token", "it names no port for joining")
        if len(message.invitation_id) != INVITATION_BYTES or len(message.secret) != SECRET_BYTES:
            raise InvalidInput("token", "it holds no invitation")
        return cls(
            tuple(message.addresses),
            message.enrolment_port,
            message.invitation_id,
            message.secret,
            message.authority,
            tuple(message.via),
        )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(body: str) -> bytes:
    """Returns the message in a token, without its check. Of the spellings that base64 knows only the usual one counts.

    Raises:
        InvalidInput: it is damaged.
    """
    try:
        data = base64.urlsafe_b64decode(body[:_MOST_CHARACTERS] + "=" * (-len(body) % 4))
    except ValueError as error:
        raise _damaged() from error
    message, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if _encoded(data) != body or _check(message) != check:
        raise _damaged()
    return message


def _check(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECK_BYTES]


def _damaged() -> InvalidInput:
    return InvalidInput("token", "it is not complete, or was changed on the way; copy it again, or ask for another")
