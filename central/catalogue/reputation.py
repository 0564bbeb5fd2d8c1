"""Which holders do not give what they claim to hold. Pure: every decision takes `now`, in seconds on any clock."""

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TypeVar

from central.quotas import Quotas, check_reports

# So many different peers have to say it: one that accuses everybody, however often, changes nothing.
REPORTERS = 3
# For so long an accusation counts.
MEMORY = 3_600.0
# Most holders that are remembered; with more, the one accused longest ago is forgotten.
MOST_HOLDERS = 10_000
T = TypeVar("T")


class Reputation:
    """Counts who accuses whom."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._accusations: dict[str, dict[str, float]] = {}
        # Whom each reporter has accused and when; in both, the one of the latest accusation comes last.
        self._told: dict[str, dict[str, float]] = {}

    def accuse(self, holder: str, reporter: str, now: float) -> None:
        """Notes an accusation; nobody accuses itself.

        Raises:
            OverQuota: the reporter has accused too many others within the memory, and could make central forget what
                others say.
        """
        if holder == reporter:
            return
        self._count(holder, reporter, now)
        reporters = self._accusations.pop(holder, {})
        reporters.pop(reporter, None)
        reporters[reporter] = now
        if len(reporters) > REPORTERS:  # only the latest of them matter
            del reporters[next(iter(reporters))]
        self._accusations[holder] = reporters  # the one accused last comes last
        if len(self._accusations) > MOST_HOLDERS:
            del self._accusations[next(iter(self._accusations))]

    def doubted(self, holder: str, now: float) -> bool:
        """Tells whether enough peers have accused it within the memory."""
        times = self._accusations.get(holder, {}).values()
        return sum(now - time < MEMORY for time in times) >= REPORTERS

    def _count(self, holder: str, reporter: str, now: float) -> None:
        for silent in _older(self._told, lambda told: next(reversed(told.values())), now):
            del self._told[silent]
        told = self._told.get(reporter, {})
        for forgotten in _older(told, lambda time: time, now):
            del told[forgotten]
        if holder not in told:
            check_reports(self._quotas, len(told) + 1, min(told.values(), default=now) + MEMORY - now)
        told.pop(holder, None)
        told[holder] = now
        self._told.pop(reporter, None)
        self._told[reporter] = told


def _older(items: Mapping[str, T], time_of: Callable[[T], float], now: float) -> list[str]:
    """Returns the keys that are past the memory, of items in the order of their times."""
    return [key for key, item in takewhile(lambda one: now - time_of(one[1]) >= MEMORY, items.items())]
