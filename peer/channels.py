"""Channels to central and to other peers: one for each address, the least recently used of very many closed."""

import asyncio
from typing import TYPE_CHECKING

import grpc

from core.rpc import CENTRAL_MESSAGE, PEER_MESSAGE, open_channel
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub

if TYPE_CHECKING:  # the async stubs exist for the type checker only
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub
    from relevo.v1.peer_relay_pb2_grpc import PeerRelayAsyncStub


# Ports change when daemons restart, so a long-lived peer meets ever new addresses.
MOST_PEERS = 256
# What a call on a channel that is closed for a newer one may still take, in seconds: longer than any time-out.
_DRAIN = 180.0


class Channels:
    """Opens a channel at the first use of an address and gives the same one afterwards."""

    def __init__(self) -> None:
        self._centrals: dict[str, grpc.aio.Channel] = {}
        self._peers: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def central(self, address: str) -> "CentralDirectoryAsyncStub":
        """Returns the stub for the central at `host:port`."""
        if address not in self._centrals:
            self._centrals[address] = open_channel(address, CENTRAL_MESSAGE)
        return CentralDirectoryStub(self._centrals[address])

    def peer(self, address: str, peer_id: str) -> "PeerRelayAsyncStub":
        """Returns the stub for the peer at `host:port`; use it at once, and ask again for the next call."""
        del peer_id  # in plaintext nobody can prove who they are
        channel = self._peers.pop(address, None) or open_channel(address, PEER_MESSAGE)
        self._peers[address] = channel  # the most recently used comes last
        if len(self._peers) > MOST_PEERS:
            self._retire(self._peers.pop(next(iter(self._peers))))
        return PeerRelayStub(channel)

    async def close(self) -> None:
        """Closes every channel; calls in flight are cancelled."""
        channels = [*self._centrals.values(), *self._peers.values()]
        self._centrals, self._peers = {}, {}
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(channel.close() for channel in channels))
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _retire(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.create_task(channel.close(_DRAIN))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
