"""Links in virtual time: blocks that leave at once share what their two hosts' links carry. Pure; seconds and bytes.

Two rules say at what rate a block moves. Max-min fair is what many TCP streams come near to: the fullest link is shared
out evenly, then the next one among those that it leaves, and so on. It looks at every flow whenever one begins or ends,
so for thousands of hosts there is the share: the least of what each of the two links would give to each of its flows,
for which only the flows of the two hosts are looked at. What a flow that is slow elsewhere leaves of its share of a
link is lost by that rule: it is the harsher of the two.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# A flow with less than so many bytes to go has ended: times are rounded.
_NOTHING = 1e-3


@dataclass(eq=False, slots=True)
class Link:
    """What one host sends, or what it receives.

    Attributes:
        rate: bytes a second that it carries.
        flows: what shares it, in the order in which it began.
    """

    rate: float
    flows: dict["Flow", None] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """What each flow would get if all of them took their part."""
        return self.rate / len(self.flows)


@dataclass(eq=False, slots=True)
class Flow:
    """Bytes on their way out of one link and into another.

    Attributes:
        left: bytes that had not left at `since`.
        rate: bytes a second since then.
        ends: when it ends at this rate.
        ended: called when it has ended by itself.
    """

    up: Link
    down: Link
    left: float
    ended: Callable[[], None]
    since: float
    rate: float = 0.0
    ends: float = math.inf


def fair_rates(flows: Iterable[Flow]) -> dict[Flow, float]:
    """Returns the max-min fair rate of every flow, by filling all of them up together until a link is full."""
    rates: dict[Flow, float] = {}
    links = {link: None for flow in flows for link in (flow.up, flow.down)}
    free = {link: link.rate for link in links}
    open_flows = {link: len(link.flows) for link in links}
    while open_flows:
        full = min(open_flows, key=lambda link: free[link] / open_flows[link])
        rate = free[full] / open_flows[full]
        for flow in full.flows:
            if flow in rates:
                continue
            rates[flow] = rate
            for link in (flow.up, flow.down):
                free[link] = max(0.0, free[link] - rate)
                open_flows[link] -= 1
                if not open_flows[link]:
                    del open_flows[link]
    return rates


class Links:
    """All flows of a network.

    Attributes:
        next: when the next flow ends, infinite when none does; as of the last `settle`.
    """

    def __init__(self, *, fair: bool) -> None:
        """Rates are max-min fair when `fair`, else the least share."""
        self.next = math.inf
        self._fair = fair
        self._flows: dict[Flow, None] = {}
        self._changed: dict[Link, None] = {}
        self._ends: list[tuple[float, int, Flow]] = []
        self._numbers = itertools.count()

    def begin(self, up: Link, down: Link, size: float, now: float, ended: Callable[[], None]) -> Flow:
        """Returns a flow of `size` bytes that begins now."""
        flow = Flow(up, down, size, ended, now)
        self._flows[flow] = None
        for link in (up, down):
            link.flows[flow] = None
            self._changed[link] = None
        return flow

    def end(self, flow: Flow) -> None:
        """Ends a flow, whatever is left of it."""
        del self._flows[flow]
        flow.ends = math.inf
        for link in (flow.up, flow.down):
            del link.flows[flow]
            self._changed[link] = None

    def settle(self, now: float) -> None:
        """Gives everybody the rate that follows from what has begun and ended; to be called before time moves on."""
        if self._changed:
            if self._fair:
                for flow, rate in fair_rates(self._flows).items():
                    self._set(flow, rate, now)
            else:
                concerned = dict.fromkeys(flow for link in self._changed for flow in link.flows)
                for flow in concerned:
                    self._set(flow, min(flow.up.share, flow.down.share), now)
            self._changed.clear()
        while self._ends and self._ends[0][2].ends != self._ends[0][0]:  # it ends at another time by now
            heapq.heappop(self._ends)
        self.next = self._ends[0][0] if self._ends else math.inf

    def pop(self) -> Callable[[], None]:
        """Ends the flow that ends next, and returns what is to be called then."""
        flow = heapq.heappop(self._ends)[2]
        self.end(flow)
        return flow.ended

    def _set(self, flow: Flow, rate: float, now: float) -> None:
        if rate == flow.rate:
            return
        flow.left = max(0.0, flow.left - flow.rate * (now - flow.since))
        flow.rate, flow.since = rate, now
        flow.ends = now if flow.left < _NOTHING else now + flow.left / rate
        heapq.heappush(self._ends, (flow.ends, next(self._numbers), flow))
