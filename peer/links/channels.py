"""Channels to central and to other peers: one for each of them, the least recently used of very many closed.

Under TLS the certificate of whoever answers has to be that of the one who is meant, or the handshake fails.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import grpc

from core.certificates import peer_name
from core.errors import Unreachable
from core.rpc import CENTRAL_MESSAGE, PEER_MESSAGE, open_channel
from peer.fetching.block_answers import asking
from peer.links.credentials import Credentials
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

if TYPE_CHECKING:  # the async stubs exist for the type checker only
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub
    from relevo.v1.peer_relay_pb2_grpc import PeerRelayAsyncStub as _Stub
else:
    from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub as _Stub


class RelayStub(_Stub):
    """The stub for a peer. Its GetBlock is answered with a peer.fetching.block_answers.BlockAnswer.

    gRPC's Python gives the initial metadata of a unary call with its answer only. Those of `announced_block`, which is
    GetBlock called as a stream of one answer, are there as soon as the holder has sent them; on the wire nothing
    differs.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)
        self.GetBlock = asking(channel.unary_unary)
        self.announced_block = asking(channel.unary_stream)


# What the first attempt to connect ends with.
_DECIDED = {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}
# Ports change when daemons restart, so a long-lived peer meets ever new addresses.
MOST_PEERS = 256
# What a call on a channel that is closed for a newer one may still take, in seconds: longer than any time-out.
_DRAIN = 180.0


# A channel, and the stub on it: making one takes as long as a good part of a call.
class _Central(NamedTuple):
    channel: grpc.aio.Channel
    stub: "CentralDirectoryAsyncStub"


class _Peer(NamedTuple):
    channel: grpc.aio.Channel
    stub: RelayStub


class Channels:
    """Opens a channel at the first use of an address and gives the same one afterwards, until `renew`."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        """`credentials` say what to show and whom to accept; without them everything is in plaintext."""
        self._credentials = credentials
        self._centrals: dict[str, _Central] = {}
        self._peers: dict[tuple[str, str], _Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def central(self, address: str) -> "CentralDirectoryAsyncStub":
        """Returns the stub for the central at `host:port`; use it at once, and ask again for the next call."""
        central = self._centrals.get(address)
        if central is None:
            name = self._credentials.membership.central_name if self._credentials else ""
            channel = self._opened(address, CENTRAL_MESSAGE, name, back_soon=True)
            central = self._centrals[address] = _Central(channel, CentralDirectoryStub(channel))
        return central.stub

    def peer(self, address: str, peer_id: str) -> RelayStub:
        """Returns the stub for a peer at `host:port`; use it at once, and ask again for the next call.

        Raises:
            Unreachable: the peer has been revoked. Its certificate would still pass the handshake.
        """
        if self._credentials and peer_id in self._credentials.trust().revoked:
            raise Unreachable("it has been revoked by the network's operator, and is not called any more")
        key = (address, peer_id)
        peer = self._peers.pop(key, None)
        if peer is None:
            channel = self._opened(address, PEER_MESSAGE, peer_name(peer_id))
            peer = _Peer(channel, RelayStub(channel))
        self._peers[key] = peer  # the most recently used comes last
        if len(self._peers) > MOST_PEERS:
            self._retire(self._peers.pop(next(iter(self._peers))).channel)
        return peer.stub

    async def reaches(self, address: str, peer_id: str, timeout: float) -> bool:
        """Tells whether a peer answers at `host:port` within `timeout` seconds, by a connection made for that.

        Under TLS it has to be that peer; in plaintext whoever speaks gRPC will do.
        """
        material = self._credentials.material() if self._credentials else None
        channel = open_channel(address, PEER_MESSAGE, material, peer_name(peer_id), alone=True)
        try:
            async with asyncio.timeout(timeout):
                state = channel.get_state(try_to_connect=True)
                while state not in _DECIDED:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        finally:
            await channel.close()
        return state is grpc.ChannelConnectivity.READY

    def renew(self) -> None:
        """Has later calls use new channels, which show and accept what counts now; calls in flight finish."""
        for channel in self._all():
            self._retire(channel)
        self._centrals, self._peers = {}, {}

    async def close(self) -> None:
        """Closes every channel; calls in flight are cancelled, except on channels that newer ones have replaced."""
        channels = self._all()
        self._centrals, self._peers = {}, {}
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(channel.close() for channel in channels))
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _all(self) -> list[grpc.aio.Channel]:
        centrals = [central.channel for central in self._centrals.values()]
        return centrals + [peer.channel for peer in self._peers.values()]

    def _opened(self, address: str, max_message: int, name: str, *, back_soon: bool = False) -> grpc.aio.Channel:
        material = self._credentials.material() if self._credentials else None
        return open_channel(address, max_message, material, name, back_soon=back_soon)

    def _retire(self, channel: grpc.aio.Channel) -> None:
        task = asyncio.create_task(channel.close(_DRAIN))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
