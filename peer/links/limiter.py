"""Waits for a rate limit: what takes bytes does so when its turn has come."""

import asyncio
from collections.abc import Callable

from core.errors import Busy
from peer.links.rate_limit import RateLimit, Turn


class Limiter:
    """A limit of bytes a second for one direction, or for one transfer.

    Attributes:
        clock: by which it goes, monotonic.
    """

    def __init__(self, clock: Callable[[], float], rate: float = 0.0) -> None:
        """`rate` is in bytes a second, 0: no limit."""
        self.clock = clock
        self._limit = RateLimit(rate)
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        """Bytes a second; 0: no limit."""
        return self._limit.rate

    def another(self, rate: float) -> "Limiter":
        """Returns a further limit, by the same clock."""
        return Limiter(self.clock, rate)

    def change(self, rate: float) -> None:
        """Sets the rate from now on, for those who wait already too."""
        self._limit.change(rate, self.clock())
        self._grant()

    def piece(self, rest: int) -> int:
        """Returns how many bytes of `rest` to take at once, so that the limit is exact over short times too."""
        return self._limit.piece(rest)

    async def take(
        self, who: str, size: int, *, weight: float = 1.0, begun: bool = False, patience: float | None = None
    ) -> None:
        """Returns when `who` may move `size` bytes.

        Args:
            who: shares fairly with others.
            size: in bytes.
            weight: of `who`: twice the weight gets twice as much while there are others.
            begun: it goes on with something, and comes before whatever else `who` waits for.
            patience: seconds that it would wait.

        Raises:
            Busy: it would have to wait longer than `patience`; says when to come back.
        """
        if not self._limit.rate:
            return
        if patience is not None and (wait := self._limit.wait(who, size, self.clock())) > patience:
            raise Busy("what this peer sends is limited, and others wait already; ask again later", wait)
        turn = self._limit.ask(who, size, weight=weight, begun=begun)
        granted = self._waiting[turn] = asyncio.get_running_loop().create_future()
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None) is None:
                self.give_back(size)
            else:
                self._limit.withdraw(turn)
            raise

    def give_back(self, size: int) -> None:
        """Takes back bytes that were taken and have not been moved."""
        if size and self._limit.rate:
            self._limit.give_back(size, self.clock())
            self._grant()

    def _grant(self) -> None:
        now = self.clock()
        for turn in self._limit.due(now):
            granted = self._waiting.pop(turn)
            if not granted.done():
                granted.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake = self._limit.wake(now)
        if wake is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake - now), self._grant)
