"""What a server takes from the network at once: connections, calls, and answers that nobody reads."""

import contextlib
import resource
import sys
from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one server. docs/security.md says why each is what it is.

    Attributes:
        connections: most open at once; further ones are closed as soon as they come.
        handshake: seconds that a new connection has for TLS and the first frames of HTTP/2.
        calls_each: most calls of one caller that are under way.
        unread_each: most bytes of answers that one caller has asked for and that have not left.
        unread: the same of all callers together.
    """

    connections: int = 4096
    handshake: float = 5.0
    calls_each: int = 512
    unread_each: int = 48 * _MIB
    unread: int = 512 * _MIB


def open_files() -> None:
    """Lets this process open as many files as the system allows it; each connection is one.

    Shells start programs with 1,024 often, which fewer callers than a server takes would use up.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS takes no more than this, whatever it says that it allows.
    most = hard if sys.platform == "linux" else min(hard, 10_240)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
