"""Dialling a peer back: where its call comes from, and never anybody else."""

import asyncio
import socket
import time

import pytest

from core.errors import Busy, InvalidInput
from peer.links.channels import Channels
from peer.links.dialling import Dialler
from peer.relays import dial_back
from peer.relays.dial_back import MOST_TRIED, DialBack
from relevo.v1.peer_relay_pb2 import DialBackRequest

ANA = "a" * 52


class Stage:
    """A DialBack by a clock that stands, which notes whom it dials."""

    def __init__(self, names=None, works=()):
        self.now = 100.0
        self.dialled = []
        self.names = names or {}
        self.works = works
        self.back = DialBack(lambda: self.now, self.look_up, self.dial)

    async def look_up(self, name):
        return self.names.get(name, ())

    async def dial(self, address, peer_id, patience):
        self.dialled.append((address, peer_id))
        return address in self.works

    async def ask(self, *addresses, source="ipv4:192.0.2.7:4000", who="ana"):
        return await self.back.answer(DialBackRequest(addresses=addresses), who, ANA, source)


async def test_the_address_that_the_call_comes_from_is_dialled_and_no_other():
    stage = Stage(works=("192.0.2.7:5001",))
    answer = await stage.ask("10.0.0.1:5001", "192.0.2.7:5001", "127.0.0.1:5001", "169.254.169.254:80", "[::1]:5001")
    assert stage.dialled == [("192.0.2.7:5001", ANA)]
    assert (answer.tried_addresses, answer.working_address) == (["192.0.2.7:5001"], "192.0.2.7:5001")


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("ipv6:%5B2001:db8::7%5D:4000", "[2001:db8:0:0::7]:5001"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:4000", "192.0.2.7:5001"),
        ("ipv4:127.0.0.1:4000", "127.1:5001"),
        ("ipv4:192.0.2.7:4000", "ana.example:5001"),
    ],
)
async def test_one_host_spelt_otherwise_is_the_same(source, address):
    stage = Stage({"ana.example": ("198.51.100.1", "192.0.2.7")})
    assert len((await stage.ask(address, source=source)).tried_addresses) == 1


async def test_a_name_is_dialled_in_the_numbers_that_it_was_looked_up_in():
    stage = Stage({"metadata.internal": ("169.254.169.254",), "ana.example": ("192.0.2.7",)})
    await stage.ask("metadata.internal:80", "unknown.example:80", "ana.example:80")
    assert stage.dialled == [("192.0.2.7:80", ANA)]


async def test_few_ports_are_tried():
    stage = Stage()
    await stage.ask(*(f"192.0.2.7:{port}" for port in range(5001, 5017)))
    assert len(stage.dialled) == MOST_TRIED


async def test_who_asks_again_at_once_is_told_when_to_come_back_and_others_are_answered():
    stage = Stage()
    await stage.ask("192.0.2.7:5001")
    with pytest.raises(Busy) as caught:
        await stage.ask("192.0.2.7:5001")
    assert 0 < caught.value.retry_after <= dial_back.PAUSE
    await stage.ask("192.0.2.7:5001", who="ben")
    stage.now += dial_back.PAUSE
    await stage.ask("192.0.2.7:5001")
    assert len(stage.dialled) == 3


@pytest.mark.parametrize("addresses", [("nowhere",), ("1.2.3.4:5001",) * 17])
async def test_what_breaks_a_rule_is_refused(addresses):
    with pytest.raises(InvalidInput):
        await Stage().ask(*addresses)


@pytest.mark.parametrize("source", ["unix:", "unix:/tmp/x", "", "ipv4:127.0.0.1:1"])
async def test_whoever_comes_from_elsewhere_has_nothing_dialled(source):
    stage = Stage()
    assert not (await stage.ask("192.0.2.7:5001", source=source)).tried_addresses
    assert stage.dialled == []


async def test_not_one_packet_reaches_a_canary_whatever_a_caller_names():
    """With the real dialler: the canary listens at another address of the same machine."""
    channels = Channels()
    dialler = Dialler(channels, lambda: "127.0.0.1:1", time.monotonic)
    back = DialBack(time.monotonic, dialler.look_up, channels.reaches)
    with socket.create_server(("127.0.0.3", 0)) as canary:
        port = canary.getsockname()[1]
        named = [f"127.0.0.3:{port}", f"[::ffff:127.0.0.3]:{port}", "169.254.169.254:80", f"0x7f000003:{port}"]
        answer = await back.answer(DialBackRequest(addresses=named), "ana", ANA, "ipv4:127.0.0.1:4000")
        canary.setblocking(False)
        with pytest.raises(BlockingIOError):
            await asyncio.to_thread(canary.accept)
    assert not answer.tried_addresses


async def test_nobody_there_is_found_out_at_once_and_somebody_else_by_the_deadline():
    channels = Channels()
    began = time.monotonic()
    assert not await channels.reaches("127.0.0.1:1", ANA, 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not await channels.reaches(f"127.0.0.1:{silent.getsockname()[1]}", ANA, 0.3)
    assert time.monotonic() - began < 30
