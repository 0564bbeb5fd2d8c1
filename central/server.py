"""Central, assembled: store, directory, servicer, and the work that goes on by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from central.directory import Directory
from central.heartbeats import Heartbeats
from central.servicer import DirectoryServicer
from central.settings import Settings
from central.sqlite_store import SqliteStore
from core.addresses import join_address, split_address
from core.rpc import CENTRAL_MESSAGE, Server
from relevo.v1.central_directory_pb2 import DESCRIPTOR
from relevo.v1.central_directory_pb2_grpc import add_CentralDirectoryServicer_to_server

log = logging.getLogger("relevo.central")
SERVICE = DESCRIPTOR.services_by_name["CentralDirectory"].full_name
PURGE_INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class Central:
    """A central that serves. `address` is the `host:port` that it listens on."""

    address: str
    directory: Directory


@asynccontextmanager
async def running_central(
    data: Path,
    listen: str = "127.0.0.1:0",
    settings: Settings | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    random: Random | None = None,
) -> AsyncIterator[Central]:
    """Serves the directory kept in `data` on `listen` (port 0: the system chooses) while the context is open.

    On leaving, health checks are told first, then heartbeats end, running calls drain, and the store closes.

    Raises:
        NotPossible: another central has the data directory or the port.
    """
    host, _ = split_address(listen, "listen")
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(data)
        stack.push_async_callback(store.close)
        directory = Directory(store, settings, clock=clock, wall=wall, random=random)
        stack.push_async_callback(directory.drained)
        await directory.restore()
        server = Server(CENTRAL_MESSAGE)
        port = server.listen(listen)
        heartbeats = Heartbeats(directory)
        add_CentralDirectoryServicer_to_server(DirectoryServicer(directory, heartbeats), server.server)
        await server.start(SERVICE)
        stack.push_async_callback(_stop, server, heartbeats, directory.settings.drain)
        for interval, work in (
            (directory.settings.sweep_interval, directory.sweep),
            (PURGE_INTERVAL, directory.purge),
            (0.0, directory.refill_when_wanted),
        ):
            stack.push_async_callback(_cancelled, asyncio.create_task(_repeat(interval, work)))
        yield Central(join_address(host, port), directory)


async def _repeat(interval: float, work: Callable[[], Awaitable[None]]) -> None:
    """Does `work` again and again. A failure is logged and does not end it."""
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception:
            log.exception("%s failed; it is tried again", work.__qualname__)
            await asyncio.sleep(1.0)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def _stop(server: Server, heartbeats: Heartbeats, drain: float) -> None:
    await server.not_serving()
    heartbeats.stop()
    await server.stop(drain)
