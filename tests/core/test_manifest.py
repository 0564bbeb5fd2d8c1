import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.content import DIGEST_BYTES, MAX_SIZE, PAGE_BLOCKS, Layout, digest
from core.errors import Corrupt
from core.manifest import Manifest, Root, checked_root, manifest_of

KIB = 1024
BLOCK = 64 * KIB
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7]


def claim(manifest: Manifest) -> tuple[int, int, bytes]:
    """What a holder says of a content: size, block size, page digests."""
    root = manifest.root
    return root.layout.size, root.layout.block_size, root.page_digests


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def large(blocks: int) -> Manifest:
    """A manifest of 1 MiB blocks that nobody has to hash."""
    layout = Layout(blocks * 1024 * KIB)
    return Manifest(layout, b"".join(index.to_bytes(DIGEST_BYTES, "big") for index in range(layout.block_count)))


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_manifest_proves_itself(size):
    data = bytes(index % 253 for index in range(size))
    manifest = manifest_of(data)
    root = checked_root(manifest.content_id, *claim(manifest))
    assert root == manifest.root
    for page in range(root.layout.page_count):
        root.check_page(page, manifest.page(page))
    for index in range(root.layout.block_count):
        assert manifest.verifies(index, data[index * BLOCK : (index + 1) * BLOCK])


@given(st.binary(max_size=3 * BLOCK), st.data())
def test_invariant_1_no_flipped_bit_of_a_root_passes(data, draw):
    manifest = manifest_of(data)
    size, block_size, pages = claim(manifest)
    wire = size.to_bytes(8, "big") + block_size.to_bytes(4, "big") + pages
    forged = flipped(wire, draw.draw(st.integers(0, len(wire) * 8 - 1)))
    with pytest.raises(Corrupt):
        checked_root(
            manifest.content_id, int.from_bytes(forged[:8], "big"), int.from_bytes(forged[8:12], "big"), forged[12:]
        )


@given(st.integers(1, 4), st.data())
def test_invariant_1_no_flipped_bit_of_a_page_passes(blocks, draw):
    manifest = large(blocks * 2000)
    page = draw.draw(st.integers(0, manifest.layout.page_count - 1))
    honest = manifest.page(page)
    with pytest.raises(Corrupt):
        manifest.root.check_page(page, flipped(honest, draw.draw(st.integers(0, len(honest) * 8 - 1))))


@given(st.binary(min_size=1, max_size=2 * BLOCK), st.data())
def test_invariant_1_no_flipped_bit_of_a_block_passes(data, draw):
    manifest = manifest_of(data)
    index = draw.draw(st.integers(0, manifest.layout.block_count - 1))
    block = data[index * BLOCK : (index + 1) * BLOCK]
    assert manifest.verifies(index, block)
    assert not manifest.verifies(index, flipped(block, draw.draw(st.integers(0, len(block) * 8 - 1))))


@given(st.binary(min_size=1, max_size=5), st.integers(0, 4 * BLOCK), st.data())
def test_invariant_1_no_flipped_bit_of_blocks_in_a_row_passes(end, size, draw):
    data = bytes(size) + end
    manifest = manifest_of(data)
    first = draw.draw(st.integers(0, manifest.layout.block_count - 1))
    count = draw.draw(st.integers(1, manifest.layout.block_count - first))
    blocks = data[first * BLOCK : (first + count) * BLOCK]
    assert manifest.verifies_run(first, blocks)
    assert not manifest.verifies_run(first, flipped(blocks, draw.draw(st.integers(0, len(blocks) * 8 - 1))))
    assert not manifest.verifies_run(first, blocks[:-1])
    assert not manifest.verifies_run(first, b"")


@pytest.mark.parametrize("index", [0, 1])
def test_a_block_of_another_length_does_not_pass(index):
    data = bytes(BLOCK + 10)
    manifest = manifest_of(data)
    block = data[index * BLOCK : (index + 1) * BLOCK]
    for wrong in (block[:-1], block + b"\0", b"", data):
        assert not manifest.verifies(index, wrong)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "lie", [0, 1, 2, BLOCK, 1 << 47, (1 << 47) + 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
)
def test_a_lying_size_is_refused(size, lie):
    manifest = manifest_of(bytes(size))
    _, block_size, pages = claim(manifest)
    for wrong in {lie, size + 1, max(size - 1, 0)} - {size}:
        with pytest.raises(Corrupt):
            checked_root(manifest.content_id, wrong, block_size, pages)


@pytest.mark.parametrize("size", SIZES)
def test_a_lying_number_of_digests_is_refused(size):
    manifest = manifest_of(bytes(size))
    size, block_size, pages = claim(manifest)
    for wrong in (pages + bytes(32), pages + b"\0", pages[:-1], pages[:-32], pages * 2):
        if wrong != pages:
            with pytest.raises(Corrupt):
                checked_root(manifest.content_id, size, block_size, wrong)
    root = manifest.root
    for page in range(root.layout.page_count):
        honest = manifest.page(page)
        for wrong in (honest + bytes(32), honest + b"\0", honest[:-1], honest[:-32], b""):
            with pytest.raises(Corrupt):
                root.check_page(page, wrong)


def test_a_block_that_does_not_exist_is_an_index_error():
    for index in (-1, 1):
        with pytest.raises(IndexError):
            manifest_of(b"one block").verifies(index, b"")


@pytest.mark.parametrize("block_size", [0, 1, BLOCK - 1, BLOCK + 1, 2 * BLOCK, 1 << 31, (1 << 32) - 1])
def test_a_lying_block_size_is_refused(block_size):
    manifest = manifest_of(bytes(1000))
    size, _, pages = claim(manifest)
    with pytest.raises(Corrupt):
        checked_root(manifest.content_id, size, block_size, pages)


def test_a_consistent_lie_about_another_content_is_refused():
    wanted, other = manifest_of(b"wanted"), manifest_of(b"other")
    with pytest.raises(Corrupt):
        checked_root(wanted.content_id, *claim(other))


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.binary(max_size=200))
def test_a_made_up_root_is_refused_and_allocates_nothing_that_it_suggests(size, block_size, pages):
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt):
            checked_root(bytes(32), size, block_size, pages)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * KIB


def test_a_page_that_does_not_exist_is_an_index_error():
    manifest = large(PAGE_BLOCKS + 1)
    assert manifest.layout.page_count == 2
    assert len(manifest.page(1)) == DIGEST_BYTES
    for page in (-1, 2):
        with pytest.raises(IndexError):
            manifest.page(page)
        with pytest.raises(IndexError):
            manifest.root.check_page(page, b"")
    with pytest.raises(IndexError):
        manifest_of(b"").page(0)


def test_pages_put_together_are_the_manifest():
    manifest = large(2 * PAGE_BLOCKS + 5)
    pages = [manifest.page(page) for page in range(manifest.layout.page_count)]
    assert b"".join(pages) == manifest.block_digests
    assert manifest.block_digest(PAGE_BLOCKS) == pages[1][:DIGEST_BYTES]
    assert manifest.root.page_digests == b"".join(map(digest, pages))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_manifest_with_another_number_of_digests_cannot_be_made(length):
    with pytest.raises(ValueError, match="bytes of digests for 1 blocks"):
        Manifest(Layout(5), bytes(length))


def test_the_largest_content_has_a_root_that_fits_into_a_message():
    layout = Layout(MAX_SIZE)
    root = Root(layout, bytes(layout.page_count * DIGEST_BYTES))
    assert len(root.page_digests) + PAGE_BLOCKS * DIGEST_BYTES < 2 * 1024 * KIB
    assert checked_root(root.content_id, MAX_SIZE, layout.block_size, root.page_digests) == root
