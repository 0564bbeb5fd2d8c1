"""Content ids, block sizes and digests: how bytes get their name.

A content is cut into blocks; each block has a BLAKE3 digest; 4,096 block digests make a page; the digests of the pages,
with size and block size, make the root, and BLAKE3 over the root is the content id. So a page that lies is caught as a
page, and a block as a block. docs/protocol.md has the byte layout.
"""

import struct
from dataclasses import dataclass, field

from blake3 import blake3

DIGEST_BYTES = 32
PAGE_BLOCKS = 4096
MIN_BLOCK = 64 * 1024
MAX_BLOCK = 1024 * 1024
# Blocks that fit into one answer, which has no more bytes than the largest block.
MOST_IN_A_ROW = MAX_BLOCK // MIN_BLOCK
# Contents up to so many bytes have blocks of so many.
_BLOCK_SIZES = ((8 << 20, MIN_BLOCK), (16 << 20, 128 * 1024), (64 << 20, 256 * 1024), (128 << 20, 512 * 1024))
MAX_SIZE = 1 << 47
# A content of so many bytes at most is small: it is given whole, many of them in one answer.
MAX_SMALL = 256 * 1024
ROOT_VERSION = 1
_ROOT_HEAD = struct.Struct(">BQI")


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """Returns the 32-byte BLAKE3 digest of `data`. Releases the GIL for large data."""
    return blake3(data).digest()


def block_size(size: int) -> int:
    """Returns the block size in bytes for a content of `size` bytes.

    Fine blocks let a swarm pipeline, and each costs processor time: 128 are enough while they are small, then 256.
    Blocks larger than 1 MiB would cost memory (docs/decisions/0022-blocks-by-size.md).
    """
    return next((block for most, block in _BLOCK_SIZES if size <= most), MAX_BLOCK)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a content of `size` bytes (0 to 2^47) is cut.

    Attributes:
        block_size: bytes of every block but the last.
        block_count: blocks; 0 for an empty content.

    Raises:
        ValueError: `size` is out of range.
    """

    size: int
    block_size: int = field(init=False, compare=False)
    block_count: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise ValueError(f"size {self.size} is not within 0 and 2^47")
        object.__setattr__(self, "block_size", block_size(self.size))
        object.__setattr__(self, "block_count", -(-self.size // self.block_size))

    @property
    def page_count(self) -> int:
        """Number of manifest pages; 0 for an empty content."""
        return -(-self.block_count // PAGE_BLOCKS)

    def block_offset(self, index: int) -> int:
        """Returns where block `index` begins, in bytes."""
        return index * self.block_size

    def block_length(self, index: int) -> int:
        """Returns the length of block `index` in bytes.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= index < self.block_count:
            raise IndexError(f"block {index} of {self.block_count}")
        return min(self.block_size, self.size - self.block_offset(index))

    def run_length(self, index: int, count: int) -> int:
        """Returns the length in bytes of `count` blocks, at least one, from block `index` on.

        Raises:
            IndexError: there are not so many.
        """
        return (count - 1) * self.block_size + self.block_length(index + count - 1)

    def blocks_in(self, index: int, length: int) -> int:
        """Returns how many blocks, one after the other from block `index` on, have `length` bytes; 0 when none have."""
        count = -(-length // self.block_size)
        there = 0 < count <= self.block_count - index
        return count if there and self.run_length(index, count) == length else 0

    def page_blocks(self, page: int) -> int:
        """Returns how many block digests page `page` has.

        Raises:
            IndexError: there is no such page.
        """
        if not 0 <= page < self.page_count:
            raise IndexError(f"page {page} of {self.page_count}")
        return min(PAGE_BLOCKS, self.block_count - page * PAGE_BLOCKS)


def content_id(layout: Layout, page_digests: bytes) -> bytes:
    """Returns the content id: BLAKE3 over version, size, block size, and the page digests one after the other."""
    return digest(_ROOT_HEAD.pack(ROOT_VERSION, layout.size, layout.block_size) + page_digests)
