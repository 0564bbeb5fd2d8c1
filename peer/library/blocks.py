"""Reads blocks of files for others, from descriptors that stay open for a while.

A block is given out only while the open file's size, mtime and inode are as they were when it was hashed, asked before
and after the read; and it is compared with its digest the first time that it is read from a newly opened file. So a
writer that puts size and mtime back, or a disk that rots, is noticed at the next opening at the latest, and the
receiver verifies every block anyway. Whether the path still leads to this inode is the watcher's business: an open file
that has lost its name still has the bytes of its content id.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Corrupt
from core.manifest import Manifest
from peer.disk import rooted
from peer.disk.cached import at_hand
from peer.disk.rooted import Stamp
from peer.library.holdings import Place

_MOST_OPEN = 64


class _Open:
    """An open file, and which of its blocks have been compared with their digests."""

    def __init__(self, descriptor: int, blocks: int) -> None:
        self.descriptor = descriptor
        self.readers = 0
        self.dropped = False
        self.used = True
        self._checked = bytearray(-(-blocks // 8))

    def is_checked(self, indices: range) -> bool:
        return all(self._checked[index >> 3] & 1 << (index & 7) for index in indices)

    def note_checked(self, indices: range) -> None:
        # Two threads may undo each other's note; the block is then compared once more.
        for index in indices:
            self._checked[index >> 3] |= 1 << (index & 7)


class BlockReader:
    """Keeps the files open that were read last. Its methods, but `at_hand`, block; any thread may call them."""

    def __init__(self, most_open: int = _MOST_OPEN) -> None:
        self._most = most_open
        self._lock = threading.Lock()
        self._files: OrderedDict[Place, _Open] = OrderedDict()

    def read(self, place: Place, manifest: Manifest, index: int, count: int = 1) -> bytes:
        """Returns `count` blocks, from block `index` on, of the content that lies at a place.

        Raises:
            IndexError: there are no such blocks.
            Corrupt: the file is not the one that was hashed, or its bytes are not.
            NotPossible: it is not a regular file any more.
            OSError: it cannot be read.
        """
        length, indices = manifest.layout.run_length(index, count), range(index, index + count)
        with self._borrowed(self._take(place, manifest.layout.block_count)) as opened:
            _check(opened.descriptor, place.stamp)
            data = os.pread(opened.descriptor, length, manifest.layout.block_offset(index))
            _check(opened.descriptor, place.stamp)
            if len(data) != length or not (opened.is_checked(indices) or manifest.verifies_run(index, data)):
                raise Corrupt("the file has other bytes than when it was hashed")
            opened.note_checked(indices)
            return data

    def at_hand(self, place: Place, manifest: Manifest, index: int, count: int = 1) -> memoryview | None:
        """Returns blocks as `read` does if they are in memory and were compared before; else None. Waits for no disk.

        Raises:
            IndexError: there are no such blocks.
            Corrupt: the file is not the one that was hashed.
        """
        with self._lock:
            opened = self._files.get(place)
            if opened is None or not opened.is_checked(range(index, index + count)):
                return None
            self._lend(place, opened)
        with self._borrowed(opened):
            layout = manifest.layout
            data = at_hand(opened.descriptor, layout.run_length(index, count), layout.block_offset(index))
            if data is not None:  # only then, since a file system over a network may make a check wait
                _check(opened.descriptor, place.stamp)
            return data

    def forget(self, place: Place) -> None:
        """Closes a file, as soon as nobody reads it."""
        with self._lock:
            self._drop(place)

    def close_idle(self) -> None:
        """Closes the files that nobody has read since the last call, so that they do not keep a disk busy."""
        with self._lock:
            for place, opened in list(self._files.items()):
                if opened.used:
                    opened.used = False
                else:
                    self._drop(place)

    def close(self) -> None:
        """Closes all files."""
        with self._lock:
            for place in list(self._files):
                self._drop(place)

    @contextmanager
    def _borrowed(self, opened: _Open) -> Iterator[_Open]:
        try:
            yield opened
        finally:
            with self._lock:
                opened.readers -= 1
                if opened.dropped and not opened.readers:
                    os.close(opened.descriptor)

    def _take(self, place: Place, blocks: int) -> _Open:
        with self._lock:
            opened = self._files.get(place)
            if opened is not None:
                return self._lend(place, opened)
        fresh = _Open(rooted.open_file(place.root, place.disk), blocks)  # may be slow: not under the lock
        with self._lock:
            opened = self._files.setdefault(place, fresh)
            if opened is not fresh:
                os.close(fresh.descriptor)
            self._lend(place, opened)
            while len(self._files) > self._most:
                self._drop(next(iter(self._files)))
        return opened

    def _lend(self, place: Place, opened: _Open) -> _Open:
        self._files.move_to_end(place)
        opened.readers += 1
        opened.used = True
        return opened

    def _drop(self, place: Place) -> None:
        opened = self._files.pop(place, None)
        if opened is not None:
            opened.dropped = True
            if not opened.readers:
                os.close(opened.descriptor)


def _check(descriptor: int, stamp: Stamp) -> None:
    if Stamp.of(os.fstat(descriptor)) != stamp:
        raise Corrupt("the file changed since it was hashed")
