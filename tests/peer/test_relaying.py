"""A relay, an attached peer and those who ask through it: what is handed on, what is limited, what is refused."""

import asyncio
import contextlib
import time

import pytest

from core import errors
from core.rpc import DELIVER, PEER_DELIVERY, PEER_REQUEST, Server, open_channel
from core.status import from_rpc_error
from peer.giving.serving import Serving
from peer.links.channels import RelayStub
from peer.relay_servicer import RelayServicer
from peer.relays.attachment import Attachment
from peer.relays.relaying import Relaying
from peer.settings import RelayLimits
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.content_pb2 import PeerInfo
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

UMA, RELAY, ANA = "u" * 52, "r" * 52, "a" * 52
CONTENT = b"c" * 32


class Empty:
    async def manifest(self, content_id):
        raise errors.NotFound("nothing is held here")


class Answers:
    """What an attached peer answers, once it may."""

    def __init__(self):
        self.may = asyncio.Event()
        self.may.set()
        self.asked = []
        self.ended = []
        self.answer = pb2.GetBlockResponse(index=7, data=b"x" * 1000).SerializeToString()

    async def block(self, call, request):
        self.asked.append((call.who, request))
        call.when_ended(self.ended.append)
        await call.chosen(7, tell=True)
        await self.may.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def manifest(self, who, request):
        return pb2.GetManifestResponse(size_bytes=5, page_digests=b"d" * 1_500_000)


class Stage:
    """A relay that serves in plaintext, and a peer that is attached to it."""

    def __init__(self, stack, limits):
        self.stack = stack
        self.now = 0.0
        self.relaying = Relaying(RELAY, lambda: self.now, limits=limits)
        self.answers = Answers()
        self.invited = []

    async def start(self):
        server = Server(max_request=PEER_REQUEST, larger={DELIVER: PEER_DELIVERY})
        servicer = RelayServicer(Serving(Empty(), time.monotonic), None, relaying=self.relaying)
        add_PeerRelayServicer_to_server(servicer, server.server)
        self.port = server.listen("127.0.0.1:0")
        await server.start()
        self.stack.push_async_callback(server.stop, 0)
        self.stub = await self.another()
        self.attached = await self.attach()

    async def another(self):
        """Another connection, which in plaintext is another asker."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        del options
        channel = open_channel(f"127.0.0.1:{self.port}", alone=True)
        self.stack.push_async_callback(channel.close)
        return RelayStub(channel)

    async def attach(self, peer_id=UMA, invitation=""):
        attachment = Attachment(peer_id, self.answers, time.monotonic, self.invited.append)
        stub = await self.another()

        async def dial():
            return stub

        task = asyncio.create_task(attachment.serve(dial, invitation))
        self.stack.callback(task.cancel)
        async with asyncio.timeout(10):
            while not (attachment.answered or task.done()):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)
        if task.done():
            task.result()
        return task

    async def block(self, stub=None, holder=UMA, timeout=20, **fields):
        request = pb2.GetBlockRequest(content_id=CONTENT, index=7, holder_peer_id=holder, **fields)
        try:
            return await (stub or self.stub).GetBlock(request, timeout=timeout)
        except Exception as error:
            raise from_rpc_error(error) from error

    async def until_asked(self, count):
        async with asyncio.timeout(20):
            while len(self.answers.asked) < count:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)


@pytest.fixture
async def open_stage():
    async with contextlib.AsyncExitStack() as stack:

        async def opened(**limits):
            stage = Stage(stack, RelayLimits(**limits))
            await stage.start()
            return stage

        yield opened


async def test_a_question_goes_down_the_stream_and_the_answer_comes_back_as_it_was_given(open_stage):
    stage = await open_stage()
    answer = await stage.block()
    assert (answer.index, bytes(answer.data)) == (7, b"x" * 1000)
    who, request = stage.answers.asked[0]
    assert who.startswith("ipv4:127.0.0.1:"), "the holder counts it as the asker's"
    assert request.content_id == CONTENT
    async with asyncio.timeout(20):
        while not stage.answers.ended:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)
    assert stage.answers.ended == [True]
    assert stage.relaying.relayed_bytes == len(stage.answers.answer)


async def test_what_is_going_to_come_is_told_before_it_comes(open_stage):
    stage = await open_stage()
    stage.answers.may.clear()
    request = pb2.GetBlockRequest(content_id=CONTENT, index=7, holder_peer_id=UMA)
    call = stage.stub.announced_block(request, timeout=20)
    async with asyncio.timeout(10):
        assert ("relevo-block", "7") in list(await call.initial_metadata())
    stage.answers.may.set()
    assert (await call.read()).index == 7


async def test_a_large_answer_comes_in_parts(open_stage):
    stage = await open_stage()
    asked = pb2.GetManifestRequest(content_id=CONTENT, holder_peer_id=UMA)
    answer = await stage.stub.GetManifest(asked, timeout=20)
    assert answer.page_digests == b"d" * 1_500_000


@pytest.mark.parametrize(
    "error", [errors.NotFound("it is gone"), errors.Corrupt("it has changed"), errors.Busy("not now", 3.0)]
)
async def test_what_the_holder_refuses_is_its_own_word(open_stage, error):
    stage = await open_stage()
    stage.answers.answer = error
    with pytest.raises(type(error)) as caught:
        await stage.block()
    assert str(caught.value) == str(error)
    assert getattr(caught.value, "retry_after", 0) == getattr(error, "retry_after", 0)


async def test_whoever_is_not_attached_is_not_asked(open_stage):
    stage = await open_stage()
    with pytest.raises(errors.Unreachable, match="not attached"):
        await stage.block(holder=ANA)
    assert stage.answers.asked == []


async def test_a_question_that_is_given_up_is_given_up_at_the_holder_too(open_stage):
    stage = await open_stage()
    stage.answers.may.clear()
    asking = asyncio.create_task(stage.block())
    await stage.until_asked(1)
    asking.cancel()
    async with asyncio.timeout(10):
        while not stage.answers.ended:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)
    assert stage.answers.ended == [False]


async def test_a_stream_that_ends_ends_what_was_asked_by_it(open_stage):
    stage = await open_stage()
    stage.answers.may.clear()
    asking = asyncio.create_task(stage.block())
    await stage.until_asked(1)
    stage.attached.cancel()
    with pytest.raises(errors.Unreachable):
        await asking
    assert stage.relaying.attached_count == 0


async def test_who_is_over_its_share_is_told_when_to_come_back_and_others_are_unharmed(open_stage):
    stage = await open_stage(slots=32, slots_each=8)
    stage.answers.may.clear()
    greedy = [asyncio.create_task(stage.block()) for _ in range(50)]
    await stage.until_asked(8)
    other = asyncio.create_task(stage.block(await stage.another()))
    await stage.until_asked(9)
    async with asyncio.timeout(20):
        while sum(one.done() for one in greedy) < 42:  # noqa: ASYNC110 - what comes later finds places free
            await asyncio.sleep(0.005)
    stage.answers.may.set()
    assert (await other).index == 7
    ended = await asyncio.gather(*greedy, return_exceptions=True)
    refused = [one for one in ended if isinstance(one, errors.Busy)]
    assert len(refused) == 42
    assert all(one.retry_after > 0 for one in refused)


async def test_bytes_beyond_what_is_relayed_at_once_wait_at_the_holder(open_stage):
    stage = await open_stage(bytes=3000, bytes_each=1500)
    answers = await asyncio.gather(*(stage.block() for _ in range(20)))
    assert all(bytes(answer.data) == b"x" * 1000 for answer in answers)


async def test_so_many_peers_are_attached(open_stage):
    stage = await open_stage(attached=2)
    await stage.attach(ANA)
    with pytest.raises(errors.Busy) as caught:
        await stage.attach("b" * 52)
    assert caught.value.retry_after > 0
    await stage.attach(ANA)  # a newer stream of one that is there


async def test_nobody_delivers_what_it_was_not_asked_for(open_stage):
    stage = await open_stage()
    stage.answers.may.clear()
    asking = asyncio.create_task(stage.block())
    await stage.until_asked(1)
    (number,) = stage.relaying._users[UMA].orders
    for peer_id, order in ((UMA, number + 1), (ANA, number)):
        with pytest.raises(errors.NotFound):
            await _deliver(stage, peer_id=peer_id, order_id=order, size_bytes=1, part=b"x")
    for wrong in (
        {"size_bytes": 1, "part": b"xx"},
        {"size_bytes": 9, "offset_bytes": 4, "part": b"x"},
        {"size_bytes": 1 << 31, "part": b"x"},
    ):
        with pytest.raises(errors.InvalidInput):
            await _deliver(stage, peer_id=UMA, order_id=number, **wrong)
    stage.answers.may.set()
    assert (await asking).index == 7


async def _deliver(stage, **fields):
    try:
        await stage.stub.Deliver(pb2.DeliverRequest(**fields), timeout=10)
    except Exception as error:
        raise from_rpc_error(error) from error


async def test_a_part_that_comes_twice_counts_once(open_stage):
    stage = await open_stage()
    stage.answers.may.clear()
    asking = asyncio.create_task(stage.block())
    await stage.until_asked(1)
    (number,) = stage.relaying._users[UMA].orders
    whole = stage.answers.answer
    parts = [{"part": whole[:600]}, {"part": whole[:600]}, {"part": whole[600:], "offset_bytes": 600}]
    for part in parts:
        await _deliver(stage, peer_id=UMA, order_id=number, size_bytes=len(whole), **part)
    assert bytes((await asking).data) == b"x" * 1000


async def test_an_invitation_is_good_once_for_the_one_that_was_invited(open_stage):
    stage = await open_stage()
    told = []

    async def tell(invitation):
        told.append(invitation)
        with pytest.raises(errors.Refused):
            await stage.attach(ANA, "0" * 32)
        with pytest.raises(errors.Refused):
            await stage.attach(ANA, invitation)

    with pytest.raises(errors.Unreachable):
        await stage.relaying.invite(UMA, tell, 1.0)
    with pytest.raises(errors.Refused):
        await stage.attach(UMA, told[0])

    async def arrive(invitation):
        await stage.attach(ANA, invitation)

    await stage.relaying.invite(ANA, arrive, 10.0)
    assert stage.relaying.is_here(ANA)
    with pytest.raises(errors.Unreachable, match="not attached"):
        await stage.block(holder=ANA)  # an invited peer gives to its host, and to nobody else through it


async def test_an_invitation_is_handed_on_to_who_is_attached(open_stage):
    stage = await open_stage()
    invitation = pb2.Invitation(host=PeerInfo(peer_id=ANA, name="ana", addresses=["127.0.0.1:9"]), invitation="1" * 32)
    await stage.stub.Invite(pb2.InviteRequest(holder_peer_id=UMA, invitation=invitation), timeout=10)
    async with asyncio.timeout(10):
        while not stage.invited:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)
    assert stage.invited == [invitation]
