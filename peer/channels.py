"""Channels to central and to other peers: one for each address, kept while the daemon runs."""

import asyncio
from typing import TYPE_CHECKING

import grpc

from core.rpc import CENTRAL_MESSAGE, PEER_MESSAGE, open_channel
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub

if TYPE_CHECKING:  # the async stubs exist for the type checker only
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub
    from relevo.v1.peer_relay_pb2_grpc import PeerRelayAsyncStub


class Channels:
    """Opens a channel at the first use of an address and gives the same one afterwards."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}

    def central(self, address: str) -> "CentralDirectoryAsyncStub":
        """Returns the stub for the central at `host:port`."""
        return CentralDirectoryStub(self._channel(address, CENTRAL_MESSAGE))

    def peer(self, address: str) -> "PeerRelayAsyncStub":
        """Returns the stub for the peer at `host:port`."""
        return PeerRelayStub(self._channel(address, PEER_MESSAGE))

    async def close(self) -> None:
        """Closes every channel; calls in flight are cancelled."""
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))

    def _channel(self, address: str, max_message: int) -> grpc.aio.Channel:
        key = (address, max_message)
        if key not in self._channels:
            self._channels[key] = open_channel(address, max_message)
        return self._channels[key]
