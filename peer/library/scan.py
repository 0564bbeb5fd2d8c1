"""Looks at the shared directory: which files are there, and which are not offered.

Hidden files and directories, and what `.relevoignore` keeps out, are passed over without a line; everything else that
is not offered comes with its reason. Links are never followed, and nothing is opened but directories. Empty directories
do not travel.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from core.errors import RelevoError
from core.names import normal
from peer.disk import rooted
from peer.disk.listed import listed_name
from peer.disk.rooted import Stamp
from peer.library.ignore import IGNORE_FILE, IgnoreRules, reason_of
from peer.library.selection import SILENT, ancestors, kind_refusal, name_refusal

# What a path answers that was there a moment ago, or that leads through a link.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


class Found(NamedTuple):
    """A file that may be offered: its catalogue path (NFC), its path as the disk has it, and how it looked."""

    path: str
    disk: str
    stamp: Stamp
    executable: bool


@dataclass(slots=True)
class Sight:
    """What one look saw.

    Attributes:
        found: files that may be offered.
        skipped: path on disk to reason, for files and directories that are not offered.
        directories: paths on disk of the directories that were walked, without the root.
        problem: why the shared directory cannot be seen at all; empty when it can.
    """

    found: list[Found] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    problem: str = ""


@dataclass(slots=True)
class _Look:
    """One look under way: by which rules, what it saw, which directories are still to be walked.

    `listed` has directories that scopes lie in, each as its own directory lists it.
    """

    rules: IgnoreRules
    sight: Sight = field(default_factory=Sight)
    pending: list[str] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)


class Scanner:
    """Looks at a shared directory. Its methods block and belong in a thread.

    Args:
        root: the shared directory.
        excluded: absolute paths that are passed over when they lie within it: the peer's home.
    """

    def __init__(self, root: Path, excluded: Collection[Path] = ()) -> None:
        self._root = root
        self._excluded = {
            os.path.relpath(path, root) for path in excluded if path.is_relative_to(root) and path != root
        }

    def look(self, scopes: Collection[str], rules: IgnoreRules) -> Sight:
        """Returns what stands at some relative paths on disk and beneath them; the empty path means everything."""
        look = _Look(rules)
        sight, pending = look.sight, look.pending
        try:
            self._root.stat()
        except OSError as error:
            sight.problem = f"the shared directory cannot be read: {reason_of(error)}"
            sight.skipped["."] = sight.problem
            return sight
        for scope in scopes:
            if not scope:
                pending.append("")
            elif self._may_enter(scope, look):
                self._look_at(scope, look)
        while pending:
            self._walk(pending.pop(), look)
        if "" in scopes and rules.problem:
            sight.skipped[IGNORE_FILE] = rules.problem
        return sight

    def _may_enter(self, scope: str, look: _Look) -> bool:
        """Tells whether nothing above a path keeps it out."""
        for above in ancestors(scope):
            refusal = self._refusal(above)
            if refusal is not None or look.rules.ignores(normal(above) + "/"):
                if refusal:
                    look.sight.skipped[above] = refusal
                return False
        return True

    def _refusal(self, disk: str) -> str | None:
        return SILENT if disk in self._excluded else name_refusal(disk)

    def _look_at(self, disk: str, look: _Look) -> None:
        try:
            status = rooted.status(self._root, disk)
            listed = self._as_listed(disk, look)
        except (OSError, RelevoError) as error:
            _note(disk, error, look.sight)
            return
        # A file system that folds names reports changes, and finds files, under names that nobody gave them.
        if listed == disk or self._may_enter(listed, look):
            disk = listed
            refusal = self._refusal(disk)
            if refusal != SILENT:
                self._consider(disk, refusal, status, look)

    def _as_listed(self, disk: str, look: _Look) -> str:
        above, _, name = disk.rpartition("/")
        if above and above not in look.listed:
            look.listed[above] = self._as_listed(above, look)
        prefix = f"{look.listed[above]}/" if above else ""
        return prefix + listed_name(self._root, prefix + name)

    def _walk(self, directory: str, look: _Look) -> None:
        prefix = f"{directory}/" if directory else ""
        try:
            descriptor = rooted.open_directory(self._root, directory)
        except (OSError, RelevoError) as error:
            _note(directory, error, look.sight)
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    disk = prefix + entry.name
                    refusal = self._refusal(disk)
                    if refusal == SILENT:
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError as error:
                        _note(disk, error, look.sight)
                    else:
                        self._consider(disk, refusal, status, look)
        except OSError as error:
            _note(directory, error, look.sight)
        finally:
            os.close(descriptor)

    def _consider(self, disk: str, refusal: str | None, status: os.stat_result, look: _Look) -> None:
        """Sorts one entry into the sight, or into the directories that are still to be walked."""
        is_directory = stat.S_ISDIR(status.st_mode)
        if refusal is None and not is_directory:
            refusal = kind_refusal(status.st_mode, status.st_size)
        path = normal(disk)
        if look.rules.ignores(f"{path}/" if is_directory else path):
            return
        if refusal is not None:
            look.sight.skipped[disk] = refusal
        elif is_directory:
            look.sight.directories.add(disk)
            look.pending.append(disk)
        else:
            look.sight.found.append(Found(path, disk, Stamp.of(status), bool(status.st_mode & _ANY_EXECUTE)))


def _note(disk: str, error: Exception, sight: Sight) -> None:
    """Records what cannot be read; what has just gone is no news."""
    if not (isinstance(error, OSError) and error.errno in _GONE):
        sight.skipped[disk or "."] = f"it cannot be read: {reason_of(error)}"
