"""Other peers as this one knows them: who they are, where they can be reached, what they hold."""

from dataclasses import dataclass

from relevo.v1.content_pb2 import Holder as HolderMessage
from relevo.v1.content_pb2 import PeerInfo


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

    def to_info(self) -> PeerInfo:
        """Returns the message that describes this contact."""
        return PeerInfo(peer_id=self.peer_id, name=self.name, addresses=self.addresses)


@dataclass(frozen=True, slots=True)
class Holder:
    """A peer that holds a content, wholly when `complete`."""

    contact: Contact
    complete: bool = True

    @classmethod
    def from_message(cls, message: HolderMessage) -> "Holder":
        """Returns the holder that a message describes."""
        return cls(Contact.from_info(message.peer), message.complete)
