"""Bytes that all downloads of a daemon together may have in flight: a bound on its memory, shared fairly.

Whoever has least comes first: of several that want more, the one with the fewest bytes is told as soon as there is room
for it, and nobody with more can take that room meanwhile. Whoever has nothing always gets what it asks for: so every
download goes on, however slow others' holders are, and the bound is passed by an answer, 1 MiB, for each at most.

A download keeps one `Share` for as long as it runs. It is pure but for `room`, which tells whoever waits.
"""

from collections.abc import Callable

# Enough for 80 MB a second over 100 ms there and back, and for the 500 MB a second that one event loop brings nearby.
IN_FLIGHT_BYTES = 8 * 1024 * 1024


class Budget:
    """So many bytes for all shares together."""

    def __init__(self, most: int = IN_FLIGHT_BYTES) -> None:
        """`most` is in bytes."""
        self._most = most
        self._taken = 0
        self._order = 0
        self._waiting: set[Share] = set()

    @property
    def taken(self) -> int:
        """Bytes that are in flight."""
        return self._taken

    def share(self, room: Callable[[], None]) -> "Share":
        """Returns a share that has nothing yet.

        `room` is called when there may be room for what it was refused, once for each refusal. It must not use the
        budget at once, but soon: in an event loop, by `call_soon`.
        """
        return Share(self, room)

    def _grant(self, share: "Share", size: int) -> bool:
        first = sum(other.wish for other in self._waiting if other is not share and other.rank < share.rank)
        return not share.taken or self._taken + first + size <= self._most

    def _change(self, size: int) -> None:
        self._taken += size
        if size < 0:
            self._tell()

    def _wait(self, share: "Share", size: int) -> None:
        if share not in self._waiting:
            self._order += 1
            share.since = self._order
        share.wish, share.told = size, False
        self._waiting.add(share)

    def _withdraw(self, share: "Share") -> None:
        if share in self._waiting:
            self._waiting.remove(share)
            share.since = None
            self._tell()

    def _tell(self) -> None:
        """Tells those who wait and for whom there is room, the first of them first."""
        room = self._most - self._taken
        for share in sorted(self._waiting, key=lambda share: share.rank):
            room -= share.wish
            if room < 0:
                return
            if not share.told:
                share.told = True
                share.room()


class Share:
    """What one download has of a budget.

    Attributes:
        taken: bytes that it has in flight.
        room: tells it that there may be room.
        wish: bytes that it was refused.
        since: its place among those who wait; None when it does not.
        told: whether it has been told of room since it was refused.
    """

    def __init__(self, budget: Budget, room: Callable[[], None]) -> None:
        self.taken = 0
        self.room = room
        self.wish = 0
        self.since: int | None = None
        self.told = False
        self._budget = budget

    @property
    def rank(self) -> tuple[int, float]:
        """What those who want more are ordered by: the fewest bytes first, then who has waited longest."""
        return self.taken, float("inf") if self.since is None else self.since

    def take(self, size: int) -> bool:
        """Tells whether `size` more bytes may be in flight, and counts them when they may.

        When they may not, `room` is called as soon as it is worth another try, unless `want_nothing` comes before.
        """
        if not self._budget._grant(self, size):  # noqa: SLF001 - the two are one
            self._budget._wait(self, size)  # noqa: SLF001
            return False
        self.take_anyway(size)
        self.want_nothing()
        return True

    def take_anyway(self, size: int) -> None:
        """Counts bytes that come whether there is room or not."""
        self.taken += size
        self._budget._change(size)  # noqa: SLF001

    def give_back(self, size: int) -> None:
        """Ends what was taken: the bytes are on the disk, or will not come."""
        self.taken -= size
        self._budget._change(-size)  # noqa: SLF001

    def want_nothing(self) -> None:
        """Forgets what was refused: others are told of the room instead."""
        self._budget._withdraw(self)  # noqa: SLF001

    def close(self) -> None:
        """Gives back everything, and waits for nothing any more."""
        self.want_nothing()
        self.give_back(self.taken)
