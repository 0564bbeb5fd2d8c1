"""gRPC alone as a rival: numbered blocks by unary calls, hashed and written, and nothing else of what Relevo does.

Nobody is looked for, nothing is decided, no answer is checked against anything: what is left is what gRPC costs in
Python, in a process like the daemons'. Whoever fetches can give what it has by then to the next one: a chain of hosts
in which each hands on to the next is as good a swarm as there is while all links are alike, and decides nothing either.

`python -m bench.bare give FILE` gives the blocks of FILE as soon as that is there;
`python -m bench.bare take ADDRESS TARGET SIZE` fetches them, and gives them on with `--listen`.
"""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import grpc

from bench.measured import Trial, Watched
from bench.programs import Programs
from bench.taking import tell, told
from core import process
from core.certificates import Authority, Kind, Subject, to_pem
from core.content import Layout, digest
from core.identity import Identity
from core.limits import Limits
from core.rpc import PEER_MESSAGE
from core.tls import Material, channel_credentials, expecting, server_credentials

IN_FLIGHT = 8
_SERVICE, _METHOD = "bench.Bare", "Block"
_NAMES = ("key", "chain", "authorities")
_SIZES = (("grpc.max_receive_message_length", PEER_MESSAGE), ("grpc.max_send_message_length", PEER_MESSAGE))
_DEADLINE = 120.0


def make_material(directory: Path) -> None:
    """Makes what all of these programs show and accept, and writes it to an empty directory."""
    authority, identity = Authority.create(time.time(), 86_400.0), Identity.generate()
    subject = Subject(Kind.PEER, identity.peer_id)
    leaf = authority.issue(subject, identity.public_key, time.time(), 86_400.0)
    parts = (identity.pem(), to_pem([leaf]), to_pem([authority.certificate]))
    for name, part in zip((*_NAMES, "name"), (*parts, subject.name.encode()), strict=True):
        (directory / name).write_bytes(part)


class Bare:
    """One file given by gRPC alone, over loopback."""

    name = "gRPC alone"

    def __init__(self, programs: Programs, file: Path, *, tls: bool) -> None:
        label = "bare-tls" if tls else "bare-plain"
        self._programs = programs
        self._size = file.stat().st_size
        self._way: tuple[str | Path, ...] = ()
        if tls:
            secrets = programs.base / label
            secrets.mkdir()
            make_material(secrets)
            self._way = ("--material", secrets)
        self._giver = programs.serve(label, "bench.bare", "give", file, *self._way)

    def fetch(self, directory: Path) -> Trial:
        """Fetches the file into an empty directory."""
        giving = Watched(self._giver.process.pid)
        target = directory / "file"
        take = self._programs.begin("bench.bare", "take", self._giver.address, target, f"{self._size}", *self._way)
        seconds, taking = told(self._programs.finish(take))
        return Trial(self._size, seconds, giving.side(), taking)


class Blocks:
    """The blocks of a file, as far as they are there."""

    def __init__(self, layout: Layout, descriptor: int, *, whole: bool) -> None:
        self._layout = layout
        self._descriptor = descriptor
        self._there = [asyncio.Event() for _ in range(layout.block_count)]
        for one in self._there if whole else ():
            one.set()

    async def read(self, index: int) -> bytes:
        """Returns a block, as soon as it is there."""
        await self._there[index].wait()
        offset, length = self._layout.block_offset(index), self._layout.block_length(index)
        return await asyncio.to_thread(os.pread, self._descriptor, length, offset)

    async def write(self, index: int, data: bytes) -> None:
        """Hashes a block, and writes it."""
        await asyncio.to_thread(self._write, index, data)
        self._there[index].set()

    def _write(self, index: int, data: bytes) -> None:
        digest(data)
        os.pwrite(self._descriptor, data, self._layout.block_offset(index))


async def _served(listen: str, material: Material | None, read: Callable[[int], Awaitable[bytes]]) -> grpc.aio.Server:
    """Returns a server that gives what `read` returns, and tells where it listens."""

    async def block(request: bytes, context: Any) -> bytes:
        del context
        return await read(int(request))

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), *_SIZES])
    handler = grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: grpc.unary_unary_rpc_method_handler(block)})
    server.add_generic_rpc_handlers((handler,))
    if material is None:
        port = server.add_insecure_port(listen)
    else:
        port = server.add_secure_port(listen, server_credentials(lambda: material)())
    await server.start()
    print(f"bare ready on {listen.rpartition(':')[0]}:{port}", flush=True)
    return server


async def _fetch(address: str, directory: Path | None, blocks: Blocks, count: int) -> None:
    """Fetches all blocks, in their order, some at once."""
    material = _material(directory)
    if material is None or directory is None:
        channel = grpc.aio.insecure_channel(address, options=_SIZES)
    else:
        options = [*_SIZES, *expecting((directory / "name").read_text("ascii"))]
        channel = grpc.aio.secure_channel(address, channel_credentials(material), options=options)
    async with channel:
        ask: Any = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
        wanted = iter(range(count))

        async def some() -> None:
            for index in wanted:
                await blocks.write(index, await ask(b"%d" % index, timeout=_DEADLINE, wait_for_ready=True))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(IN_FLIGHT):
                tasks.create_task(some())


def _opened(file: Path) -> tuple[int, int]:
    """Returns the descriptor of a file, once that is there, and its size."""
    while not file.exists():
        time.sleep(0.01)
    descriptor = os.open(file, os.O_RDONLY)
    return descriptor, os.fstat(descriptor).st_size


def _material(directory: Path | None) -> Material | None:
    return None if directory is None else Material(*((directory / name).read_bytes() for name in _NAMES))


_secrets = click.option("--material", "secrets", type=click.Path(path_type=Path), default=None, help="Speaks TLS.")


@click.group()
def main() -> None:
    """Gives the blocks of a file, or fetches them."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--listen", default="127.0.0.1:0", show_default=True)
@_secrets
def give(file: Path, listen: str, secrets: Path | None) -> None:
    """Gives the blocks of FILE, once it is there, until it is stopped."""
    found: asyncio.Future[Blocks]

    async def read(index: int) -> bytes:
        return await (await asyncio.shield(found)).read(index)

    async def serve() -> None:
        nonlocal found
        found = asyncio.get_running_loop().create_future()
        server = await _served(listen, _material(secrets), read)
        descriptor, size = await asyncio.to_thread(_opened, file)
        found.set_result(Blocks(Layout(size), descriptor, whole=True))
        await server.wait_for_termination()

    process.run(serve(), Limits())


@main.command()
@click.argument("address")
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("size", type=int)
@click.option("--listen", default="", help="Gives on what has come, until it is stopped.")
@_secrets
def take(address: str, target: Path, size: int, listen: str, secrets: Path | None) -> None:
    """Fetches the blocks of a file of SIZE bytes from ADDRESS to TARGET, which is there when all have come."""
    layout = Layout(size)

    async def fetch() -> None:
        partial = target.with_name(f".{target.name}")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT)
        os.ftruncate(descriptor, size)
        blocks = Blocks(layout, descriptor, whole=False)
        server = await _served(listen, _material(secrets), blocks.read) if listen else None
        await _fetch(address, secrets, blocks, layout.block_count)
        await asyncio.to_thread(os.fsync, descriptor)
        partial.rename(target)
        if server:
            await server.wait_for_termination()

    tell(lambda: process.run(fetch(), Limits()))


if __name__ == "__main__":
    sys.exit(main())
