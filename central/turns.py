"""Work that callers have done for them: some of it at once, one of each caller, and next whoever has had the least.

One who asks for much, or for what takes long, waits for itself. What has been had is counted in seconds, from what the
others had when the caller came (start-time fair queueing, Goyal, Vin and Cheng 1996).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Lets work begin in turn."""

    def __init__(self, places: int, clock: Callable[[], float]) -> None:
        """`places`: how much runs at once; `clock` tells seconds."""
        self._free = places
        self._clock = clock
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}  # each caller's, in their order
        self._running: set[str] = set()
        self._had: dict[str, float] = {}
        self._level = 0.0  # what whoever began last had had before
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self, who: str, work: Callable[[], Awaitable[T]]) -> T:
        """Returns what `work` returns, when it is the turn of `who`.

        A caller that gives up leaves the queue. What has begun keeps its place until it ends: it cannot be stopped.
        """
        await self._turn(who)
        task = asyncio.create_task(self._done(who, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _turn(self, who: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came(who)
        self._waiting.setdefault(who, {})[turn] = None
        self._go_on()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._left(who, turn)
            else:  # it came in the same moment
                self._ended(who)
            raise

    async def _done(self, who: str, work: Callable[[], Awaitable[T]]) -> T:
        began = self._clock()
        try:
            return await work()
        finally:
            self._had[who] += self._clock() - began
            self._ended(who)

    def _came(self, who: str) -> None:
        if self._is_here(who):
            return
        # What others had had when they last went does not count once everybody has had as much.
        self._had = {one: had for one, had in self._had.items() if had > self._level or self._is_here(one)}
        self._had.setdefault(who, self._level)

    def _is_here(self, who: str) -> bool:
        return who in self._waiting or who in self._running

    def _left(self, who: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(who, {})
        turns.pop(turn, None)
        if not turns:
            self._waiting.pop(who, None)

    def _ended(self, who: str) -> None:
        self._running.discard(who)
        self._free += 1
        self._go_on()

    def _go_on(self) -> None:
        while self._free and (next_ones := [who for who in self._waiting if who not in self._running]):
            who = min(next_ones, key=self._had.__getitem__)
            turn = next(iter(self._waiting[who]))
            self._left(who, turn)
            if turn.cancelled():  # its caller is still to hear that
                continue
            self._free -= 1
            self._running.add(who)
            self._level = max(self._level, self._had[who])
            turn.set_result(None)
