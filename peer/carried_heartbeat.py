"""Beats of a peer whose calls are carried: one call each, with the nonce of the answer before."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from core.status import from_rpc_error
from peer.heartbeat import SHORTEST_PAUSE, until_next
from relevo.v1 import central_directory_pb2 as pb2

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

# How long central's answer to a beat may take, in seconds; meanwhile several carriers are tried.
TIMEOUT = 5.0


class CarriedHeartbeat:
    """Beats one by one, from the moment it is made."""

    def __init__(
        self,
        central: "CentralDirectoryAsyncStub",
        beat: Callable[[int], pb2.HeartbeatRequest],
        interval: Callable[[], float],
        hear: Callable[[pb2.HeartbeatResponse], None],
    ) -> None:
        """Begins; the arguments are those of peer.heartbeat.Heartbeat."""
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
        """Ends it; nothing is heard any more."""
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)

    async def _run(self) -> None:
        nonce, sequence = b"", 0
        while True:
            sequence += 1
            self._soon.clear()
            request = pb2.BeatRequest(beat=self._beat(sequence), nonce=nonce)
            try:
                response = await self._central.Beat(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            if response.answer.sequence == sequence:
                self._hear(response.answer)
                self.answered.set()
                await until_next(self._interval(), self._soon)
            elif nonce:  # it came late, or central was started anew
                await asyncio.sleep(SHORTEST_PAUSE)
            nonce = response.nonce
