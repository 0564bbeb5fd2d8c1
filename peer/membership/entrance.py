"""An entrance: newcomers that do not reach central become members through this peer.

Whatever comes here is passed on to central's enrolment, unread: TLS is between the newcomer and central, so that this
peer can delay what passes, and neither read nor forge it. Strangers reach nothing else through it, and not much of
that: connections, bytes and seconds are limited.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from core.addresses import join_address, network_of, split_address
from core.errors import NotPossible
from core.rate import Gate

log = logging.getLogger("relevo.entrance")

# Connections at once, and of one host, which may be a router with a classroom behind it.
AT_ONCE, AT_ONCE_EACH = 64, 16
# New connections a second, and of one host, after ten seconds' worth at once.
RATE, RATE_EACH = 8.0, 4.0
# Strangers can have the same warning logged so often, in seconds.
_SILENCE = 60.0
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class EntranceLimits:
    """What one connection may take.

    Attributes:
        to_central: most bytes; a newcomer's handshake and request have some 3 KiB.
        to_newcomer: most bytes; the answer has 64 KiB at most.
        silent: seconds before its first bytes.
        longest: seconds in all; a newcomer waits half as long for its answer.
        dial: seconds for reaching one address of central's.
    """

    to_central: int = 8 << 10
    to_newcomer: int = 128 << 10
    silent: float = 3.0
    longest: float = 10.0
    dial: float = 2.0


class Entrance:
    """A port on which strangers reach central's enrolment.

    Attributes:
        address: the `host:port` that it listens on; empty while it is not open.
        led: connections that were led to central.
        refused: connections that were turned away: too many came, or central was not reached.
    """

    def __init__(
        self, centrals: Callable[[], Sequence[str]], clock: Callable[[], float], limits: EntranceLimits | None = None
    ) -> None:
        """`centrals` tells where Enrolment is, `host:port`, the first to try first; `clock` is monotonic."""
        self.address = ""
        self.led = self.refused = 0
        self._centrals = centrals
        self._clock = clock
        self._limits = limits or EntranceLimits()
        self._gate = Gate(RATE_EACH, RATE)
        self._there: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None
        self._said: dict[str, float] = {}

    async def open(self, address: str, port: int) -> None:
        """Listens on `host:port`, where `[::]` is every host and `port` stands for port 0.

        Raises:
            NotPossible: it cannot be bound.
        """
        host, chosen = split_address(address, "entrance")
        at = join_address(host, chosen or port)
        try:
            listening = _listening(host, chosen or port)
        except OSError as error:
            raise NotPossible(
                f"cannot let newcomers in on {at} ({error.strerror}): choose another host or port with --entrance"
            ) from error
        self._server = await asyncio.start_server(self._come, sock=listening, limit=self._limits.to_central)
        self.address = join_address(host, listening.getsockname()[1])
        log.info("newcomers are let through to central on %s", self.address)

    async def close(self) -> None:
        """Ends it, with every connection that passes through."""
        if self._server is not None:
            self._server.close()
        for task in self._there:
            task.cancel()
        await asyncio.gather(*self._there, return_exceptions=True)

    def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port, *_ = writer.get_extra_info("peername") or ("", 0)
        address = join_address(host, port)
        if not self._has_room(address):
            self.refused += 1
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._lead(reader, writer))
        self._there[task] = network_of(address)
        task.add_done_callback(self._there.pop)

    def _has_room(self, address: str) -> bool:
        """Tells whether one more connection may come from `host:port`."""
        held, host = Counter(self._there.values()), network_of(address)
        if held.total() >= AT_ONCE or held[host] >= AT_ONCE_EACH:
            self._say("so many are at the entrance at once that some are turned away")
        elif self._gate.take(address, self._clock()):
            self._say("so many come to the entrance that some are turned away")
        else:
            return True
        return False

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes bytes between a newcomer and central until either ends, or takes more than it may."""
        limits = self._limits
        central: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(limits.longest):
                async with asyncio.timeout(limits.silent):
                    hello = await reader.read(limits.to_central)
                if not hello:  # who says nothing costs central no connection
                    return
                answers, central = await self._dial()
                for one in (writer, central):
                    one.transport.set_write_buffer_limits(0)  # what was drained has left this process
                central.write(hello)
                await _first(
                    _pipe(reader, central, limits.to_central - len(hello)),
                    _pipe(answers, writer, limits.to_newcomer),
                )
        except OSError as error:  # TimeoutError is one
            log.debug("a newcomer's connection ends: %r", error)
        finally:
            for each in (writer, central):
                if each is not None:
                    each.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to central's enrolment. Raises OSError."""
        centrals = self._centrals()
        for address in centrals:
            host, port = split_address(address)
            try:
                async with asyncio.timeout(self._limits.dial):
                    found = await asyncio.open_connection(host, port, limit=self._limits.to_central)
            except OSError:
                continue
            self.led += 1
            return found
        self.refused += 1
        self._say(f"newcomers cannot be let in: central's enrolment does not answer at {', '.join(centrals)}")
        raise ConnectionError("central is not reached")

    def _say(self, what: str) -> None:
        """Warns, once a minute of the same, however many strangers make it happen again."""
        if self._clock() >= self._said.get(what, 0.0):
            self._said[what] = self._clock() + _SILENCE
            log.warning("%s", what)


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; `::` is IPv4 too, and only that where IPv6 is missing. Raises OSError."""
    if host != "::":
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
    """Passes `most` bytes on, or fewer when there are no more."""
    while most > 0 and (data := await reader.read(most)):
        writer.write(data)
        await writer.drain()
        most -= len(data)


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Runs all until the first has ended, and raises what that raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
