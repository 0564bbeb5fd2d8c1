"""Dials a peer back that asks whether it can be dialled: only where its own call comes from, and so never a third."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

from core.addresses import join_address, numeric, split_address
from core.errors import Busy
from core.shares import Shares
from peer import checked
from relevo.v1 import peer_relay_pb2 as pb2

# Addresses that are tried for one call.
MOST_TRIED = 4
# How long an address may take to answer, in seconds.
PATIENCE = 3.0
# Calls of one caller are so far apart, in seconds; and so many are answered at once, one of each caller.
PAUSE = 1.0
AT_ONCE = 16
# So many callers are remembered for that.
_REMEMBERED = 4096

# Tells the addresses of a host that is spelt as a name.
LookUp = Callable[[str], Awaitable[tuple[str, ...]]]
# Tells whether a peer answers at a `host:port` in numbers within so many seconds, and under TLS proves its id.
Dial = Callable[[str, str, float], Awaitable[bool]]


class DialBack:
    """Answers PeerRelay.DialBack."""

    def __init__(self, clock: Callable[[], float], look_up: LookUp, dial: Dial) -> None:
        """`clock` tells monotonic seconds."""
        self._clock = clock
        self._look_up = look_up
        self._dial = dial
        self._under_way = Shares(AT_ONCE, 1)
        self._again: OrderedDict[str, float] = OrderedDict()

    async def answer(self, request: pb2.DialBackRequest, who: str, peer_id: str, source: str) -> pb2.DialBackResponse:
        """Dials a caller back.

        Args:
            request: where it believes that it can be dialled.
            who: the caller, as its share is counted.
            peer_id: who has to answer there; empty in plaintext, where nobody proves anything.
            source: the connection of the call, as gRPC names it.

        Raises:
            InvalidInput: there are too many addresses, or one is none.
            Busy: the caller, or too many, have asked just now.
        """
        addresses = checked.addresses(request.addresses, "addresses")
        wait = self._again.get(who, float("-inf")) - self._clock()
        if wait > 0 or not self._under_way.take(who):
            raise Busy("dialling back takes a while; ask again soon", max(wait, PAUSE))
        try:
            tried = await self._leading_to(source, addresses)
            for address in tried:
                if await self._dial(address, peer_id, PATIENCE):
                    return pb2.DialBackResponse(tried_addresses=tried, working_address=address)
            return pb2.DialBackResponse(tried_addresses=tried)
        finally:
            self._under_way.give_back(who)
            self._again[who] = self._clock() + PAUSE
            self._again.move_to_end(who)
            if len(self._again) > _REMEMBERED:
                self._again.popitem(last=False)

    async def _leading_to(self, source: str, addresses: Sequence[tuple[str, int]]) -> list[str]:
        """Returns those of the addresses that lead to the host of a connection, in numbers."""
        kind, _, remote = unquote(source).partition(":")
        if kind not in {"ipv4", "ipv6"}:
            return []
        host = numeric(split_address(remote)[0])
        found: dict[str, None] = {}
        for name, port in addresses:
            spelt = numeric(name)
            hosts = (str(spelt),) if spelt is not None else await self._look_up(name)
            if port and host is not None and any(numeric(one) == host for one in hosts):
                found[join_address(str(host), port)] = None
        return list(found)[:MOST_TRIED]
