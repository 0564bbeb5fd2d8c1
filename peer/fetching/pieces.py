"""Blocks asked for in pieces: as large as this peer's allowance and the holder's upload limit let them be."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from core.content import Layout
from core.errors import Busy, RelevoError
from peer.fetching.block_answers import BlockAnswer
from peer.links.limiter import Limiter
from peer.links.rate_limit import LEAST_PIECE
from relevo.v1.peer_relay_pb2 import GetBlockRequest

# Pause when a holder that is busy says nothing of how long, in seconds.
_PAUSE = 0.25


class Allowance:
    """What one transfer may fetch: its fair share of all downloads, within a limit of its own.

    Attributes:
        own: the transfer's limit.
        weight: how much it gets beside others.
    """

    def __init__(self, who: str, shared: Limiter, own: Limiter, weight: float = 1.0) -> None:
        """`shared` is the limit of all downloads, of which `who` takes a share."""
        self.own = own
        self.weight = weight
        self._who = who
        self._shared = shared

    @property
    def limited(self) -> bool:
        """Whether anything is to be waited for."""
        return bool(self.own.rate or self._shared.rate)

    def piece(self, rest: int) -> int:
        """Returns how many bytes of `rest` to take at once."""
        return self.own.piece(self._shared.piece(rest))

    async def take(self, size: int, *, begun: bool = False) -> None:
        """Returns when `size` bytes may be asked for; a block that was begun comes before others."""
        await self.own.take(self._who, size, begun=begun)
        try:
            await self._shared.take(self._who, size, weight=self.weight, begun=begun)
        except asyncio.CancelledError:
            self.own.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Takes back bytes that did not come."""
        self.own.give_back(size)
        self._shared.give_back(size)


def unlimited() -> Allowance:
    """Returns the allowance of what nobody limits."""
    nothing = Limiter(lambda: 0.0)
    return Allowance("", nothing, nothing)


async def whole_block(
    ask: Callable[[GetBlockRequest], Awaitable[BlockAnswer]],
    request: GetBlockRequest,
    layout: Layout,
    allowance: Allowance,
    *,
    held: Callable[[], None],
    moved: Callable[[int], None],
) -> BlockAnswer:
    """Returns the block that `request` asks for, put together from as many answers as it takes; empty: there is none.

    When it asks for several in a row, these are what one answer has, or the first of them. A holder that answers
    something else than it was asked for, or hardly anything, gives a block of a wrong length.

    Args:
        ask: sends a request to the holder.
        request: of a block, or of any one of a set.
        layout: of the content.
        allowance: bytes are taken from it before they are asked for.
        held: called before this peer waits for its own allowance.
        moved: called when it has waited, and when a piece has come, with the bytes of that.

    Raises:
        RelevoError: what `ask` raises.
    """
    data, first_hand = b"", False
    chosen = request.index if request.HasField("index") else None
    if allowance.limited:
        request.block_count = 1
    while True:
        count = request.block_count or 1
        length = count * layout.block_size if chosen is None else layout.run_length(chosen, count)
        most = allowance.piece(length - len(data))
        if allowance.limited:
            held()
            await allowance.take(most, begun=bool(data))
            moved(0)
        request.offset_bytes, request.most_bytes = len(data), most
        answer = await _asked(ask, request, most, allowance)
        came = len(answer.data)
        allowance.give_back(max(0, most - came))
        if chosen is None:
            if not came or answer.index >= layout.block_count:
                return answer
            chosen = answer.index
        if not data and came <= most and layout.blocks_in(chosen, came):
            return answer
        length = layout.block_length(chosen)
        if not data and length < came <= most:  # of several blocks in a row the last one was cut off
            return replace(answer, data=answer.data[: came - came % layout.block_size])
        first_hand = first_hand or answer.first_hand
        wrong = answer.index != chosen or came > most or came < min(most, length - len(data), LEAST_PIECE)
        data += answer.data
        if len(data) >= length or wrong:
            return BlockAnswer(answer.index, data, first_hand, answer.way)
        request.index, request.block_count = chosen, 1
        request.ClearField("patience")  # from now on no answer without a byte will do
        moved(came)


async def _asked(
    ask: Callable[[GetBlockRequest], Awaitable[BlockAnswer]],
    request: GetBlockRequest,
    most: int,
    allowance: Allowance,
) -> BlockAnswer:
    """Returns an answer. A holder that is busy in the middle of a block is asked again: what has come is kept."""
    while True:
        try:
            return await ask(request)
        except Busy as error:
            if not request.offset_bytes:
                allowance.give_back(most)
                raise
            await asyncio.sleep(error.retry_after or _PAUSE)
        except RelevoError:
            allowance.give_back(most)
            raise
