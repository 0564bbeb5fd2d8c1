"""The least that a transfer can be, as a rival: sendfile on one side, recv_into and write on the other, no check.

`python -m bench.plain give FILE` says where it listens and sends FILE to whoever connects;
`python -m bench.plain take ADDRESS TARGET` receives it.
"""

import os
import socket
import sys
from pathlib import Path

import click

from bench.measured import Trial, Watched
from bench.programs import Programs
from bench.taking import synced, tell, told

_CHUNK = 1 << 20


class Plain:
    """A file through a socket."""

    name = "sendfile"

    def __init__(self, programs: Programs, file: Path) -> None:
        self._programs = programs
        self._size = file.stat().st_size
        self._server = programs.serve("plain", "bench.plain", "give", file)

    def fetch(self, directory: Path) -> Trial:
        """Fetches the file into an empty directory."""
        giving = Watched(self._server.process.pid)
        take = self._programs.begin("bench.plain", "take", self._server.address, directory / "file")
        seconds, taking = told(self._programs.finish(take))
        return Trial(self._size, seconds, giving.side(), taking)


@click.group()
def main() -> None:
    """Sends a file, or receives it."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
def give(file: Path) -> None:
    """Sends FILE to whoever connects, one after the other, until it is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server, file.open("rb") as opened:
        host, port = server.getsockname()
        print(f"plain ready on {host}:{port}", flush=True)
        while True:
            caller, _ = server.accept()
            with caller:
                offset = 0
                while sent := os.sendfile(caller.fileno(), opened.fileno(), offset, 1 << 30):
                    offset += sent


@main.command()
@click.argument("address")
@click.argument("target", type=click.Path(path_type=Path))
def take(address: str, target: Path) -> None:
    """Receives a file from ADDRESS into TARGET."""
    host, _, port = address.partition(":")

    def fetch() -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with socket.create_connection((host, int(port))) as server, target.open("wb", buffering=0) as file:
            while came := server.recv_into(buffer):
                file.write(buffer[:came])
        synced(target)

    tell(fetch)


if __name__ == "__main__":
    sys.exit(main())
