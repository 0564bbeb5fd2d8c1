"""Whom the members of a network trust at this moment: central decides it, and every heartbeat carries it."""

from dataclasses import dataclass

from core.certificates import network_id_of
from core.errors import InvalidInput
from core.identity import PEER_ID
from relevo.v1.content_pb2 import Trust as TrustMessage


@dataclass(frozen=True, slots=True)
class Trust:
    """What a certificate is judged by.

    Attributes:
        version: grows with every change; 0 for nothing known.
        authorities: certificates (DER) of the authorities that count, the one that issues first; none without TLS.
        revoked: peers whose certificates do not count any more, by peer id.
    """

    version: int = 0
    authorities: tuple[bytes, ...] = ()
    revoked: frozenset[str] = frozenset()

    @property
    def network_id(self) -> str:
        """The id of the network; there has to be an authority."""
        return network_id_of(self.authorities[0])

    def to_message(self) -> TrustMessage:
        """Returns the message that says the same."""
        return TrustMessage(version=self.version, authorities=self.authorities, revoked_peer_ids=sorted(self.revoked))

    @classmethod
    def from_message(cls, message: TrustMessage) -> "Trust":
        """Returns what a message says.

        Raises:
            InvalidInput: it names no authority, authorities of several networks, or a revoked peer that is none.
        """
        if len({network_id_of(authority) for authority in message.authorities}) != 1:
            raise InvalidInput("trust.authorities", "they are not the authorities of one network")
        if not all(map(PEER_ID.fullmatch, message.revoked_peer_ids)):
            raise InvalidInput("trust.revoked_peer_ids", "one of them is not a peer id")
        return cls(message.version, tuple(message.authorities), frozenset(message.revoked_peer_ids))
