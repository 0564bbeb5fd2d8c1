"""Leases: which sessions are live, which are suspect, and which have expired. Pure: every decision takes `now`.

                   opened, beat           broken (the stream in use), or only the grace is left
    granted ─► SUSPECT ───────► LIVE ─────────────────────────────────────────────────────────► SUSPECT
    SUSPECT ─► opened, beat: LIVE · proved to others: REACHED · grace or lease over: expired
    REACHED ─► opened, beat: LIVE · lease since the last proof over: expired

When more leases end at once than peers fail at once, it is rather central that fails, or its network: then they wait.
Times are seconds on any clock that never goes back.
"""

from dataclasses import dataclass
from enum import Enum, auto

from core.errors import SessionUnknown

# A lease outlives three beats that were lost, and half an interval of delay.
LEASE_BEATS = 3.5
# More leases than these, a number or a part of all, never end in one window because of the peers themselves.
FEW, FEW_OF_ALL = 3, 0.15
# How long the end of so many waits for some of them to come back, in seconds.
LONGEST_WAIT = 60.0
# Peers that lost their streams while central was away are back within this, in seconds: a thousand of them are.
RETURN = 10.0


class State(Enum):
    """Whether a session's heartbeat is in order."""

    LIVE = auto()
    SUSPECT = auto()
    REACHED = auto()  # not by central, but by other peers, as it has proved within a lease


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
        self._settled = float("-inf")

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

        What is left is the grace, but never more than what was left of the lease. The grace of what breaks while peers
        are still coming back begins when they should be.
        """
        lease = self._leases.get(session)
        if lease is None or lease.stream != stream or lease.state is not State.LIVE:
            return False
        lease.state = State.SUSPECT
        lease.deadline = min(lease.deadline, now + self._grace)
        if now < self._settled:
            lease.deadline = self._settled + self._grace
        return True

    def doubtful(self, now: float) -> list[str]:
        """Returns the sessions that should prove that they live: those with no more than the grace left, and REACHED.

        Whoever has been silent until then is suspect from now on.
        """
        found = []
        for session, lease in self._leases.items():
            if lease.deadline <= now + self._grace:
                found.append(session)
                if lease.state is State.LIVE:
                    lease.state = State.SUSPECT
            elif lease.state is State.REACHED:
                found.append(session)
        return found

    def proved(self, session: str, since: float) -> bool:
        """Gives a suspect that lived at some time after `since` one lease from then; tells whether that is new of it.

        It changes nothing for one that central hears, nor where there is a later end already.
        """
        lease = self._leases.get(session)
        if lease is None or lease.state is State.LIVE:
            return False
        deadline = since + self.current_terms().lease
        if deadline <= lease.deadline:
            return False
        new = lease.state is not State.REACHED
        lease.state, lease.deadline = State.REACHED, deadline
        return new

    def returned(self, now: float) -> None:
        """Says that central was away for so long that streams broke: nobody's lease ends before they are open again."""
        self._settled = now + RETURN
        for lease in self._leases.values():
            lease.deadline = max(lease.deadline, self._settled)

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
        """Returns the sessions whose lease is over, in the order in which they were granted; they stay until `end`.

        While more than a few end within a beat interval from now, each waits for `LONGEST_WAIT`. That is the window
        because peers that fall silent together, whose last beats were up to an interval apart, end as far apart; and
        somebody in order, with more than two intervals left, is never counted.
        """
        soon = now + self.current_terms().beat_interval
        ending = {session: lease.deadline for session, lease in self._leases.items() if lease.deadline <= soon}
        few = len(ending) <= max(FEW, FEW_OF_ALL * len(self._leases))
        over = now if few else now - LONGEST_WAIT
        return [session for session, deadline in ending.items() if deadline <= over]

    def _lease(self, session: str) -> _Lease:
        try:
            return self._leases[session]
        except KeyError:
            raise SessionUnknown("central does not know this session, or it has expired; log in anew") from None
