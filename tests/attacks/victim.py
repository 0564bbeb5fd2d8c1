"""A peer's server in a process of its own, so that its memory can be read and no attacker shares its event loop.

Run as `python victim.py DIRECTORY [LIMIT=NUMBER …]`, where the directory holds key.pem, chain.pem and authorities.pem;
it prints its port, and the id of the content that it holds.
"""

import asyncio
import logging
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path

import click

from core.access import Certificates
from core.certificates import from_pem
from core.content import Layout, digest
from core.limits import Limits, open_files
from core.manifest import Manifest
from core.rpc import DELIVER, PEER_DELIVERY, PEER_MESSAGE, PEER_REQUEST, Server, tune_allocator
from core.tls import Material, server_credentials
from core.trust import Trust
from peer.giving.serving import Serving
from peer.relay_servicer import RelayServicer
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

LAYOUT = Layout(128 << 20)
BLOCK = bytes(LAYOUT.block_size)  # 1 MiB


class Shelf:
    """One content of 128 blocks, all the same."""

    def __init__(self):
        self.held = Manifest(LAYOUT, digest(BLOCK) * LAYOUT.block_count)

    async def manifest(self, content_id):
        return self.held

    async def read_run(self, content_id, index, count=1):
        return bytes(bytearray(count * BLOCK))  # a copy, as from a disk


class Page:
    """A carrier whose lists are as long as central makes them."""

    async def list_files(self, request):
        return pb2.ListFilesResponse(next_page_token="x" * 200_000)


async def main(directory: Path, limits: Limits) -> None:
    key, chain, authorities = ((directory / f"{name}.pem").read_bytes() for name in ("key", "chain", "authorities"))
    trust = Trust(1, from_pem(authorities))
    server = Server(
        PEER_MESSAGE,
        max_request=PEER_REQUEST,
        larger={DELIVER: PEER_DELIVERY},
        way_in=Certificates(lambda: trust, time.time),
        credentials=server_credentials(lambda: Material(key, chain, authorities)),
        limits=limits,
    )
    shelf = Shelf()
    add_PeerRelayServicer_to_server(RelayServicer(Serving(shelf, time.monotonic), Page()), server.server)
    port = server.listen("127.0.0.1:0")
    await server.start("relevo.v1.PeerRelay")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    click.echo(f"{port} {shelf.held.content_id.hex()}")
    await stopped.wait()
    await server.stop(0.2)


def limits_of(arguments: list[str]) -> Limits:
    given = dict(argument.split("=") for argument in arguments)
    kinds = {field.name: type(field.default) for field in fields(Limits)}
    return Limits(**{name: kinds[name](number) for name, number in given.items()})


# That it is attacked it may say; what is looked for is a defect.
logging.getLogger("relevo").setLevel(logging.ERROR)
tune_allocator()
open_files(4096)
asyncio.run(main(Path(sys.argv[1]), limits_of(sys.argv[2:])))
