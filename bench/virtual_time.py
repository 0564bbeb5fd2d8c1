"""Virtual time: what is to be done when, and blocks that move meanwhile."""

import heapq
import itertools
import math
from collections.abc import Callable

from bench.links import Links


class Stuck(Exception):
    """Something that does not come to its end."""


class Clock:
    """Does one thing after the other; time passes only when there is nothing to be done.

    Attributes:
        now: seconds since the beginning.
        links: whose flows end as time passes.
    """

    def __init__(self, links: Links) -> None:
        self.now = 0.0
        self.links = links
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, work: Callable[[], None]) -> None:
        """Has `work` done then; what is due at one time is done in the order in which it was said."""
        heapq.heappush(self._events, (when, next(self._order), work))

    def after(self, delay: float, work: Callable[..., None], *arguments: object) -> None:
        """Has `work` done with its arguments in so many seconds."""
        self.at(self.now + delay, lambda: work(*arguments))

    def run(self, longest: float, *, until: Callable[[], bool]) -> None:
        """Lets time pass until then. Raises Stuck when that has not come after `longest` seconds, or never will."""
        while not until():
            if self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
                continue
            self.links.settle(self.now)
            due = self._events[0][0] if self._events else math.inf
            first = min(self.links.next, due)
            if first > longest:
                raise Stuck(f"it has not ended at {self.now:.1f} s")
            self.now = first
            if self.links.next <= due:
                self.links.pop()()
