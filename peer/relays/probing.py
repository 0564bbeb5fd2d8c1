"""Looking for peers that central hears nothing of: they sign central's nonce, and central is brought the signature."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import grpc
from google.protobuf.message import DecodeError

from core.addresses import MOST_ADDRESSES
from core.errors import Corrupt, RelevoError
from core.names import printable
from core.status import from_rpc_error
from core.times import from_duration
from peer.directory.routes import Routes
from peer.links.racing import first_success
from peer.relays.relaying import Relaying
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.content_pb2 import PeerInfo

log = logging.getLogger("relevo.probing")

# Suspects looked for at once. Central asks about those who use this peer or whom it uses, 18 of them.
MOST_PROBES = 32
# Whatever central says, a probe takes no longer, in seconds.
LONGEST_PROBE = 30.0
# A suspect that does not answer at one address is tried at the next beside it, so many seconds later.
_NEXT_ADDRESS = 0.2


class Prober:
    """Does what central's probe directives ask."""

    def __init__(self, routes: Routes, relaying: Relaying) -> None:
        """`routes` dial the suspects and lead to central; `relaying` has those that nobody can dial."""
        self._routes = routes
        self._relaying = relaying
        self._nonces: dict[bytes, None] = {}  # those of late
        self._under_way: set[asyncio.Task[None]] = set()

    def obey(self, directives: Sequence[pb2.Directive]) -> None:
        """Takes directives, which central repeats while it waits for an answer."""
        for directive in directives:
            if directive.WhichOneof("action") == "probe" and directive.probe.nonce not in self._nonces:
                self._begin(directive.probe)

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _begin(self, probe: pb2.ProbeDirective) -> None:
        if len(self._under_way) >= MOST_PROBES:
            return
        self._nonces[probe.nonce] = None
        if len(self._nonces) > MOST_PROBES:
            del self._nonces[next(iter(self._nonces))]
        task = asyncio.create_task(self._probe(probe))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _probe(self, probe: pb2.ProbeDirective) -> None:
        who = printable(probe.suspect.name)
        patience = min(from_duration(probe.patience), LONGEST_PROBE)
        try:
            async with asyncio.timeout(patience):
                signature = await self._proof(probe.suspect, probe.nonce, patience)
                report = pb2.ReportProbeRequest(
                    suspect_peer_id=probe.suspect.peer_id, nonce=probe.nonce, signature=signature
                )
                await self._routes.at_central(lambda central: central.ReportProbe(report, timeout=patience))
            log.info("%s lives, though central hears nothing of it", who)
        except (RelevoError, TimeoutError) as error:
            log.info("%s, of which central hears nothing, does not answer here: %s", who, error or "no answer in time")

    async def _proof(self, suspect: PeerInfo, nonce: bytes, patience: float) -> bytes:
        """Returns what the suspect signs: down its stream when it is attached here, else where it answers first."""
        asked = relay_pb2.ProbeRequest(nonce=nonce)

        async def attached() -> bytes:
            answer = await self._relaying.ask_here(suspect.peer_id, relay_pb2.Order(probe=asked), patience)
            try:
                return relay_pb2.ProbeResponse.FromString(answer).signature
            except DecodeError as error:
                raise Corrupt("what it delivers is no answer to a probe") from error

        async def at(address: str) -> bytes:
            peer = await self._routes.dialler.peer(address, suspect.peer_id)
            try:
                return (await peer.Probe(asked, timeout=patience, wait_for_ready=True)).signature
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

        attempts: list[Callable[[], Awaitable[bytes]]] = [attached] if self._relaying.is_here(suspect.peer_id) else []
        attempts += [partial(at, address) for address in suspect.addresses[:MOST_ADDRESSES]]
        return await first_success(attempts, _NEXT_ADDRESS)
