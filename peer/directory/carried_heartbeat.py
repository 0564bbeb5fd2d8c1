"""Beats of a peer whose calls are carried: one call each, with the nonce of the answer before."""

import asyncio

import grpc

from core.status import from_rpc_error
from peer.directory.heartbeat import SHORTEST_PAUSE, Beating
from relevo.v1 import central_directory_pb2 as pb2

# How long central's answer to a beat may take, in seconds; meanwhile several carriers are tried.
TIMEOUT = 5.0


class CarriedHeartbeat(Beating):
    """Beats one by one."""

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
                await self._until_next()
            elif nonce:  # it came late, or central was started anew
                await asyncio.sleep(SHORTEST_PAUSE)
            nonce = response.nonce
