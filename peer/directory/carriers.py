"""The peers through which this one reaches central when it cannot itself, and in which order they are asked."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from core.names import printable
from peer.links.channels import Channels, RelayStub
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from peer.links.meeting import Meeting

log = logging.getLogger("relevo.carried")

# Who failed is asked last for so long, in seconds; who brought a forged answer, for longer.
REST = 10.0
LONG_REST = 300.0


@dataclass(frozen=True, slots=True)
class Carrier:
    """A peer at one address; `chosen` when this machine's user has named it, who may name any address."""

    contact: Contact
    address: str
    chosen: bool = False

    def __str__(self) -> str:
        who = self.contact.name or self.contact.peer_id
        return printable(f"{who} ({self.address})" if who else self.address)


class Carriers:
    """Whom to ask: first who carried last, then whom the user has named, then neighbours of now and of before.

    Attributes:
        working: who carried the last call; None before.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        channels: Channels,
        dialler: Dialler,
        meeting: Meeting,
        *,
        chosen: Sequence[str],
        neighbours: Callable[[], Sequence[Contact]],
        clock: Callable[[], float],
    ) -> None:
        """Composes them.

        Args:
            channels: to whom the user has named.
            dialler: to whom central or others have named.
            meeting: tells who is at an address that the user gave without an id.
            chosen: `HOST:PORT` or `PEER_ID@HOST:PORT`, in the user's order.
            neighbours: tells those of now, then those of before.
            clock: monotonic seconds.
        """
        self.working: Carrier | None = None
        self._channels = channels
        self._dialler = dialler
        self._meeting = meeting
        contacts = map(Contact.from_friend, chosen)
        self._chosen = [Carrier(contact, contact.addresses[0], chosen=True) for contact in contacts]
        self._neighbours = neighbours
        self.clock = clock
        self._resting: dict[str, float] = {}

    def in_order(self) -> list[Carrier]:
        """Returns all, those that failed lately last."""
        now = self.clock()
        self._resting = {address: until for address, until in self._resting.items() if until > now}
        known: dict[str, Carrier] = {}
        for carrier in self._all():
            known.setdefault(carrier.address, carrier)
        return sorted(known.values(), key=lambda one: (self._resting.get(one.address, 0.0), one != self.working))

    def contact(self, carrier: Carrier) -> Contact:
        """Returns a carrier at its one address; whom the user has named by address only, by the name that is known."""
        known = [carrier.contact, *(one for one in self._neighbours() if carrier.address in one.addresses)]
        named = next((one for one in known if one.name), carrier.contact)
        return replace(named, addresses=(carrier.address,))

    async def stub(self, carrier: Carrier) -> RelayStub:
        """Returns the stub for a carrier; use it at once.

        Raises:
            Unreachable: it cannot be dialled, or who is there is no member of the network.
        """
        if not carrier.chosen:
            return await self._dialler.peer(carrier.address, carrier.contact.peer_id)
        peer_id = carrier.contact.peer_id or await self._meeting.who_is_at(carrier.address)
        return self._channels.peer(carrier.address, peer_id)

    def carried(self, carrier: Carrier) -> None:
        """Notes that a carrier has brought an answer of central's."""
        self._resting.pop(carrier.address, None)
        if self.working != carrier:
            log.info("central is reached through %s", carrier)
        self.working = carrier

    def rest(self, carrier: Carrier) -> None:
        """Has a carrier asked last for a while, since it brought nothing."""
        self._rest(carrier, REST)

    def distrust(self, carrier: Carrier) -> None:
        """Has a carrier asked last for a good while, since what it brought was not central's."""
        log.warning("%s brings answers that are not central's; it is asked last for now", carrier)
        self._rest(carrier, LONG_REST)

    def _rest(self, carrier: Carrier, seconds: float) -> None:
        until = self.clock() + seconds
        self._resting[carrier.address] = max(until, self._resting.get(carrier.address, until))
        if not carrier.contact.peer_id:
            self._meeting.forget(carrier.address)

    def _all(self) -> Iterator[Carrier]:
        yield from self._chosen
        for contact in self._neighbours():
            yield from (Carrier(contact, address) for address in contact.addresses)
