"""What a peer gives to others: pages of manifests, blocks, and small contents whole."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.content import DIGEST_BYTES
from core.errors import Busy, InvalidInput, NotFound, RelevoError
from core.manifest import Manifest
from core.shares import Shares
from peer.chooser import BlockChooser
from peer.limiter import Limiter
from peer.sending import Sending
from peer.settings import SLOTS, SLOTS_EACH

MOST_BITMAP = 256 * 1024
# Contents in one request; its answer has no more bytes than a block.
MOST_CONTENTS = 256


class Held(Protocol):
    """Contents that can be given. The library implements it."""

    async def manifest(self, content_id: bytes) -> Manifest:
        """Returns the manifest of a content. Raises NotFound when it is not held."""
        ...

    async def read_block(self, content_id: bytes, index: int) -> bytes:
        """Returns a block.

        Raises:
            NotFound: the content is not held.
            Corrupt: the file on disk has changed or cannot be read.
            IndexError: there is no such block.
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
class Given:
    """A block that is given."""

    index: int
    data: bytes


class Serving:
    """Gives blocks, a bounded number at once, in all and to each caller.

    A block counts from `take_slot` to `give_back`, which come from whoever sends it: until it has left, not only while
    it is read. Otherwise callers that do not read what they asked for would cost nothing but the server's memory.

    Attributes:
        sending: lets what is given leave, within the upload limit.
        epoch: names this run of the program in what it says about its holdings.
    """

    def __init__(
        self,
        held: Held,
        *,
        slots: int = SLOTS,
        slots_each: int = SLOTS_EACH,
        retry_after: float = 0.25,
        sending: Sending | None = None,
    ) -> None:
        """Serves from `held`.

        Args:
            held: what there is to give.
            slots: most blocks at once.
            slots_each: most blocks at once for one caller.
            retry_after: seconds after which a caller that found no slot is to come back.
            sending: lets what is given leave; None: without a limit.
        """
        self.sending = sending or Sending(Limiter(lambda: 0.0))
        self.epoch = secrets.randbits(63) + 1
        self._held = held
        self._slots = Shares(slots, slots_each)
        self._retry_after = retry_after
        self._chooser = BlockChooser()

    async def page(self, content_id: bytes, page: int) -> Page:
        """Returns page `page` of a manifest; an empty content has an empty page 0.

        Raises:
            InvalidInput: the content id has not 32 bytes, or there is no such page.
            NotFound: the content is not held.
        """
        manifest = await self._held.manifest(_checked(content_id))
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
            raise Busy("this peer is giving as many blocks as it can; ask again soon", self._retry_after)

    def give_back(self, who: str) -> None:
        """Ends what `take_slot` began: the block has left, or the call has ended without one."""
        self._slots.give_back(who)

    async def block(self, content_id: bytes, index: int) -> Given:
        """Returns one wanted block.

        Raises:
            InvalidInput: the content id has not 32 bytes, or there is no such block.
            NotFound: the content is not held.
            Corrupt: the file on disk has changed or cannot be read.
        """
        try:
            data = await self._held.read_block(_checked(content_id), index)
        except IndexError as error:
            raise InvalidInput("index", f"there is no block {index}") from error
        return Given(index, data)

    async def any_block(self, content_id: bytes, first: int, bitmap: bytes) -> Given:
        """Returns a block out of those that the caller lacks; bit i of `bitmap` stands for block `first` + i.

        Raises:
            InvalidInput: the set is too large, or has blocks that the content has not.
            NotFound: the content is not held, or the set is empty.
            Corrupt: as block.
        """
        if len(bitmap) > MOST_BITMAP:
            raise InvalidInput("lacking.bitmap", f"a set of blocks has at most {MOST_BITMAP} bytes")
        manifest = await self._held.manifest(_checked(content_id))
        count = manifest.layout.block_count
        bits = int.from_bytes(bitmap, "little")
        # Checked before the shift: `first` may ask for a number of half a gigabyte.
        if bits and first + bits.bit_length() > count:
            raise InvalidInput("lacking", f"the content has {count} blocks, counted from 0")
        index = self._chooser.choose(content_id, bits << first if bits else 0, count)
        if index is None:
            raise NotFound("nothing that the caller lacks is held")
        data = await self._held.read_block(content_id, index)
        return Given(index, data)

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
