"""What leaves this peer for others: within its upload limit, and counted."""

from dataclasses import dataclass

from core.content import MAX_BLOCK
from core.errors import InvalidInput
from peer.links.limiter import Limiter

# Seconds of a caller's deadline that are left for reading a block and sending it.
_TO_SEND = 1.0


class Sending:
    """Lets callers have what they ask for, each its fair share of the upload.

    Attributes:
        limiter: of the upload.
        sent_bytes: bytes of blocks that were given since the start.
    """

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.sent_bytes = 0

    @property
    def limited(self) -> bool:
        """Whether there is a limit, so that blocks may leave piece by piece."""
        return self.limiter.rate > 0

    async def share(self, who: str, most: int, remaining: float) -> "Share":
        """Returns, when it is the turn of `who`, what it may be sent of a block.

        Args:
            who: the caller.
            most: bytes that it takes at most; 0: the whole block.
            remaining: seconds until its deadline.

        Raises:
            Busy: its turn would not come in time; says when to come back.
        """
        size = self.limiter.piece(min(most, MAX_BLOCK)) if most else MAX_BLOCK
        await self.limiter.take(who, size, patience=max(0.0, remaining - _TO_SEND))
        return Share(self, size, size)

    async def other(self, who: str, size: int) -> None:
        """Returns when `who` may be sent `size` bytes that are no block."""
        await self.limiter.take(who, size)


@dataclass(slots=True)
class Share:
    """Bytes that a caller may be sent; what it is not sent is given back by `end`."""

    sending: Sending
    size: int
    unused: int

    def piece(self, block: bytes | memoryview, offset: int) -> bytes | memoryview:
        """Returns what is sent of `block` from `offset` on.

        Raises:
            InvalidInput: nothing of the block is there.
        """
        if offset and offset >= len(block):
            raise InvalidInput("offset_bytes", f"the block has {len(block)} bytes")
        found = block[offset : offset + self.size]
        self.sent(len(found))
        return found

    def sent(self, size: int) -> None:
        """Counts `size` bytes as sent. What is more than the share is owed: a small content is sent whole or not."""
        self.unused = self.size - size
        self.sending.sent_bytes += size
        self.end()

    def end(self) -> None:
        """Gives back what was not sent; further calls do nothing."""
        self.sending.limiter.give_back(self.unused)
        self.unused = 0
