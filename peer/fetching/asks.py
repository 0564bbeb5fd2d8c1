"""The asks of one download: whom it has asked, for what, and which blocks are on their way by that. Pure."""

from dataclasses import dataclass
from functools import reduce
from operator import itemgetter, or_

from core.content import MOST_IN_A_ROW
from peer.fetching.budget import Share
from peer.fetching.pace import Pace


@dataclass(slots=True, eq=False)
class Holder:
    """What is known of a holder.

    Attributes:
        failed: those that it has not given in time.
        waiting: how many blocks it is asked for and has not chosen yet.
        vain: answers in a row that brought nothing new.
        waited: whether the last ask had nothing first hand within its patience: then any hand will do.
        longest: how many blocks in a row it may be asked for, as it has given of late.
    """

    name: str
    pace: Pace
    complete: bool
    failed: int = 0
    waiting: int = 0
    vain: int = 0
    waited: bool = False
    longest: int = MOST_IN_A_ROW


@dataclass(slots=True, eq=False)
class Ask:
    """One request to one holder.

    Attributes:
        blocks: those that it brings; none until the holder has chosen.
        size: bytes that are asked for.
        counted: whether they count as in flight.
    """

    number: int
    holder: Holder
    blocks: int
    size: int
    counted: bool
    asked_at: float
    deadline: float
    overdue_at: float
    first_hand: bool


class Asks:
    """What is under way, counted in a share of a budget.

    Attributes:
        open: the asks that have no answer yet, by number, the oldest first.
        coming: the blocks that are on their way, or are being stored.
    """

    def __init__(self, size: int, share: Share) -> None:
        """Counts blocks of `size` bytes."""
        self.open: dict[int, Ask] = {}
        self.coming = 0
        self._size = size
        self._share = share
        self._refused = False
        self._storing: dict[int, Ask] = {}
        self._next = 0
        self._lone: list[tuple[Ask, int]] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self.open and not self._storing

    @property
    def first_asked_at(self) -> float | None:
        """When the oldest request that is under way was made; None when there is none."""
        return min((ask.asked_at for ask in (*self.open.values(), *self._storing.values())), default=None)

    def has_room(self, blocks: int) -> bool:
        """Takes room for so many more blocks; when there is none, the share is told once there is."""
        taken = self._share.take(blocks * self._size)
        self._refused = self._refused or not taken
        return taken

    def begin(
        self,
        holder: Holder,
        now: float,
        deadline: float,
        overdue_at: float,
        *,
        count: int,
        counted: bool,
        first_hand: bool,
    ) -> Ask:
        """Returns a new ask for so many blocks.

        It is `counted` when `has_room` has taken room for it: else it counts once a block is coming.
        """
        size = count * self._size
        ask = Ask(self._next, holder, 0, size, counted, now, deadline, overdue_at, first_hand)
        self._next += 1
        holder.pace.asked(size, now)
        holder.waiting += count
        self.open[ask.number] = ask
        self._lone = None
        return ask

    def all_are_made(self) -> None:
        """Ends a round of asks: when none was refused, room is not waited for any more.

        Who gave up its place before it asks again would never come to its turn.
        """
        if not self._refused:
            self._share.want_nothing()
        self._refused = False

    def expect(self, ask: Ask, blocks: int) -> None:
        """Notes which blocks an ask brings."""
        ask.blocks = blocks
        ask.holder.waiting -= ask.size // self._size
        if not ask.counted:
            ask.counted = True
            self._share.take_anyway(ask.size)
        self.coming |= blocks
        self._lone = None

    def has_come(self, ask: Ask, blocks: int) -> None:
        """Notes which blocks an ask has brought; those that it does not bring are wanted again."""
        if not ask.blocks:
            self.expect(ask, blocks)
        rest, ask.blocks = ask.blocks & ~blocks, blocks
        self._come_no_more(rest)
        size = blocks.bit_count() * self._size
        self._share.give_back(ask.size - size)
        ask.size = size

    def store(self, ask: Ask) -> None:
        """Has the blocks of an ask stored, none of which is being stored.

        It leaves the holder's window, not the budget: its bytes are in memory until they are stored.
        """
        self._storing[ask.number] = self.open.pop(ask.number)
        self._lone = None

    def stored(self, number: int) -> int:
        """Returns the blocks that have been stored; none when the number says nothing."""
        ask = self._storing.pop(number, None)
        if ask is None:
            return 0
        self._end(ask)
        return ask.blocks

    def in_vain(self, lacking: int) -> list[Ask]:
        """Returns the asks of whose blocks none is lacking any more."""
        return [ask for ask in self.open.values() if ask.blocks and not ask.blocks & lacking]

    def release(self, number: int) -> Ask | None:
        """Ends an ask without a block: its blocks are wanted again, unless another ask still brings them."""
        ask = self.open.pop(number, None) or self._storing.pop(number, None)
        if ask is None:
            return None
        if not ask.blocks:
            ask.holder.waiting -= ask.size // self._size
        self._end(ask)
        return ask

    def in_time(self, now: float) -> tuple[int, int]:
        """Returns by how many asks blocks come that are not late, and how many asks of any hand wait that are not."""
        coming = unknown = 0
        for ask in self.open.values():
            early = now < ask.overdue_at
            coming += early and ask.blocks != 0
            unknown += early and not ask.blocks and not ask.first_hand
        return coming, unknown

    def waiting_for_any_hand(self, holder: Holder) -> int:
        """Returns how many asks wait at a holder for whatever it has."""
        return sum(ask.holder is holder and not ask.blocks and not ask.first_hand for ask in self.open.values())

    def to_be_chosen(self, now: float) -> int:
        """Returns how many blocks complete holders are to choose, without those that have kept it waiting."""
        asks = self.open.values()
        waiting = (ask for ask in asks if not ask.blocks and ask.holder.complete and now < ask.overdue_at)
        return sum(ask.size // self._size for ask in waiting)

    def overdue(self, now: float) -> list[tuple[Ask, int]]:
        """Returns the asks that are late, each with its blocks that come by nothing else; the oldest ask first."""
        late = [(ask, blocks) for ask, blocks in self._alone() if ask.overdue_at <= now]
        return sorted(late, key=lambda found: found[0].asked_at)

    def later(self, end: float) -> list[tuple[Ask, int]]:
        """Returns the asks that are answered probably after `end`, as `overdue`; the last of them first."""
        timed = [(ask.asked_at + ask.holder.pace.took, ask, blocks) for ask, blocks in self._alone()]
        late = [found for found in timed if found[1].holder.pace.took and found[0] > end]
        return [(ask, blocks) for _, ask, blocks in sorted(late, key=itemgetter(0), reverse=True)]

    def _alone(self) -> list[tuple[Ask, int]]:
        """Returns the asks that bring blocks which no other ask brings, with these."""
        if self._lone is None:
            once, twice = 0, self.being_stored
            for ask in self.open.values():
                once, twice = once | ask.blocks, twice | once & ask.blocks
            self._lone = [(ask, ask.blocks & ~twice) for ask in self.open.values() if ask.blocks & ~twice]
        return self._lone

    @property
    def being_stored(self) -> int:
        """The blocks that are being stored."""
        return reduce(or_, (ask.blocks for ask in self._storing.values()), 0)

    def _end(self, ended: Ask) -> None:
        """Takes note that an ask brings nothing more."""
        self._lone = None
        if ended.counted:
            self._share.give_back(ended.size)
        self._come_no_more(ended.blocks)

    def _come_no_more(self, blocks: int) -> None:
        """Takes note that blocks do not come by the ask that they were to come by."""
        if blocks:
            others = reduce(or_, (ask.blocks for ask in self.open.values()), self.being_stored)
            self.coming &= ~blocks | others
