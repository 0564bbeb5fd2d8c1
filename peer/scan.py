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

from core.errors import RelevoError
from core.names import normal
from peer import rooted
from peer.ignore import IGNORE_FILE, IgnoreRules, reason_of
from peer.rooted import Stamp
from peer.selection import SILENT, ancestors, kind_refusal, name_refusal

# What a path answers that was there a moment ago, or that leads through a link.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})
_ANY_EXECUTE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Found:
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
        sight = Sight()
        try:
            self._root.stat()
        except OSError as error:
            sight.problem = f"the shared directory cannot be read: {reason_of(error)}"
            sight.skipped["."] = sight.problem
            return sight
        pending: list[str] = []
        for scope in scopes:
            if not scope:
                pending.append("")
            elif self._may_enter(scope, rules, sight):
                self._look_at(scope, rules, sight, pending)
        while pending:
            self._walk(pending.pop(), rules, sight, pending)
        if "" in scopes and rules.problem:
            sight.skipped[IGNORE_FILE] = rules.problem
        return sight

    def _may_enter(self, scope: str, rules: IgnoreRules, sight: Sight) -> bool:
        """Tells whether nothing above a path keeps it out."""
        for above in ancestors(scope):
            refusal = self._refusal(above)
            if refusal is not None or rules.ignores(normal(above) + "/"):
                if refusal:
                    sight.skipped[above] = refusal
                return False
        return True

    def _refusal(self, disk: str) -> str | None:
        return SILENT if disk in self._excluded else name_refusal(disk)

    def _look_at(self, disk: str, rules: IgnoreRules, sight: Sight, pending: list[str]) -> None:
        try:
            status = rooted.status(self._root, disk)
        except (OSError, RelevoError) as error:
            _note(disk, error, sight)
        else:
            self._consider(disk, status, rules, sight, pending)

    def _walk(self, directory: str, rules: IgnoreRules, sight: Sight, pending: list[str]) -> None:
        prefix = f"{directory}/" if directory else ""
        try:
            descriptor = rooted.open_directory(self._root, directory)
        except (OSError, RelevoError) as error:
            _note(directory, error, sight)
            return
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if self._refusal(prefix + entry.name) == SILENT:
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError as error:
                        _note(prefix + entry.name, error, sight)
                    else:
                        self._consider(prefix + entry.name, status, rules, sight, pending)
        except OSError as error:
            _note(directory, error, sight)
        finally:
            os.close(descriptor)

    def _consider(
        self, disk: str, status: os.stat_result, rules: IgnoreRules, sight: Sight, pending: list[str]
    ) -> None:
        """Sorts one entry into the sight, or into the directories that are still to be walked."""
        is_directory = stat.S_ISDIR(status.st_mode)
        refusal = self._refusal(disk)
        if refusal is None and not is_directory:
            refusal = kind_refusal(status.st_mode, status.st_size)
        if refusal == SILENT:
            return
        path = normal(disk)
        if rules.ignores(f"{path}/" if is_directory else path):
            return
        if refusal is not None:
            sight.skipped[disk] = refusal
        elif is_directory:
            sight.directories.add(disk)
            pending.append(disk)
        else:
            sight.found.append(Found(path, disk, Stamp.of(status), bool(status.st_mode & _ANY_EXECUTE)))


def _note(disk: str, error: Exception, sight: Sight) -> None:
    """Records what cannot be read; what has just gone is no news."""
    if not (isinstance(error, OSError) and error.errno in _GONE):
        sight.skipped[disk or "."] = f"it cannot be read: {reason_of(error)}"
