"""Several ways to one answer: they race, and nobody waits for one that is silent."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from core.errors import RelevoError, Unreachable

T = TypeVar("T")


async def first_success(attempts: Sequence[Callable[[], Awaitable[T]]], patience: float) -> T:
    """Returns the first result: starts the next attempt when one fails or is silent for `patience` seconds.

    Whatever still runs then is cancelled.

    Raises:
        RelevoError: every attempt failed: the first error that says more than Unreachable, or that.
    """
    waiting = list(attempts)
    running: set[asyncio.Future[T]] = set()
    failure: RelevoError = Unreachable("there is nobody to ask")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            timeout = patience if waiting else None
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for attempt, error in [(attempt, attempt.exception()) for attempt in done]:
                if error is None:
                    return attempt.result()
                if not isinstance(error, RelevoError):
                    raise error
                if isinstance(failure, Unreachable):
                    failure = error
    finally:
        for attempt in running:
            attempt.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    raise failure
