"""Which holders do not give what they claim to hold. Pure: every decision takes `now`, in seconds on any clock."""

# So many different peers have to say it: one that accuses everybody, however often, changes nothing.
REPORTERS = 3
# For so long an accusation counts.
MEMORY = 3_600.0
# Most holders that are remembered; with more, the one accused longest ago is forgotten.
MOST_HOLDERS = 10_000


class Reputation:
    """Counts who accuses whom."""

    def __init__(self) -> None:
        self._accusations: dict[str, dict[str, float]] = {}

    def accuse(self, holder: str, reporter: str, now: float) -> None:
        """Notes an accusation; nobody accuses itself."""
        if holder == reporter:
            return
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
