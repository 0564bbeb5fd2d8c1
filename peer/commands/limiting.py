"""`relevo limit`: how fast this peer sends and fetches at most."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from peer.commands import document, params, show
from peer.commands.common import daemon_of, json_option, say

if TYPE_CHECKING:
    from relevo.v1.peer_control_pb2 import RateLimits


@click.command()
@click.option("--upload", type=params.rate, metavar="RATE", help="To all other peers together; `none` lifts the limit.")
@click.option("--download", type=params.rate, metavar="RATE", help="From all other peers together; `none` lifts it.")
@json_option
@click.pass_obj
def limit(home: Path, upload: int | None, download: int | None, *, as_json: bool) -> None:
    """Show or set how fast this peer sends and fetches.

    A RATE is in bytes a second: 2MiB/s, 500k, 1.5MB. It counts at once, also for what is under way, and until the
    daemon stops; what it starts with are the settings of `relevo serve`.
    """
    with daemon_of(home) as daemon:
        found = daemon.set_rate_limits(upload, download)
    if as_json:
        document.write(document.fields_of(found))
    else:
        say(lines(found))


def lines(found: "RateLimits") -> list[str]:
    """Returns what counts: `upload    2.0 MiB/s`."""
    return [
        f"{'upload':<10}{shown(found.upload_bytes_per_second)}",
        f"{'download':<10}{shown(found.download_bytes_per_second)}",
    ]


def shown(rate: int) -> str:
    """Returns a limit for people."""
    return show.rate(rate) if rate else "no limit"
