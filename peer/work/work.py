"""A transfer: one piece of this daemon's work that takes time, how it was asked for, and how far it is."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum

from google.protobuf.message import Message

from core import errors
from peer.fetching.pieces import Allowance
from peer.fetching.progress import Progress
from peer.fetching.reaching import How
from peer.work.turns import Priority


class Kind(Enum):
    """What a transfer does."""

    DOWNLOAD = "download"
    UPLOAD = "upload"
    STORE = "store"


class State(Enum):
    """How far a transfer is."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Order:
    """How a transfer was asked for.

    Attributes:
        request: the message that asked for it, from which it can be begun again after a restart; None: it is not.
        priority: which downloads come before it.
        rate: its own limit in bytes a second; 0: none.
        group: those of one group share that limit; empty: it has one to itself.
        detached: nobody waits for it, so it does not fail for what may pass, but waits.
        paused: whether it begins paused.
        transfer_id: the one that it had before a restart; empty: a new one.
        start_time: when it was asked for, in seconds since 1970; None: now.
        progress: how far it was before a restart.
    """

    request: Message | None = None
    priority: Priority = Priority.NORMAL
    rate: float = 0.0
    group: str = ""
    detached: bool = False
    paused: bool = False
    transfer_id: str = ""
    start_time: float | None = None
    progress: Progress | None = None


@dataclass(slots=True, eq=False)
class Transfer:
    """One piece of work. Times are seconds since 1970; `target` is absolute, or empty for copies kept for others.

    Attributes:
        work: does it; called again, with a fresh `progress`, when it goes on after a pause.
        allowance: what it may fetch.
        paused: whether its user has paused it.
        cancelled: whether its user has stopped it for good.
        waiting_reason: why it waits, in one sentence; empty when it does not.
        ended: done when it has ended, however it did.
        kept: whether it will not be forgotten.
        task: the last call of `work`; None before the first.
        rest: ends its pause between two tries; None when it has none.
        began: when the last call of `work` was made, by the daemon's clock.
        tries: calls of `work` that brought nothing, one after the other.
        came: bytes that had come from others when the last of these ended.
    """

    transfer_id: str
    kind: Kind
    path: str
    target: str
    progress: Progress
    start_time: float
    work: "Callable[[Transfer], Awaitable[None]]" = field(repr=False)
    allowance: Allowance = field(repr=False)
    ended: "asyncio.Future[None]" = field(repr=False)
    content_id: bytes = b""
    placement_id: str = ""
    request: Message | None = None
    priority: Priority = Priority.NORMAL
    detached: bool = False
    paused: bool = False
    cancelled: bool = False
    kept: bool = False
    state: State = State.WAITING
    waiting_reason: str = ""
    end_time: float | None = None
    error: errors.RelevoError | None = None
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)
    rest: asyncio.TimerHandle | None = field(default=None, repr=False)
    began: float = 0.0
    tries: int = 0
    came: int = 0

    @property
    def received_bytes(self) -> int:
        """Bytes that came from other peers."""
        return sum(source.bytes for source in self.progress.sources.values())

    @property
    def received_by(self) -> Counter[How]:
        """Bytes that came from other peers, by how they came."""
        return sum((source.by for source in self.progress.sources.values()), Counter[How]())

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state in {State.WAITING, State.RUNNING, State.PAUSED}

    @property
    def active(self) -> bool:
        """Whether its work is being done, or is just being stopped."""
        return self.task is not None and not self.task.done()

    @property
    def ready(self) -> bool:
        """Whether its work could be done now."""
        return self.running and not self.paused and self.rest is None
