"""Use case of reports: peers say which holders fail, and central names those last."""

from collections.abc import Callable

from central.catalogue.reputation import Reputation
from central.decode import Report
from central.sessions.sessions import Sessions


class Reports:
    """What peers report of holders; in memory, since it is forgotten within the hour."""

    def __init__(self, sessions: Sessions, reputation: Reputation, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._clock = clock
        self._reputation = reputation

    async def report(self, report: Report) -> None:
        """Counts an accusation.

        Raises:
            SessionUnknown, SessionMismatch, SessionSuperseded: as `Sessions.require`.
            OverQuota: the reporter has accused too many others within the hour.
        """
        await self._sessions.require(report.peer_id, report.session_id)
        self._reputation.accuse(report.holder, report.peer_id, self._clock())

    def doubted(self, peer_id: str) -> bool:
        """Tells whether several peers have reported this holder lately."""
        return self._reputation.doubted(peer_id, self._clock())
