"""One heartbeat stream: beats go up, and what central answers is heard, until it ends."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub


class Heartbeat:
    """A stream that runs in a task of its own from the moment it is made.

    Attributes:
        answered: set when central has answered a beat on it.
        ended: the task; done when central ended the stream in order, else it has the RelevoError.
    """

    def __init__(
        self,
        central: "CentralDirectoryAsyncStub",
        beat: Callable[[int], pb2.HeartbeatRequest],
        interval: Callable[[], float],
        hear: Callable[[pb2.HeartbeatResponse], None],
    ) -> None:
        """Opens it.

        Args:
            central: whom to call.
            beat: gives the beat of a number, counted from 1.
            interval: tells how many seconds to wait until the next beat.
            hear: called in the event loop with each answer; returns at once.
        """
        self.answered = asyncio.Event()
        self._beat = beat
        self._interval = interval
        self._hear = hear
        self._call = central.Heartbeat()
        self.ended = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends it; nothing is heard any more."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)

    async def _run(self) -> None:
        beats = asyncio.create_task(self._send())
        try:
            # One read is outstanding at any time: a read that is given up cancels the whole stream.
            async for response in self._call:
                self._hear(response)
                self.answered.set()
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise from_rpc_error(error) from error
        finally:
            beats.cancel()
            self._call.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _send(self) -> None:
        sequence = 0
        try:
            while True:
                sequence += 1
                await self._call.write(self._beat(sequence))
                await asyncio.sleep(self._interval())
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the reader sees the same end, with its reason
