"""The shared directory as it was last seen, and what a new look changes. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from core.names import normal
from peer.library.scan import Found, Sight
from peer.library.selection import TWIN, preference


@dataclass(slots=True)
class Changes:
    """What a look changes.

    Attributes:
        new: files that appeared or look otherwise than before, and files that the look was for.
        gone: catalogue paths that lead to no file any more.
        again: paths on disk to look at next: files that had stood back behind one that is gone now.
    """

    new: list[Found] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    not_skipped: list[str] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    not_directories: set[str] = field(default_factory=set)


class Tree:
    """Which files may be offered, each under one path, and which are skipped.

    Attributes:
        found: catalogue path to file.
        skipped: path on disk to reason.
    """

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.skipped: dict[str, str] = {}
        self._directories: set[str] = set()

    def compare(self, scopes: Collection[str], sight: Sight) -> Changes:
        """Returns what a look at `scopes` changes, without changing anything: it may run in a thread."""
        changes = Changes(skipped=dict(sight.skipped), directories=sight.directories)
        changes.not_directories = set(_within(scopes, self._directories, self._directories)) - sight.directories
        seen = {found.disk for found in sight.found}
        lost = {disk for disk in self._disks_within(scopes) if disk not in seen}
        chosen: dict[str, Found] = {}
        for found in sorted(sight.found, key=lambda each: preference(each.disk)):
            rival = chosen.get(found.path) or self.found.get(found.path)
            if rival is not None and rival.disk != found.disk and rival.disk not in lost:
                loser = max(found, rival, key=lambda each: preference(each.disk))
                changes.skipped[loser.disk] = TWIN
                if loser is found:
                    continue
            chosen[found.path] = found
        for disk in lost:
            path = normal(disk)
            if path not in chosen:
                changes.gone.append(path)
                changes.again |= self._twins_of(path) - {disk}
        changes.new = [each for path, each in chosen.items() if self.found.get(path) != each or each.disk in scopes]
        changes.not_skipped = [
            disk for disk in _within(scopes, self.skipped, self._directories) if disk not in changes.skipped
        ]
        return changes

    def apply(self, changes: Changes) -> None:
        """Makes the changes of the last comparison."""
        for path in changes.gone:
            self.found.pop(path, None)
        self.found.update((each.path, each) for each in changes.new)
        for disk in changes.not_skipped:
            self.skipped.pop(disk, None)
        self.skipped.update(changes.skipped)
        self._directories -= changes.not_directories
        self._directories |= changes.directories

    def _disks_within(self, scopes: Collection[str]) -> list[str]:
        if not any(not scope or scope in self._directories for scope in scopes):
            files = (self.found.get(normal(scope)) for scope in scopes)
            return [found.disk for found in files if found is not None and found.disk in scopes]
        return _within(scopes, [found.disk for found in self.found.values()], self._directories)

    def _twins_of(self, path: str) -> set[str]:
        if path.isascii():
            return set()
        return {disk for disk, reason in self.skipped.items() if reason == TWIN and normal(disk) == path}


def _within(scopes: Collection[str], disks: Collection[str], directories: Collection[str]) -> list[str]:
    """Returns which of some paths on disk lie at or beneath the scopes."""
    if "" in scopes:
        return list(disks)
    beneath = tuple(f"{scope}/" for scope in scopes if scope in directories)
    exact = set(scopes)
    return [disk for disk in disks if disk in exact or (beneath and disk.startswith(beneath))]
