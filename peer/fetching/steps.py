"""What a download is told and what it decides: the events and decisions of peer/fetching/download.py."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HolderJoined:
    """A holder can be asked. One that is not `complete` is fetching the content too, and has what it has.

    `steady_rate` is how many bytes a second it has sent in an earlier download; 0 when that is not known.
    """

    holder: str
    complete: bool = True
    steady_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class HolderLeft:
    """A holder cannot be asked any more; it may join again."""

    holder: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The holder has chosen a block, which is on its way."""

    ask: int
    index: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """An answer of the right length is here, unchecked: `count` blocks from block `index` on.

    `first_hand` when this peer is to pass them on.
    """

    ask: int
    index: int
    first_hand: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Nothing:
    """The holder had nothing to give within its patience."""

    ask: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The blocks that `Store` named matched their digests and are written."""

    ask: int


@dataclass(frozen=True, slots=True)
class Lied:
    """An answer was not the block that was asked for."""

    ask: int
    reason: str


@dataclass(frozen=True, slots=True)
class Spoilt:
    """An answer was not what it should be by no fault of the holder's that is known: the block is wanted again."""

    ask: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The holder says that it does not have the content now: it may, once a renamed or touched file is hashed again."""

    ask: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer: the connection failed, or the holder did."""

    ask: int


@dataclass(frozen=True, slots=True)
class Declined:
    """The holder is busy, and wants to be asked again after `retry_after` seconds."""

    ask: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class Held:
    """The ask waits for this peer's own allowance: its time stands still."""

    ask: int


@dataclass(frozen=True, slots=True)
class Moved:
    """The ask waits no more for that, or a piece of its block has come: its deadline begins anew."""

    ask: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time has passed; due at `Download.wake`."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask `holder` for any block of the set `lacking`, or for block `index` when that is not None.

    The answer may have those that follow it too, `count` in all.

    The holder may wait `patience` seconds until it has one. `first_hand`: rather than give what others will, it waits.
    `announced`: which block it has chosen matters before that is here.
    """

    ask: int
    holder: str
    lacking: int
    index: int | None
    patience: float
    first_hand: bool = False
    announced: bool = True
    count: int = 1


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop waiting for this answer."""

    ask: int


@dataclass(frozen=True, slots=True)
class Store:
    """Check these of the blocks that arrived, write them when they are right, and say `Stored` or `Lied`."""

    ask: int
    holder: str
    index: int
    first_hand: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Dropped:
    """`holder` is not asked again until it joins anew; when `for_good`, not even then."""

    holder: str
    reason: str
    for_good: bool


@dataclass(frozen=True, slots=True)
class Stuck:
    """Blocks are missing and nobody can be asked now: look for holders. Said once each time that it comes to that."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Every block is stored. Said once."""


Event = (
    HolderJoined
    | HolderLeft
    | Held
    | Moved
    | Chosen
    | Arrived
    | Nothing
    | Stored
    | Lied
    | Spoilt
    | Gone
    | Failed
    | Declined
    | Tick
)
Decision = Fetch | Cancel | Store | Dropped | Stuck | Finished
