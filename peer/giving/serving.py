"""What a peer gives to others: pages of manifests, blocks, and small contents whole."""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from core.content import DIGEST_BYTES, MAX_BLOCK
from core.errors import Busy, InvalidInput, NotFound, RelevoError
from core.manifest import Manifest
from core.shares import Shares
from peer.fetching.block_sets import from_bitmap, run
from peer.giving.choice import Ask
from peer.giving.giving import Gift, Giving
from peer.giving.sending import Sending
from peer.giving.unfinished import Unfinished
from peer.links.limiter import Limiter
from peer.settings import SLOTS, SLOTS_EACH

MOST_BITMAP = 256 * 1024
_NEVER = float("inf")
# Contents in one request; its answer has no more bytes than a block.
MOST_CONTENTS = 256


class Held(Protocol):
    """Contents that can be given. The library implements it."""

    async def manifest(self, content_id: bytes) -> Manifest:
        """Returns the manifest of a content. Raises NotFound when it is not held."""
        ...

    async def read_run(self, content_id: bytes, index: int, count: int = 1) -> bytes | memoryview:
        """Returns `count` blocks from block `index` on.

        Raises:
            NotFound: the content is not held.
            Corrupt: the file on disk has changed or cannot be read.
            IndexError: there are no such blocks.
        """
        ...

    async def read_small(self, content_ids: Sequence[bytes], room: int) -> list[bytes | RelevoError]:
        """Returns for the first of these contents all their bytes, `room` bytes at most, or why they cannot be had.

        NotFound: the content is not held. NotPossible: it is not a small one.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a manifest, with the root that proves it."""

    size: int
    block_size: int
    page_digests: bytes
    block_digests: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants of a content.

    Attributes:
        first, bitmap: a set of blocks.
        only: whether the first of the set is wanted: else any of it.
        first_hand: whether rather first hand.
        most: how many blocks in a row it takes.
        room: how many bytes it takes.
    """

    first: int
    bitmap: bytes
    only: bool = False
    first_hand: bool = False
    most: int = 1
    room: int = MAX_BLOCK


class Serving:
    """Gives blocks, a bounded number at once, in all and to each caller.

    A block counts from its choice until `left`, which comes from whoever sends it: until it has left, not only while it
    is read. Otherwise callers that do not read what they asked for would cost nothing but the server's memory.

    Attributes:
        sending: lets what is given leave, within the upload limit.
    """

    def __init__(
        self,
        held: Held,
        clock: Callable[[], float],
        unfinished: Unfinished | None = None,
        *,
        slots: int = SLOTS,
        slots_each: int = SLOTS_EACH,
        retry_after: float = 0.25,
        sending: Sending | None = None,
    ) -> None:
        """Serves from `held`, and what there is of `unfinished` contents.

        Args:
            held: what there is to give whole.
            clock: monotonic seconds.
            unfinished: what is being fetched; None: nothing.
            slots: most blocks at once.
            slots_each: most blocks at once for one caller.
            retry_after: seconds after which a caller that found no slot is to come back.
            sending: lets what is given leave; None: without a limit.
        """
        self.sending = sending or Sending(Limiter(lambda: 0.0))
        self._held = held
        self._unfinished = unfinished or Unfinished()
        self._clock = clock
        self._slots = Shares(slots, slots_each)
        self._retry_after = retry_after
        self._giving = Giving(self._slots, slots_each, secrets.randbits(32))
        self._waiting: dict[int, asyncio.Future[Gift]] = {}
        self._asks = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER
        self._unfinished.gained = self._gained

    async def page(self, content_id: bytes, page: int) -> Page:
        """Returns page `page` of a manifest; an empty content has an empty page 0.

        Raises:
            InvalidInput: the content id has not 32 bytes, or there is no such page.
            NotFound: the content is not held.
        """
        manifest, _ = await self._content(_checked(content_id))
        layout = manifest.layout
        if page >= max(1, layout.page_count):
            raise InvalidInput("page_index", f"the manifest has {layout.page_count} pages, counted from 0")
        block_digests = manifest.page(page) if layout.page_count else b""
        return Page(layout.size, layout.block_size, manifest.root.page_digests, block_digests)

    def take_slot(self, who: str) -> None:
        """Counts a block for `who`, which is to be given back with `give_back`.

        Raises:
            Busy: too many blocks are being given, to this caller or in all.
        """
        if not self._slots.take(who):
            raise self._busy()

    def give_back(self, who: str) -> None:
        """Ends what `take_slot` began: the block has left, or the call has ended without one."""
        self._slots.give_back(who)
        self._hand_out(self._giving.freed(self._clock()))

    async def choose(self, who: str, content_id: bytes, wanted: Wanted, patience: float) -> Gift | None:
        """Returns which block `who` is to be given; None when it wants none, or there was none.

        Every gift ends with `left` of its ask.

        Args:
            who: the caller.
            content_id: 32 bytes.
            wanted: the blocks.
            patience: for how many seconds the caller waits until there is one.

        Raises:
            InvalidInput: the content id has not 32 bytes, or the set is too large or has blocks that the content has
                not.
            NotFound: the content is not held, or nothing that is wanted, and the caller does not wait.
            Busy: too many blocks are being given, to this caller or in all, and the caller does not wait; or it has
                waited in vain for one block.
        """
        if len(wanted.bitmap) > MOST_BITMAP:
            raise InvalidInput("lacking.bitmap", f"a set of blocks has at most {MOST_BITMAP} bytes")
        manifest, held = await self._content(_checked(content_id))
        try:
            lacking = from_bitmap(wanted.first, wanted.bitmap, manifest.layout.block_count)
        except ValueError as error:
            raise InvalidInput("index" if wanted.only else "lacking", str(error)) from error
        self._unfinished.asked_by(content_id, who)
        complete = self._unfinished.manifest(content_id) is None
        # Blocks in a row are never sent in pieces, as those are that a limit slows down.
        most = 1 if self.sending.limited else max(1, min(wanted.most, wanted.room // manifest.layout.block_size))
        ask = Ask(next(self._asks), who, content_id, lacking, wanted.only, patience > 0, wanted.first_hand, most)
        return await self._answer(ask, held, patience, complete=complete)

    async def _answer(self, ask: Ask, held: int, patience: float, *, complete: bool) -> Gift | None:
        """Returns what an ask is given, once it has waited for that. Raises as `choose`."""
        given: asyncio.Future[Gift] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = given
        try:
            self._hand_out(self._giving.asked(ask, held, self._clock(), complete=complete))
            if not ask.lacking:
                return None
            if given.done():
                return given.result()
            if not patience:
                if self._giving.able(ask):
                    raise self._busy()
                raise NotFound("nothing that the caller lacks is held")
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await given
            if not given.cancelled():  # it may have been given in the very moment in which the patience ended
                return given.result()
            if ask.only:
                raise self._busy()
            return None
        except asyncio.CancelledError:
            self.left(ask.number, arrived=False)
            raise
        finally:
            del self._waiting[ask.number]
            self._giving.withdrawn(ask.number)

    def left(self, gift: int, *, arrived: bool) -> None:
        """Ends a gift: the block has left, or the call has ended without it."""
        self._hand_out(self._giving.left(gift, self._clock(), arrived=arrived))

    def alone(self, who: str) -> bool:
        """Tells whether nobody else is being given a block, or waits for one."""
        return self._giving.alone(who)

    def pace(self, who: str) -> float:
        """Returns how many seconds a block takes to leave for a caller, of late; 0 when none has left yet."""
        return self._giving.pace(who)

    async def read(self, content_id: bytes, gift: Gift) -> bytes | memoryview:
        """Returns the blocks that were chosen, one after the other.

        Raises:
            NotFound: the content is not held any more.
            Corrupt: the file on disk has changed or cannot be read.
        """
        if not run(gift.index, gift.count) & ~self._unfinished.held(content_id):
            with suppress(NotFound):  # it is whole now, and the library has it
                return await self._unfinished.read(content_id, gift.index, gift.count)
        return await self._held.read_run(content_id, gift.index, gift.count)

    async def _content(self, content_id: bytes) -> tuple[Manifest, int]:
        """Returns the manifest of a content, and the blocks of it that are here."""
        unfinished = self._unfinished.manifest(content_id)
        if unfinished is not None:
            return unfinished, self._unfinished.held(content_id)
        manifest = await self._held.manifest(content_id)
        return manifest, (1 << manifest.layout.block_count) - 1

    def _gained(self, content_id: bytes, index: int, first_hand: bool) -> None:
        self._hand_out(self._giving.gained(content_id, index, self._clock(), first_hand=first_hand))

    def _passed(self) -> None:
        self._timer = None
        self._hand_out(self._giving.passed(self._clock()))

    def _hand_out(self, gifts: list[Gift]) -> None:
        for gift in gifts:
            given = self._waiting.get(gift.ask)
            if given is not None and not given.done():
                given.set_result(gift)
            else:  # its caller has just gone
                self.left(gift.ask, arrived=False)
        if self._giving.due < self._timer_at or (self._timer is None and self._giving.due < _NEVER):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._giving.due
            delay = max(0.0, self._timer_at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._passed)

    def _busy(self) -> Busy:
        return Busy("this peer is giving as many blocks as it can; ask again soon", self._retry_after)

    async def contents(self, content_ids: Sequence[bytes], room: int) -> list[bytes | RelevoError]:
        """Returns the first of these contents whole, or for each why not: at least one, and else `room` bytes at most.

        Raises:
            InvalidInput: there are none or too many, or one has not 32 bytes.
            Busy: this process can open no more files.
        """
        if not 0 < len(content_ids) <= MOST_CONTENTS:
            raise InvalidInput("content_ids", f"a request names 1 to {MOST_CONTENTS} contents")
        return await self._held.read_small([_checked(each) for each in content_ids], room)


def _checked(content_id: bytes) -> bytes:
    if len(content_id) != DIGEST_BYTES:
        raise InvalidInput("content_id", f"a content id has {DIGEST_BYTES} bytes")
    return content_id
