"""The ways to central, and what comes by them."""

from dataclasses import dataclass
from typing import Any

from core.errors import RelevoError
from peer.directory.judging import Worth
from peer.links.contacts import Contact
from relevo.v1.peer_control_pb2 import RouteKind


@dataclass(frozen=True, slots=True)
class Way:
    """One way to central: through a peer, or directly when `contact` is None."""

    kind: RouteKind
    address: str
    contact: Contact | None = None

    @property
    def direct(self) -> bool:
        """Whether central itself answers."""
        return self.contact is None

    @property
    def who(self) -> str:
        """Who answers: the same for all addresses of one peer."""
        return (self.contact.peer_id if self.contact else "") or self.address


@dataclass(frozen=True, slots=True)
class Taken:
    """The way that an answer came, and how long it took in seconds."""

    way: Way
    seconds: float


@dataclass(frozen=True, slots=True)
class Said:
    """What came by one way: an answer, or an error that is central's own if the way is to be believed."""

    way: Way
    worth: Worth
    answer: Any = None
    error: RelevoError | None = None

    def will_do(self) -> bool:
        """Tells whether nobody else has to be asked."""
        return self.way.direct or (self.error is None and self.worth is Worth.GOOD)

    def agrees(self, other: "Said") -> bool:
        """Tells whether both come to the same; answers that are none never do, unless one is central's."""
        if self.error or other.error or self.worth is not other.worth:
            return self.error is not None and type(self.error) is type(other.error)
        match self.worth:
            case Worth.PROMISE:
                return bool(self.answer.placement.placement_id == other.answer.placement.placement_id)
            case Worth.UNFIT:  # central may be newer than this peer, and two liars know each other
                return (self.way.direct or other.way.direct) and bool(self.answer == other.answer)
        return True
