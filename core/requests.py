"""How large requests may be, and how many of one caller are read at once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from core.errors import Busy

# Where some requests may be large, so many of one caller are read at once: its others wait for that.
READ_AT_ONCE = 64


class Requests:
    """What a server takes as requests.

    Attributes:
        most: bytes of the largest that any method takes.
    """

    def __init__(self, most: int, larger: Mapping[str, int]) -> None:
        """Requests have `most` bytes, those of the methods in `larger` as many as stands there."""
        self.most = max(most, *larger.values()) if larger else most
        self._usual = most
        self._larger = larger
        self._reading: dict[str, tuple[asyncio.Semaphore, int]] = {}

    def check(self, method: str, size: int) -> None:
        """Checks the size of a request. Raises Busy when it is over the limit of its method, as gRPC itself does."""
        if size > self._larger.get(method, self._usual):
            raise Busy(f"a request of {method} has {self._larger.get(method, self._usual)} bytes at most")

    @asynccontextmanager
    async def reading(self, who: str) -> AsyncIterator[None]:
        """Waits until a request of `who` may be read, which it is inside."""
        if not self._larger:
            yield
            return
        turns, users = self._reading.get(who, (asyncio.Semaphore(READ_AT_ONCE), 0))
        self._reading[who] = turns, users + 1
        try:
            async with turns:
                yield
        finally:
            turns, users = self._reading.pop(who)
            if users > 1:
                self._reading[who] = turns, users - 1
