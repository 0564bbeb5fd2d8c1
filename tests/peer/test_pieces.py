"""Blocks in pieces: how they are put together, what is taken for them, and what a bad holder cannot do."""

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from core.content import Layout
from core.errors import Busy, Unreachable
from peer.fetching.block_answers import BlockAnswer
from peer.fetching.pieces import Allowance, unlimited, whole_block
from peer.links.limiter import Limiter
from relevo.v1.peer_relay_pb2 import BlockSet, GetBlockRequest

KIB = 1024
BLOCK = bytes(range(256)) * 256  # 64 KiB


class Counted(Allowance):
    """An allowance of pieces of 10 KiB that lets everything go, and remembers."""

    def __init__(self):
        self.log = []

    limited = True

    def piece(self, rest):
        return min(rest, 10 * KIB)

    async def take(self, size, *, begun=False):
        self.log.append(("begun" if begun else "fresh", size))

    def give_back(self, size):
        if size:
            self.log.append(("back", size))


class Holder:
    """Gives what it is asked for, at most `most` at once; `failures` are raised first."""

    def __init__(self, most=1 << 20, failures=()):
        self.most, self.failures, self.asked = most, list(failures), []

    async def __call__(self, request):
        self.asked.append((request.offset_bytes, request.most_bytes))
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        data = BLOCK[request.offset_bytes :][: min(request.most_bytes, self.most)]
        return BlockAnswer(index=request.index, data=data)


async def fetched(holder, allowance=None, request=None):
    events = []
    answer = await whole_block(
        holder,
        request or GetBlockRequest(index=3),
        Layout(5 * len(BLOCK)),
        allowance or unlimited(),
        held=lambda: events.append("held"),
        moved=events.append,
    )
    return answer, events


async def test_without_a_limit_a_block_is_one_answer():
    holder = Holder()
    answer, events = await fetched(holder)
    assert (answer.index, answer.data) == (3, BLOCK)
    assert holder.asked == [(0, len(BLOCK))]
    assert events == []


async def test_a_holder_that_gives_less_is_asked_for_the_rest_and_its_pieces_count_as_life():
    holder = Holder(most=30 * KIB)
    answer, events = await fetched(holder)
    assert answer.data == BLOCK
    assert holder.asked == [(0, 64 * KIB), (30 * KIB, 34 * KIB), (60 * KIB, 4 * KIB)]
    assert events == [30 * KIB, 30 * KIB]


async def test_what_is_asked_for_is_taken_first_and_what_does_not_come_is_given_back():
    allowance = Counted()
    answer, events = await fetched(Holder(most=8 * KIB), allowance)
    assert answer.data == BLOCK
    assert allowance.log[:4] == [("fresh", 10 * KIB), ("back", 2 * KIB), ("begun", 10 * KIB), ("back", 2 * KIB)]
    taken = sum(size if kind != "back" else -size for kind, size in allowance.log)
    assert taken == len(BLOCK)
    assert events[:4] == ["held", 0, 8 * KIB, "held"]


@pytest.mark.parametrize("most", [0, 1, 1023])
async def test_a_holder_that_drips_gives_no_block(most):
    holder = Holder(most=most)
    answer, _ = await fetched(holder)
    assert len(answer.data) != len(BLOCK)
    assert len(holder.asked) == 1


async def test_more_than_was_asked_for_is_no_block():
    async def generous(request):
        return BlockAnswer(index=3, data=BLOCK[: request.most_bytes + 1])

    answer, _ = await fetched(generous, Counted())
    assert len(answer.data) == 10 * KIB + 1


async def test_of_a_block_that_the_holder_has_chosen_the_rest_is_asked_for_by_its_index():
    asked = []

    async def choosing(request):
        asked.append((request.WhichOneof("wanted"), request.index, request.HasField("patience")))
        return BlockAnswer(index=4, data=BLOCK[request.offset_bytes :][: 20 * KIB])

    answer, _ = await fetched(
        choosing, request=GetBlockRequest(lacking=BlockSet(bitmap=b"\xff"), patience=Duration(seconds=1))
    )
    assert (answer.index, answer.data) == (4, BLOCK)
    assert asked == [("lacking", 0, True)] + [("index", 4, False)] * 3


@pytest.mark.parametrize("answer", [BlockAnswer(0, b""), BlockAnswer(index=5, data=b"x")])
async def test_no_block_and_none_that_there_is_end_it(answer):
    async def one(request):
        return answer

    assert (await fetched(one, request=GetBlockRequest(lacking=BlockSet())))[0] is answer


async def test_blocks_in_a_row_are_one_answer_however_many_of_them_the_holder_gives():
    asked = []

    async def gives(request):
        asked.append((request.block_count, request.most_bytes))
        return BlockAnswer(index=1, data=BLOCK * given)

    for given in (1, 2, 3):
        answer, _ = await fetched(gives, request=GetBlockRequest(index=1, block_count=3))
        assert answer.data == BLOCK * given
    assert asked == [(3, 3 * len(BLOCK))] * 3


async def test_of_blocks_in_a_row_that_come_in_pieces_the_first_one_is_put_together():
    asked = []

    async def limited(request):
        asked.append((request.index, request.block_count, request.offset_bytes))
        return BlockAnswer(index=1, data=BLOCK[request.offset_bytes :][: 40 * KIB])

    answer, _ = await fetched(limited, request=GetBlockRequest(index=1, block_count=3))
    assert answer.data == BLOCK
    assert asked == [(1, 3, 0), (1, 1, 40 * KIB)]


@pytest.mark.parametrize(("came", "kept"), [(100 * KIB, 1), (129 * KIB, 2), (191 * KIB, 2)])
async def test_of_blocks_in_a_row_that_were_cut_off_the_whole_ones_are_kept(came, kept):
    async def cut(request):
        return BlockAnswer(index=1, data=(BLOCK * 3)[:came])

    answer, _ = await fetched(cut, request=GetBlockRequest(index=1, block_count=3))
    assert answer.data == BLOCK * kept


async def test_within_a_limit_blocks_are_asked_for_one_by_one():
    asked = []

    async def holder(request):
        asked.append(request.block_count)
        return BlockAnswer(index=1, data=BLOCK[request.offset_bytes :][: request.most_bytes])

    answer, _ = await fetched(holder, Counted(), request=GetBlockRequest(index=1, block_count=3))
    assert answer.data == BLOCK
    assert set(asked) == {1}


async def test_a_piece_of_another_block_ends_it():
    async def other(request):
        return BlockAnswer(index=3 + bool(request.offset_bytes), data=BLOCK[:2048])

    answer, _ = await fetched(other)
    assert answer.index == 4


async def test_a_holder_that_is_busy_is_asked_again_only_in_the_middle_of_a_block():
    holder = Holder(most=40 * KIB, failures=[None, Busy("soon", 0.01), Busy("soon", 0.0)])
    answer, _ = await fetched(holder)
    assert answer.data == BLOCK
    allowance = Counted()
    with pytest.raises(Busy):
        await fetched(Holder(failures=[Busy("later", 5.0)]), allowance)
    assert allowance.log == [("fresh", 10 * KIB), ("back", 10 * KIB)]


async def test_what_a_failed_call_would_have_brought_is_given_back():
    allowance = Counted()
    with pytest.raises(Unreachable):
        await fetched(Holder(failures=[None, Unreachable("gone")]), allowance)
    assert allowance.log[-1] == ("back", 10 * KIB)


async def test_both_limits_count_and_a_taker_that_gives_up_keeps_nothing():
    own, shared = Limiter(time.monotonic, 1 << 20), Limiter(time.monotonic, 100 * KIB)
    allowance = Allowance("t", shared, own)
    assert (allowance.limited, allowance.piece(1 << 20)) == (True, 10 * KIB)
    await shared.take("other", 1 << 20)
    taking = asyncio.ensure_future(allowance.take(200 * KIB))
    await asyncio.sleep(0)
    level = own._limit._level
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert own._limit._level > level + 100 * KIB
    own.change(10 * KIB)
    assert allowance.piece(1 << 20) == 1 * KIB
    own.change(0)
    shared.change(0)
    assert not allowance.limited
