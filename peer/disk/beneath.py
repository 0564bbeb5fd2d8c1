"""Opens a path beneath a directory, following no symbolic link: by the kernel where it can, else part by part.

Linux 5.6 and later have openat2(2), which resolves the whole path at once and leaves the directory by no means: not by
a link, nor by a link of /proc. Elsewhere (macOS, older kernels, sandboxes that do not know the call) each part is
opened from the one above it with O_NOFOLLOW, which gives the same for two system calls a part.
"""

import errno
import functools
import os

from peer.disk import kernel

_DEEPER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The kernel's limit for a path in one call, its closing NUL included.
_PATH_MAX = 4096
# The kernel may ask to try again while directories are renamed; then the walk gets its turn.
_TRIES = 16


def open_beneath(directory: int, relative: str, flags: int, mode: int = 0) -> int:
    """Returns a descriptor of what stands at `relative` beneath an open directory; the caller closes it.

    Args:
        directory: descriptor of the directory.
        relative: `/`-separated parts, none of them empty, `.` or `..`: whoever calls has seen to that.
        flags: as for os.open; close-on-exec and no-follow are added.
        mode: of a file that O_CREAT makes; the umask applies.

    Raises:
        OSError: as os.open; ELOOP or ENOTDIR when a link stands on the way or at the end.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    # A single part needs no walk, and Python's own call is the faster one.
    if "/" in relative and kernel_opens_beneath():
        descriptor = _by_kernel(directory, relative, flags, mode)
        if descriptor is not None:
            return descriptor
    return _by_walk(directory, relative, flags, mode)


@functools.cache
def kernel_opens_beneath() -> bool:
    """Tells whether the kernel has openat2 and lets this process use it; asked once."""
    directory = os.open("/", _DEEPER)
    try:
        descriptor, _ = kernel.openat2(directory, b".", _DEEPER, 0)
    finally:
        os.close(directory)
    if descriptor < 0:  # ENOSYS, or EPERM in a sandbox
        return False
    os.close(descriptor)
    return True


def _by_kernel(directory: int, relative: str, flags: int, mode: int) -> int | None:
    """Returns a descriptor, or None when the walk has to do it."""
    path = os.fsencode(relative)
    tries = 0
    while tries < _TRIES and len(path) < _PATH_MAX:
        # Unlike open, openat2 refuses a mode that has no use.
        descriptor, problem = kernel.openat2(directory, path, flags, mode if flags & os.O_CREAT else 0)
        if descriptor >= 0:
            return descriptor
        if problem == errno.EAGAIN:
            tries += 1
        elif problem != errno.EINTR:  # a signal whose handler raises has raised by now
            raise OSError(problem, os.strerror(problem), relative)
    return None


def _by_walk(directory: int, relative: str, flags: int, mode: int) -> int:
    *above, last = relative.split("/")
    current = directory
    try:
        for part in above:
            deeper = os.open(part, _DEEPER, dir_fd=current)
            if current != directory:
                os.close(current)
            current = deeper
        return os.open(last, flags, mode, dir_fd=current)
    finally:
        if current != directory:
            os.close(current)
