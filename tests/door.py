"""A network whose central has a door: peers that go by it lose central when it is shut, and have it again.

`python -m tests.door HOST PORT OWN_PORT` is such a door as a program: it is shut by killing it.
"""

import asyncio
import contextlib
import sys

from central.server import running_central
from peer.daemon import running_peer
from peer.settings import ServeSettings
from relevo.v1 import central_directory_pb2 as pb2
from tests.network import CENTRAL_HOST, Network, eventually

DOOR_HOST = "127.0.0.9"


class Door:
    """A port that leads to central while it is open; when it is shut, nobody listens there."""

    def __init__(self, host, port):
        self._to = host, port
        self._server = None
        self._writers = set()
        self.port = 0

    @property
    def address(self):
        return f"{DOOR_HOST}:{self.port}"

    async def open(self):
        self._server = await asyncio.start_server(self._pass, DOOR_HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self):
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _pass(self, reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_writer}
        self._writers |= both
        await asyncio.gather(_pipe(reader, to_writer), _pipe(to_reader, writer))
        self._writers -= both


async def _pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class DoorNetwork(Network):
    """A central with a door, and its members."""

    def __init__(self, base, stack):
        self.base, self.stack = base, stack
        self.central, self.door = None, None
        self._running, self._stacks = None, {}

    async def begin(self):
        await self.start_central()

    async def start_central(self, listen=f"{CENTRAL_HOST}:0", **options):
        self._running = await self.stack.enter_async_context(contextlib.AsyncExitStack())
        self.central = await self._running.enter_async_context(
            running_central(self.base / "central", listen, **{"enrolment_port": 0, **options})
        )
        if self.door is None:
            host, _, port = self.central.address.rpartition(":")
            self.door = Door(host, int(port))
            await self.door.open()
            self.stack.push_async_callback(self.door.shut)

    async def stop_central(self):
        await self._running.aclose()

    @property
    def roster(self):
        return self.central.directory.roster

    def settings(self, name, **changed):
        shared = self.base / name / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        (shared / f"{name}.txt").write_bytes(name.encode() * 1000)
        fields = {
            "home": self.base / name / "home",
            "shared": shared,
            "centrals": (self.central.address,),
            "name": name,
            "listen": "127.0.0.1:0",
        }
        return ServeSettings(**{**fields, **changed})

    async def join(self, name, **changed):
        """Starts a peer as `changed` says. Becoming a member took central itself."""
        if not (self.base / name / "home").exists():
            token = await self.central.invite()
            async with running_peer(self.settings(name, join=token.to_text())) as peer:
                await eventually(lambda: peer.session.live)
        return await self.start(name, **changed)

    async def start(self, name, **changed):
        own = await self.stack.enter_async_context(contextlib.AsyncExitStack())
        peer = await own.enter_async_context(running_peer(self.settings(name, **changed)))
        self._stacks[name] = own
        await eventually(lambda: peer.session.live)
        return peer

    async def behind_the_door(self, name, **changed):
        return await self.join(name, centrals=(self.door.address,), **changed)

    async def stop(self, name):
        await self._stacks.pop(name).aclose()


@contextlib.asynccontextmanager
async def begun(kind, base):
    """Gives a network of a kind once it has begun, and ends it with all that runs in it."""
    async with contextlib.AsyncExitStack() as stack:
        network = kind(base, stack)
        await network.begin()
        yield network


@contextlib.asynccontextmanager
async def staying(network, peer):
    """Checks that central has the peer all the while."""
    gone = []

    async def watch():
        while True:
            gone.extend([1] if peer.identity.peer_id not in network.roster else [])
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    assert not gone, "it was withdrawn for a while"


def at(peer):
    return f"127.0.0.1:{peer.server.port}"


def via(peer):
    """The address of whoever carries a peer's calls; empty when nobody does."""
    return peer.session.carrier.addresses[0] if peer.session.carrier else ""


async def listed(peer):
    response, _ = await peer.routes.list_files(pb2.ListFilesRequest())
    return {file.path: file for file in response.files}


async def lists(peer, *paths):
    async def all_there():
        found = await listed(peer)
        return found if set(paths) <= set(found) else None

    return await eventually(all_there)


async def _main(host, port, own_port):
    door = Door(host, int(port))
    door.port = int(own_port)
    await door.open()
    sys.stdout.write(f"door ready on {door.address}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
