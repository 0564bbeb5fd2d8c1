"""Who has how much under way on a server, so that nobody takes all of it."""

from typing import Any
from urllib.parse import unquote

from core.access import Role, caller
from core.addresses import network_of
from core.errors import Busy
from core.limits import Limits
from core.shares import Shares

# Who is over a limit is to come back after so many seconds.
_RETRY_AFTER = 0.5


def who_calls(context: Any) -> str:
    """Returns whose share of what there is a call takes.

    A peer is one caller, however many connections it opens; so is a machine that has no certificate yet. In plaintext,
    where all peers of a demonstration have one address and nobody has a name, it is the connection.
    """
    found = caller()
    if found.peer_id:
        return found.peer_id
    if found.role is Role.ADMIN:
        return found.role.name
    address: str = context.peer()
    return network_of(unquote(address).partition(":")[2]) if found.role is Role.STRANGER else address


class Callers:
    """What each caller has under way, from admission until the answer has left or the call has ended without one."""

    def __init__(self, limits: Limits) -> None:
        # Beyond so many calls in all, gRPC itself refuses: there are so many connections, and streams on each.
        self._calls = Shares(1 << 62, limits.calls_each)
        self._unread = Shares(limits.unread, limits.unread_each)

    def begin(self, context: Any) -> "Underway":
        """Counts a call until it ends.

        Raises:
            Busy: its caller has too many under way.
        """
        who = who_calls(context)
        if not self._calls.take(who):
            raise Busy("too many calls at once; wait for answers before asking more", _RETRY_AFTER)
        call = Underway(who, self._calls, self._unread)
        # gRPC calls it when the answer has been written, at the deadline, and when the connection ends.
        context.add_done_callback(call.ended)
        return call


class Underway:
    """A call under way.

    Attributes:
        who: whose it is.
    """

    def __init__(self, who: str, calls: Shares, unread: Shares) -> None:
        self.who = who
        self._calls = calls
        self._unread = unread
        self._size = 0

    def answering(self, size: int) -> None:
        """Counts the bytes of the answer until it has left.

        Raises:
            Busy: too much waits for this caller, or for all together, to be read.
        """
        if not self._unread.take(self.who, size):
            raise Busy("too many answers wait to be read; read them before asking more", _RETRY_AFTER)
        self._size = size

    def ended(self, context: Any) -> None:
        """Gives back what the call had."""
        del context
        self._calls.give_back(self.who)
        if self._size:
            self._unread.give_back(self.who, self._size)
