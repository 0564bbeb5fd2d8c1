"""A download during which one of its holders is killed."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.programs import Program, Programs, until
from peer.commands.client import Daemon
from relevo.v1.peer_control_pb2 import TRANSFER_KIND_DOWNLOAD, TRANSFER_STATE_RUNNING, TRANSFER_STATE_WAITING, Transfer

# The kill falls in when the download is between these parts of its way, with bytes from both holders.
EARLIEST, LATEST = 0.05, 0.60


@dataclass(frozen=True)
class Kill:
    """A kill that fell into a download.

    Attributes:
        time: when, on the monotonic clock.
        at: the transfer as it stood just before.
        document: the transfer as the command line told its end.
    """

    time: float
    at: Transfer
    document: dict[str, Any]


def killed_download(programs: Programs, home: Path, name: str, to: Path, victim: Program) -> Kill | None:
    """Downloads `name` with `relevo get`, and kills `victim`, one of its two holders, on the way.

    The kill comes when both have given bytes, and counts when the download still runs afterwards.

    Returns:
        The kill and how the download ended, or None when it was over too early; then `victim` may live or not.
    """
    command = programs.begin("peer", "--home", home, "get", name, "--to", to, "--quiet", "--json")
    killed = 0.0
    with Daemon(home) as daemon:
        began = until("the download to begin", lambda: _download(daemon, name))
        at = until("the download to move", lambda: _on_its_way(daemon.transfer(began.transfer_id)), 60)
        if _running(at) and at.done_bytes <= LATEST * at.size_bytes:
            victim.kill()
            killed = time.monotonic()
            counts = _running(daemon.transfer(began.transfer_id))
    document = json.loads(programs.finish(command))["files"][0]
    return Kill(killed, at, document) if killed and counts else None


def _download(daemon: Daemon, name: str) -> Transfer | None:
    found = (one for one in daemon.transfers(5) if one.kind == TRANSFER_KIND_DOWNLOAD and one.path == name)
    return next(found, None)


def _running(transfer: Transfer) -> bool:
    return transfer.state in {TRANSFER_STATE_WAITING, TRANSFER_STATE_RUNNING}


def _on_its_way(transfer: Transfer) -> Transfer | None:
    """Returns the transfer when both holders have given bytes, or when it is over."""
    given = [source for source in transfer.sources if source.bytes]
    moving = len(given) > 1 and transfer.done_bytes >= EARLIEST * transfer.size_bytes
    return transfer if moving or not _running(transfer) else None
