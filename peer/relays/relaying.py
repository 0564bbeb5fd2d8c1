"""What a peer does for others that nobody can dial: it asks them for whoever wants something of them.

They are attached to it by streams of their own. It asks those, by id, and nobody else: it dials nobody for that. What
they deliver is handed on as it is.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from core import checks
from core.access import caller
from core.errors import Busy, InvalidInput, NotFound, Refused, RelevoError, Unreachable
from core.names import printable
from core.shares import Shares
from core.times import to_duration
from peer.giving.sending import Sending
from peer.links.limiter import Limiter
from peer.relays.attached import Attached
from peer.relays.relay_shares import RelayShares
from peer.settings import RelayLimits
from relevo.v1 import peer_relay_pb2 as pb2

log = logging.getLogger("relevo.relaying")

# A peer that is attached beats every so many seconds; without a beat for the lease it counts as gone.
BEAT = 2.0
LEASE = 7.0
# A peer that was invited, and is asked for nothing for so long, is let go.
IDLE = 10.0
_RETRY_AFTER = 0.25
_Announced = Callable[[int], None]


def _to_nobody(index: int) -> None:
    del index


class Relaying:
    """The peers that are attached to this one.

    Attributes:
        self_id: this peer's id.
        relayed_bytes: bytes of answers that were handed on to others since the start.
    """

    def __init__(
        self,
        self_id: str,
        clock: Callable[[], float],
        *,
        limits: RelayLimits | None = None,
        sending: Sending | None = None,
    ) -> None:
        """Makes it.

        Args:
            self_id: this peer's id.
            clock: monotonic seconds.
            limits: how much is relayed at once.
            sending: lets what is relayed leave, within the upload limit; None: without a limit.
        """
        limits = limits or RelayLimits()
        self.relayed_bytes = 0
        self.self_id = self_id
        self._clock = clock
        self._sending = sending or Sending(Limiter(clock))
        self._places = Shares(limits.attached, 1)
        self._slots = RelayShares(limits.slots, limits.slots_each, limits.slots // 2)
        self._bytes = RelayShares(limits.bytes, limits.bytes_each, limits.bytes // 2)
        self._users: dict[str, Attached] = {}
        self._guests: dict[str, Attached] = {}
        self._invited: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self._stopping = False

    @property
    def attached_count(self) -> int:
        """How many peers this one relays for."""
        return len(self._users)

    def is_here(self, peer_id: str) -> bool:
        """Tells whether a peer is attached, whyever it is."""
        return peer_id in self._guests or peer_id in self._users

    def stop(self) -> None:
        """Ends all streams; new ones are refused."""
        self._stopping = True
        for attached in (*self._users.values(), *self._guests.values()):
            attached.end(_stopping())

    async def serve(self, requests: AsyncIterator[pb2.AttachRequest], context: Any) -> None:
        """Serves PeerRelay.Attach until its stream ends; raises its errors."""
        await context.send_initial_metadata(())
        first = await _next(requests)
        if first is None:
            raise InvalidInput("peer_id", f"no beat came within {LEASE:g} s of opening the stream")
        caller().check_is(checks.peer_id(first.peer_id, "peer_id"))
        if first.invitation:
            checks.hex_id(first.invitation, "invitation")
        attached = self._attach(first)
        reader = asyncio.create_task(self._read(attached, first, requests))
        writer = asyncio.create_task(attached.write(context.write))
        try:
            await asyncio.wait({reader, writer, attached.ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._detach(attached)
            reader.cancel()
            writer.cancel()
            await asyncio.wait({reader, writer})
        for task in (reader, writer):
            if not task.cancelled() and isinstance(error := task.exception(), RelevoError):
                raise error
        if attached.ended.done():
            attached.ended.result()

    def _attach(self, first: pb2.AttachRequest) -> Attached:
        if self._stopping:
            raise _stopping()
        invited = bool(first.invitation)
        if invited:
            peer_id, arrived = self._invited.pop(first.invitation, ("", None))
            if arrived is None or peer_id != first.peer_id:
                raise Refused("there is no such invitation")
            if not arrived.done():
                arrived.set_result(None)
        elif first.peer_id not in self._users and not self._places.take(first.peer_id):
            raise Busy("as many peers are attached here as may be; attach to another", 5.0)
        group = self._guests if invited else self._users
        older = group.get(first.peer_id)
        attached = group[first.peer_id] = Attached(first.peer_id, invited=invited, now=self._clock())
        if older is not None:
            older.end()
        log.info("%s is attached%s", printable(first.peer_id), " as it was invited" if invited else "")
        return attached

    def _detach(self, attached: Attached) -> None:
        attached.end()
        group = self._guests if attached.invited else self._users
        if group.get(attached.peer_id) is attached:
            del group[attached.peer_id]
            if not attached.invited:
                self._places.give_back(attached.peer_id)

    async def _read(
        self, attached: Attached, first: pb2.AttachRequest, requests: AsyncIterator[pb2.AttachRequest]
    ) -> None:
        beat: pb2.AttachRequest | None = first
        while beat is not None:
            if beat.peer_id != attached.peer_id:
                raise InvalidInput("peer_id", "a stream is one peer's only; open another stream")
            for chosen in beat.chosen:
                attached.chosen(chosen.order_id, chosen.index)
            if beat.sequence:
                attached.say(pb2.AttachResponse(sequence=beat.sequence))
                if attached.invited and not attached.orders and self._clock() - attached.used > IDLE:
                    return
            beat = await _next(requests)

    async def ask(
        self, holder: str, asker: str, wanted: pb2.Order, remaining: float, announced: _Announced = _to_nobody
    ) -> bytes:
        """Returns what an attached peer answers to another one, as the bytes of a message.

        Args:
            holder: the peer that is asked.
            asker: who asks, as its share is counted.
            wanted: what for.
            remaining: seconds that the asker waits.
            announced: is told which block is going to come.

        Raises:
            Unreachable: the peer is not attached here, or does not answer.
            Busy: as much is being relayed as may be.
            RelevoError: what the peer answers.
        """
        attached = self._users.get(holder)
        if attached is None:
            raise Unreachable("that peer is not attached to this one, which asks nobody else")
        if not self._slots.take(asker, holder):
            raise Busy("as much is being relayed here as may be; ask again soon", _RETRY_AFTER)
        taken = 0

        def room(size: int) -> bool:
            nonlocal taken
            if not self._bytes.take(asker, holder, size):
                return False
            taken = size
            return True

        try:
            answer = await self._ordered(attached, asker, self._smoothly(wanted), remaining, announced, room)
            await self._sending.other(asker, len(answer))
            self.relayed_bytes += len(answer)
            return answer
        finally:
            self._slots.give_back(asker, holder)
            if taken:
                self._bytes.give_back(asker, holder, taken)

    async def ask_here(
        self, holder: str, wanted: pb2.Order, remaining: float, announced: _Announced = _to_nobody
    ) -> bytes:
        """Does as `ask` for this peer itself; nothing is relayed by that."""
        attached = self._guests.get(holder) or self._users.get(holder)
        if attached is None:
            raise Unreachable("that peer is not attached here any more")
        return await self._ordered(attached, self.self_id, wanted, remaining, announced, lambda _: True)

    async def _ordered(  # noqa: PLR0917 - as `ask`
        self,
        attached: Attached,
        asker: str,
        wanted: pb2.Order,
        remaining: float,
        announced: _Announced,
        room: Callable[[int], bool],
    ) -> bytes:
        wanted.time_left.CopyFrom(to_duration(remaining))
        number = attached.begin(wanted, asker, announced, room)
        try:
            async with asyncio.timeout(remaining):
                return await attached.orders[number].answer
        except TimeoutError as error:
            raise Unreachable("the holder does not answer in time") from error
        finally:
            attached.finish(number)
            attached.used = self._clock()

    def _smoothly(self, wanted: pb2.Order) -> pb2.Order:
        """Has no more asked for at once than leaves smoothly within this peer's own upload limit."""
        for request in (wanted.block, wanted.contents) if self._sending.limiter.rate else ():
            if request.most_bytes:
                request.most_bytes = self._sending.limiter.piece(request.most_bytes)
        return wanted

    def deliver(self, request: pb2.DeliverRequest) -> None:
        """Takes what an attached peer delivers; raises the errors of PeerRelay.Deliver."""
        for group in (self._users, self._guests):
            attached = group.get(request.peer_id)
            if attached is not None and request.order_id in attached.orders:
                attached.deliver(request)
                return
        raise NotFound("nobody waits for this answer any more")

    def forward_invitation(self, holder: str, invitation: pb2.Invitation) -> None:
        """Tells a peer that is attached here to attach to who invites it. Raises NotFound: it is not attached."""
        attached = self._users.get(holder)
        if attached is None:
            raise NotFound("that peer is not attached to this one, which tells nobody else")
        attached.say(pb2.AttachResponse(orders=[pb2.Order(invitation=invitation)]))

    async def invite(self, holder: str, tell: Callable[[str], Awaitable[None]], patience: float) -> None:
        """Returns when a peer has attached to this one, as invited.

        Args:
            holder: its peer id.
            tell: tells it the invitation; may raise RelevoError.
            patience: seconds to wait for it.

        Raises:
            Unreachable: it has not come in time.
            RelevoError: what `tell` raises.
        """
        invitation = secrets.token_hex(16)
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._invited[invitation] = holder, arrived
        try:
            async with asyncio.timeout(patience):
                await tell(invitation)
                await arrived
        except TimeoutError as error:
            raise Unreachable("the holder does not come although it was invited") from error
        finally:
            self._invited.pop(invitation, None)


async def _next(requests: AsyncIterator[pb2.AttachRequest]) -> pb2.AttachRequest | None:
    """Returns what comes next; None at the end of the stream, or when nothing has come within the lease."""
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(LEASE):
            return await anext(requests)
    return None


def _stopping() -> Unreachable:
    return Unreachable("this peer is stopping; attach to another")
