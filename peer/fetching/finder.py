"""Who can be asked for a content: central's answers, kept as lines to the holders."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from peer.fetching.lines import Line
from peer.fetching.reaching import Reach
from peer.links.contacts import Holder

# Holders that are known at once: peers that are fetching the content too, and complete ones. More of them bring nothing
# more, and are looked at again and again.
MOST_PARTIAL = 30
MOST_COMPLETE = 100
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
        found: Sequence[Holder] = (),
    ) -> None:
        """`found` is what was looked up already: the first look gives it.

        `patience` is how many seconds an untried address may be silent before the next is tried beside it.
        """
        self.lines: dict[str, Line] = {}
        self.content_id = content_id
        self.named = False
        self._find_holders = find_holders
        self._reach = reach
        self._patience = patience
        self._accuse = accuse
        # Not everybody asks the same ones of very many.
        self._random = random.Random(self_id.encode() + content_id)  # noqa: S311 - no secret
        self._never = {self_id}
        self._failed: set[str] = set()
        self._found = found

    async def look(self, *, stuck: bool = False) -> list[Line]:
        """Asks central, and returns the lines that are new or lead elsewhere than before.

        When `stuck`, nobody who is known gives anything: a neighbour may have invented them, so central itself is
        asked, and those who failed get another chance. A holder that central no longer names stays: it may well answer
        when central cannot see it.

        Raises:
            RelevoError: what central answered.
        """
        holders = list(self._found) or await self._find_holders(self.content_id, directly=stuck)
        self._found = ()
        self.named = bool(holders)
        if len(holders) > MOST_COMPLETE:
            holders = self._random.sample(holders, len(holders))
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

    def _is_last_resort(self, holder: Holder) -> bool:
        return holder.doubted or holder.contact.peer_id in self._failed

    def _take(self, holders: Iterable[Holder]) -> list[Line]:
        complete = sum(line.complete for line in self.lines.values())
        room = {True: MOST_COMPLETE - complete, False: MOST_PARTIAL - (len(self.lines) - complete)}
        fresh = []
        for holder in holders:
            contact = holder.contact
            known = self.lines.get(contact.peer_id)
            usable = holder.reachable and contact.peer_id not in self._never
            if known is None and room[holder.complete] <= 0:
                continue
            if usable and (known is None or known.differs(holder)):
                if known is not None:
                    room[known.complete] += 1
                room[holder.complete] -= 1
                line = self.lines[contact.peer_id] = Line(
                    self._reach, contact, self._patience, complete=holder.complete, relays=holder.relays
                )
                fresh.append(line)
        return fresh
