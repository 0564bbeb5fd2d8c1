"""Manifests at hand: the index has them all, memory those that were asked for last."""

from collections import OrderedDict

from core.manifest import Manifest
from peer.library.index import Index
from peer.library.worker import Worker

_MOST_BYTES = 32 * 1024 * 1024


class Manifests:
    """Reads manifests, keeping the latest in memory up to a number of bytes of digests."""

    def __init__(self, index: Index, worker: Worker, most_bytes: int = _MOST_BYTES) -> None:
        self._index = index
        self._worker = worker
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, Manifest] = OrderedDict()

    async def get(self, content_id: bytes) -> Manifest:
        """Returns the manifest of a content.

        Raises:
            NotFound: the index has none.
            Corrupt: the index is damaged there.
            NotPossible: the index cannot be read.
        """
        kept = self._kept.get(content_id)
        if kept is not None:
            self._kept.move_to_end(content_id)
            return kept
        manifest = await self._worker.run(self._index.manifest, content_id)
        if content_id not in self._kept:
            self._kept[content_id] = manifest
            self._bytes += len(manifest.block_digests)
            while self._bytes > self._most and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped.block_digests)
        return manifest
