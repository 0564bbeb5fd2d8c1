"""The way every mutation goes: one after the other for each author, answered once, and never left half done."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from central.store.store import Store
from core.errors import Busy

# Changes of one author that wait: each may be a message of 1 MiB, and a peer makes a few at once.
MOST_WAITING = 32
_RETRY_AFTER = 0.5


class _Turn:
    """An author's lock, and how many hold it or wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Mutations:
    """Runs mutations.

    A request that comes twice waits for the first, then gets the first's answer. A caller that hangs up stops nothing:
    what has begun is committed, in the store and in memory alike.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: dict[str, _Turn] = {}
        self._running: set[asyncio.Task[bytes]] = set()

    async def run(self, author: str, request_id: str, work: Callable[[], Awaitable[bytes]]) -> bytes:
        """Returns the answer that `author` was given for `request_id`, or does `work`, which records and returns it.

        Raises whatever `work` raises; then nothing was recorded, and the request may come again.

        Raises:
            Busy: too many of the author's changes wait already.
        """
        turn = self._turns.setdefault(author, _Turn())
        if turn.users >= MOST_WAITING:
            raise Busy("too many changes at once; wait for answers before making more", _RETRY_AFTER)
        turn.users += 1
        task = asyncio.create_task(self._in_turn(turn, author, request_id, work))
        self._running.add(task)
        task.add_done_callback(partial(self._ended, author))
        return await asyncio.shield(task)

    async def drained(self) -> None:
        """Waits for all that has begun."""
        while self._running:
            await asyncio.wait(self._running)

    async def _in_turn(self, turn: _Turn, author: str, request_id: str, work: Callable[[], Awaitable[bytes]]) -> bytes:
        async with turn.lock:
            answer = await self._store.answer(author, request_id)
            return await work() if answer is None else answer

    def _ended(self, author: str, task: asyncio.Task[bytes]) -> None:
        self._running.discard(task)
        turn = self._turns[author]
        turn.users -= 1
        if not turn.users:
            del self._turns[author]
