"""How far a transfer is: bytes done, where they come from, and how fast."""

from collections import Counter, deque
from dataclasses import dataclass, field

from peer.fetching.reaching import How
from peer.links.contacts import Contact

WINDOW = 5.0
# Bytes that arrive within this time are counted together, so that a fast transfer keeps few records.
_GRAIN = 0.1


@dataclass(slots=True)
class Source:
    """What one holder has given.

    Attributes:
        contact: who it is.
        bytes: verified bytes from it.
        by: of these, how many came which way.
        in_flight: asks at it without an answer.
        dropped_reason: why it is not asked any more; empty while it is.
    """

    contact: Contact
    bytes: int = 0
    in_flight: int = 0
    dropped_reason: str = ""
    by: Counter[How] = field(default_factory=Counter)


@dataclass(slots=True)
class Progress:
    """A transfer of `size` bytes.

    Attributes:
        size: bytes in all.
        done_bytes: verified and on disk, wherever they came from.
        resumed_bytes: of these, found on disk from an earlier try.
        copied_bytes: of these, copied from a local file.
        sources: by peer id, who has been asked.
    """

    size: int
    done_bytes: int = 0
    resumed_bytes: int = 0
    copied_bytes: int = 0
    sources: dict[str, Source] = field(default_factory=dict)
    _ahead: int = 0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _began: float | None = None

    def again(self) -> "Progress":
        """Returns the progress of another try: of what was done, only who gave how much is remembered."""
        return Progress(self.size, sources=self.sources)

    def source(self, contact: Contact) -> Source:
        """Returns the record of a holder, which is made at the first call; its contact is brought up to date."""
        source = self.sources.setdefault(contact.peer_id, Source(contact))
        source.contact = contact
        return source

    def begin(self, now: float) -> None:
        """Notes that blocks are asked for from `now` (seconds) on, for the rate."""
        self._began = now

    def present(self, count: int) -> None:
        """Notes `count` bytes that stood at the target, finished, before anything was asked for."""
        self.done_bytes += count

    def resumed(self, count: int) -> None:
        """Notes `count` bytes that were on disk already."""
        self.resumed_bytes += count
        self.done_bytes += count

    def copied(self, count: int) -> None:
        """Notes `count` bytes that were copied from a local file."""
        self.copied_bytes += count
        self.done_bytes += count

    def came(self, count: int, now: float) -> None:
        """Notes `count` bytes of a block that is not complete yet: they count for the rate."""
        self._ahead += count
        self._count(count, now)

    def fetched(self, peer_id: str, count: int, now: float, how: How = How.DIRECT) -> None:
        """Notes `count` verified bytes from a holder at `now`, and which way they came."""
        source = self.sources[peer_id]
        source.bytes += count
        source.by[how] += count
        self.done_bytes += count
        counted = min(count, self._ahead)
        self._ahead -= counted
        self._count(count - counted, now)

    def rate(self, now: float) -> float:
        """Returns fetched bytes a second over the last five seconds, or over the time since the begin when shorter."""
        self._forget(now)
        if self._began is None:
            return 0.0
        return sum(count for _, count in self._recent) / min(WINDOW, max(now - self._began, _GRAIN))

    def _count(self, count: int, now: float) -> None:
        if self._began is None:
            self._began = now
        if self._recent and now - self._recent[-1][0] < _GRAIN:
            since, before = self._recent.pop()
            self._recent.append((since, before + count))
        else:
            self._recent.append((now, count))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] <= now - WINDOW:
            self._recent.popleft()
