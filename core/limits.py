"""What a server takes from the network at once: connections, calls, and answers that nobody reads."""

import contextlib
import logging
import resource
import sys
from dataclasses import dataclass

log = logging.getLogger("relevo.rpc")
_MIB = 1024 * 1024
# What a program opens beside connections: databases, files that are served, sockets to others.
_OTHER_FILES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one server. docs/security.md says why each is what it is.

    Attributes:
        connections: most open at once; further ones are closed as soon as they come, and before it comes to that those
            of the host that has the most.
        handshake: seconds that a new connection has for TLS and the first frames of HTTP/2.
        idle: seconds without a call after which a connection is closed, at the latest when twice as many are over;
            infinite for never.
        calls_each: most calls of one caller that are under way.
        unread_each: most bytes of answers that one caller has asked for and that have not left.
        unread: the same of all callers together.
        streams: calls under way on one connection; further ones wait at the client.
        pending: most calls that wait for their turn, of all callers together.
        metadata: most bytes of a request's metadata; from four fifths of it on some are refused.
        ping_interval: a client that pings sooner than so many seconds after its last ping is disconnected.
    """

    connections: int = 4096
    handshake: float = 5.0
    idle: float = 10.0
    calls_each: int = 512
    unread_each: int = 48 * _MIB
    unread: int = 512 * _MIB
    streams: int = 256
    pending: int = 10_000
    metadata: int = 16 * 1024
    ping_interval: float = 5.0


def open_files(connections: int) -> None:
    """Lets this process open as many files as the system allows it; each of `connections` is one.

    Shells start programs with 1,024 often, which fewer callers than a server takes would use up. Where even the system
    allows too few, the log says so.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS takes no more than this, whatever it says that it allows.
    most = hard if sys.platform == "linux" else min(hard, 10_240)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if 0 <= most < connections + _OTHER_FILES:
        text = "the system allows %d open files, too few for %d connections; allow more, or set --max-connections"
        log.warning(text, most, connections)
