"""`relevo menu`: the interactive menu. Everything it does is what `ls`, `get`, `put` and `logout` do."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import RelevoError
from core.failures import Failure, tell
from core.names import printable
from peer.commands import show
from peer.commands.common import daemon_of, say
from peer.commands.state import leave

if TYPE_CHECKING:
    from peer.commands.client import Daemon
    from relevo.v1.content_pb2 import CatalogueFile

# Files that a search offers by number.
_OFFERED = 20


class Left(Exception):
    """The user has left the menu."""


def run(home: Path) -> None:
    """Asks for an action and does it, again and again, until the user leaves, logs out, or the input ends."""
    actions: dict[str, tuple[str, Callable[[Path], None]]] = {
        "1": ("Upload a file", _upload),
        "2": ("Download a file", _download),
        "3": ("Log out and stop the daemon", _log_out),
        "4": ("Leave this menu; the daemon goes on", _leave_menu),
    }
    with daemon_of(home) as daemon:
        found = daemon.status()
    click.echo(printable(f"Relevo, as {found.peer.name}, sharing {found.shared_directory}"))
    try:
        while True:
            click.echo()
            say(f"  {number}  {title}" for number, (title, _) in actions.items())
            answer = _ask("Choose")
            if answer not in actions:
                click.echo(f"{printable(answer)!r} is none of these; type a number from 1 to {len(actions)}.")
                continue
            try:
                actions[answer][1](home)
            except (RelevoError, click.ClickException) as failure:
                tell(failure)
    except Left:
        return


def _ask(question: str, default: str | None = None) -> str:
    """Returns what the user types. Raises Left when the input ends, or was closed from the beginning."""
    if sys.stdin is None:
        raise Left
    try:
        return str(click.prompt(question, default=default, show_default=bool(default))).strip()
    except click.Abort:
        click.echo()
        raise Left from None


def _upload(home: Path) -> None:
    from peer.commands import getting, progress_bars, putting  # noqa: PLC0415 - gRPC is slow to import

    source = Path(_ask("File to upload")).expanduser()
    putting.check_source(source)
    replicas = _number(_ask("Copies on other peers", "2"), most=32)
    with daemon_of(home) as daemon, progress_bars.bars() as bars:
        shared = putting.share(daemon, getting.absolute(source), replicas, bars)
    say([putting.put_line(shared)])


def _download(home: Path) -> None:
    from peer.commands import getting, progress_bars  # noqa: PLC0415 - gRPC is slow to import

    failures: list[Failure] = []
    with daemon_of(home) as daemon:
        file = _chosen_file(daemon, _ask("Part of its name (empty lists the newest)", ""))
        if file is None:
            return
        directory = getting.absolute(Path(_ask("Into which directory", ".")).expanduser())
        with progress_bars.bars() as bars:
            fetch = getting.Fetch(daemon, directory, bars, failures.append)
            fetch.run([file])
    for failure in failures:
        tell(failure)
    say(printable(getting.result_line(transfer)) for transfer in fetch.ended if getting.is_done(transfer))


def _chosen_file(daemon: "Daemon", query: str) -> "CatalogueFile | None":
    from core.names import normal  # noqa: PLC0415
    from peer.commands import naming  # noqa: PLC0415 - gRPC is slow to import

    files = list(daemon.files(normal(query), limit=_OFFERED))
    if not files:
        click.echo("Nothing matches that.")
        return None
    rows = [(at, show.size(file.size_bytes), file.holder_count, file.path) for at, file in enumerate(files, 1)]
    say(show.table((">", ">SIZE", ">HOLDERS", "PATH"), rows))
    answer = _ask("Number or name (empty: none)", "")
    if not answer:
        return None
    if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(files):
        return files[int(answer) - 1]
    return naming.resolve(daemon, answer)


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise click.UsageError(f"{text!r} is not a number from 0 to {most}")
    return int(text)


def _log_out(home: Path) -> None:
    leave(home)
    raise Left


def _leave_menu(home: Path) -> None:
    del home
    raise Left
