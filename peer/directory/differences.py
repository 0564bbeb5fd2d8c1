"""What central's record of this peer lacks, in batches that central takes. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from peer.library.holdings import LibraryFile

MAX_ITEMS = 1000
# Who carries a batch for another takes messages of 320 KiB, and central of 1 MiB; names may be long.
MAX_BATCH_BYTES = 256 * 1024
# Directives that are declined in one batch: each with a reason of up to 500 characters.
MAX_DECLINED = 100
_ADDED = re.compile(r"added\[(\d+)\]")
T = TypeVar("T")


@dataclass(slots=True)
class Published:
    """What the central at `central` is known to hold of this peer: the state after `version`."""

    central: str = ""
    version: int = 0
    files: dict[str, LibraryFile] = field(default_factory=dict)
    stored: set[bytes] = field(default_factory=set)

    def apply(self, batch: "Batch") -> None:
        """Takes over a batch that central has acknowledged."""
        self.version += 1
        for path in batch.removed:
            self.files.pop(path, None)
        self.files.update({file.path: file for file in batch.added})
        self.stored.difference_update(batch.dropped)
        self.stored.update(batch.stored)


@dataclass(frozen=True, slots=True)
class Batch:
    """Differences that travel together: at most 1,000, all of one kind."""

    added: tuple[LibraryFile, ...] = ()
    removed: tuple[str, ...] = ()
    stored: tuple[bytes, ...] = ()
    dropped: tuple[bytes, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()

    def halves(self) -> "tuple[Batch, Batch] | None":
        """Returns two batches with half of what this one adds or stores; None when that is one item or nothing."""
        if len(self.added) > 1:
            half = len(self.added) // 2
            return replace(self, added=self.added[:half]), replace(self, added=self.added[half:])
        if len(self.stored) > 1:
            half = len(self.stored) // 2
            return replace(self, stored=self.stored[:half]), replace(self, stored=self.stored[half:])
        return None

    def named(self, name: str) -> LibraryFile | None:
        """Returns the entry that a refused field such as `added[3].path` belongs to, or the only one; else None."""
        found = _ADDED.match(name)
        index = int(found[1]) if found else 0
        return self.added[index] if (found or len(self.added) == 1) and index < len(self.added) else None

    def without(self, file: LibraryFile) -> "Batch":
        """Returns this batch without one of the entries that it adds."""
        return replace(self, added=tuple(one for one in self.added if one is not file))


def differences(
    published: Published, files: Mapping[str, LibraryFile | None], stored: Mapping[bytes, bool], confirm: set[bytes]
) -> Iterator[Batch]:
    """Yields the batches that make `published` say what the library says; none when nothing differs.

    Removals come first, so that a renamed file never shows twice and room is made before it is taken; entries that
    replace others come before new ones, which central may not have room for. Entries go in the order of their paths.

    Args:
        published: what central holds.
        files: what the library has at some paths, None for nothing. Others are taken to be as they were published.
        stored: the same of some contents: whether they are stored.
        confirm: contents to name again, stored or not.
    """
    removed = [path for path, file in files.items() if file is None and path in published.files]
    dropped = [
        content for content, here in stored.items() if not here and (content in published.stored or content in confirm)
    ]
    held = [
        content for content, here in stored.items() if here and (content not in published.stored or content in confirm)
    ]
    added = [file for path, file in sorted(files.items()) if file is not None and published.files.get(path) != file]
    replaced = [file for file in added if file.path in published.files]
    new = [file for file in added if file.path not in published.files]
    yield from (Batch(removed=chunk) for chunk in _chunks(removed, lambda path: len(path.encode())))
    yield from (Batch(dropped=chunk) for chunk in _chunks(dropped, len))
    yield from (Batch(stored=chunk) for chunk in _chunks(held, len))
    for files_ in (replaced, new):
        yield from (Batch(added=chunk) for chunk in _chunks(files_, lambda file: len(file.path.encode()) + 80))


def _chunks(items: list[T], weight: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    chunk: list[T] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == MAX_ITEMS or size + weight(item) > MAX_BATCH_BYTES):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(item)
        size += weight(item)
    if chunk:
        yield tuple(chunk)
