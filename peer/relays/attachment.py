"""One stream of a peer that nobody can dial, to a relay or to who has invited it: what comes down is answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc

from core.errors import Busy, RelevoError, Unreachable
from core.status import from_rpc_error
from core.times import from_duration, to_duration
from peer.giving.answering import Answering
from peer.links.channels import RelayStub
from peer.relays.attached import MOST_PART
from peer.relays.relaying import BEAT, LEASE
from relevo.v1 import peer_relay_pb2 as pb2

log = logging.getLogger("relevo.attaching")

# Gives the stub for the other side, or raises Unreachable.
Dial = Callable[[], Awaitable[RelayStub]]
# Orders of one stream under way; further ones are declined.
MOST_ORDERS = 512
# How long one part may take to be delivered, in seconds; and how long an order may take in all, whatever it says.
PART_TIMEOUT = 30.0
LONGEST_ORDER = 130.0


class Attachment:
    """A stream, as who opens it sees it.

    Attributes:
        answered: whether the other side answers.
        held: whether it ever did on the last stream.
    """

    def __init__(
        self,
        self_id: str,
        answering: Answering,
        clock: Callable[[], float],
        invited: Callable[[pb2.Invitation], None],
    ) -> None:
        """`invited` is told by whom this peer is invited; `clock` tells monotonic seconds."""
        self.answered = self.held = False
        self._self_id = self_id
        self._answering = answering
        self._clock = clock
        self._invited = invited
        self._orders: dict[int, asyncio.Task[None]] = {}
        self._chosen: list[pb2.ChosenBlock] = []
        self._due = asyncio.Event()

    async def serve(self, dial: Dial, invitation: str = "") -> None:
        """Serves one stream, until the other side ends it in order.

        `dial` gives the stub for the stream, and for each answer again: the stream outlives its channel's time.

        Raises:
            RelevoError: why it ended.
        """
        self.held = False
        call: Any = (await dial()).Attach()
        beats = asyncio.create_task(self._beat(call, invitation))
        try:
            while True:
                async with asyncio.timeout(LEASE):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    break
                self.answered = self.held = True
                self._hear(dial, response)
            if await call.code() is not grpc.StatusCode.OK:
                await call.read()  # raises why
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            raise from_rpc_error(error) from error
        except TimeoutError as error:
            raise Unreachable("it is silent") from error
        finally:
            self.answered = False
            beats.cancel()
            call.cancel()
            orders = list(self._orders.values())
            for task in orders:
                task.cancel()
            await asyncio.gather(beats, *orders, return_exceptions=True)

    async def _beat(self, call: Any, invitation: str) -> None:
        """Writes beats, and in between which blocks have been chosen."""
        sequence, beat_at = 0, self._clock()
        self._chosen = []
        with suppress(grpc.RpcError, asyncio.InvalidStateError):  # the reader sees the same end, with its reason
            while True:
                request = pb2.AttachRequest(peer_id=self._self_id, chosen=self._chosen)
                self._chosen = []
                self._due.clear()
                if self._clock() >= beat_at:
                    sequence, beat_at = sequence + 1, self._clock() + BEAT
                    request.sequence = sequence
                    request.invitation = invitation if sequence == 1 else ""
                await call.write(request)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, beat_at - self._clock())):
                        await self._due.wait()

    def choose(self, number: int, index: int) -> None:
        """Has the asker told which block an order brings."""
        self._chosen.append(pb2.ChosenBlock(order_id=number, index=index))
        self._due.set()

    def _hear(self, dial: Dial, response: pb2.AttachResponse) -> None:
        for number in response.cancelled_order_ids:
            if number in self._orders:
                self._orders[number].cancel()
        for order in response.orders:
            if order.WhichOneof("wanted") == "invitation":
                self._invited(order.invitation)
            elif order.order_id not in self._orders:
                task = self._orders[order.order_id] = asyncio.create_task(self._obey(dial, order))
                task.add_done_callback(self._ended(order.order_id))

    def _ended(self, number: int) -> Callable[[asyncio.Task[None]], None]:
        def ended(task: asyncio.Task[None]) -> None:
            del self._orders[number]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("an order is not carried out", exc_info=error)

        return ended

    async def _obey(self, dial: Dial, order: pb2.Order) -> None:
        """Carries an order out, and delivers what comes of it."""
        call = _Ordered(self, order)
        try:
            async with asyncio.timeout(call.remaining):
                try:
                    if len(self._orders) > MOST_ORDERS:
                        raise Busy("too many questions at once; ask again soon", 0.5)
                    answer = await self._answer(call, order)
                except RelevoError as error:
                    await self._send(dial, self._delivery(order, failure=_failure(error)))
                else:
                    await self._deliver(dial, order, answer)
                    call.arrived = True
        except (TimeoutError, RelevoError) as error:
            log.debug("an answer is not delivered: %s", error or "nobody waits any more")
        finally:
            call.end()

    async def _answer(self, call: "_Ordered", order: pb2.Order) -> bytes:
        match order.WhichOneof("wanted"):
            case "manifest":
                return (await self._answering.manifest(call.who, order.manifest)).SerializeToString()
            case "block":
                return await self._answering.block(call, order.block)
            case "contents":
                return (await self._answering.contents(call, order.contents)).SerializeToString()
            case "probe":
                return self._answering.probe(order.probe).SerializeToString()
        raise Unreachable("this peer does not understand what is wanted of it")

    async def _deliver(self, dial: Dial, order: pb2.Order, answer: bytes) -> None:
        """Sends an answer in parts, the first of them even when it is empty."""
        for offset in range(0, max(1, len(answer)), MOST_PART):
            part = answer[offset : offset + MOST_PART]
            await self._send(dial, self._delivery(order, size_bytes=len(answer), offset_bytes=offset, part=part))

    def _delivery(self, order: pb2.Order, **what: Any) -> pb2.DeliverRequest:
        return pb2.DeliverRequest(peer_id=self._self_id, order_id=order.order_id, **what)

    async def _send(self, dial: Dial, request: pb2.DeliverRequest) -> None:
        """Delivers a part; while the relay has no room for it, again and again."""
        while True:
            try:
                await (await dial()).Deliver(request, timeout=PART_TIMEOUT)
                return
            except grpc.RpcError as error:
                found = from_rpc_error(error)
                if not isinstance(found, Busy):
                    raise found from error
                await asyncio.sleep(max(found.retry_after, 0.01))


class _Ordered:
    """An order as `Answering` takes it.

    Attributes:
        arrived: whether the answer has been delivered in whole.
    """

    def __init__(self, attachment: Attachment, order: pb2.Order) -> None:
        self.who = order.asker
        self.remaining = min(max(0.0, from_duration(order.time_left)), LONGEST_ORDER)
        self.arrived = False
        self._attachment = attachment
        self._number = order.order_id
        self._ends: list[Callable[[bool], None]] = []

    async def chosen(self, index: int, *, tell: bool) -> None:
        """Tells the asker which block is coming, when it wants to know."""
        if tell:
            self._attachment.choose(self._number, index)

    def when_ended(self, then: Callable[[bool], None]) -> None:
        """Has `then` told whether the answer has arrived."""
        self._ends.append(then)

    def end(self) -> None:
        """Ends the call."""
        for then in self._ends:
            then(self.arrived)


def _failure(error: RelevoError) -> pb2.OrderFailure:
    code = grpc.StatusCode[error.code].value[0]
    retry = to_duration(error.retry_after) if isinstance(error, Busy) else None
    return pb2.OrderFailure(code=code, message=str(error), retry_delay=retry)
