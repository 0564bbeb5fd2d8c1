"""Channels: one for each address, and never very many."""

import asyncio

import grpc
import pytest

from peer import channels as module
from peer.channels import Channels
from relevo.v1.peer_relay_pb2 import GetManifestRequest


@pytest.fixture
async def channels(monkeypatch):
    monkeypatch.setattr(module, "MOST_PEERS", 2)
    channels = Channels()
    yield channels
    await channels.close()


async def test_an_address_keeps_its_channel(channels):
    channels.peer("127.0.0.1:1", "a")
    first = channels._peers["127.0.0.1:1", "a"]
    channels.peer("127.0.0.1:2", "a")
    channels.peer("127.0.0.1:1", "a")
    assert channels._peers["127.0.0.1:1", "a"] is first


async def test_the_least_recently_used_of_too_many_is_closed(channels):
    for port in (1, 2, 1, 3):
        channels.peer(f"127.0.0.1:{port}", "a")
    assert list(channels._peers) == [("127.0.0.1:1", "a"), ("127.0.0.1:3", "a")]
    await asyncio.gather(*channels._closing)
    with pytest.raises(grpc.RpcError):
        await channels.peer("127.0.0.1:1", "a").GetManifest(GetManifestRequest(), timeout=5)


async def test_the_channel_to_central_is_never_closed_for_others(channels):
    channels.central("127.0.0.1:9")
    central = channels._centrals["127.0.0.1:9"]
    for port in range(1, 6):
        channels.peer(f"127.0.0.1:{port}", "a")
    channels.central("127.0.0.1:9")
    assert channels._centrals["127.0.0.1:9"] is central
