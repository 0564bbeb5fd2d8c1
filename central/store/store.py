"""What central keeps: the records, and the protocol that every storage engine implements.

A mutation is one call and one transaction: when it returns, its effect and its answer are committed together, or
neither is. `tests/central/test_store.py` is the contract, run on every engine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from central.quotas import Quotas

T = TypeVar("T")

# Seconds; callers give up after 5, and searches of 5,000,000 short names take one.
LONGEST_SEARCH = 2.0


class SessionEnd(StrEnum):
    """How a session ended."""

    LOGOUT = "logout"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What makes a mutation repeatable: the author's request id with the answer that was given.

    Attributes:
        author: peer id.
        request_id: 32 hexadecimal digits.
        answer: the serialized response.
        time: when, in seconds since 1970; receipts are purged by it.
    """

    author: str
    request_id: str
    answer: bytes
    time: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer that stands.

    Attributes:
        repeated: the request had been answered before, and nothing changed now.
        contents: those whose placements were begun, changed or ended by it.
    """

    answer: bytes
    repeated: bool = False
    contents: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """A logged-in peer.

    Attributes:
        joined: counts logins, so that a larger number joined later.
        login_time: seconds since 1970.
        primary: peer id of its primary neighbour, or empty.
        backup: peer id of its backup neighbour, or empty.
        catalogue_version: of what is held of its library; 0 for nothing.
        file_count: entries that it publishes.
    """

    peer_id: str
    public_key: bytes
    name: str
    addresses: tuple[str, ...]
    session_id: str = field(repr=False)
    joined: int
    login_time: float
    free_bytes: int = 0
    primary: str = ""
    backup: str = ""
    catalogue_version: int = 0
    file_count: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One published file of one peer. Times are seconds since 1970."""

    path: str
    content_id: bytes
    size: int
    modify_time: float
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes of one peer's published library, applied together; `declined` has a reason for each placement id.

    `first_version` is the version of a library that starts over.
    """

    base_version: int
    added: tuple[Entry, ...] = ()
    removed: tuple[str, ...] = ()
    stored: tuple[bytes, ...] = ()
    dropped: tuple[bytes, ...] = ()
    declined: Mapping[str, str] = field(default_factory=dict)
    first_version: int = 1

    @property
    def version(self) -> int:
        """The version of the library once this is applied."""
        return self.base_version + 1 if self.base_version else self.first_version


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One path with one content, of one size as told, that live peers publish, or store copies of for a placement.

    `wanted_copies` is the most that any owner of the content wants, `live_copies` are confirmed ones on live peers.
    """

    path: str
    content_id: bytes
    size: int
    modify_time: float
    executable: bool
    holder_count: int
    publish_time: float
    wanted_copies: int = 0
    live_copies: int = 0


@dataclass(frozen=True, slots=True)
class FoundHolder:
    """A live peer that holds a content completely."""

    peer_id: str
    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """One chosen peer of a placement."""

    peer_id: str
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """A promise to keep `wanted` copies of a content beside its author's.

    Attributes:
        copies: live peers that were chosen, or that store the content unasked; never the author. By peer id. A copy is
            confirmed when its peer has published it as `stored`. A copy that is to be dropped is none.
        declined: peers that turned the copy down since they were last chosen, by peer id.
        away: peers that store the content, as far as is remembered, and are not live; never the author. By peer id.
        supersedes: whether there is a placement of older bytes, which stays until this one is kept.
    """

    placement_id: str
    author: str
    content_id: bytes
    path: str
    size: int
    wanted: int
    copies: tuple[Copy, ...] = ()
    declined: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    supersedes: bool = False

    @property
    def confirmed(self) -> int:
        """How many of the copies are confirmed."""
        return sum(copy.confirmed for copy in self.copies)


@dataclass(frozen=True, slots=True)
class PlacedContent:
    """All that is to be known of the copies of one content.

    Attributes:
        placements: of all its owners, the oldest first; none when nobody wants copies of it any more.
        stored: live peers that store it, for anybody or for nobody, by peer id; not those that are to drop it.
        away: the same of peers that are not live, as far as is remembered.
        dropping: live peers that are to drop their copy, by peer id.
    """

    placements: tuple[PlacementRecord, ...] = ()
    stored: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    dropping: tuple[str, ...] = ()


class Order(StrEnum):
    """Order of a list of files."""

    NEWEST_FIRST = "newest"
    BY_NAME = "name"


@dataclass(frozen=True, slots=True)
class FileQuery:
    """Which files, in which order, after which key.

    Attributes:
        text: part of a path or a shell pattern (central.search says which); empty for everything.
        reference: what a user typed to mean one file; when set, `text` is ignored.
        directory: the directory beneath which files are wanted, compared exactly; when set, `text` is ignored.
        after: key of the last file of the page before: (publish_time or folded path, path, content id as hex, size).
        limit: most files in the answer.
    """

    text: str = ""
    reference: str = ""
    directory: str = ""
    order: Order = Order.NEWEST_FIRST
    after: tuple[str | float, ...] | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items, and the key to go on from; None at the end."""

    items: tuple[T, ...] = field(default=())
    next: tuple[str | float, ...] | None = None


@dataclass(frozen=True, slots=True)
class UnsettledPage:
    """Placements that are to be looked at, and the number to go on from; None at the end."""

    items: tuple[PlacementRecord, ...] = ()
    next: int | None = None


class Store(Protocol):
    """Central's storage. All methods may be called concurrently; none blocks the event loop.

    A peer is live from `login` until `end_sessions`. What an ended peer published stays for a while, invisible, so that
    one that returns need not publish again, and is removed by `purge`.
    """

    async def close(self) -> None:
        """Waits for running work and closes. Nothing may be called afterwards."""
        ...

    async def answer(self, author: str, request_id: str) -> bytes | None:
        """Returns the answer that was given to a request id, or None."""
        ...

    async def live_peers(self) -> list[PeerRecord]:
        """Returns every live peer, the earliest joined first."""
        ...

    async def session_end(self, session_id: str) -> tuple[str, SessionEnd] | None:
        """Returns whose session this was and how it ended; None when it is live or was never known."""
        ...

    async def login(self, peer: PeerRecord, receipt: Receipt) -> Outcome:
        """Makes the peer live under a new session; an older live session of it ends as SUPERSEDED.

        What is held of its library stays; `peer.catalogue_version` and `peer.file_count` are ignored. Copies that it
        declined are forgotten, since it may have room now.
        """
        ...

    async def public_key(self, peer_id: str) -> bytes | None:
        """Returns the key of a peer that has logged in at any time within the purge age, or None."""
        ...

    async def catalogue_version(self, peer_id: str) -> int:
        """Returns the version of what is held of a peer's library, whether it is live or not; 0 for nothing."""
        ...

    async def end_sessions(
        self, sessions: Sequence[str], end: SessionEnd, now: float, receipt: Receipt | None
    ) -> Outcome:
        """Ends live sessions, whose peers' files and copies are withdrawn at once; unknown ones are ignored."""
        ...

    async def set_neighbours(self, changes: Iterable[tuple[str, str, str]]) -> None:
        """Records (peer id, primary or empty, backup or empty) for live peers."""
        ...

    async def publish(self, peer_id: str, batch: Batch, receipt: Receipt, quotas: Quotas) -> Outcome:
        """Applies a batch: the peer's version becomes the batch's.

        Base version 0 first drops every entry and stored copy of the peer. `stored` confirms copies of placements, also
        when central had not chosen the peer. `dropped` contents and `declined` placements lose this peer's copy; the
        latter remember it.

        Replaces entries by path. Where the author of a placement publishes other bytes at its path, the placement goes
        on to these: another one of as many copies is made for them, unless `quotas` do not allow that. The older one
        stays until the new one is kept, but is not listed; of several only the last that was kept, and none that nobody
        stores.

        Raises:
            SessionUnknown: the peer is not known (any more).
            VersionConflict: `base_version` is neither 0 nor the version held; metadata `version` tells that.
            OverQuota: the peer would publish more than `quotas` allow, and more than before.
        """
        ...

    async def list_files(self, query: FileQuery) -> Page[FoundFile]:
        """Returns a page of files that live peers publish, or store copies of for a placement.

        Raises:
            InvalidInput: `reference` or pattern cannot be searched for, or not in the time that the engine gives it.
        """
        ...

    async def locate(self, content_id: bytes, after: str, limit: int) -> tuple[int, Page[FoundHolder]]:
        """Returns the size and a page of live holders, by peer id, after peer id `after` (empty for the first page).

        Raises:
            NotFound: no live peer holds it.
        """
        ...

    async def locate_many(self, content_ids: Sequence[bytes], each: int) -> list[list[FoundHolder]]:
        """Returns live holders of each content, in the order asked: at most `each`, chosen at random."""
        ...

    async def entry(self, peer_id: str, path: str) -> Entry | None:
        """Returns what a live peer publishes at a path, or None; a stored copy is not published."""
        ...

    async def place(self, placement: PlacementRecord, receipt: Receipt, quotas: Quotas) -> Outcome:
        """Records a placement with its chosen copies.

        A placement of the same author and content exists once: central passes its id again to change `wanted` and to
        add copies. A copy's `confirmed` is not taken from here: what its peer has stored says that.

        Raises:
            OverQuota: the author would have more placed than `quotas` allow, and more than before.
        """
        ...

    async def add_copies(self, placement_id: str, peer_ids: Sequence[str]) -> None:
        """Records further chosen peers of a placement."""
        ...

    async def drop_copies(self, content_id: bytes, peer_ids: Sequence[str]) -> None:
        """Records that these peers are to drop a content: from now on they neither have a copy nor are chosen."""
        ...

    async def end_placement(self, author: str, content_id: bytes, receipt: Receipt) -> Outcome:
        """Ends the author's placement of a content, and those of older bytes that wait for it; none is fine too.

        Whoever stores or was chosen for a content that nobody else wants is to drop it, whether live or not.
        """
        ...

    async def retire(self, placement_id: str) -> list[bytes]:
        """Ends the placements of older bytes that wait for this one, as `end_placement`, and returns their contents."""
        ...

    async def placement(self, placement_id: str) -> PlacementRecord | None:
        """Returns a placement, or None."""
        ...

    async def placement_of(self, author: str, content_id: bytes) -> PlacementRecord | None:
        """Returns the author's placement of a content, or None."""
        ...

    async def placed_content(self, content_id: bytes) -> PlacedContent:
        """Returns what is to be known of the copies of a content."""
        ...

    async def to_drop(self, peer_id: str) -> list[bytes]:
        """Returns the contents that a peer is to drop, whether it is live or not."""
        ...

    async def holders_of(self, content_id: bytes) -> set[str]:
        """Returns the peer ids of all live holders, published or stored."""
        ...

    async def unsettled_placements(self, after: int, limit: int) -> UnsettledPage:
        """Returns a page of the placements that are to be looked at, the oldest first.

        Those with fewer or more confirmed live copies than wanted, and those that older ones wait for. `after` is 0, or
        `next` of the page before; what changes between two pages may or may not be seen.
        """
        ...

    async def purge(self, receipts_before: float, ended_before: float) -> None:
        """Removes receipts, and ended sessions with what their peers published, older than these times.

        What such a peer stores for others stays as long as anybody wants it, and what it is to drop until it has: its
        version is then one that it does not know, so that it says anew what it has.
        """
        ...
