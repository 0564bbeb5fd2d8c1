"""`relevo ls`: what the network offers."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.names import normal, printable
from peer.commands import document, show
from peer.commands.common import daemon_of, json_option, say

if TYPE_CHECKING:
    from relevo.v1.content_pb2 import CatalogueFile


@click.command("ls")
@click.argument("pattern", required=False, default="")
@click.option("--by-name", is_flag=True, help="Sort by name instead of newest first.")
@click.option("--long", "-l", "in_full", is_flag=True, help="Show the copies that are wanted, and those there are.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List at most N files.  [default: all]")
@json_option
@click.pass_obj
def ls(home: Path, pattern: str, *, by_name: bool, in_full: bool, limit: int | None, as_json: bool) -> None:
    """List the files that live peers offer.

    PATTERN is a part of the name, whatever its case, or a shell pattern such as '*.iso' (quoted); one with a slash is
    compared with the whole path.
    """
    with daemon_of(home) as daemon:
        files = list(daemon.files(normal(pattern), by_name=by_name, limit=limit))
    if as_json:
        document.write({"files": [document.fields_of(file) for file in files]})
    elif files:
        say(long_table(files, time.time()) if in_full else file_table(files, time.time()))
    else:
        what = f"no file matches {printable(pattern)!r}; `relevo ls` lists all" if pattern else "nobody offers a file"
        click.echo(what, err=True)


def file_table(files: Sequence["CatalogueFile"], now: float) -> list[str]:
    """Returns the lines that list `files`; `now` is in seconds since 1970 and dates their age."""
    ids = show.short_ids(file.content_id.hex() for file in files)
    return show.table(
        ("ID", ">SIZE", ">HOLDERS", ">AGE", "PATH"),
        (
            (
                ids[file.content_id.hex()],
                show.size(file.size_bytes),
                file.holder_count,
                show.age(file.publish_time.seconds, now),
                file.path,
            )
            for file in files
        ),
    )


def long_table(files: Sequence["CatalogueFile"], now: float) -> list[str]:
    """Returns the lines that list `files` with their copies: wanted ones beside the owner's own, and live ones."""
    ids = show.short_ids(file.content_id.hex() for file in files)
    return show.table(
        ("ID", ">SIZE", ">HOLDERS", ">WANTED", ">LIVE", ">AGE", "PATH"),
        (
            (
                ids[file.content_id.hex()],
                show.size(file.size_bytes),
                file.holder_count,
                file.wanted_copies or "-",
                file.live_copies if file.wanted_copies or file.live_copies else "-",
                show.age(file.publish_time.seconds, now),
                file.path,
            )
            for file in files
        ),
    )
