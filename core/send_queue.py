"""How much a slow connection queues in the kernel: little, so that what is sent last is not sent late.

As it comes, Linux lets a connection queue megabytes, which on a slow link are seconds: a block counts as sent long
before it is, and whatever follows on the connection, such as the word which block comes next, waits behind it. The
remedy is TCP_NOTSENT_LOWAT, which gRPC has no option for; so the connection's descriptor is looked for. On a fast
connection it would cost a third of the processor time, and nothing waits for long there.
"""

import os
import socket
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from core.addresses import split_address

# What may wait to be sent for the first time; what is on its way, and may have to be sent again, is not counted.
NOT_SENT = 16 * 1024
# A connection is slow on which a block takes longer than this, in seconds.
SLOW = 0.1
_TCP_NOTSENT_LOWAT = {"linux": 25, "darwin": 0x201}
_DESCRIPTORS = Path("/proc/self/fd")
_REMEMBERED = 1024


class SendQueues:
    """The queues of a server's connections. Where the system does not name its descriptors, nothing changes."""

    def __init__(self) -> None:
        self._short: OrderedDict[str, None] = OrderedDict()

    def note(self, peer: str, took: float) -> None:
        """Takes note that blocks take so many seconds to leave for `peer`, as gRPC calls it: `ipv4:…` or `ipv6:…`."""
        if took <= SLOW or peer in self._short:
            return
        self._short[peer] = None
        if len(self._short) > _REMEMBERED:
            self._short.popitem(last=False)
        keep_short(peer)


def keep_short(peer: str) -> int:
    """Has the connections with a peer queue little from now on; returns how many there are."""
    option = _TCP_NOTSENT_LOWAT.get(sys.platform)
    kind, _, address = unquote(peer).partition(":")
    if option is None or kind not in {"ipv4", "ipv6"} or not _DESCRIPTORS.is_dir():
        return 0
    host, port = split_address(address)
    told = 0
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError), _borrowed(int(name)) as one:
            if one.getpeername()[:2] in {(host, port), (f"::ffff:{host}", port)}:
                one.setsockopt(socket.IPPROTO_TCP, option, NOT_SENT)
                told += 1
    return told


def _borrowed(descriptor: int) -> socket.socket:
    """Returns a socket object for a descriptor, which stays open when it is closed. Raises OSError when it is none."""
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
