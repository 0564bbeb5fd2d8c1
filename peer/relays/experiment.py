"""Finds out whether others can dial this peer: its neighbours try, whenever something has changed and now and then."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import grpc

from core.errors import RelevoError
from core.status import from_rpc_error
from peer.links.contacts import Contact
from peer.links.dialling import Dialler
from peer.links.racing import first_success
from peer.relays.reachability import Found, Judge, Reachability
from relevo.v1 import peer_relay_pb2 as pb2

log = logging.getLogger("relevo.reachability")

# How long a neighbour may take, in seconds: it tries a few addresses.
TIMEOUT = 15.0
# Beside an address of a neighbour that is silent for so long, the next is tried.
_PATIENCE = 1.0


class Experiment:
    """Has the neighbours dial this peer.

    Attributes:
        neighbours: whom to ask; `again` says that they have changed.
        changed: called when the verdict has changed.
    """

    def __init__(self, dialler: Dialler, judge: Judge, addresses: Callable[[], tuple[str, ...]]) -> None:
        """`addresses` finds where this peer can be dialled if it can; called in a thread."""
        self.neighbours: tuple[Contact, ...] = ()
        self.changed: Callable[[], None] = lambda: None
        self._dialler = dialler
        self._judge = judge
        self._addresses = addresses
        self._again = asyncio.Event()

    @property
    def verdict(self) -> Reachability:
        """Whether others can dial this peer."""
        return self._judge.verdict

    def ask_again(self, neighbours: Sequence[Contact]) -> None:
        """Tries anew when these are other neighbours than before."""
        if tuple(neighbours) != self.neighbours:
            self.neighbours = tuple(neighbours)
            self._again.set()

    async def run(self) -> None:
        """Tries for ever."""
        while True:
            while not self.neighbours:
                await self._again.wait()
                self._again.clear()
            self._again.clear()
            before = self.verdict
            pause = self._judge.hear(await self._found())
            if self.verdict is not before:
                log.info("whether others can dial this peer: %s", self.verdict.name.lower())
                self.changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._again.wait()

    async def _found(self) -> list[Found]:
        request = pb2.DialBackRequest(addresses=await asyncio.to_thread(self._addresses))
        found = await asyncio.gather(*(self._asked(neighbour, request) for neighbour in self.neighbours))
        return [one for one in found if one is not None]

    async def _asked(self, neighbour: Contact, request: pb2.DialBackRequest) -> Found | None:
        """Returns what a neighbour finds; None when it does not answer."""
        attempts = [partial(self._ask, neighbour, address, request) for address in neighbour.addresses]
        try:
            answer = await first_success(attempts, _PATIENCE)
        except RelevoError as error:
            log.debug("%s does not dial back: %s", neighbour.peer_id, error)
            return None
        return Found(len(answer.tried_addresses), bool(answer.working_address))

    async def _ask(self, neighbour: Contact, address: str, request: pb2.DialBackRequest) -> pb2.DialBackResponse:
        stub = await self._dialler.peer(address, neighbour.peer_id)
        try:
            return await stub.DialBack(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
