"""Manifests: the digests of a content's blocks, which prove themselves against the content id."""

from dataclasses import dataclass

from core.content import DIGEST_BYTES, PAGE_BLOCKS, Layout, content_id, digest
from core.errors import Corrupt


@dataclass(frozen=True, slots=True)
class Root:
    """The top of a manifest: what the content id is the digest of."""

    layout: Layout
    page_digests: bytes

    @property
    def content_id(self) -> bytes:
        """The 32-byte content id."""
        return content_id(self.layout, self.page_digests)

    def check_page(self, page: int, block_digests: bytes) -> None:
        """Checks that `block_digests` is page `page`.

        Raises:
            Corrupt: it is not; whoever sent it lies or is broken.
        """
        expected = self.page_digests[page * DIGEST_BYTES : (page + 1) * DIGEST_BYTES]
        if len(block_digests) != self.layout.page_blocks(page) * DIGEST_BYTES or digest(block_digests) != expected:
            raise Corrupt(f"page {page} of the manifest does not match its content id")


def checked_root(wanted: bytes, size: int, block_size: int, page_digests: bytes) -> Root:
    """Returns the root that `wanted`, a content id, is the digest of. Allocates nothing that `size` suggests.

    Raises:
        Corrupt: size, block size or page digests are not those of the content id.
    """
    try:
        layout = Layout(size)
    except ValueError as error:
        raise Corrupt(f"the manifest has an impossible size: {error}") from error
    if block_size != layout.block_size or len(page_digests) != layout.page_count * DIGEST_BYTES:
        raise Corrupt("the manifest's block size or length does not fit its size")
    root = Root(layout, page_digests)
    if root.content_id != wanted:
        raise Corrupt("the manifest does not match its content id")
    return root


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest: layout and all block digests, 32 bytes each, one after the other."""

    layout: Layout
    block_digests: bytes

    def __post_init__(self) -> None:
        if len(self.block_digests) != self.layout.block_count * DIGEST_BYTES:
            raise ValueError(f"{len(self.block_digests)} bytes of digests for {self.layout.block_count} blocks")

    def page(self, page: int) -> bytes:
        """Returns the block digests of page `page`.

        Raises:
            IndexError: there is no such page; an empty content has none.
        """
        self.layout.page_blocks(page)
        return self.block_digests[page * PAGE_BLOCKS * DIGEST_BYTES : (page + 1) * PAGE_BLOCKS * DIGEST_BYTES]

    @property
    def root(self) -> Root:
        """The root of this manifest; computed at each call."""
        return Root(self.layout, b"".join(digest(self.page(page)) for page in range(self.layout.page_count)))

    @property
    def content_id(self) -> bytes:
        """The 32-byte content id; computed at each call."""
        return self.root.content_id

    def block_digest(self, index: int) -> bytes:
        """Returns the digest of block `index`."""
        return self.block_digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def verifies(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Tells whether `data` is block `index`: its length first, then its digest."""
        return len(data) == self.layout.block_length(index) and digest(data) == self.block_digest(index)

    def verifies_run(self, index: int, data: bytes | bytearray | memoryview) -> bool:
        """Tells whether `data` are blocks, one after the other, from block `index` on.

        Raises:
            IndexError: they would be more than there are.
        """
        whole, size = memoryview(data), self.layout.block_size
        pieces = (whole[at : at + size] for at in range(0, len(whole), size))
        return len(whole) > 0 and all(self.verifies(each, piece) for each, piece in enumerate(pieces, index))


def manifest_of(data: bytes) -> Manifest:
    """Returns the manifest of bytes in memory."""
    layout = Layout(len(data))
    size = layout.block_size
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    return Manifest(layout, b"".join(digest(block) for block in blocks))
