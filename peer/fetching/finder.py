"""Who can be asked for a content: central's answers, kept as lines to the holders."""

from collections.abc import Callable, Iterable
from typing import Protocol

from peer.fetching.lines import Line
from peer.fetching.reaching import Reach
from peer.links.contacts import Holder

# Peers that are fetching the content too and are asked at once.
MOST_PARTIAL = 30
# Called with a holder's peer id, the content, and whether it lied (else it lacks what it is named for).
Accuse = Callable[[str, bytes, bool], None]


class FindHolders(Protocol):
    """Asks central who holds a content."""

    async def __call__(self, content_id: bytes, *, directly: bool = False) -> list[Holder]:
        """Returns the holders; asks central itself when `directly`. Raises RelevoError."""
        ...


class Finder:
    """The holders of one content, for one download.

    Those that have failed in this download, or are doubted by several peers, are asked only when nobody else can be.

    Attributes:
        content_id: 32 bytes.
        lines: by peer id, those that may be asked.
        named: whether central named anybody when it last answered.
    """

    def __init__(  # noqa: PLR0917 - as a downloader
        self,
        content_id: bytes,
        find_holders: FindHolders,
        reach: Reach,
        self_id: str,
        patience: float,
        accuse: Accuse,
    ) -> None:
        """`patience` is how many seconds an untried address may be silent before the next is tried beside it."""
        self.lines: dict[str, Line] = {}
        self.content_id = content_id
        self.named = False
        self._find_holders = find_holders
        self._reach = reach
        self._patience = patience
        self._accuse = accuse
        self._never = {self_id}
        self._failed: set[str] = set()

    async def look(self, *, stuck: bool = False) -> list[Line]:
        """Asks central, and returns the lines that are new or lead elsewhere than before.

        When `stuck`, nobody who is known gives anything: a neighbour may have invented them, so central itself is
        asked, and those who failed get another chance. A holder that central no longer names stays: it may well answer
        when central cannot see it.

        Raises:
            RelevoError: what central answered.
        """
        holders = await self._find_holders(self.content_id, directly=stuck)
        self.named = bool(holders)
        fresh = self._take(holder for holder in holders if not self._is_last_resort(holder))
        if stuck or not self.lines:
            fresh += self._take(holder for holder in holders if self._is_last_resort(holder))
        return fresh

    def drop(self, peer_id: str, *, lied: bool) -> None:
        """Gives this holder again only as a last resort; one that `lied` never.

        It is accused, unless only relays have told its words: they may have been theirs.
        """
        line = self.lines.pop(peer_id, None)
        if lied:
            self._never.add(peer_id)
        elif line is None or line.complete:
            self._failed.add(peer_id)
        else:  # it has stopped fetching the content, or has it wholly now
            return
        if line is not None and line.hearsay:
            return
        self._accuse(peer_id, self.content_id, lied)

    @property
    def _partial(self) -> int:
        return sum(not line.complete for line in self.lines.values())

    def _is_last_resort(self, holder: Holder) -> bool:
        return holder.doubted or holder.contact.peer_id in self._failed

    def _take(self, holders: Iterable[Holder]) -> list[Line]:
        fresh = []
        for holder in holders:
            contact = holder.contact
            known = self.lines.get(contact.peer_id)
            usable = holder.reachable and contact.peer_id not in self._never
            if known is None and not holder.complete and self._partial >= MOST_PARTIAL:
                continue
            if usable and (known is None or known.differs(holder)):
                line = self.lines[contact.peer_id] = Line(
                    self._reach, contact, self._patience, complete=holder.complete, relays=holder.relays
                )
                fresh.append(line)
        return fresh
