"""Reports of holders that failed, to central: each once an hour, few at a time, none of one that has just let go."""

import asyncio
import heapq
import logging
from collections.abc import Callable
from contextlib import suppress

import grpc

from core.errors import RelevoError
from core.status import from_rpc_error
from peer.directory.routes import TIMEOUT
from peer.directory.session import Session
from peer.fetching.holders import Holders
from relevo.v1 import central_directory_pb2 as pb2

log = logging.getLogger("relevo.reporting")

# A holder that has just lost a file withdraws it within this time, in seconds. Only then is central asked whether it
# still names it.
CONFIRM_AFTER = 10.0
# From one report to the next, in seconds.
PAUSE = 0.2
# Further ones are left out: others will meet the same holder.
MOST_WAITING = 1000
_REMEMBERED = 10_000
# Central forgets a report within so many seconds; one that fails again later is reported again.
_FORGOTTEN = 3_600.0


class Reporter:
    """Tells central which holders do not give what it names them for."""

    def __init__(
        self,
        holders: Holders,
        session: Session,
        clock: Callable[[], float],
        confirm_after: float = CONFIRM_AFTER,
    ) -> None:
        self._holders = holders
        self._session = session
        self._clock = clock
        self._confirm_after = confirm_after
        self._waiting: list[tuple[float, str, bytes, bool]] = []
        self._told: dict[tuple[str, bytes], float] = {}
        self._more = asyncio.Event()

    def accuse(self, holder: str, content_id: bytes, lied: bool) -> None:
        """Notes that a holder lied about a content, which is reported at once, or lacks it, which may pass."""
        key, now = (holder, content_id), self._clock()
        if now - self._told.get(key, float("-inf")) < _FORGOTTEN or len(self._waiting) >= MOST_WAITING:
            return
        self._told.pop(key, None)
        self._told[key] = now  # the one told last comes last
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        due = now + (0.0 if lied else self._confirm_after)
        heapq.heappush(self._waiting, (due, holder, content_id, lied))
        self._more.set()

    async def run(self) -> None:
        """Reports for ever. A report that fails is not made again."""
        while True:
            await self._until_due()
            _, holder, content_id, lied = heapq.heappop(self._waiting)
            try:
                await self._report(holder, content_id, lied=lied)
            except RelevoError as error:
                log.debug("central does not hear that %s failed: %s", holder, error)
            await asyncio.sleep(PAUSE)

    async def _until_due(self) -> None:
        while not self._waiting or self._waiting[0][0] > self._clock():
            self._more.clear()
            delay = self._waiting[0][0] - self._clock() if self._waiting else None
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._more.wait()

    async def _report(self, holder: str, content_id: bytes, *, lied: bool) -> None:
        login = self._session.login
        if login is None or not (lied or await self._holders.names(content_id, holder)):
            return
        fault = pb2.HOLDER_FAULT_WRONG_BYTES if lied else pb2.HOLDER_FAULT_LACKS_CONTENT
        request = pb2.ReportHolderRequest(
            peer_id=self._session.peer_id,
            session_id=login.session_id,
            holder_peer_id=holder,
            content_id=content_id,
            fault=fault,
        )
        try:
            await self._session.central_stub(login).ReportHolder(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        log.info("central has been told that %s does not give %s", holder, content_id.hex()[:12])
