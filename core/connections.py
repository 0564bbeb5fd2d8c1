"""What gRPC has no option for, set on a server's connections by their descriptors: how they queue and share a link.

A connection queues a part of a block in the kernel, and a slow one very little (TCP_NOTSENT_LOWAT). As it comes, Linux
lets it queue megabytes, which on a slow link are seconds: a block counts as sent long before it is, so that the
connection is taken for a fast one, and whatever follows on it, such as the word which block comes next, waits behind
it. On a fast connection so little would cost a third of the processor time, and nothing waits for long there.

Where the system's congestion control is BBR, it is used for whoever is alone, and CUBIC, which yields to losses, where
several are being sent blocks. BBR as Linux has it (version 1) takes no loss for a sign that a queue is full: sixteen
connections of one host through a queue of 50 ms sent a tenth to more than a third of their segments again
(docs/decisions/0021-connections-that-share-a-link-yield.md).
"""

import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from core.addresses import split_address

# Bytes that may wait to be sent for the first time, on any connection and on a slow one; what is on its way, and may
# have to be sent again, is not counted.
NOT_SENT = 128 * 1024
SLOW_NOT_SENT = 16 * 1024
# A connection is slow on which a block takes longer than this, in seconds.
SLOW = 0.1
_TCP_NOTSENT_LOWAT = {"linux": 25, "darwin": 0x201}
_TCP_CONGESTION = getattr(socket, "TCP_CONGESTION", None)
_LONGEST_NAME = 16
# The first that the system allows: not every user may use every one.
_YIELDING = (b"cubic", b"reno")
# Whoever is sent so many blocks in a row while nobody else is sent any is alone.
ALONE = 8
_DESCRIPTORS = Path("/proc/self/fd")
_REMEMBERED = 1024


@dataclass(slots=True)
class _Settings:
    """What a connection was told: whether it queues little, and whether it yields; and how many blocks it had alone."""

    short: bool = False
    yields: bool = True
    alone: int = 0


class Connections:
    """The connections of a server. Where the system does not name its descriptors, nothing changes."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, _Settings] = OrderedDict()
        self._own = b""
        self._yielding = b""

    def listening(self, port: int) -> None:
        """Has the connections that come in on a port queue at most NOT_SENT, and yield where the system's would not."""
        for listener in _sockets(lambda one: _listens(one, port)):
            keep_short(listener, NOT_SENT)
            own = congestion_control(listener)
            if not own.startswith(b"bbr"):
                continue
            for name in _YIELDING:
                with suppress(OSError):
                    _control(listener, name)
                    self._own, self._yielding = own, name
                    break

    def note(self, peer: str, took: float, *, alone: bool) -> None:
        """Takes note of how a block has left for `peer`, as gRPC calls it: `ipv4:…` or `ipv6:…`.

        `took` is how many seconds it takes, 0 when that is not known yet; `alone` says that nobody else is being sent
        any.
        """
        known = self._peers.setdefault(peer, _Settings())
        known.alone = known.alone + 1 if alone else 0
        yields = known.alone < ALONE
        shorten = took > SLOW and not known.short
        turn = bool(self._own) and yields != known.yields
        if shorten or turn:
            for one in connections_to(peer):
                if shorten:
                    keep_short(one, SLOW_NOT_SENT)
                if turn:
                    with suppress(OSError):
                        _control(one, self._yielding if yields else self._own)
        known.short, known.yields = known.short or shorten, yields
        if len(self._peers) > _REMEMBERED:
            self._peers.popitem(last=False)


def keep_short(connection: socket.socket, most: int) -> None:
    """Has a connection queue at most so many bytes from now on; of a listener, those that come in."""
    option = _TCP_NOTSENT_LOWAT.get(sys.platform)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, most)


def congestion_control(connection: socket.socket) -> bytes:
    """Returns the name of the congestion control that a socket uses; empty where there is no choice."""
    if _TCP_CONGESTION is None:
        return b""
    return connection.getsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, _LONGEST_NAME).rstrip(b"\0")


def connections_to(peer: str) -> Iterator[socket.socket]:
    """Yields this process's connections with a peer, as gRPC calls it; each is closed for this use afterwards."""
    kind, _, address = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return
    host, port = split_address(address)
    ends = {(host, port), (f"::ffff:{host}", port)}
    yield from _sockets(lambda one: one.getpeername()[:2] in ends)


def _control(connection: socket.socket, name: bytes) -> None:
    if _TCP_CONGESTION is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, name)


def _listens(one: socket.socket, port: int) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) and one.getsockname()[1] == port


def _sockets(fits: Callable[[socket.socket], bool]) -> Iterator[socket.socket]:
    """Yields this process's TCP sockets that fit; a socket for which `fits` raises OSError does not."""
    if not _DESCRIPTORS.is_dir():
        return
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError), _borrowed(int(name)) as one:
            if one.family in {socket.AF_INET, socket.AF_INET6} and one.type == socket.SOCK_STREAM and fits(one):
                yield one


def _borrowed(descriptor: int) -> socket.socket:
    """Returns a socket object for a descriptor, which stays open when it is closed. Raises OSError when it is none."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
