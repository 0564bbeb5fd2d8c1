"""Sets of blocks as integers: bit i stands for block i. Pure.

One machine word holds 64 blocks, so that sets of any content are compared and sent at next to no cost.
"""

from collections.abc import Collection, Iterator


def set_of(blocks: Collection[int]) -> int:
    """Returns a set of blocks as an integer."""
    if not blocks:
        return 0
    bits = bytearray((max(blocks) >> 3) + 1)
    for index in blocks:
        bits[index >> 3] |= 1 << (index & 7)
    return int.from_bytes(bits, "little")


def run(first: int, count: int) -> int:
    """Returns the set of `count` blocks from block `first` on."""
    return (1 << count) - 1 << first


def run_in(blocks: int, first: int) -> int:
    """Returns how many blocks of a set follow one another from block `first` on."""
    rest = blocks >> first
    return (~rest & (rest + 1)).bit_length() - 1


def members(blocks: int) -> Iterator[int]:
    """Yields the blocks of a set in order."""
    while blocks:
        yield lowest(blocks)
        blocks &= blocks - 1


def lowest(blocks: int, start: int = 0) -> int:
    """Returns the first block of a set that is not empty from `start` on, going round at the end."""
    after = blocks >> start << start
    found = after or blocks
    return (found & -found).bit_length() - 1


def every(count: int, step: int, first: int) -> int:
    """Returns the set of the blocks first, first + step, first + 2 · step, … below `count`; `step` is at least 1."""
    rows = -(-count // step)
    return (((1 << step * rows) - 1) // ((1 << step) - 1) << first) & ((1 << count) - 1)


def to_bitmap(blocks: int, most_bytes: int) -> tuple[int, bytes]:
    """Returns where a set begins, a multiple of 8, and its bitmap; of a wide set the beginning only.

    Bit i of the bitmap, counted from the lowest bit of its first byte, is block first + i.
    """
    if not blocks:
        return 0, b""
    first = lowest(blocks) // 8 * 8
    blocks = (blocks >> first) & ((1 << 8 * most_bytes) - 1)
    return first, blocks.to_bytes(-(-blocks.bit_length() // 8), "little")


def from_bitmap(first: int, bitmap: bytes, count: int) -> int:
    """Returns the set that a bitmap means, of a content of `count` blocks.

    Raises:
        ValueError: it has blocks that the content has not.
    """
    bits = int.from_bytes(bitmap, "little")
    # Checked before the shift: `first` may ask for a number of half a gigabyte.
    if bits and first + bits.bit_length() > count:
        raise ValueError(f"the content has {count} blocks, counted from 0")
    return bits << first if bits else 0
