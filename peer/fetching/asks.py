"""The asks of one download: whom it has asked, for what, and which blocks are on their way by that. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from peer.fetching.budget import Share
from peer.fetching.pace import Pace


@dataclass(slots=True, eq=False)
class Holder:
    """What is known of a holder.

    Attributes:
        failed: those that it has not given in time.
        waiting: asks of which it has not chosen the block yet.
        vain: answers in a row that brought nothing new.
        waited: whether the last ask had nothing first hand within its patience: then any hand will do.
    """

    name: str
    pace: Pace
    complete: bool
    failed: int = 0
    waiting: int = 0
    vain: int = 0
    waited: bool = False


@dataclass(slots=True, eq=False)
class Ask:
    """Attributes: index: the block, None until the holder has chosen; size: bytes that count as in flight."""

    number: int
    holder: Holder
    index: int | None
    size: int
    asked_at: float
    deadline: float
    overdue_at: float
    first_hand: bool


@dataclass(slots=True)
class _Block:
    """A block that is on its way: the asks that it comes by, and the one whose answer is being stored."""

    asks: list[Ask] = field(default_factory=list)
    storing: int | None = None


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
        self._blocks: dict[int, _Block] = {}
        self._next = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self.open and not self._storing

    @property
    def first_asked_at(self) -> float | None:
        """When the oldest request that is under way was made; None when there is none."""
        return min((ask.asked_at for ask in (*self.open.values(), *self._storing.values())), default=None)

    def has_room(self) -> bool:
        """Takes room for one more block; when there is none, the share is told once there is."""
        taken = self._share.take(self._size)
        self._refused = self._refused or not taken
        return taken

    def begin(
        self, holder: Holder, now: float, deadline: float, overdue_at: float, *, counted: bool, first_hand: bool
    ) -> Ask:
        """Returns a new ask; `counted` when `has_room` has taken room for it: else it counts once a block is coming."""
        ask = Ask(self._next, holder, None, self._size if counted else 0, now, deadline, overdue_at, first_hand)
        self._next += 1
        holder.pace.asked(self._size, now)
        holder.waiting += 1
        self.open[ask.number] = ask
        return ask

    def all_are_made(self) -> None:
        """Ends a round of asks: when none was refused, room is not waited for any more.

        Who gave up its place before it asks again would never come to its turn.
        """
        if not self._refused:
            self._share.want_nothing()
        self._refused = False

    def expect(self, ask: Ask, index: int) -> None:
        """Notes which block an ask brings."""
        ask.index = index
        ask.holder.waiting -= 1
        if not ask.size:
            ask.size = self._size
            self._share.take_anyway(ask.size)
        self.coming |= 1 << index
        self._blocks.setdefault(index, _Block()).asks.append(ask)

    def store(self, ask: Ask, index: int) -> bool:
        """Has the answer of an ask stored, unless another one is being stored; returns whether it is.

        It leaves the holder's window, not the budget: its bytes are in memory until they are stored.
        """
        block = self._blocks[index]
        if block.storing is not None:
            return False
        del self.open[ask.number]
        block.asks.remove(ask)
        block.storing = ask.number
        self._storing[ask.number] = ask
        return True

    def stored(self, number: int) -> tuple[int, list[Ask]] | None:
        """Returns the block that has been stored, and the asks that would bring it once more."""
        ask = self._storing.pop(number, None)
        if ask is None or ask.index is None:
            return None
        self._share.give_back(ask.size)
        block = self._blocks[ask.index]
        block.storing = None
        if not block.asks:
            self._end(ask.index)
        return ask.index, list(block.asks)

    def release(self, number: int) -> Ask | None:
        """Ends an ask without a block: its block is wanted again, unless another ask still brings it."""
        ask = self.open.pop(number, None) or self._storing.pop(number, None)
        if ask is None:
            return None
        self._share.give_back(ask.size)
        if ask.index is None:
            ask.holder.waiting -= 1
            return ask
        block = self._blocks[ask.index]
        if block.storing == number:
            block.storing = None
        else:
            block.asks.remove(ask)
        if not block.asks and block.storing is None:
            self._end(ask.index)
        return ask

    def in_time(self, now: float) -> tuple[int, int]:
        """Returns how many blocks come that are not late, and how many asks of any hand wait that are not."""
        coming = unknown = 0
        for ask in self.open.values():
            early = now < ask.overdue_at
            coming += early and ask.index is not None
            unknown += early and ask.index is None and not ask.first_hand
        return coming, unknown

    def waiting_for_any_hand(self, holder: Holder) -> int:
        """Returns how many asks wait at a holder for whatever it has."""
        return sum(ask.holder is holder and ask.index is None and not ask.first_hand for ask in self.open.values())

    def to_be_chosen(self, now: float) -> int:
        """Returns how many blocks complete holders are to choose, without those that have kept it waiting."""
        asks = self.open.values()
        return sum(ask.index is None and ask.holder.complete and now < ask.overdue_at for ask in asks)

    def overdue(self, now: float) -> list[Ask]:
        """Returns the asks whose block is late, and comes by nothing else; that of the oldest ask first."""
        return sorted((ask for ask in self._alone() if ask.overdue_at <= now), key=lambda ask: ask.asked_at)

    def later(self, end: float) -> list[Ask]:
        """Returns the asks whose block comes by nothing else, and probably after `end`; the last of them first."""
        alone = [(ask.asked_at + ask.holder.pace.took, ask) for ask in self._alone() if ask.holder.pace.took]
        return [ask for due, ask in sorted(alone, key=itemgetter(0), reverse=True) if due > end]

    def _alone(self) -> Iterator[Ask]:
        """Yields the asks of whose blocks each comes by one ask only, and has not come."""
        for block in self._blocks.values():
            if block.storing is None and len(block.asks) == 1:
                yield block.asks[0]

    def _end(self, index: int) -> None:
        del self._blocks[index]
        self.coming &= ~(1 << index)
