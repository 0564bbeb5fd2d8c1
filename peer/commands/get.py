"""`relevo get`: fetch files from every peer that has them."""

from pathlib import Path

import click

from core.errors import RelevoError
from core.failures import Failure, Stopped, tell
from core.names import printable
from peer.commands import document, params
from peer.commands.common import daemon_of, json_option, say


class Outcome:
    """Tells failures as they come and remembers the worst exit code, which is the highest."""

    def __init__(self) -> None:
        self.code = 0

    def failed(self, failure: Failure) -> None:
        """Tells a failure that does not keep the rest from going on."""
        tell(failure)
        self.code = max(self.code, failure.exit_code)


@click.command()
@click.argument("names", metavar="NAME|DIR/|PATTERN|CONTENT_ID...", nargs=-1, required=True)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="Where to put them; made if missing.  [default: the current directory]",
)
@click.option(
    "--limit-rate", type=params.rate, default="none", metavar="RATE", help="Most bytes a second, such as 2MiB/s."
)
@click.option(
    "--priority",
    type=click.Choice(("high", "normal", "low")),
    default="normal",
    show_default=True,
    help="Which downloads come first.",
)
@click.option("--detach", is_flag=True, help="Leave it to the daemon, and return at once.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
@click.pass_obj
def get(
    home: Path,
    names: tuple[str, ...],
    directory: Path,
    *,
    limit_rate: int,
    priority: str,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Fetch files, each from every peer that has it.

    A name is a path as `relevo ls` shows it, its last part, or at least four digits of a content id. `photos/` stands
    for everything beneath a directory, which keeps its tree; a pattern such as '*.mov' or 'photos/2024/*' for every
    file that it finds, each below the directories that the pattern does not name. Nothing is ever overwritten. Ctrl-C
    stops, with exit code 130; the same command goes on from where it was.

    What the daemon has accepted goes on after a crash or a reboot by itself. With --detach it also waits for holders
    that are away, instead of failing; `relevo transfers` shows how far it is, `relevo pause` and `cancel` stop it.
    """
    with daemon_of(home) as daemon:
        # gRPC is slow to import, and `--help` does without.
        from peer.commands import getting, naming, progress_bars  # noqa: PLC0415

        outcome = Outcome()
        files, selections = naming.understood(daemon, names, outcome.failed)
        with progress_bars.bars(quiet=quiet) as bars:
            options = getting.options(limit_rate, priority, detach=detach)
            fetch = getting.Fetch(daemon, getting.absolute(directory), bars, outcome.failed, options)
            try:
                (fetch.hand_over if detach else fetch.run)(files, selections)
            except (RelevoError, Stopped) as failure:
                outcome.failed(failure)
    if as_json:
        document.write(getting.as_json(fetch))
    else:
        say(printable(getting.accepted_line(transfer)) for transfer in fetch.accepted)
        say(printable(getting.result_line(transfer)) for transfer in fetch.ended if getting.has_come(transfer))
        if sum(map(getting.has_come, fetch.ended)) > 1 and not quiet:
            click.echo(printable(getting.total_line(fetch.ended)), err=True)
    return outcome.code
