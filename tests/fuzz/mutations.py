"""Changes to bytes that break parsers: drawn from a seeded random, so that a run can be repeated."""

from collections.abc import Callable, Sequence
from random import Random

# What decides something somewhere in these protocols and formats.
WORDS = (
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff\x0f",  # varints: 2^32-1, 2^63-1, -1, and one that never ends
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x80",
    b"\x0b",  # begins and ends a group
    b"\x0c",
    b"\x00\x00\x00\x80",
    b"\xed\xa0\x80",  # a lone surrogate, an overlong dot, a letter that is not in NFC
    b"\xc0\xae",
    b"e\xcc\x81",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"../",
    b"/",
    b"\\",
    b"'",
    b"%",
    b"*",
    b"[",
    b"]:",
    b"@",
    b"-1",
    b"nan",
    b"1e309",
    b"9" * 24,
    b"unix:",
    b"dns:///",
    b"127.0.0.1:0",
    b"[::1]:65536",
    b'"',
    b"\n",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"relevo1_",
    b"-----BEGIN CERTIFICATE-----\n",
    b"0" * 32,
    b"a" * 52,
    b"type.googleapis.com/google.rpc.RetryInfo",
)
_MOST = 1 << 16


def _flip(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _step(data: bytearray, other: bytes, random: Random) -> None:
    """Lengths and numbers that are off by a little."""
    if data:
        at = random.randrange(len(data))
        data[at] = (data[at] + random.choice((-2, -1, 1, 2))) % 256


def _insert(data: bytearray, other: bytes, random: Random) -> None:
    at = random.randint(0, len(data))
    data[at:at] = random.randbytes(random.randint(1, 8))


def _word(data: bytearray, other: bytes, random: Random) -> None:
    word = random.choice(WORDS)
    at = random.randint(0, len(data))
    data[at : at + random.choice((0, len(word)))] = word


def _remove(data: bytearray, other: bytes, random: Random) -> None:
    if data:
        at = random.randrange(len(data))
        del data[at : at + random.randint(1, 16)]


def _cut(data: bytearray, other: bytes, random: Random) -> None:
    del data[random.randint(0, len(data)) :]


def _repeat(data: bytearray, other: bytes, random: Random) -> None:
    if data and len(data) < _MOST:
        at = random.randrange(len(data))
        piece = data[at : at + random.randint(1, 64)]
        data[at:at] = piece * random.choice((1, 2, 3, 64))


def _splice(data: bytearray, other: bytes, random: Random) -> None:
    if other:
        at, there = random.randint(0, len(data)), random.randrange(len(other))
        data[at : at + random.choice((0, 16, len(data)))] = other[there : there + random.choice((4, 32, len(other)))]


_CHANGES: Sequence[Callable[[bytearray, bytes, Random], None]] = (
    _flip,
    _set,
    _step,
    _insert,
    _word,
    _word,
    _remove,
    _cut,
    _repeat,
    _splice,
)


def mutated(data: bytes, other: bytes, random: Random) -> bytes:
    """Returns `data` after one to five changes, some of which take bytes of `other`; at most 64 KiB and a little."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        random.choice(_CHANGES)(changed, other, random)
    del changed[_MOST:]
    return bytes(changed)


def mutated_text(data: bytes, other: bytes, random: Random) -> bytes:
    """As `mutated`, and mostly still UTF-8: readers of text would refuse everything else at the door."""
    changed = mutated(data, other, random)
    return changed if random.random() < 0.1 else changed.decode("utf-8", "ignore").encode()
