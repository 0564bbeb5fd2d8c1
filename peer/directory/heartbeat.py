"""Heartbeat streams: beats go up, what central answers is heard, and a stream moves to a newer connection unmissed."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc

from core import errors
from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.session")

# What ends a stream and says nothing of the session.
STREAM_BROKE = (errors.Unreachable, errors.Defect, errors.Cancelled, errors.Busy, errors.CertificateExpired)
# How long a stream on a newer connection may take to be answered before the older one is relied on again, in seconds,
# and the pause before it is tried once more.
MOVE_PATIENCE = 5.0
MOVE_AGAIN = 0.5
# Between two beats, whatever news there are, in seconds.
SHORTEST_PAUSE = 0.1


class Beating(ABC):
    """Beats that are answered, in a task of their own from the moment it is made.

    Attributes:
        answered: set when central has answered a beat.
        ended: the task; done when central ended them in order, else it has the RelevoError.
    """

    def __init__(
        self,
        central: "CentralDirectoryAsyncStub",
        beat: Callable[[int], pb2.HeartbeatRequest],
        interval: Callable[[], float],
        hear: Callable[[pb2.HeartbeatResponse], None],
    ) -> None:
        """Begins.

        Args:
            central: whom to call.
            beat: gives the beat of a number, counted from 1.
            interval: tells how many seconds to wait until the next beat.
            hear: called in the event loop with each answer; returns at once.
        """
        self.answered = asyncio.Event()
        self._central = central
        self._beat = beat
        self._interval = interval
        self._hear = hear
        self._soon = asyncio.Event()
        self.ended = asyncio.create_task(self._run())

    def beat_soon(self) -> None:
        """Has the next beat sent at once: it has news."""
        self._soon.set()

    async def stop(self) -> None:
        """Ends them; nothing is heard any more."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)

    @abstractmethod
    async def _run(self) -> None:
        """Beats until central ends it in order; raises the RelevoError for which it ends otherwise."""

    async def _until_next(self) -> None:
        """Waits from one beat to the next: the interval, less when there is news."""
        interval = self._interval()
        pause = min(interval, SHORTEST_PAUSE)
        await asyncio.sleep(pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(interval - pause):
                await self._soon.wait()


class Heartbeat(Beating):
    """Beats on a stream."""

    async def _run(self) -> None:
        call = self._central.Heartbeat()
        beats = asyncio.create_task(self._send(call))
        try:
            # One read is outstanding at any time: a read that is given up cancels the whole stream.
            async for response in call:
                self._hear(response)
                self.answered.set()
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise from_rpc_error(error) from error
        finally:
            beats.cancel()
            call.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _send(self, call: Any) -> None:
        sequence = 0
        try:
            while True:
                sequence += 1
                self._soon.clear()
                await call.write(self._beat(sequence))
                await self._until_next()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end, with its reason


async def kept_open(opened: Callable[[], Beating], moving: asyncio.Event) -> None:
    """Keeps a stream open, and another in its place whenever `moving` is set, until central ends it in order.

    Raises:
        RelevoError: why it ended.
    """
    current = opened()
    try:
        while not await _ended_before(current, moving, None):
            moving.clear()
            successor = opened()
            try:
                # Central ends the older stream of a session in order at the first beat of the newer one.
                if await _ended_before(successor, successor.answered, MOVE_PATIENCE):
                    successor.ended.result()
                current, successor = successor, current
            except STREAM_BROKE as error:
                log.info("the heartbeat does not move yet: %s", error)
                await asyncio.wait({current.ended}, timeout=MOVE_AGAIN)
                moving.set()
            finally:
                await successor.stop()
        current.ended.result()
    finally:
        await current.stop()


async def _ended_before(stream: Beating, event: asyncio.Event, timeout: float | None) -> bool:
    """Waits until the stream ends or the event comes, and returns whether the stream has ended.

    Raises:
        Unreachable: neither came within `timeout` seconds.
    """
    waiting = asyncio.create_task(event.wait())
    try:
        done, _ = await asyncio.wait({stream.ended, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not done:
        raise errors.Unreachable("central does not answer on the new connection")
    return stream.ended in done
