"""What an error of the file system means to the user who waits for a file."""

import errno
from pathlib import Path

from core.errors import NotPossible
from core.names import printable

_ADVICE = {
    errno.ENOSPC: "the disk is full; make room and try again",
    errno.EDQUOT: "your quota is used up; make room and try again",
    errno.EFBIG: "the file system cannot hold a file of this size; choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "permission is denied; choose another place",
    errno.EPERM: "permission is denied; choose another place",
    errno.ENOENT: "the directory is not there; make it first",
    errno.ENOTDIR: "it is not a directory; choose another place",
    errno.ELOOP: "a symbolic link stands in the way; remove it",
    errno.ENAMETOOLONG: "the file system cannot hold so long a name; choose another place",
    errno.EILSEQ: "the file system cannot hold such a name; choose another place",
    errno.EINVAL: "the file system cannot hold such a name; choose another place",
    errno.EIO: "the disk has failed; check it before you try again",
}


def disk_error(error: OSError, place: Path) -> NotPossible:
    """Returns the error that says what is wrong with `place` and what to do about it."""
    said = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, f"{said[:1].lower()}{said[1:]}")
    return NotPossible(f"cannot write to {printable(str(place))}: {advice}")
