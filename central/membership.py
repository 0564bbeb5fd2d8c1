"""Leases: which sessions are live, which are suspect, and which have expired. Pure: every decision takes `now`.

                   opened, beat                     broken (the stream in use)
    granted ─► SUSPECT ───────► LIVE ──────────────────────────────────────► SUSPECT ─► opened, beat: LIVE
                   │              └─ no beat for the lease ─► expired           └─ grace or lease over ─► expired
                   └─ no beat for the lease ─► expired

Times are seconds on any clock that never goes back.
"""

from dataclasses import dataclass
from enum import Enum, auto

from core.errors import SessionUnknown

# A lease outlives three beats that were lost, and half an interval of delay.
LEASE_BEATS = 3.5


class State(Enum):
    """Whether a session's heartbeat is in order."""

    LIVE = auto()
    SUSPECT = auto()


@dataclass(frozen=True, slots=True)
class Terms:
    """When a peer has to show that it lives, in seconds.

    Attributes:
        beat_interval: from one beat to the next.
        lease: without a beat, after this the session expires.
        grace: what a broken stream leaves for opening another.
    """

    beat_interval: float = 2.0
    lease: float = 2.0 * LEASE_BEATS
    grace: float = 2.5


@dataclass(slots=True)
class _Lease:
    state: State
    deadline: float
    stream: int = 0


class Membership:
    """The leases of all sessions.

    A lease is over when `sweep` says so and its caller calls `end`: until then a late beat still renews it.
    """

    def __init__(self, beat_interval: float = 2.0, grace: float = 2.5, max_beats: float = 500.0) -> None:
        """Sets the shortest beat interval and the grace in seconds, and the most beats a second of all peers."""
        self._beat_interval = beat_interval
        self._grace = grace
        self._max_beats = max_beats
        self._leases: dict[str, _Lease] = {}
        self._streams = 0

    def __len__(self) -> int:
        return len(self._leases)

    def terms(self, peer_count: int) -> Terms:
        """Returns the terms for this many peers: beats are rarer when there would be too many of them in all."""
        interval = max(self._beat_interval, peer_count / self._max_beats)
        return Terms(interval, interval * LEASE_BEATS, self._grace)

    def current_terms(self) -> Terms:
        """Returns the terms for as many peers as there are."""
        return self.terms(len(self._leases))

    def grant(self, session: str, now: float) -> None:
        """Gives a session a whole lease; it is suspect until its stream is opened."""
        self._leases[session] = _Lease(State.SUSPECT, 0.0)
        self._leases[session].deadline = now + self.current_terms().lease

    def open(self, session: str, now: float) -> int:
        """Begins a stream, which its first beat does, and returns its number; older streams lose their say.

        Raises:
            SessionUnknown: there is no such lease.
        """
        self._streams += 1
        self._lease(session).stream = self._streams
        self.beat(session, self._streams, now)
        return self._streams

    def beat(self, session: str, stream: int, now: float) -> bool:
        """Renews the lease on the current terms; tells whether that revived a suspect.

        Raises:
            SessionUnknown: there is no such lease.
        """
        lease = self._lease(session)
        revived = lease.state is State.SUSPECT
        if revived:
            lease.stream = stream  # the stream in use is the one that beats, were it an older one
        lease.state = State.LIVE
        lease.deadline = now + self.current_terms().lease
        return revived

    def broken(self, session: str, stream: int, now: float) -> bool:
        """Makes the session suspect when the stream in use broke; tells whether it did.

        What is left is the grace, but never more than what was left of the lease.
        """
        lease = self._leases.get(session)
        if lease is None or lease.stream != stream or lease.state is State.SUSPECT:
            return False
        lease.state = State.SUSPECT
        lease.deadline = min(lease.deadline, now + self._grace)
        return True

    def end(self, session: str) -> None:
        """Forgets a session; an unknown one is ignored."""
        self._leases.pop(session, None)

    def state(self, session: str) -> State:
        """Returns whether the session's heartbeat is in order.

        Raises:
            SessionUnknown: there is no such lease.
        """
        return self._lease(session).state

    def sweep(self, now: float) -> list[str]:
        """Returns the sessions whose lease is over, in the order in which they were granted; they stay until `end`."""
        return [session for session, lease in self._leases.items() if lease.deadline <= now]

    def _lease(self, session: str) -> _Lease:
        try:
            return self._leases[session]
        except KeyError:
            raise SessionUnknown("central does not know this session, or it has expired; log in anew") from None
