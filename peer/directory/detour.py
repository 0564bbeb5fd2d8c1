"""The detour: a peer whose calls central does not answer logs in through others, and goes back when central answers."""

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import grpc

from core.errors import RelevoError
from core.status import from_rpc_error
from peer.directory.carried_central import CarriedCentral
from peer.directory.heartbeat import STREAM_BROKE
from peer.directory.logins import Login, Logins
from peer.links.contacts import Contact
from relevo.v1 import central_directory_pb2 as pb2

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.carried")

# How long the others may take for a login, in seconds: central may be back meanwhile.
LOGIN_TIMEOUT = 3.0
# How long to wait when they do not reach central either, in seconds, drawn between both: it is away, and all ask. At
# first they may just be logging in anew: the first pause is a sixteenth of that, and each is twice the one before.
AGAIN = (5.0, 15.0)
_DOUBLINGS = 4
# While calls are carried, central itself is tried again after this pause, in seconds, which doubles up to the last.
RETURN_PAUSE, LAST_RETURN_PAUSE = 2.0, 30.0
_TIMEOUT = 5.0


class Detour:
    """The way to central through other peers.

    Attributes:
        central: central, at the end of it.
    """

    def __init__(self, central: CarriedCentral, clock: Callable[[], float]) -> None:
        """`clock` tells monotonic seconds."""
        self.central = central
        self._clock = clock
        self._not_before = 0.0
        self._failures = 0

    @property
    def carrier(self) -> Contact | None:
        """Who has carried the last call, at one address; None before the first."""
        carriers = self.central.carriers
        return carriers.contact(carriers.working) if carriers.working else None

    async def log_in(self, logins: Logins, central: str) -> tuple[Login, pb2.LoginResponse] | None:
        """Logs in by way of another peer; None when none reaches central, or that was so a moment ago.

        `central` is the `host:port` that the peer would call itself.
        """
        carriers = self.central.carriers.in_order()
        if not carriers or self._clock() < self._not_before:
            return None
        send = partial(self.central.stub().Login, timeout=LOGIN_TIMEOUT)
        try:
            found = await logins.log_in(send, central, carriers[0].address, carried=True)
        except RelevoError as error:
            log.info("no other peer reaches central for this one: %s", error)
            part = 0.5 ** max(0, _DOUBLINGS - self._failures)
            self._not_before = self._clock() + part * random.uniform(*AGAIN)  # noqa: S311 - spreads peers
            self._failures += 1
            return None
        self.reset()
        return found

    def reset(self) -> None:
        """Has the next login by this way tried at once, whatever became of the last."""
        self._not_before, self._failures = 0.0, 0

    async def until_reached(self, next_central: Callable[[], "CentralDirectoryAsyncStub"], peer_id: str) -> None:
        """Returns when central itself answers, whatever it says; `next_central` gives whom to try, each time."""
        pause = RETURN_PAUSE
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads peers
            pause = min(LAST_RETURN_PAUSE, 2 * pause)
            try:
                await next_central().GetNeighbours(pb2.GetNeighboursRequest(peer_id=peer_id), timeout=_TIMEOUT)
            except grpc.RpcError as error:
                if isinstance(from_rpc_error(error), STREAM_BROKE):
                    continue
            log.info("central itself can be reached again")
            return
