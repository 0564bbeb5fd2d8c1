"""Neighbours: through whom each peer reaches the network. Pure and deterministic.

Everyone has a primary and, as soon as there are enough peers that can be dialled, another one as backup. A relay is a
peer that can be dialled; it serves at most `cap` others, primaries and backups together, while another has room.
Joins fill gaps and take load off relays that had to serve too many; departures touch only those who used the departed.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, replace

DEFAULT_CAP = 16


@dataclass(frozen=True, slots=True)
class Assignment:
    """The neighbours of one peer by peer id; empty where there is none."""

    primary: str = ""
    backup: str = ""

    def uses(self, relay: str) -> bool:
        """Tells whether `relay` is one of the two."""
        return relay in {self.primary, self.backup}

    def without(self, relay: str) -> "Assignment":
        """Returns what is left when `relay` is gone: the backup takes the place of the primary."""
        if self.primary == relay:
            return Assignment(self.backup)
        return replace(self, backup="") if self.backup == relay else self

    def with_one_more(self, relay: str) -> "Assignment":
        """Returns the assignment with its first gap filled."""
        return replace(self, backup=relay) if self.primary else Assignment(relay)


@dataclass(frozen=True, slots=True)
class Member:
    """A live peer. A larger `joined` joined later; one that is not `dialable` is never a neighbour but has some."""

    peer_id: str
    joined: int
    dialable: bool
    assignment: Assignment = Assignment()


Changes = dict[str, Assignment]


class Neighbours:
    """Who uses whom. Every change returns the new assignments of all whose neighbours changed."""

    def __init__(self, cap: int = DEFAULT_CAP) -> None:
        self._cap = cap
        self._members: dict[str, Member] = {}
        # Relays and whom they serve; the inner dict is a set that keeps its order.
        self._users: dict[str, dict[str, None]] = {}
        # (joined, peer id) of the relays with room, in order, so that the last one joined last.
        self._open: list[tuple[int, str]] = []
        self._crowded: dict[str, None] = {}
        self._lacking: dict[str, None] = {}

    def __contains__(self, peer_id: str) -> bool:
        return peer_id in self._members

    def of(self, peer_id: str) -> Assignment:
        """Returns a member's neighbours.

        Raises:
            KeyError: it is not a member.
        """
        return self._members[peer_id].assignment

    def users(self, peer_id: str) -> tuple[str, ...]:
        """Returns the peers that use this one as primary or backup; none when it is no member."""
        return tuple(self._users.get(peer_id, ()))

    def join(self, peer_id: str, joined: int, dialable: bool) -> Changes:
        """Adds a peer; one that is a member already keeps its neighbours and, while it can be dialled, its users."""
        changes: Changes = {}
        known = self._members.get(peer_id)
        if known is None:
            self._members[peer_id] = Member(peer_id, joined, dialable)
            self._lacking[peer_id] = None
        else:
            self._close(peer_id)
            self._members[peer_id] = replace(known, joined=joined, dialable=dialable)
        if dialable:
            self._users.setdefault(peer_id, {})
            self._reopen(peer_id)
        else:
            self._release(peer_id, changes)
        self._complete(peer_id, changes)
        if dialable:
            self._fill_gaps(changes)
        self._relieve(changes)
        return changes

    def leave(self, peer_id: str) -> Changes:
        """Removes a peer: only those who used it get other neighbours. Unknown ones are ignored."""
        changes: Changes = {}
        if peer_id not in self._members:
            return changes
        for relay in self._relays_of(peer_id):
            self._drop_user(relay, peer_id)
        self._close(peer_id)
        del self._members[peer_id]
        self._lacking.pop(peer_id, None)
        self._release(peer_id, changes)
        return changes

    def restore(self, members: Iterable[Member]) -> Changes:
        """Takes up recorded assignments, mends those that do not hold any more, and returns what was mended."""
        recorded = sorted(members, key=lambda member: member.joined)
        self._members = {member.peer_id: replace(member, assignment=Assignment()) for member in recorded}
        self._users = {member.peer_id: {} for member in recorded if member.dialable}
        self._open, self._crowded, self._lacking = [], {}, dict.fromkeys(self._members)
        for relay in self._users:
            self._reopen(relay)
        changes: Changes = {}
        for member in recorded:
            kept = Assignment()
            for relay in dict.fromkeys((member.assignment.primary, member.assignment.backup)):
                if relay in self._users and relay != member.peer_id:
                    kept = kept.with_one_more(relay)
            self._assign(member.peer_id, kept, changes)
        self._fill_gaps(changes)
        self._relieve(changes)
        before = {member.peer_id: member.assignment for member in recorded}
        return {peer_id: assignment for peer_id, assignment in changes.items() if assignment != before[peer_id]}

    def _fill_gaps(self, changes: Changes) -> None:
        """Gives neighbours to all who lack one, which nobody does once there are three relays."""
        for peer_id in tuple(self._lacking):
            self._complete(peer_id, changes)

    def _complete(self, peer_id: str, changes: Changes) -> None:
        assignment = self.of(peer_id)
        while not assignment.backup and (relay := self._pick(peer_id, assignment)):
            assignment = assignment.with_one_more(relay)
            self._assign(peer_id, assignment, changes)

    def _pick(self, peer_id: str, assignment: Assignment) -> str:
        """Returns the most recently joined relay with room, else the least busy one; empty when there is none."""
        for _, relay in reversed(self._open):  # at most three steps: itself and one neighbour are skipped
            if relay != peer_id and not assignment.uses(relay):
                return relay
        full = (relay for relay in self._users if relay != peer_id and not assignment.uses(relay))
        return min(full, key=lambda relay: (len(self._users[relay]), -self._members[relay].joined), default="")

    def _release(self, relay: str, changes: Changes) -> None:
        """Gives other neighbours to everybody who used `relay`, which can be used no longer."""
        users = self._users.pop(relay, {})
        for user in users:
            self._assign(user, self.of(user).without(relay), changes)
        for user in users:
            self._complete(user, changes)

    def _relieve(self, changes: Changes) -> None:
        """Moves users from relays over their cap to relays with room.

        One of the first cap + 1 users can always move: the relay with room serves fewer than cap of them.
        """
        while self._crowded and self._open:
            crowded, (_, relay) = next(iter(self._crowded)), self._open[-1]
            user = next(user for user in self._users[crowded] if user != relay and not self.of(user).uses(relay))
            primary, backup = self.of(user).primary, self.of(user).backup
            moved = Assignment(relay, backup) if primary == crowded else Assignment(primary, relay)
            self._assign(user, moved, changes)

    def _assign(self, peer_id: str, assignment: Assignment, changes: Changes) -> None:
        """Records an assignment, and with it who serves whom."""
        before = self._relays_of(peer_id)
        self._members[peer_id] = replace(self._members[peer_id], assignment=assignment)
        after = self._relays_of(peer_id)
        for relay in before:
            if relay not in after:
                self._drop_user(relay, peer_id)
        for relay in after:
            if relay not in before:
                self._add_user(relay, peer_id)
        if assignment.backup:
            self._lacking.pop(peer_id, None)
        else:
            self._lacking[peer_id] = None
        changes[peer_id] = assignment

    def _relays_of(self, peer_id: str) -> list[str]:
        assignment = self.of(peer_id)
        return [relay for relay in (assignment.primary, assignment.backup) if relay]

    def _add_user(self, relay: str, peer_id: str) -> None:
        users = self._users[relay]
        users[peer_id] = None
        if len(users) == self._cap:
            self._close(relay)
        elif len(users) > self._cap:
            self._crowded[relay] = None

    def _drop_user(self, relay: str, peer_id: str) -> None:
        users = self._users.get(relay)
        if users is None:  # the relay itself is leaving
            return
        del users[peer_id]
        if len(users) == self._cap:
            self._crowded.pop(relay, None)
        elif len(users) == self._cap - 1:
            self._reopen(relay)

    def _reopen(self, relay: str) -> None:
        """Lists a relay among those with room, or with too many users, as it stands."""
        load = len(self._users[relay])
        if load < self._cap:
            insort(self._open, (self._members[relay].joined, relay))
        elif load > self._cap:
            self._crowded[relay] = None

    def _close(self, relay: str) -> None:
        """Takes a relay off those lists."""
        self._crowded.pop(relay, None)
        key = (self._members[relay].joined, relay)
        at = bisect_left(self._open, key)
        if self._open[at : at + 1] == [key]:
            del self._open[at]
