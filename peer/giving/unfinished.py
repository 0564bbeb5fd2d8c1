"""What this peer has of the contents that it is still fetching: others are given it from the first block on."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import NotFound
from core.manifest import Manifest
from peer.disk.cached import at_hand
from peer.fetching.block_sets import run

# Seconds for which a content that is whole goes on being given from here, while the library takes it over.
HANDING_OVER = 10.0


def _nobody(content_id: bytes, index: int, first_hand: bool) -> None:
    del content_id, index, first_hand


def _no_caller(who: str) -> None:
    del who


@dataclass(slots=True)
class _Content:
    manifest: Manifest
    descriptor: int
    held: int
    caller: Callable[[str], None]
    handing_over: asyncio.TimerHandle | None = None


class Unfinished:
    """The contents that are being fetched.

    Attributes:
        changed: called when a content is fetched from now on, or not any more.
        gained: called with a content, a further block of it that is here, and whether it came first hand.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.gained: Callable[[bytes, int, bool], None] = _nobody
        self._contents: dict[bytes, _Content] = {}

    @property
    def content_ids(self) -> list[bytes]:
        """The contents that are not whole yet."""
        return [content_id for content_id, content in self._contents.items() if content.handing_over is None]

    def begin(self, manifest: Manifest, descriptor: int, held: int, caller: Callable[[str], None]) -> bool:
        """Gives from now on what is held of a content, and returns whether it does: one file of each content does.

        Args:
            manifest: of the content.
            descriptor: of the file; it may be closed afterwards.
            held: blocks that are in the file, verified.
            caller: is told of each peer that asks for the content.
        """
        content_id = manifest.content_id
        before = self._contents.get(content_id)
        if before is not None and before.handing_over is None:
            return False
        self._drop(content_id)
        self._contents[content_id] = _Content(manifest, os.dup(descriptor), held, caller)
        self.changed()
        return True

    def add(self, content_id: bytes, index: int, *, first_hand: bool) -> None:
        """Takes note of a block that is verified and in the file; `first_hand` when this peer is to pass it on."""
        self._contents[content_id].held |= 1 << index
        self.gained(content_id, index, first_hand)

    def end(self, content_id: bytes, *, whole: bool) -> None:
        """Gives no more of a content; one that is `whole` for some seconds yet, until the library does."""
        if whole:
            content = self._contents[content_id]
            content.caller = _no_caller
            content.handing_over = asyncio.get_running_loop().call_later(HANDING_OVER, self._drop, content_id)
        else:
            self._drop(content_id)
        self.changed()

    def close(self) -> None:
        """Gives nothing more."""
        for content_id in list(self._contents):
            self._drop(content_id)

    def manifest(self, content_id: bytes) -> Manifest | None:
        """Returns the manifest of a content that is being fetched, or None."""
        content = self._contents.get(content_id)
        return content.manifest if content else None

    def held(self, content_id: bytes) -> int:
        """Returns the blocks that are here of a content."""
        content = self._contents.get(content_id)
        return content.held if content else 0

    def asked_by(self, content_id: bytes, who: str) -> None:
        """Takes note of a peer that asks for a content: it may be fetching it too."""
        if content_id in self._contents:
            self._contents[content_id].caller(who)

    async def read(self, content_id: bytes, index: int, count: int = 1) -> bytes | memoryview:
        """Returns `count` blocks from block `index` on that are here, as they were verified.

        Raises:
            NotFound: they are not here any more.
        """
        content = self._contents.get(content_id)
        if content is None or run(index, count) & ~content.held:
            raise NotFound("the content is not fetched here any more")
        layout = content.manifest.layout
        offset, length = layout.block_offset(index), layout.run_length(index, count)
        just_written = at_hand(content.descriptor, length, offset)
        if just_written is not None:
            return just_written
        descriptor = os.dup(content.descriptor)  # the download may end meanwhile
        try:
            data = await asyncio.to_thread(os.pread, descriptor, length, offset)
        finally:
            os.close(descriptor)
        if len(data) != length:
            raise NotFound("the file has changed")
        return data

    def _drop(self, content_id: bytes) -> None:
        content = self._contents.pop(content_id, None)
        if content is not None:
            if content.handing_over is not None:
                content.handing_over.cancel()
            os.close(content.descriptor)
