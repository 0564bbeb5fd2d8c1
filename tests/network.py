"""A central and peers in the event loop of a test: real daemons over real sockets, with real files."""

import asyncio
import contextlib
import random

import grpc

from core.errors import RelevoError, Unreachable
from core.status import from_rpc_error
from peer.daemon import running_peer
from peer.relays.reachability import Reachability
from peer.settings import ServeSettings
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry

MIB = 1024 * 1024
# Where nobody listens: whoever says that it is reached there cannot be dialled.
NOWHERE = "127.0.0.1:1"
# Where a central listens that starts again on its port: on 127.0.0.1 whoever asks for any port may get it meanwhile.
CENTRAL_HOST = "127.0.0.8"


async def eventually(check, seconds=40.0):
    """Waits until `check` answers something true, and returns it; `check` may be a coroutine function.

    What nobody answers is asked again: connections that broke come back one by one.
    """
    async with asyncio.timeout(seconds):
        while True:
            try:
                found = check()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
            except (grpc.RpcError, RelevoError) as error:
                if not isinstance(from_rpc_error(error), Unreachable):
                    raise
            await asyncio.sleep(0.02)


async def found_hidden(peer):
    """Waits until a peer knows that nobody can dial it, and has told central so."""
    await eventually(lambda: peer.experiment.verdict is Reachability.HIDDEN)
    await eventually(lambda: peer.session.live and not peer.contact().addresses)


class Network:
    """A central, and peers that come and go."""

    def __init__(self, base, central, stack):
        self.base, self.central, self.stack = base, central, stack
        self.stacks = {}

    async def join(self, name, files=(), **settings):
        """Starts a peer that shares `files`, a mapping of path to bytes, and returns it when all are published."""
        shared = self.base / name / "shared"
        for path, data in dict(files).items():
            (shared / path).parent.mkdir(parents=True, exist_ok=True)
            (shared / path).write_bytes(data)
        shared.mkdir(parents=True, exist_ok=True)
        token = await self.central.invite()
        chosen = ServeSettings(
            **{
                "home": self.base / name / "home",
                "shared": shared,
                "centrals": (self.central.address,),
                "name": name,
                "listen": "127.0.0.1:0",
                "join": token.to_text(),
                **settings,
            }
        )
        own = await self.stack.enter_async_context(contextlib.AsyncExitStack())
        peer = await own.enter_async_context(running_peer(chosen))
        self.stacks[name] = own
        await peer.session.wait_live()
        await peer.library.wait_scanned()
        for file in list(peer.library.files.values()):
            await peer.publisher.published(file.path, file.content_id, 40)
        return peer

    async def leave(self, name):
        await self.stacks.pop(name).aclose()

    async def die(self, peer):
        """Cuts a peer off as a crash would: no logout, no more answers."""
        for task in peer._tasks:
            task.cancel()
        await asyncio.gather(*peer._tasks, return_exceptions=True)
        peer.session.login = None
        await peer.server.stop(0)


async def files(peer, query=""):
    response, _ = await peer.routes.list_files(pb2.ListFilesRequest(query=query))
    return sorted(file.path for file in response.files)


async def fetch(peer, path, directory):
    """Downloads as `relevo get` does and returns the finished transfer."""
    directory.mkdir(parents=True, exist_ok=True)
    response, _ = await peer.routes.list_files(pb2.ListFilesRequest(reference=path))
    found = response.files[0]
    entry = FileEntry(
        path=found.path,
        content_id=found.content_id,
        size_bytes=found.size_bytes,
        modify_time=found.modify_time,
        executable=found.executable,
    )
    transfer = peer.downloads.start(entry, str(directory))
    await asyncio.wait([transfer.task], timeout=30)
    return transfer


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)
