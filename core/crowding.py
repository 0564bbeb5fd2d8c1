"""The connections of a server, counted by host: when they run out, whoever holds the most of them loses its newest.

gRPC has one limit for all connections together, and its Python no hook for one that comes: a single machine that opens
them all would keep everybody else out. They are files of this process, though, and one that is shut down looks to gRPC
as if its client had closed it (docs/decisions/0016-who-holds-most-connections-loses-some.md).
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterable

from core.addresses import join_address, network_of

log = logging.getLogger("relevo.rpc")
# Connections are told apart from this share of the limit on, and closed from that one on: the rest is for newcomers.
NOTED, CROWDED = 1 / 2, 7 / 8
# Between two looks, in seconds. Who opens all of what is left sooner keeps the others out until the next one.
_INTERVAL = 0.25
# Every open file of this process, on Linux and macOS.
_FILES = "/dev/fd"


def too_many(connections: Iterable[str], most: int) -> list[str]:
    """Returns which of `connections` (`host:port`, the oldest first) to close so that `most` are left.

    Always the newest of the host that has the most, so that who has few loses none while others have more.
    """
    by_host: dict[str, list[str]] = {}
    for connection in connections:
        by_host.setdefault(network_of(connection), []).append(connection)
    left = Counter({host: len(held) for host, held in by_host.items()})
    closing = []
    for _ in range(left.total() - most):
        host, _ = left.most_common(1)[0]
        left[host] -= 1
        closing.append(by_host[host].pop())
    return closing


class Crowd:
    """Watches over the connections to one port of this process."""

    def __init__(self, port: int, most: int) -> None:
        """`most` is gRPC's own limit; beyond it further connections are closed as they come."""
        self._port = port
        self._most = most
        self._since: dict[str, None] = {}  # ordered by when they were first seen
        self._crowded = False

    async def watch(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await asyncio.to_thread(self.thin)
            except OSError as error:  # a system without /dev/fd, or one that is out of files itself
                log.debug("connections cannot be counted: %s", error)

    def thin(self) -> None:
        """Closes connections of whoever has the most, when nearly all that there may be are open."""
        files = os.listdir(_FILES)  # noqa: PTH208 - names are all that is wanted
        if len(files) < self._most * NOTED:
            return
        there = self._to_this_port(files)
        self._since = {each: None for each in self._since if each in there} | dict.fromkeys(there)
        closing = too_many(self._since, int(self._most * CROWDED))
        if closing and not self._crowded:
            text = "%d of %d connections are open: the newest of the host with the most (%s) are being closed"
            log.warning(text, len(there), self._most, network_of(closing[0]))
        self._crowded = bool(closing)
        for each in closing:
            _shut(there[each], each)

    def _to_this_port(self, files: Iterable[str]) -> dict[str, int]:
        """Returns the descriptors of the connections to this port, by the address at the other end."""
        found = {}
        for name in files:
            ends = _ends(int(name))
            if ends and ends[0] == self._port:
                found[ends[1]] = int(name)
        return found


def _ends(descriptor: int) -> tuple[int, str] | None:
    """Returns the port on this side and the address on the other; None for whatever is no connection over TCP."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        host, port, *_ = connection.getpeername()
        return connection.getsockname()[1], join_address(host, port)
    except OSError:  # it listens, or has just ended
        return None
    finally:
        connection.detach()  # it is gRPC's


def _shut(descriptor: int, address: str) -> None:
    """Shuts a connection down, unless its descriptor is another's by now."""
    ends = _ends(descriptor)
    if ends is None or ends[1] != address:
        return
    connection = socket.socket(fileno=descriptor)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended by itself
        return
    finally:
        connection.detach()
