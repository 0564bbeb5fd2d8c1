"""Dialling addresses that others have named: only where another machine can be, whatever the name resolves to."""

import asyncio
import logging
import socket
from collections.abc import Callable

from core.addresses import is_loopback, join_address, leads_astray, numeric, split_address
from core.errors import InvalidInput, Unreachable
from core.names import printable
from peer.links.channels import Channels, RelayStub

log = logging.getLogger("relevo.dialling")

# For so many seconds a name leads where it led; one that led nowhere is looked up again sooner.
_REMEMBERED = 60.0
_NOT_FOUND = 5.0
_MOST_NAMES = 256
# How long a look-up may take, in seconds: resolvers try a name server that is away for half a minute.
LOOK_UP = 3.0


class Dialler:
    """Gives lines to peers at addresses that central, a neighbour or a holder has told.

    Those of the own machine or link are not dialled, unless central is on this machine too: then everybody is. Names
    are looked up here and dialled in numbers, so that a name leads nowhere else than an address may.
    """

    def __init__(self, channels: Channels, central: Callable[[], str], clock: Callable[[], float]) -> None:
        """`central` tells the `host:port` of the central in use, `clock` monotonic seconds."""
        self._channels = channels
        self._central = central
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def peer(self, address: str, peer_id: str) -> RelayStub:
        """Returns the stub for the peer at `host:port`; use it at once, and ask again for the next call.

        Raises:
            Unreachable: the address is none, or leads to this machine or its link, or its name is not known.
        """
        try:
            host, port = split_address(address)
        except InvalidInput as error:
            raise Unreachable(f"it cannot be dialled: {error}") from error
        if not await self._central_is_here():
            host = await self._elsewhere(host)
        return self._channels.peer(join_address(host, port), peer_id)

    async def _central_is_here(self) -> bool:
        host, _ = split_address(self._central())
        if numeric(host) is not None:
            return is_loopback(host)
        found = await self.look_up(host)
        return bool(found) and all(map(is_loopback, found))

    async def _elsewhere(self, host: str) -> str:
        address = numeric(host)
        hosts = (str(address),) if address is not None else await self.look_up(host)
        for found in hosts:
            if not leads_astray(found):
                return found
        if hosts:
            raise Unreachable(f"{host} leads back to this machine or its own link, and is not dialled")
        raise Unreachable(f"no address is known for {host}")

    async def look_up(self, name: str) -> tuple[str, ...]:
        """Returns the addresses of a name, those first that the system would try first; none when it has none.

        When it cannot be looked up any more, it leads where it led: downloads go on while the name server is away.
        """
        until, found = self._known.get(name, (float("-inf"), ()))
        if until <= self._clock():
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(LOOK_UP):
                    infos = await loop.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
                found = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
            except (OSError, UnicodeError):  # TimeoutError is an OSError
                log.debug("%s cannot be looked up", printable(name))
            until = self._clock() + (_REMEMBERED if found else _NOT_FOUND)
        self._known.pop(name, None)
        self._known[name] = until, found  # the most recently used comes last
        if len(self._known) > _MOST_NAMES:
            del self._known[next(iter(self._known))]
        return found
