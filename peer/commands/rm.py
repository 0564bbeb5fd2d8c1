"""`relevo rm`: give up copies that other peers keep."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.errors import NotFound, RelevoError, Unreachable
from core.names import printable
from peer.commands import document, show
from peer.commands.common import daemon_of, json_option, say
from peer.commands.get import Outcome

if TYPE_CHECKING:
    from peer.commands.client import Daemon
    from relevo.v1.peer_control_pb2 import PeerControlEndPlacementResponse

_CONTENT_ID = re.compile("[0-9a-fA-F]{64}")


@click.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
@click.pass_obj
def rm(home: Path, names: tuple[str, ...], as_json: bool) -> int:
    """Give up the copies of files that `relevo put` had made.

    NAME is a path, its last part, or at least four digits of a content id. Peers that keep a copy delete it, unless
    another peer has asked for copies of the same bytes. Files of this peer's own are never deleted: what lies in the
    shared directory stays there, and stays shared.
    """
    outcome = Outcome()
    ended: list[PeerControlEndPlacementResponse] = []
    with daemon_of(home) as daemon:
        for name in names:
            try:
                ended.append(daemon.end_placement(_content(daemon, name)))
            except Unreachable as failure:
                outcome.failed(failure)
                break
            except (RelevoError, click.ClickException) as failure:
                outcome.failed(failure)
    if as_json:
        document.write({"files": [_fields(one) for one in ended]})
    else:
        say(map(rm_line, ended))
    return outcome.code


def _content(daemon: "Daemon", name: str) -> bytes:
    """Returns the content that `name` means: that of a file, or one that no live peer has and that is named in full."""
    from peer.commands import naming  # noqa: PLC0415 - gRPC is slow to import

    try:
        return naming.resolve(daemon, name, "rm").content_id
    except NotFound:
        if _CONTENT_ID.fullmatch(name):
            return bytes.fromhex(name)
        raise


def rm_line(ended: "PeerControlEndPlacementResponse") -> str:
    """Returns what was given up: `a.txt: 3 copies are given back; the file is still shared from /home/ana/a.txt`."""
    placement, others = ended.response.placement, ended.response.wanted_copies
    if others:
        what = f"given up; others still want {show.count(others, 'copy', 'copies')}"
    else:
        copies = len(placement.copies)
        what = f"{show.count(copies, 'copy', 'copies')} {'is' if copies == 1 else 'are'} given back"
    own = f"; the file is still shared from {ended.shared_location}" if ended.shared_location else ""
    return printable(f"{placement.path}: {what}{own}")


def _fields(ended: "PeerControlEndPlacementResponse") -> dict[str, Any]:
    placement = document.fields_of(ended.response.placement)
    return {
        "placement": placement,
        "wanted_copies": ended.response.wanted_copies,
        "shared_location": ended.shared_location or None,
    }
