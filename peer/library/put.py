"""Shares a file that the local user names: where it is when it lies in the shared directory, else as a copy."""

import asyncio
import os
import threading
from pathlib import Path

from core.errors import AlreadyExists, Corrupt, NotPossible
from core.manifest import Manifest
from core.names import normal, printable
from peer.disk import rooted
from peer.disk.listed import as_listed, listed_name
from peer.disk.rooted import Stamp
from peer.library import sharing
from peer.library.hashing import Hasher
from peer.library.holdings import Holdings, LibraryFile
from peer.library.ignore import reason_of
from peer.library.scan import Found
from peer.library.selection import name_refusal
from peer.library.shared_directory import SharedDirectory


class Putter:
    """Performs `put`, one file at a time."""

    def __init__(self, directory: SharedDirectory, holdings: Holdings, hasher: Hasher, home: Path) -> None:
        self._directory = directory
        self._holdings = holdings
        self._hasher = hasher
        self._prefix = sharing.temporary_prefix(home)
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Removes what a crash left behind."""
        await asyncio.to_thread(sharing.remove_leftovers, self._directory.root, self._prefix)

    async def share(self, source: Path) -> LibraryFile:
        """Returns the file as it is offered now.

        Raises:
            NotFound: there is no such file.
            AlreadyExists: the shared directory has other bytes under that name.
            NotPossible: it is not a regular file, is being written, or cannot be shared under its name.
        """
        location = await asyncio.to_thread(_located, source)
        status = await asyncio.to_thread(sharing.regular_status, location)
        root = self._directory.root
        async with self._lock:
            if location.is_relative_to(root):
                disk = str(location.relative_to(root))
                return await self._share_inside(await asyncio.to_thread(as_listed, root, disk))
            return await self._share_outside(location, Stamp.of(status))

    async def _share_inside(self, disk: str) -> LibraryFile:
        found = await self._directory.find(disk)
        if found is None:
            reason = self._directory.refusal_of(disk) or "it is hidden, or .relevoignore keeps it out"
            raise NotPossible(f"{printable(disk)} cannot be shared: {reason}")
        offered = self._holdings.shared(found.path)
        if offered is not None and offered[0].stamp == found.stamp:
            return offered[1]
        return await self._offer(found, await self._hash(self._directory.root, disk, found.stamp))

    async def _share_outside(self, source: Path, stamp: Stamp) -> LibraryFile:
        name = normal(source.name)
        problem = name_refusal(name)
        if problem is not None or self._directory.rules.ignores(name):
            reason = problem or "its name is hidden, or .relevoignore keeps it out"
            raise NotPossible(f"{printable(name)} cannot be shared: {reason}")
        standing = await self._directory.find(name) or self._directory.tree.found.get(name)
        if standing is not None:
            return await self._same(source, stamp, standing)
        await self._check_free(name)
        temporary, copy_stamp = await self._copy(source)
        try:
            manifest = await self._hash(self._directory.root, temporary, copy_stamp)
            await asyncio.to_thread(rooted.move_into_place, self._directory.root, temporary, name)
        except OSError as error:
            raise NotPossible(f"{printable(name)} cannot be written: {reason_of(error)}") from error
        finally:
            await asyncio.to_thread(rooted.remove, self._directory.root, temporary)
        found = await self._directory.find(name)
        if found is None or found.stamp != copy_stamp:
            raise NotPossible(f"{printable(name)} was changed or removed while it was put; put it again")
        return await self._offer(found, manifest)

    async def _same(self, source: Path, stamp: Stamp, standing: Found) -> LibraryFile:
        """Returns the file that stands under the name if it has the same bytes."""
        if standing.stamp.size == stamp.size:
            shared = await self._share_inside(standing.disk)
            manifest = await self._hash(source.parent, source.name, stamp)
            if manifest.content_id == shared.content_id:
                return shared
        raise AlreadyExists(
            f"the shared directory has another file named {printable(standing.path)}; rename one of them"
        )

    async def _check_free(self, name: str) -> None:
        try:
            listed = await asyncio.to_thread(listed_name, self._directory.root, name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise NotPossible(f"the shared directory cannot be used: {reason_of(error)}") from error
        if normal(listed) != name:
            raise AlreadyExists(
                f"{printable(listed)} stands in the shared directory, and this file system takes {printable(name)} for "
                "the same name; rename one of them"
            )
        raise AlreadyExists(
            f"something that is not shared stands at {printable(name)} in the shared directory; rename it"
        )

    async def _copy(self, source: Path) -> tuple[str, Stamp]:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(sharing.copy_beside, source, self._directory.root, self._prefix, stop.is_set)
        except asyncio.CancelledError:
            stop.set()  # the thread notices after its chunk, and removes what it has written
            raise

    async def _hash(self, root: Path, disk: str, stamp: Stamp) -> Manifest:
        try:
            return await self._hasher.hash_file(root, disk, stamp)
        except Corrupt as error:
            raise NotPossible(f"{printable(disk)} is being written; put it again when it is complete") from error
        except OSError as error:
            raise NotPossible(f"{printable(disk)} cannot be read: {reason_of(error)}") from error

    async def _offer(self, found: Found, manifest: Manifest) -> LibraryFile:
        await self._directory.offer(found, manifest.content_id, manifest)
        offered = self._holdings.shared(found.path)
        if offered is None or offered[0].stamp != found.stamp:
            raise NotPossible(f"{printable(found.path)} changed while it was put; put it again when it is complete")
        return offered[1]


def _located(source: Path) -> Path:
    """Resolves links in the directories that lead to a file, and not the file itself."""
    return Path(os.path.realpath(source.parent)) / source.name
