"""One thread for work that blocks and must not run twice at once: the index."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Worker:
    """Runs calls one after the other, in the order in which they are made."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, function: Callable[P, R], *args: P.args, **keywords: P.kwargs) -> R:
        """Returns what `function` returns, or raises what it raises. Once begun it ends, cancelled or not."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **keywords))

    async def close(self) -> None:
        """Waits for what was called."""
        await asyncio.to_thread(self._pool.shutdown)
