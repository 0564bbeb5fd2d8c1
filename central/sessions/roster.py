"""The live peers in memory: who they are, their leases, their neighbours, and the streams that tell them of changes."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from central.catalogue.fetching import Fetching
from central.sessions.membership import Membership, State
from central.sessions.neighbours import Assignment, Changes, Member, Neighbours
from central.store.store import PeerRecord
from core.errors import NotFound, RelevoError


class Listener(Protocol):
    """A peer's open heartbeat stream."""

    def poke(self) -> None:
        """Has the peer told the latest state, unasked."""
        ...

    def end(self, error: RelevoError | None) -> None:
        """Ends the stream with an error, or in order."""
        ...


class Roster:
    """Every live peer, the earliest joined first. The store has the same peers; this is what decisions are made on.

    Attributes:
        leases: of the sessions.
        neighbours: who uses whom.
        fetching: who is fetching what.
    """

    def __init__(self, leases: Membership, neighbours: Neighbours) -> None:
        self.leases = leases
        self.neighbours = neighbours
        self.fetching = Fetching()
        self._peers: dict[str, PeerRecord] = {}
        self._sessions: dict[str, str] = {}
        self._streams: dict[str, Listener] = {}
        self._carriers: dict[str, str] = {}
        self._last_joined = 0

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._peers

    def __iter__(self) -> Iterator[PeerRecord]:
        return iter(self._peers.values())

    def get(self, peer_id: str) -> PeerRecord | None:
        """Returns a live peer, or None."""
        return self._peers.get(peer_id)

    def require(self, peer_id: str) -> PeerRecord:
        """Returns a live peer.

        Raises:
            NotFound: the peer is not logged in.
        """
        if peer_id not in self._peers:
            raise NotFound(f"peer {peer_id} is not logged in")
        return self._peers[peer_id]

    def owner(self, session_id: str) -> str | None:
        """Returns whose live session this is, or None."""
        return self._sessions.get(session_id)

    def by_session(self, session_id: str) -> PeerRecord:
        """Returns the peer of a live session; KeyError when there is none."""
        return self._peers[self._sessions[session_id]]

    def beating(self) -> Iterator[PeerRecord]:
        """Yields the peers whose heartbeat is in order."""
        return (peer for peer in self if self.leases.state(peer.session_id) is State.LIVE)

    def next_joined(self) -> int:
        """Returns a number larger than that of every peer that joined before."""
        return self._last_joined + 1

    def restore(self, peers: Iterable[PeerRecord], now: float) -> Changes:
        """Takes up recorded peers with a whole lease for each, and returns which neighbours had to change."""
        members = []
        for peer in peers:
            self._enter(peer, now)
            assignment = Assignment(peer.primary, peer.backup)
            members.append(Member(peer.peer_id, peer.joined, bool(peer.addresses), assignment))
        return self.neighbours.restore(members)

    def add(self, peer: PeerRecord, now: float) -> Listener | None:
        """Adds a peer, whose neighbours are decided already; returns the stream of the session that it replaces."""
        if peer.peer_id in self._peers:
            self._take_out(peer.peer_id)
        self._enter(peer, now)
        return self._streams.pop(peer.peer_id, None)

    def remove(self, peer_id: str) -> tuple[Changes, Listener | None]:
        """Removes a live peer; returns whose neighbours changed by that, and the peer's stream."""
        self._take_out(peer_id)
        return self.neighbours.leave(peer_id), self._streams.pop(peer_id, None)

    def update(self, peer_id: str, *, free_bytes: int | None = None, catalogue_version: int | None = None) -> None:
        """Notes what has changed of a live peer; ignores one that is not."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        if free_bytes is not None and free_bytes != peer.free_bytes:
            peer = replace(peer, free_bytes=free_bytes)
        if catalogue_version is not None:
            peer = replace(peer, catalogue_version=catalogue_version)
        self._peers[peer_id] = peer

    def beaten(self, peer_id: str, carrier: str | None) -> None:
        """Notes who has carried a live peer's last beat: a peer id, empty when it is not known; None: nobody."""
        if carrier is None:
            self._carriers.pop(peer_id, None)
        elif peer_id in self._peers:
            self._carriers[peer_id] = carrier

    def carrier_of(self, peer_id: str) -> str | None:
        """Returns who has carried a peer's last beat, as `beaten` has it."""
        return self._carriers.get(peer_id)

    def neighbours_of(self, peer_id: str) -> tuple[PeerRecord | None, PeerRecord | None]:
        """Returns the primary and the backup of a live peer, None where there is none.

        Raises:
            NotFound: the peer is not logged in.
        """
        self.require(peer_id)
        assignment = self.neighbours.of(peer_id)
        return self._peers.get(assignment.primary), self._peers.get(assignment.backup)

    def listen(self, peer_id: str, stream: Listener) -> Listener | None:
        """Makes `stream` the one that tells the peer of changes, and returns the one that was."""
        older = self._streams.get(peer_id)
        self._streams[peer_id] = stream
        return older

    def unlisten(self, peer_id: str, stream: Listener) -> None:
        """Takes a stream away, when it is the one that tells the peer of changes."""
        if self._streams.get(peer_id) is stream:
            del self._streams[peer_id]

    def poke(self, peer_ids: Iterable[str]) -> None:
        """Has these peers told the latest state."""
        for peer_id in peer_ids:
            if stream := self._streams.get(peer_id):
                stream.poke()

    def _take_out(self, peer_id: str) -> None:
        peer = self._peers.pop(peer_id)
        self._sessions.pop(peer.session_id, None)
        self._carriers.pop(peer_id, None)
        self.leases.end(peer.session_id)
        self.fetching.update(peer_id, ())

    def _enter(self, peer: PeerRecord, now: float) -> None:
        self._last_joined = max(self._last_joined, peer.joined)
        self._peers[peer.peer_id] = peer
        self._sessions[peer.session_id] = peer.peer_id
        self.leases.grant(peer.session_id, now)
