"""Who can be asked for a content: central's answers, kept as lines to the holders."""

from collections.abc import Awaitable, Callable

from peer.channels import Channels
from peer.contacts import Holder
from peer.lines import Line

FindHolders = Callable[[bytes], Awaitable[list[Holder]]]


class Finder:
    """The holders of one content, for one download.

    Attributes:
        content_id: 32 bytes.
        lines: by peer id, those that may be asked.
        named: whether central named anybody when it last answered.
    """

    def __init__(
        self, content_id: bytes, find_holders: FindHolders, channels: Channels, self_id: str, patience: float
    ) -> None:
        """`patience` is how many seconds an untried address may be silent before the next is tried beside it."""
        self.lines: dict[str, Line] = {}
        self.content_id = content_id
        self.named = False
        self._find_holders = find_holders
        self._channels = channels
        self._patience = patience
        self._never = {self_id}

    async def look(self) -> list[Line]:
        """Asks central, and returns the lines that are new or lead elsewhere than before.

        A holder that central no longer names stays: it may well answer when central cannot see it.

        Raises:
            RelevoError: what central answered.
        """
        fresh = []
        holders = await self._find_holders(self.content_id)
        self.named = bool(holders)
        for holder in holders:
            contact = holder.contact
            known = self.lines.get(contact.peer_id)
            # Partial holders are not asked yet: what they have has to be followed first.
            usable = holder.complete and contact.addresses and contact.peer_id not in self._never
            if usable and (known is None or known.contact.addresses != contact.addresses):
                line = self.lines[contact.peer_id] = Line(self._channels, contact, self._patience)
                fresh.append(line)
        return fresh

    def drop(self, peer_id: str, *, for_good: bool) -> None:
        """Gives this holder again only when central names it again; when `for_good`, not even then."""
        if for_good:
            self._never.add(peer_id)
        self.lines.pop(peer_id, None)
