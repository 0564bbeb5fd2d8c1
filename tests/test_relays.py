"""Peers that nobody can dial, in one process over real sockets: they share, fetch, and exchange files."""

import asyncio
import contextlib
import dataclasses

import grpc
import pytest

from central.server import running_central
from core.errors import Busy, Refused, Unreachable
from core.status import from_rpc_error
from peer.fetching.holders import Holders
from peer.fetching.reaching import How
from peer.fetching.swarm import DownloadSettings
from peer.links import channels
from peer.relays.reachability import Reachability
from peer.work.transfers import State
from relevo.v1.peer_control_pb2 import FileSelection, StartSetDownloadRequest
from relevo.v1.peer_relay_pb2 import (
    AttachRequest,
    DeliverRequest,
    DialBackRequest,
    GetBlockRequest,
    Invitation,
    InviteRequest,
)
from tests.network import MIB, NOWHERE, Network, eventually, fetch, found_hidden, noise


class HiddenNetwork(Network):
    """A network in which some cannot be dialled."""

    async def join(self, name, files=(), *, hidden=False, **settings):
        """Starts a peer that shares `files`; a hidden one is returned when it has told central so."""
        peer = await super().join(name, files, advertise=NOWHERE if hidden else "", **settings)
        if hidden:
            await found_hidden(peer)
        return peer


@pytest.fixture
async def network(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central"))
        yield HiddenNetwork(tmp_path, central, stack)


@pytest.fixture
async def two_relays(network):
    """Two peers that can be dialled, one that cannot and shares a video, and one that cannot and shares nothing."""
    data = noise(6 * MIB + 7)
    ana = await network.join("ana")
    ben = await network.join("ben")
    uma = await network.join("uma", {"video.mkv": data}, hidden=True)
    uwe = await network.join("uwe", hidden=True)
    await eventually(lambda: all(len(one.attaching.attached_to) == 2 for one in (uma, uwe)))
    return data, ana, ben, uma, uwe


def relayed(*peers):
    return sum(peer.relaying.relayed_bytes for peer in peers)


async def test_a_peer_that_nobody_can_dial_pushes_to_whom_it_can_dial(network, tmp_path):
    data = noise(5 * MIB + 7)
    ana = await network.join("ana")
    ben = await network.join("ben")
    uma = await network.join("uma", {"video.mkv": data}, hidden=True)
    await eventually(lambda: len(uma.attaching.attached_to) == 2)
    dee = await network.join("dee")
    transfer = await fetch(dee, "video.mkv", tmp_path / "got")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "got" / "video.mkv").read_bytes() == data
    assert transfer.received_by == {How.REVERSED: len(data)}
    assert relayed(ana, ben, dee) == 0, "the relay only signals"
    assert not dee.relaying.attached_count, "who was invited is nobody's relayed peer"


async def test_two_peers_that_nobody_can_dial_exchange_files_through_a_relay(two_relays, tmp_path):
    data, ana, ben, uma, uwe = two_relays
    transfer = await fetch(uwe, "video.mkv", tmp_path / "got")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "got" / "video.mkv").read_bytes() == data
    assert transfer.received_by == {How.RELAYED: len(data)}
    assert relayed(ana, ben) >= len(data)
    assert uma.serving.sending.sent_bytes >= len(data)


async def test_small_files_come_through_a_relay_together(network, tmp_path):
    files = {f"note {number}.txt": noise(2000, number) for number in range(40)}
    await network.join("ana")
    uma = await network.join("uma", files, hidden=True)
    uwe = await network.join("uwe", hidden=True)
    await eventually(lambda: uma.attaching.attached_to and uwe.attaching.attached_to)
    selections = [FileSelection(pattern="note *.txt")]
    transfer = uwe.sets.start(StartSetDownloadRequest(selections=selections, directory=str(tmp_path)))
    await asyncio.wait([transfer.task], timeout=60)
    assert transfer.state is State.DONE, transfer.error
    assert {path.name: path.read_bytes() for path in tmp_path.glob("note *.txt")} == files
    assert transfer.received_by == {How.RELAYED: sum(map(len, files.values()))}


async def test_who_is_a_relay_itself_is_pushed_to_without_an_invitation(two_relays, tmp_path):
    data, ana, ben, _, _ = two_relays
    transfer = await fetch(ben, "video.mkv", tmp_path / "got")
    assert transfer.state is State.DONE, transfer.error
    assert transfer.received_by == {How.REVERSED: len(data)}
    assert relayed(ana, ben) == 0


async def test_a_relay_that_flips_a_bit_is_found_out_the_other_taken_and_the_holder_not_accused(two_relays, tmp_path):
    data, ana, ben, _, uwe = two_relays
    accused, lies = [], []
    uwe.downloader._accuse = lambda *what: accused.append(what)
    for relay in (ana, ben):
        honest = relay.relaying.ask

        async def flipped(holder, asker, wanted, *rest, relay=relay, honest=honest):
            answer = await honest(holder, asker, wanted, *rest)
            if len(answer) < 10_000 or (lies and lies[0] is not relay):
                return answer
            lies.append(relay)
            return answer[:-5] + bytes([answer[-5] ^ 1]) + answer[-4:]

        relay.relaying.ask = flipped
    transfer = await fetch(uwe, "video.mkv", tmp_path / "got")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "got" / "video.mkv").read_bytes() == data
    assert lies, "nobody lied"
    assert accused == []


async def test_relays_that_all_lie_harm_nobody_but_themselves(two_relays, tmp_path):
    _, ana, ben, _, uwe = two_relays
    accused = []
    uwe.downloader._accuse = lambda *what: accused.append(what)
    uwe.downloader._settings = DownloadSettings(patience=1.0, max_retry=0.2)
    for relay in (ana, ben):

        async def rubbish(holder, asker, wanted, *rest):
            return b"\x12\x05wrong"

        relay.relaying.ask = rubbish
    transfer = await fetch(uwe, "video.mkv", tmp_path / "got")
    assert transfer.state is State.FAILED
    assert not (tmp_path / "got" / "video.mkv").exists()
    assert accused == []


async def test_a_relay_that_goes_in_the_middle_is_replaced_by_the_other(two_relays, network, tmp_path):
    data, ana, ben, uma, uwe = two_relays
    uma.serving.sending.limiter.change(2 * MIB)
    going = asyncio.create_task(fetch(uwe, "video.mkv", tmp_path / "got"))
    used = await eventually(lambda: next((one for one in (ana, ben) if relayed(one) > MIB), None))
    await used.server.stop(0)
    uma.serving.sending.limiter.change(0)
    transfer = await going
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "got" / "video.mkv").read_bytes() == data
    other = ben if used is ana else ana
    assert relayed(other) > 0
    assert transfer.received_by == {How.RELAYED: len(data)}


async def test_a_hidden_peer_whose_certificate_is_renewed_gives_all_the_while_and_attaches_anew(
    two_relays, tmp_path, monkeypatch, caplog
):
    data, ana, ben, uma, uwe = two_relays
    monkeypatch.setattr(channels, "_DRAIN", 1.0)
    streams = {relay: relay.relaying._users[uma.identity.peer_id] for relay in (ana, ben)}
    uma.credentials.on_change()
    assert [relay.relaying._users[uma.identity.peer_id] for relay in streams] == [*streams.values()]
    transfer = await fetch(uwe, "video.mkv", tmp_path / "got")
    assert transfer.state is State.DONE, transfer.error
    for relay, before in streams.items():
        await eventually(
            lambda relay=relay, old=before: relay.relaying._users.get(uma.identity.peer_id) not in {None, old}
        )
    transfer = await fetch(uwe, "video.mkv", tmp_path / "again")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "again" / "video.mkv").read_bytes() == data
    assert "an order is not carried out" not in caplog.text


async def test_a_peer_that_can_be_dialled_again_is_told_to_everybody(network, tmp_path):
    await network.join("ana")
    uma = await network.join("uma", {"a.txt": b"a"}, hidden=True)
    await eventually(lambda: uma.attaching.attached_to)
    uma.experiment._addresses = lambda: (f"127.0.0.1:{uma.server.port}",)
    uma.settings = dataclasses.replace(uma.settings, advertise="")
    uma.experiment._again.set()
    await eventually(lambda: uma.experiment.verdict is Reachability.DIALABLE)
    await eventually(lambda: uma.session.live and uma.contact().addresses)
    await eventually(lambda: not uma.attaching.attached_to)
    holders = await Holders(uma.routes).find(next(iter(uma.library.files.values())).content_id)
    assert [holder.contact.addresses for holder in holders] == [(f"127.0.0.1:{uma.server.port}",)]


async def refusal(call, request):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request, timeout=10)
    return from_rpc_error(caught.value)


async def dialled_back(stub, address):
    """What a peer answers as soon as it dials its caller back once more: the caller asks too, by itself."""
    while True:
        try:
            return await stub.DialBack(DialBackRequest(addresses=[address]), timeout=20)
        except grpc.aio.AioRpcError as error:
            busy = from_rpc_error(error)
            assert isinstance(busy, Busy)
            await asyncio.sleep(busy.retry_after)


async def test_who_answers_at_an_address_has_to_be_the_one_who_named_it(network):
    ana, ben, cho = [await network.join(name) for name in ("ana", "ben", "cho")]
    stub = await ana.routes.dialler.peer(ben.contact().addresses[0], ben.identity.peer_id)
    (elsewhere,) = cho.contact().addresses
    answer = await dialled_back(stub, elsewhere)
    assert (answer.tried_addresses, answer.working_address) == ([elsewhere], "")
    (own,) = ana.contact().addresses
    assert (await dialled_back(stub, own)).working_address == own


async def test_a_relay_dials_nobody_for_another(two_relays, network):
    _, ana, ben, _, _ = two_relays
    dee = await network.join("dee", {"a.txt": b"a"})
    (content,) = (file.content_id for file in dee.library.files.values())
    stub = await ben.routes.dialler.peer(ana.contact().addresses[0], ana.identity.peer_id)
    neighbours = {ben.identity.peer_id, dee.identity.peer_id}  # whom it dials for itself, as it hears of them
    await eventually(lambda: neighbours <= {peer_id for _, peer_id in ana.channels._peers})
    before = set(ana.channels._peers)
    for holder in (dee.identity.peer_id, "a" * 52):
        asked = GetBlockRequest(content_id=content, index=0, holder_peer_id=holder)
        assert isinstance(await refusal(stub.GetBlock, asked), Unreachable)
    assert set(ana.channels._peers) == before


async def test_nobody_attaches_delivers_or_invites_in_anothers_name(two_relays):
    _, ana, ben, uma, _ = two_relays
    stub = await ben.routes.dialler.peer(ana.contact().addresses[0], ana.identity.peer_id)
    victim = uma.identity.peer_id
    call = stub.Attach(iter([AttachRequest(peer_id=victim, sequence=1)]), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert isinstance(from_rpc_error(caught.value), Refused)
    assert isinstance(await refusal(stub.Deliver, DeliverRequest(peer_id=victim, order_id=1)), Refused)
    host = uma.contact().to_info()
    host.addresses.append("127.0.0.1:5001")
    invitation = Invitation(host=host, invitation="0" * 32)
    assert isinstance(await refusal(stub.Invite, InviteRequest(holder_peer_id=victim, invitation=invitation)), Refused)
    assert ana.relaying.is_here(victim), "the victim is still attached"
