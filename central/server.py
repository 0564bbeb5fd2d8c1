"""Central, assembled: store, directory, network, servicers, and the work that goes on by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from central.carried import Carried
from central.directory import Directory
from central.enrolment_servicer import EnrolmentServicer
from central.network.network import Network
from central.servicer import DirectoryServicer
from central.sessions.awake_clock import AwakeClock
from central.sessions.heartbeats import Heartbeats
from central.settings import Settings
from central.store.sqlite_store import SqliteStore
from core.access import ENROLMENT, Certificates
from core.addresses import join_address, split_address
from core.errors import NotPossible, RelevoError
from core.listening import bind
from core.rate import Gate
from core.reachable import advertised
from core.rpc import CENTRAL_MESSAGE, KIB, Server
from core.tls import server_credentials
from core.tokens import JoinToken
from relevo.v1.central_directory_pb2 import DESCRIPTOR
from relevo.v1.central_directory_pb2_grpc import add_CentralDirectoryServicer_to_server
from relevo.v1.enrolment_pb2 import DESCRIPTOR as ENROLMENT_DESCRIPTOR
from relevo.v1.enrolment_pb2_grpc import add_EnrolmentServicer_to_server

log = logging.getLogger("relevo.central")
_DIRECTORY = DESCRIPTOR.services_by_name["CentralDirectory"]
SERVICE = _DIRECTORY.full_name
# What may be carried: every call of a peer that is no stream.
_CARRIED = [rpc.name for rpc in _DIRECTORY.methods if not rpc.client_streaming and rpc.name != "Carry"]
PURGE_INTERVAL = 60.0
_AFTER_FAILURE = 5.0
# Requests of strangers are below 1 KiB; answers carry up to some hundred revoked peers.
ENROLMENT_MESSAGE = 64 * KIB


@dataclass(frozen=True, slots=True)
class Central:
    """A central that serves.

    Attributes:
        address: the `host:port` that it listens on.
        directory: what it knows.
        network: whom it trusts; None in plaintext.
        enrolment_port: where keys become members; 0 in plaintext.
    """

    address: str
    directory: Directory
    network: Network | None = None
    enrolment_port: int = 0

    @property
    def network_id(self) -> str:
        """The id of the network, empty in plaintext."""
        return self.network.network_id if self.network else ""

    async def invite(
        self, uses: int = 1, ttl: float = 3600.0, addresses: Sequence[str] = (), via: Sequence[str] = ()
    ) -> JoinToken:
        """Returns a token by which `uses` keys may join within `ttl` seconds; there has to be TLS.

        `addresses` are what newcomers dial instead of what is found, `via` the peers through which to join otherwise.
        """
        if self.network is None:
            raise RuntimeError("nobody needs a token in plaintext")
        shown = addresses or advertised(*split_address(self.address), ())
        now, port = self.network.now(), self.enrolment_port
        return await self.network.run(
            lambda network: network.invite(now, uses=uses, ttl=ttl, addresses=shown, enrolment_port=port, via=via)
        )


@asynccontextmanager
async def running_central(
    data: Path,
    listen: str = "127.0.0.1:0",
    settings: Settings | None = None,
    *,
    insecure: bool = False,
    enrolment_port: int | None = None,
    clock: Callable[[], float] | None = None,
    wall: Callable[[], float] = time.time,
    random: Random | None = None,
) -> AsyncIterator[Central]:
    """Serves the directory kept in `data` on `listen` (port 0: the system chooses) while the context is open.

    Over TLS, with client certificates required, unless `insecure`; then Enrolment is served on a port of its own on the
    same host: `enrolment_port`, by default the next one, or one of the system's choice when the main port is.
    Leases count by `clock`, by default one that stands still while central does.

    On leaving, health checks are told first, then heartbeats end, running calls drain, and the store closes.

    Raises:
        InvalidInput: `listen` is not `host:port`.
        NotPossible: another central has the data directory or a port, or the network cannot be used.
    """
    _, port = split_address(listen, "listen")
    settings = settings or Settings()
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(data, settings.longest_search)
        stack.push_async_callback(store.close)
        awake = AwakeClock(settings.sweep_interval, time.monotonic)
        directory = Directory(store, settings, clock=clock or awake, wall=wall, random=random)
        awake.returned = directory.was_away
        stack.push_async_callback(directory.drained)
        await directory.restore()
        network = None
        if not insecure:
            network = Network(data, directory.settings.certificate_life, wall)
            stack.push_async_callback(network.close)
            await network.open()
        carried = Carried(directory.sessions, network, wall)
        server, heartbeats = _directory_server(directory, network, carried)
        host = bind(server, listen)
        address = join_address(host, server.port)
        joining = 0
        if network:
            await _look(network, directory)
            wanted = enrolment_port if enrolment_port is not None else _next(port)
            joining = await _serve_enrolment(stack, network, directory, carried, join_address(host, wanted))
            heartbeats.enrolment_port = joining
            await network.run(lambda found: found.note_address(address, joining))
        await server.start(SERVICE)
        directory.opened()
        stack.push_async_callback(_stop, server, heartbeats, directory.settings.drain)
        _keep_doing(stack, directory, network)
        yield Central(address, directory, network, joining)


def _next(port: int) -> int:
    """Returns the port after `port`; 0, for which the system chooses, when there is none or when it chose that too."""
    return (port + 1) % 65_536 if port else 0


def _directory_server(directory: Directory, network: Network | None, carried: Carried) -> tuple[Server, Heartbeats]:
    limits = directory.settings.limits
    if network is None:
        server, heartbeats = Server(CENTRAL_MESSAGE, limits=limits), Heartbeats(directory, lambda: None)
    else:
        way_in = Certificates(network.trust, directory.wall)
        credentials = server_credentials(network.material)
        server = Server(CENTRAL_MESSAGE, way_in=way_in, credentials=credentials, limits=limits)
        heartbeats = Heartbeats(directory, network.told)
    servicer = DirectoryServicer(directory, heartbeats, carried)
    carried.offer(_DIRECTORY, servicer, _CARRIED)
    add_CentralDirectoryServicer_to_server(servicer, server.server)
    return server, heartbeats


async def _serve_enrolment(
    stack: AsyncExitStack, network: Network, directory: Directory, carried: Carried, listen: str
) -> int:
    """Serves Enrolment, to which nobody has to show a certificate, and returns its port."""
    settings = directory.settings
    server = Server(
        ENROLMENT_MESSAGE,
        way_in=ENROLMENT,
        credentials=server_credentials(network.material, mutual=False),
        inspectable=False,
        limits=settings.limits,
    )
    try:
        bind(server, listen)
    except NotPossible as error:
        raise NotPossible(
            f"cannot let peers join on {listen}: another program has it; choose another port with --enrolment-port"
        ) from error

    def servicer() -> EnrolmentServicer:
        gate = Gate(settings.enrolment_rate, settings.enrolment_total_rate)
        return EnrolmentServicer(network, gate, settings.certificate_life, directory.clock)

    # What members bring is counted apart: strangers use up what their host may ask, and members of it still renew.
    carried.offer(ENROLMENT_DESCRIPTOR.services_by_name["Enrolment"], servicer(), ["Renew"])
    add_EnrolmentServicer_to_server(servicer(), server.server)
    await server.start()
    stack.push_async_callback(server.stop, settings.drain)
    return server.port


def _keep_doing(stack: AsyncExitStack, directory: Directory, network: Network | None) -> None:
    sweep = directory.settings.sweep_interval
    chores: list[tuple[float, Callable[[], Awaitable[None]]]] = [
        (sweep, directory.sweep),
        (PURGE_INTERVAL, directory.purge),
        (0.0, directory.refill_when_wanted),
    ]
    if network:
        chores.append((sweep, partial(_look, network, directory)))
    for interval, work in chores:
        stack.push_async_callback(_cancelled, asyncio.create_task(_repeat(interval, work)))


async def _look(network: Network, directory: Directory) -> None:
    """Takes up what the command line changed: sessions of revoked peers end, and the others hear whom to trust."""
    changed = await network.refresh()
    await directory.sessions.end_revoked(network.trust().revoked)
    if changed:
        directory.roster.poke([peer.peer_id for peer in directory.roster])


async def _repeat(interval: float, work: Callable[[], Awaitable[None]]) -> None:
    """Does `work` again and again. A failure is logged and does not end it."""
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except RelevoError as error:  # a full disk, for one: nothing that a traceback would explain
            log.error("%s; it is tried again", error)  # noqa: TRY400
            await asyncio.sleep(_AFTER_FAILURE)
        except Exception:
            log.exception("%s failed; it is tried again", getattr(work, "__qualname__", work))
            await asyncio.sleep(_AFTER_FAILURE)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _stop(server: Server, heartbeats: Heartbeats, drain: float) -> None:
    await server.not_serving()
    heartbeats.stop()
    await server.stop(drain)
