import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from core.content import MAX_SIZE, PAGE_BLOCKS, Layout, block_size, content_id, digest
from core.manifest import manifest_of

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def counted(size):
    """Returns bytes that count to 250, again and again."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


# (bytes, content id): fixed for ever. Whoever changes one has changed what every file in the world is called.
KNOWN = [
    (b"", "dfe5e836d02da806f32614d0036e0dc4e7ac98d3fc2f9fa062f33970e2fbc3b3"),
    (b"a", "d86d6fed896f67c7359127f67db3df83ac939db610010af11d4271bd5389f682"),
    (bytes(64 * KIB), "605a1265e18e4a3091268080c1575e2e491433fb7642324a7dcc5b37df5892a1"),
    (bytes(64 * KIB) + b"\x01", "6d9836de56db38100f2df0992d11511bf0bbc561c47ff8f56e193b447fd67d9e"),
    (counted(300_000), "888afc8a151ec623aff3e2811fa80b91ec79478602f84e5009f91451de29c9c6"),
    (counted(9 * MIB), "32a5f965add3575741432c871631cf031ace00663afe53532f4432065e413a59"),
]


def computed_anew(data: bytes) -> bytes:
    """The content id as docs/protocol.md describes it, without any of the program's own code."""
    steps = ((8, 2**16), (16, 2**17), (64, 2**18), (128, 2**19), (2**40, 2**20))
    block = next(block for most, block in steps if len(data) <= most << 20)
    digests = [blake3(data[at : at + block]).digest() for at in range(0, len(data), block)]
    pages = [blake3(b"".join(digests[at : at + 4096])).digest() for at in range(0, len(digests), 4096)]
    return blake3(b"\x01" + struct.pack(">Q", len(data)) + struct.pack(">I", block) + b"".join(pages)).digest()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 64 * KIB),
        (1, 64 * KIB),
        (8 * MIB, 64 * KIB),
        (8 * MIB + 1, 128 * KIB),
        (16 * MIB, 128 * KIB),
        (16 * MIB + 1, 256 * KIB),
        (64 * MIB, 256 * KIB),
        (64 * MIB + 1, 512 * KIB),
        (128 * MIB, 512 * KIB),
        (128 * MIB + 1, MIB),
        (5 * GIB, MIB),
        (MAX_SIZE, MIB),
    ],
)
def test_blocks_are_as_large_as_the_size_of_the_content_says(size, expected):
    assert block_size(size) == expected


@given(st.integers(0, MAX_SIZE))
def test_the_block_size_rule_holds_for_every_size(size):
    block = block_size(size)
    assert block in {64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB}
    assert block == MIB or block * (128 if block < 256 * KIB else 256) >= size
    assert block == 64 * KIB or block // 2 * (128 if block <= 256 * KIB else 256) < size


@given(st.integers(0, MAX_SIZE))
def test_blocks_and_pages_cover_a_content_without_gap_or_overlap(size):
    layout = Layout(size)
    count = layout.block_count
    assert (count == 0) == (size == 0)
    if count:
        last = count - 1
        assert layout.block_offset(last) + layout.block_length(last) == size
        assert 0 < layout.block_length(last) <= layout.block_size
        assert layout.block_length(0) == min(size, layout.block_size)
    pages = layout.page_count
    assert sum(layout.page_blocks(page) for page in range(pages)) == count
    assert all(layout.page_blocks(page) == PAGE_BLOCKS for page in range(pages - 1))


@given(st.integers(1, 5 * MIB), st.data())
def test_as_many_blocks_have_so_many_bytes_as_they_have_one_by_one(size, data):
    layout = Layout(size)
    index = data.draw(st.integers(0, layout.block_count - 1))
    count = data.draw(st.integers(1, layout.block_count - index))
    length = layout.run_length(index, count)
    assert length == sum(map(layout.block_length, range(index, index + count)))
    assert layout.blocks_in(index, length) == count
    assert layout.blocks_in(index, length - 1) == layout.blocks_in(index, length + 1) == 0
    assert layout.blocks_in(index, 0) == layout.blocks_in(layout.block_count, length) == 0
    with pytest.raises(IndexError):
        layout.run_length(index, layout.block_count - index + 1)


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1, 1 << 63, 1 << 64])
def test_an_impossible_size_has_no_layout(size):
    with pytest.raises(ValueError, match="not within"):
        Layout(size)


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 200_000, 5 * GIB])
def test_what_lies_outside_a_layout_is_an_index_error(size):
    layout = Layout(size)
    for index in (-1, layout.block_count, layout.block_count + 1):
        with pytest.raises(IndexError):
            layout.block_length(index)
    for page in (-1, layout.page_count):
        with pytest.raises(IndexError):
            layout.page_blocks(page)


@pytest.mark.parametrize(("data", "expected"), KNOWN, ids=[str(len(data)) for data, _ in KNOWN])
def test_content_ids_never_change(data, expected):
    assert manifest_of(data).content_id.hex() == expected
    assert computed_anew(data).hex() == expected


@given(st.integers(0, 3 * MIB), st.integers(0, 255))
def test_the_content_id_is_what_an_independent_computation_gives(size, fill):
    data = bytes([fill]) * size
    assert manifest_of(data).content_id == computed_anew(data)


def test_a_content_of_several_pages_is_the_digest_of_its_pages():
    layout = Layout(5 * GIB)
    digests = b"".join(index.to_bytes(32, "big") for index in range(layout.block_count))
    pages = [digests[: 4096 * 32], digests[4096 * 32 :]]
    expected = blake3(
        b"\x01" + (5 * GIB).to_bytes(8, "big") + MIB.to_bytes(4, "big") + b"".join(blake3(p).digest() for p in pages)
    )
    assert layout.page_count == 2
    assert content_id(layout, b"".join(map(digest, pages))) == expected.digest()
