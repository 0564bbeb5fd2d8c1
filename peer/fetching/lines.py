"""A line to one holder: the ways to it in order, the one that works remembered."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from core.errors import Busy, Corrupt, InvalidInput, NotFound, RelevoError, Unreachable
from peer.fetching.block_answers import BlockAnswer
from peer.fetching.reaching import How, Reach, Way
from peer.links.contacts import Contact, Holder
from peer.links.racing import first_success
from relevo.v1.peer_relay_pb2 import (
    BlockSet,
    GetBlockRequest,
    GetContentsRequest,
    GetContentsResponse,
    GetManifestRequest,
    GetManifestResponse,
)

T = TypeVar("T")


def _of_block(request: GetBlockRequest, index: int) -> GetBlockRequest:
    """Returns the request for one certain block."""
    asked = GetBlockRequest()
    asked.CopyFrom(request)
    asked.index = index
    asked.ClearField("first_hand")
    return asked


class Line:
    """Calls one holder. A way that fails is given up for the next; the one that answered is used from then on.

    Attributes:
        contact: who it is.
        complete: whether it has every block; else it is fetching the content too.
        hearsay: whether a relay has told a lie as the holder's word: whose it was is not known then.
    """

    def __init__(
        self,
        reach: Reach,
        contact: Contact,
        patience: float,
        *,
        complete: bool = True,
        relays: tuple[Contact, ...] = (),
    ) -> None:
        """Describes a line to a peer, which is reached through `relays` when it has no address.

        `patience` is how many seconds an untried address may be silent before the next is tried beside it.
        """
        self.contact = contact
        self.complete = complete
        self.hearsay = False
        self._relays = relays
        self._ways = reach.ways(contact, relays)
        self._patience = patience
        self._working: Way | None = None

    def differs(self, holder: Holder) -> bool:
        """Tells whether a holder is to be asked otherwise than by this line: elsewhere, or for more."""
        elsewhere = holder.contact.addresses != self.contact.addresses or holder.relays != self._relays
        return elsewhere or (holder.complete and not self.complete)

    def lied(self, way: Way | None) -> bool:
        """Takes note that what came by a way was wrong; tells whether the holder can be asked by another one.

        A relay may have changed what the holder said, and is not asked any more; what came from the holder itself is
        its own word.
        """
        if way is None or way.how is not How.RELAYED:
            return False
        self.hearsay = True
        self._ways = [one for one in self._ways if one.how is not How.RELAYED or one.who != way.who]
        if self._working not in self._ways:
            self._working = None
        return any(one.how is How.RELAYED for one in self._ways)

    async def get_block(
        self, request: GetBlockRequest, timeout: float, announced: Callable[[int], None] | None = None
    ) -> BlockAnswer:
        """Answers PeerRelay.GetBlock; the answer names the way that it came.

        `announced` is told which block is going to come, as soon as the holder has said so; None: it need not say that.

        Raises:
            Corrupt: its file has changed.
            InvalidInput: the answer is over every limit: nothing more is to be expected of it.
            RelevoError: what the holder answered; Unreachable when it does not, by any way.
        """
        chosen: list[int] = []

        def tell(index: int) -> None:
            chosen.append(index)
            if announced is not None:
                announced(index)

        def ask(way: Way) -> Awaitable[BlockAnswer]:
            # Whoever is asked by the next way might choose another block than is expected now.
            return way.block(_of_block(request, chosen[0]) if chosen else request, timeout, tell if announced else None)

        if self._working is None and len(self._ways) > 1:
            # An ask that waits is as silent as an address at which nobody is: this one is answered at once.
            nothing = GetBlockRequest(content_id=request.content_id, lacking=BlockSet())
            await self._call(lambda way: way.block(nothing, timeout, None))
        answer, way = await self._call(ask)
        return replace(answer, way=way)

    async def get_manifest(self, request: GetManifestRequest, timeout: float) -> tuple[GetManifestResponse, Way]:
        """Answers PeerRelay.GetManifest, and the way that it came; raises as get_block."""
        return await self._call(lambda way: way.manifest(request, timeout))

    async def get_contents(self, request: GetContentsRequest, timeout: float) -> tuple[GetContentsResponse, Way]:
        """Answers PeerRelay.GetContents, and the way that it came; raises as get_block."""
        return await self._call(lambda way: way.contents(request, timeout))

    async def _call(self, call: Callable[[Way], Awaitable[T]]) -> tuple[T, Way]:
        if self.contact.addresses:
            return await self._raced([self._working] if self._working else self._ways, call)
        return await self._one_by_one(call)

    async def _one_by_one(self, call: Callable[[Way], Awaitable[T]]) -> tuple[T, Way]:
        """Asks a holder that has no address: by the way that works, else by having it push, else through its relays.

        What a relay says is not the last word as long as there is another one.
        """
        working, failure = self._working, None
        by_relay: list[Way] = [way for way in self._ways if way.how is How.RELAYED and way is not working]
        pushed: list[Way] = [way for way in self._ways if way.how is How.REVERSED and way is not working]
        for ways in ([working] if working else [], pushed, by_relay):
            try:
                if ways:
                    return await self._raced(ways, call)
            except Busy:
                raise
            except RelevoError as error:
                if failure is None or isinstance(failure, Unreachable):
                    failure = error
                if ways[0].how is How.REVERSED and not isinstance(error, Unreachable):
                    break  # the holder's own word
        raise failure or Unreachable("the holder has neither an address nor a relay")

    async def _raced(self, ways: list[Way], call: Callable[[Way], Awaitable[T]]) -> tuple[T, Way]:
        async def by(way: Way) -> tuple[T, Way]:
            try:
                answer = await call(way)
            except RelevoError as error:
                if self._working is way:
                    self._working = None
                if way.how is How.RELAYED and isinstance(error, NotFound | Corrupt | InvalidInput):
                    self.hearsay = True
                raise
            self._working = self._working or way
            return answer, way

        if len(ways) == 1:
            return await by(ways[0])
        return await first_success([partial(by, way) for way in ways], self._patience)
