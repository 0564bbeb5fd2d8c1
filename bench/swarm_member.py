"""The state of one peer of a simulated swarm, and of a call between two; bench/swarm_world.py drives them."""

import math
from dataclasses import dataclass, field

from bench.links import Flow, Link
from peer.fetching import steps
from peer.fetching.download import Download
from peer.fetching.swarm import DownloadSettings
from peer.giving.giving import Giving
from peer.giving.unfinished import HANDING_OVER

SETTINGS = DownloadSettings()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that things take beside the blocks themselves.

    Attributes:
        message: from its sender's decision to its receiver's.
        connecting: what the first message between two peers takes more.
        storing: until a block that is here is checked and written.
    """

    message: float = 0.02
    connecting: float = 0.06
    storing: float = 0.003


@dataclass(eq=False, slots=True)
class Call:
    """An ask on its way: `flow` is the block that is being sent, `over` says that its caller waits no more."""

    number: int
    caller: "Member"
    holder: "Member"
    fetch: steps.Fetch
    flow: Flow | None = None
    over: bool = False


@dataclass(eq=False, slots=True)
class Member:
    """One peer: its link, what it has, gives and fetches, and what it knows of others.

    Attributes:
        lines: whom it may ask, and whether that one is complete.
        failed: complete holders that are asked again only when nobody else can be.
        calls: its own that are under way, by the number of the ask.
        open: calls of others to it that are under way.
        token: names the pause in its search for holders that ends next.
        sent: bytes that it has given.
    """

    name: str
    up: Link
    down: Link
    giving: Giving
    held: int = 0
    died_at: float = math.inf
    download: Download | None = None
    began_at: float = 0.0
    finished_at: float = math.inf
    lines: dict[str, bool] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    connected: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    calls: dict[int, Call] = field(default_factory=dict)
    open: dict[int, Call] = field(default_factory=dict)
    tick_at: float = math.inf
    passed_at: float = math.inf
    pause: float = SETTINGS.first_refresh
    retry: float = SETTINGS.first_retry
    token: int = 0
    has_news: bool = False
    stuck: bool = False
    progress_at: float = 0.0
    sent: int = 0

    @property
    def fetches(self) -> bool:
        """Whether it has begun and not finished."""
        return self.download is not None and self.finished_at == math.inf

    def is_complete(self, now: float) -> bool:
        """Tells whether it gives as one who has the whole content: the first holder, and who finished a while ago."""
        return self.download is None or now >= self.finished_at + HANDING_OVER
