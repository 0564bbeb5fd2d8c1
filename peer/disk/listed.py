"""Under which name a directory lists a file that was found by another: some file systems fold case or normal forms.

Where `Foo` leads to the file `foo` (macOS, Windows' file systems, directories that fold case), a file that is there is
not yet the file that was meant. Everything here blocks: call it in threads.
"""

import os
import string
import unicodedata
from contextlib import suppress
from pathlib import Path

from core.names import folded
from peer.disk import rooted

_SWAPPED = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase, string.ascii_uppercase + string.ascii_lowercase
)


def listed_path(root: Path, relative: str) -> str:
    """Returns a path beneath `root` as the directories on the way list its parts.

    Raises:
        InvalidInput: the path does not stay beneath a root.
        OSError: it is not there, or cannot be looked at.
    """
    above = ""
    for part in rooted.parts_of(relative):
        above += listed_name(root, above + part) + "/"
    return above[:-1]


def as_listed(root: Path, relative: str) -> str:
    """Returns listed_path, or the path itself when nothing can be found there."""
    with suppress(OSError):
        return listed_path(root, relative)
    return relative


def listed_name(root: Path, relative: str) -> str:
    """Returns the last part of a path beneath `root` as its directory lists it.

    Where the same letters in the other case, and the other normal forms, do not lead to the same file, the directory
    tells names apart and need not be read.

    Raises:
        InvalidInput, OSError: as listed_path.
    """
    with rooted.parent_of(root, relative) as (directory, name):
        here = os.stat(name, dir_fd=directory, follow_symlinks=False)
        swapped = name.translate(_SWAPPED)
        others = {swapped, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)} - {name}
        if swapped != name and not any(_leads_to(directory, other, here) for other in others):
            return name
        return _listed(directory, name, here.st_ino)


def _leads_to(directory: int, name: str, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(file, os.stat(name, dir_fd=directory, follow_symlinks=False))
    except OSError:  # absent; or too long in this form
        return False


def _listed(directory: int, name: str, inode: int) -> str:
    alike = ""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name == name:
                return name
            # Short names of FAT are alike in nothing but the inode; some overlays list other inodes than stat tells.
            if folded(entry.name) == folded(name) or (not alike and entry.inode() == inode):
                alike = entry.name
    if not alike:
        raise FileNotFoundError(2, os.strerror(2), name)
    return alike
