"""Other peers as this one knows them: who they are, where they can be reached, what they hold."""

from collections.abc import Iterable
from dataclasses import dataclass

from core.checks import split_friend
from relevo.v1.content_pb2 import Holder as HolderMessage
from relevo.v1.content_pb2 import PeerInfo

# A peer has a primary and a backup.
MOST_RELAYS = 2


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer and its addresses (`host:port`) in the order in which to try them."""

    peer_id: str
    name: str
    addresses: tuple[str, ...]

    @classmethod
    def from_info(cls, info: PeerInfo) -> "Contact":
        """Returns the contact that a message describes."""
        return cls(info.peer_id, info.name, tuple(info.addresses))

    @classmethod
    def from_friend(cls, text: str) -> "Contact":
        """Returns the contact in `PEER_ID@HOST:PORT`, or in `HOST:PORT`, which has no id: in plaintext nobody needs it.

        Raises:
            InvalidInput: it is of neither form.
        """
        peer_id, address = split_friend(text)
        return cls(peer_id, "", (address,))

    def to_info(self) -> PeerInfo:
        """Returns the message that describes this contact."""
        return PeerInfo(peer_id=self.peer_id, name=self.name, addresses=self.addresses)


def addresses(friends: Iterable[str]) -> tuple[str, ...]:
    """Returns the `host:port` in each `PEER_ID@HOST:PORT` or `HOST:PORT`; raises InvalidInput for what is neither."""
    return tuple(split_friend(friend)[1] for friend in friends)


@dataclass(frozen=True, slots=True)
class Holder:
    """A peer that holds a content, wholly when `complete`; `doubted` when several peers say that it does not.

    Attributes:
        relays: through whom it is reached when it has no address.
    """

    contact: Contact
    complete: bool = True
    doubted: bool = False
    relays: tuple[Contact, ...] = ()

    @property
    def reachable(self) -> bool:
        """Whether there is a way to it."""
        return bool(self.contact.addresses or self.relays)

    @classmethod
    def from_message(cls, message: HolderMessage) -> "Holder":
        """Returns the holder that a message describes."""
        relays = tuple(map(Contact.from_info, message.relays[:MOST_RELAYS]))
        return cls(Contact.from_info(message.peer), message.complete, message.doubted, relays)
