"""A peer that is attached to this one: the orders that go down its stream, and the answers that it delivers."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from core.content import MAX_BLOCK
from core.errors import Busy, InvalidInput, NotFound, RelevoError, Unreachable
from core.rpc import PEER_MESSAGE
from core.status import from_code
from core.times import from_duration
from relevo.v1 import peer_relay_pb2 as pb2

# Bytes of an answer in one part: a block, and what tells which. The largest answers have two.
MOST_PART = MAX_BLOCK + 64
# Orders of a stream that wait to be written; a peer that does not read them is not worth more.
_MOST_WAITING = 1024


@dataclass(slots=True, eq=False)
class Order:
    """An order that waits for its answer.

    Attributes:
        answer: the whole answer, once it is here.
        announced: is told which block is going to be delivered.
        room: tells whether there is room for an answer of so many bytes, and takes it.
        size: bytes of the answer, as far as that is known; and how many of them have come.
    """

    answer: asyncio.Future[bytes]
    announced: Callable[[int], None]
    room: Callable[[int], bool]
    size: int = 0
    come: int = 0
    parts: list[bytes] = field(default_factory=list, repr=False)


class Attached:
    """One stream, seen by whom it leads to.

    Attributes:
        peer_id: who is attached.
        invited: whether it was invited, and gives to this peer only.
        orders: those that are not answered yet.
        ended: resolved when the stream is to end, with why.
        used: when an order was last made or answered, in seconds.
    """

    def __init__(self, peer_id: str, *, invited: bool, now: float) -> None:
        self.peer_id = peer_id
        self.invited = invited
        self.orders: dict[int, Order] = {}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.used = now
        self._news: list[pb2.AttachResponse] = []
        self._due = asyncio.Event()

    def say(self, news: pb2.AttachResponse) -> None:
        """Has something told down the stream."""
        if len(self._news) >= _MOST_WAITING:
            self.end(Busy("it does not read what it is told"))
            return
        self._news.append(news)
        self._due.set()

    async def write(self, write: Callable[[pb2.AttachResponse], Awaitable[None]]) -> None:
        """Writes what is to be told, until it is cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            news, self._news = self._news, []
            together = pb2.AttachResponse()
            for one in news:
                together.MergeFrom(one)
            await write(together)

    def begin(
        self, wanted: pb2.Order, asker: str, announced: Callable[[int], None], room: Callable[[int], bool]
    ) -> int:
        """Sends an order down, and returns its number; the rest is as `Order` has it."""
        number = wanted.order_id = secrets.randbits(63) | 1
        wanted.asker = asker
        self.orders[number] = Order(asyncio.get_running_loop().create_future(), announced, room)
        self.say(pb2.AttachResponse(orders=[wanted]))
        return number

    def finish(self, number: int) -> None:
        """Forgets an order; when it has no answer, the peer is told that nobody waits for one."""
        order = self.orders.pop(number, None)
        if order is not None and (order.answer.cancelled() or not order.answer.done()):
            self.say(pb2.AttachResponse(cancelled_order_ids=[number]))

    def end(self, error: RelevoError | None = None) -> None:
        """Ends the stream, with an error or in order; whoever waits for an answer waits no more."""
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
                self.ended.exception()  # nobody may be left to raise it
        for order in self.orders.values():
            if not order.answer.done():
                order.answer.set_exception(Unreachable("the holder is not attached any more"))
                order.answer.exception()

    def chosen(self, number: int, index: int) -> None:
        """Takes note of which block an order brings."""
        if number in self.orders:
            self.orders[number].announced(index)

    def deliver(self, request: pb2.DeliverRequest) -> None:
        """Takes a part of an answer, or why there is none.

        Raises:
            NotFound: nobody waits for it.
            InvalidInput: the parts do not fit together, or are too many.
            Busy: there is no room now.
        """
        order = self.orders.get(request.order_id)
        if order is None or order.answer.done():
            raise NotFound("nobody waits for this answer any more")
        if request.HasField("failure"):
            order.answer.set_exception(_error(request.failure))
            order.answer.exception()
            return
        part, begun = request.part, order.come
        end = request.offset_bytes + len(part)
        if not 0 <= end <= request.size_bytes <= PEER_MESSAGE or len(part) > MOST_PART:
            raise InvalidInput("part", f"an answer has {PEER_MESSAGE} bytes at most, in parts of {MOST_PART}")
        if begun and end <= begun:
            return  # it has come already
        if request.offset_bytes != begun or (begun and request.size_bytes != order.size):
            raise InvalidInput("offset_bytes", "the parts of an answer come one after the other")
        if not begun:
            if not order.room(request.size_bytes):
                raise Busy("as much is being relayed here as may be; offer it again soon", 0.05)
            order.size = request.size_bytes
        order.parts.append(part)
        order.come = end
        if end == order.size:
            order.answer.set_result(b"".join(order.parts))


def _error(failure: pb2.OrderFailure) -> RelevoError:
    error = from_code(failure.code, failure.message)
    if isinstance(error, Busy):
        error.retry_after = max(0.0, from_duration(failure.retry_delay))
    return error
