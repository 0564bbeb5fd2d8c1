"""A central, or whoever stands between, that puts hostile text into every name, path and id that a peer is told.

A proxy in front of a real central rewrites its answers, by the descriptors; behind it runs a real daemon, and the real
command line shows what the daemon has been told.
"""

import asyncio
import contextlib
import hashlib
import json
import unicodedata
from itertools import cycle
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.descriptor import FieldDescriptor

from central.server import running_central
from core.access import PLAINTEXT
from core.errors import NotPossible
from core.names import printable
from core.rpc import CENTRAL_MESSAGE, Server, open_channel
from core.status import from_rpc_error
from peer.cli import relevo
from peer.daemon import running_peer
from peer.settings import ServeSettings
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import (
    CentralDirectoryServicer,
    CentralDirectoryStub,
    add_CentralDirectoryServicer_to_server,
)

STEERING = ["\x1b]0;owned\x07", "a\nrelevo: forged", "\x9b31m", "gpj.\u202eexe", "../../canary/secret", "/etc/passwd"]
METHODS = pb2.DESCRIPTOR.services_by_name["CentralDirectory"].methods
# Without these a peer would not even get so far as to be told a lie.
KEPT = {"session_id"}


def corpus():
    text = (Path(__file__).parent / "data" / "hostile_names.txt").read_text("ascii")
    names = [json.loads(line) for line in text.splitlines() if line and not line.startswith("#")]
    return STEERING + [
        name for name in names if len(name) < 300 and not any("\ud800" <= char <= "\udfff" for char in name)
    ]


class Lies:
    """Rewrites every text field of a message that is set, or stands in an entry of a list."""

    def __init__(self):
        self.on = False
        self._names = cycle(corpus())

    def tell(self, message):
        if self.on:
            self._rewrite(message)
        return message

    def _rewrite(self, message):
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_STRING and field.name not in KEPT:
                if field.is_repeated:
                    value[:] = [next(self._names) for _ in value]
                elif field.name != "next_page_token":
                    setattr(message, field.name, next(self._names))
            elif field.message_type is not None:
                for each in value if field.is_repeated else [value]:
                    self._rewrite(each)


class Proxy(CentralDirectoryServicer):
    """Asks the real central, and passes on what the lies make of its answers; or fails with hostile words."""

    def __init__(self, stub, lies):
        self._stub, self._lies = stub, lies
        self.failing = False
        for method in METHODS:
            if not method.client_streaming:
                setattr(self, method.name, self._carry(getattr(stub, method.name)))

    def _carry(self, call):
        async def carry(request, _context):
            if self.failing:
                raise NotPossible(" ".join(STEERING))
            try:
                return self._lies.tell(await call(request, timeout=10))
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

        return carry

    async def Heartbeat(self, requests, context):
        async for answer in self._stub.Heartbeat(requests):
            yield self._lies.tell(answer)


@contextlib.asynccontextmanager
async def proxy_before(address, lies):
    channel = open_channel(address, CENTRAL_MESSAGE)
    server = Server(CENTRAL_MESSAGE, way_in=PLAINTEXT)
    server.listen("127.0.0.1:0")
    proxy = Proxy(CentralDirectoryStub(channel), lies)
    add_CentralDirectoryServicer_to_server(proxy, server.server)
    await server.start("relevo.v1.CentralDirectory")
    try:
        yield proxy, f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0)
        await channel.close()


def hashed(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(directory.rglob("*"))
    }


def assert_harmless(text):
    for line in text.split("\n"):
        assert printable(line) == line, ascii(line)
    assert not [char for char in text if unicodedata.category(char) in {"Cc", "Zl", "Zp"} and char != "\n"]


class World:
    """A daemon behind the proxy, and another peer that offers files directly."""

    def __init__(self, base, lies, proxy, home):
        self.base, self.lies, self.proxy, self.home = base, lies, proxy, home

    async def run(self, *arguments):
        whole = ["--home", str(self.home), *map(str, arguments)]
        return await asyncio.to_thread(CliRunner().invoke, relevo, whole, prog_name="relevo")


@pytest.fixture
async def world(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        lies = Lies()
        central = await stack.enter_async_context(running_central(tmp_path / "central", insecure=True))
        proxy, address = await stack.enter_async_context(proxy_before(central.address, lies))
        for name, told in (("ben", central.address), ("ana", address)):
            shared = tmp_path / name / "shared"
            shared.mkdir(parents=True)
            for number in range(60):
                (shared / f"{name}-{number}.txt").write_bytes(f"{name} {number}".encode())
            common = {"centrals": (told,), "name": name, "listen": "127.0.0.1:0", "insecure": True}
            peer = await stack.enter_async_context(
                running_peer(ServeSettings(home=tmp_path / name / "home", shared=shared, **common))
            )
            await peer.session.wait_live()
            await peer.library.wait_scanned()
            for file in peer.library.files.values():
                await peer.publisher.published(file.path, file.content_id, 10)
        (tmp_path / "canary").mkdir()
        (tmp_path / "canary" / "secret").write_bytes(b"outside")
        yield World(tmp_path, lies, proxy, tmp_path / "ana" / "home")


async def test_whatever_central_says_is_shown_harmlessly_and_written_nowhere_else(world):
    canary = hashed(world.base / "canary")
    to = world.base / "to"
    (world.base / "new.txt").write_bytes(b"new")
    world.lies.on = True
    commands = [
        ["ls"], ["ls", "--json"], ["peers"], ["peers", "--json"], ["neighbour"], ["neighbour", "--json"], ["status"],
        ["get", "ben-1.txt", "--to", to], ["get", "ben-2.txt", "ben-3.txt", "--json", "--to", to],
        ["put", world.base / "new.txt"], ["transfers"], ["transfers", "--json"], ["status", "--json"],
    ]  # fmt: skip
    for command in commands * 2:
        result = await world.run(*command)
        assert_harmless(result.stdout)
        assert_harmless(result.stderr)
        assert "defect" not in result.stderr, command
    assert hashed(world.base / "canary") == canary
    assert {path.name for path in world.base.iterdir()} <= {"ana", "ben", "canary", "central", "new.txt", "to"}
    assert not to.exists() or all(path.read_bytes().startswith(b"ben ") for path in to.iterdir())


async def test_the_words_of_a_central_that_fails_are_shown_harmlessly(world):
    world.proxy.failing = True
    for command in (["ls"], ["peers"], ["get", "ben-1.txt", "--to", world.base / "to"], ["neighbour"], ["status"]):
        result = await world.run(*command)
        assert_harmless(result.stdout)
        assert_harmless(result.stderr)


def test_the_lies_reach_every_answer():
    """The rewriting is worth nothing if it passes fields over."""
    lies = Lies()
    lies.on = True
    answer = pb2.ListFilesResponse(files=[{"path": "a"}, {"path": "b"}])
    lies.tell(answer)
    assert not {file.path for file in answer.files} & {"a", "b"}
    neighbours = pb2.HeartbeatResponse(neighbours={"primary": {"peer_id": "a", "name": "b", "addresses": ["c"]}})
    lies.tell(neighbours)
    primary = neighbours.neighbours.primary
    assert (primary.peer_id, primary.name, *primary.addresses) != ("a", "b", "c")
