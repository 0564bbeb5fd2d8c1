"""What every command shares: the way to the daemon, and `--json`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.names import printable
from peer.commands.show import span

if TYPE_CHECKING:
    from peer.commands.client import Daemon
    from relevo.v1.content_pb2 import PeerInfo
    from relevo.v1.peer_control_pb2 import Route

json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON document to stdout.")


def daemon_of(home: Path) -> "Daemon":
    """Returns the connection to the daemon of `home`.

    Raises:
        Unreachable: no daemon runs there.
    """
    # gRPC's own log would stand between the lines that a person reads.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from peer.commands.client import Daemon  # noqa: PLC0415 - gRPC is slow to import, and `--help` does without

    return Daemon(home)


def say(lines: Iterable[str]) -> None:
    """Writes lines to stdout at once; writes nothing when there are none."""
    text = "\n".join(lines)
    if text:
        click.echo(text)


def peer_line(peer: "PeerInfo") -> str:
    """Returns `ana (127.0.0.1:4321)`, with the address that is tried first; not yet printable."""
    where = peer.addresses[0] if peer.addresses else "cannot be dialled"
    return f"{peer.name} ({where})"


def route_line(route: "Route") -> str:
    """Returns `through primary neighbour ana (127.0.0.1:4321), 3 ms`."""
    from relevo.v1 import peer_control_pb2 as pb2  # noqa: PLC0415 - protobuf is slow to import

    whom = f"{route.peer.name} ({route.address})" if route.HasField("peer") else route.address
    roles = {
        pb2.ROUTE_KIND_PRIMARY: "through primary neighbour",
        pb2.ROUTE_KIND_BACKUP: "through backup neighbour",
        pb2.ROUTE_KIND_FRIEND: "through friend",
        pb2.ROUTE_KIND_CENTRAL: "straight to central at",
    }
    took = route.took.seconds + route.took.nanos / 1e9
    return printable(f"{roles.get(route.kind, 'through')} {whom}, {span(took)}")
