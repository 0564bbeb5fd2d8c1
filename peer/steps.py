"""What a download is told and what it decides: the events and decisions of peer/download.py."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HolderJoined:
    """A holder can be asked; `blocks` are what it has, None when it has them all."""

    holder: str
    blocks: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class HolderGained:
    """A partial holder has further blocks."""

    holder: str
    blocks: frozenset[int]


@dataclass(frozen=True, slots=True)
class HolderLeft:
    """A holder cannot be asked any more; it may join again."""

    holder: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """An answer of the right index and length is here, unchecked."""

    ask: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The block that `Store` named matched its digest and is written."""

    ask: int


@dataclass(frozen=True, slots=True)
class Lied:
    """An answer was not the block that was asked for."""

    ask: int
    reason: str


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
    """Ask `holder` for block `index`; `timeout` seconds are its deadline, after which a `Cancel` follows."""

    ask: int
    holder: str
    index: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop waiting for this answer."""

    ask: int


@dataclass(frozen=True, slots=True)
class Store:
    """Check the answer that arrived, write it when it is right, and say `Stored` or `Lied`."""

    ask: int
    holder: str
    index: int


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
    HolderJoined | HolderGained | HolderLeft | Held | Moved | Arrived | Stored | Lied | Gone | Failed | Declined | Tick
)
Decision = Fetch | Cancel | Store | Dropped | Stuck | Finished
