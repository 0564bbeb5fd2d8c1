"""`relevo`: the command line of a peer. Commands live in peer/commands, one module for each family."""

from pathlib import Path

import click

from core.failures import PoliteGroup
from peer.commands.get import get
from peer.commands.limiting import limit
from peer.commands.listing import ls
from peer.commands.network import neighbour, peers
from peer.commands.put import put
from peer.commands.rm import rm
from peer.commands.serve import serve
from peer.commands.state import logout, status, transfers
from peer.commands.steering import cancel, pause, priority, resume


@click.group("relevo", cls=PoliteGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="RELEVO_HOME",
    metavar="DIR",
    help="The peer's own directory, one for each peer of a machine.  [default: relevo in the user's data directory]",
)
@click.version_option(package_name="relevo", prog_name="relevo", message="%(prog)s %(version)s")
@click.pass_context
def relevo(ctx: click.Context, home: Path | None) -> None:
    """Share files straight from machine to machine.

    `relevo serve DIR --join TOKEN` makes this machine a peer, `relevo serve` runs it from then on; the other commands
    talk to it. The token comes from the network's operator.

    Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 not found, 5 try again later, 7 refused, 130 stopped with Ctrl-C.
    """
    ctx.obj = (home or _default_home()).absolute()


def _default_home() -> Path:
    from platformdirs import user_data_path  # noqa: PLC0415 - not needed when the home is named

    return user_data_path("relevo")


@relevo.command()
@click.pass_obj
def menu(home: Path) -> None:
    """Upload, download and log out by choosing from a menu."""
    from peer.commands import menu as interactive  # noqa: PLC0415 - only this command needs it

    interactive.run(home)


for command in (serve, ls, get, put, rm, peers, neighbour, status, transfers, limit, logout):
    relevo.add_command(command)
for command in (pause, resume, cancel, priority):
    relevo.add_command(command)


def main() -> None:
    """Runs the command line."""
    relevo(prog_name="relevo")
