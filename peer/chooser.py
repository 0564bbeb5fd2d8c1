"""Which block a holder gives to whoever lacks several: each block once before any twice.

In a swarm that starts from one holder this spreads different blocks to different peers, who then help each other; the
last of them finishes close to the least time that is possible.
"""

from collections import OrderedDict

# Beyond so many gifts of some block, the oldest round is forgotten.
_MOST_ROUNDS = 32


class BlockChooser:
    """Remembers how often blocks were given. Bounded: contents that nobody has asked about for long are forgotten."""

    def __init__(self, most_bytes: int = 16 * 1024 * 1024) -> None:
        self._most = most_bytes
        self._bytes = 0
        # By content id: one set of blocks, as the bits of an integer, for each round; the first is the oldest.
        self._rounds: OrderedDict[bytes, list[int]] = OrderedDict()

    def choose(self, content_id: bytes, lacking: int, block_count: int) -> int | None:
        """Returns the block to give, and counts it as given; None when nothing is lacking.

        Args:
            content_id: 32 bytes.
            lacking: the wanted set; bit i stands for block i, and no bit is set from `block_count` on.
            block_count: of the content.
        """
        if not lacking:
            return None
        rounds = self._rounds.pop(content_id, None)
        if rounds is None:
            rounds = []
        else:
            self._bytes -= _size(rounds)
        self._rounds[content_id] = rounds
        number = next((number for number, given in enumerate(rounds) if lacking & ~given), len(rounds))
        if number == len(rounds):
            rounds.append(0)
        fresh = lacking & ~rounds[number]
        block = fresh & -fresh
        rounds[number] |= block
        whole = (1 << block_count) - 1
        while rounds and (rounds[0] == whole or len(rounds) > _MOST_ROUNDS):
            rounds.pop(0)
        self._bytes += _size(rounds)
        while self._bytes > self._most:
            _, forgotten = self._rounds.popitem(last=False)
            self._bytes -= _size(forgotten)
        return block.bit_length() - 1


def _size(rounds: list[int]) -> int:
    """Returns about how many bytes the record of a content takes."""
    return 256 + sum(32 + given.bit_length() // 8 for given in rounds)
