"""`relevo get`: fetch files from every peer that has them."""

from pathlib import Path

import click

from core.errors import RelevoError, Unreachable
from core.failures import Failure, Stopped, tell
from core.names import printable
from peer.commands import document
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
@click.argument("names", metavar="NAME|CONTENT_ID...", nargs=-1, required=True)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="Where to put them; made if missing.  [default: the current directory]",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
@click.pass_obj
def get(home: Path, names: tuple[str, ...], directory: Path, *, quiet: bool, as_json: bool) -> int:
    """Fetch files, each from every peer that has it.

    A name is a path as `relevo ls` shows it, its last part, or at least four digits of a content id. Nothing is ever
    overwritten. Ctrl-C stops, with exit code 130; the same command goes on from where it was.
    """
    with daemon_of(home) as daemon:
        from peer.commands import getting, progress_bars  # noqa: PLC0415 - gRPC is slow to import, and `--help` does without

        outcome, files = Outcome(), []
        for name in names:
            try:
                files.append(getting.resolve(daemon, name))
            except Unreachable:
                raise
            except (RelevoError, click.ClickException) as failure:
                outcome.failed(failure)
        with progress_bars.bars(quiet=quiet) as bars:
            fetch = getting.Fetch(daemon, getting.absolute(directory), bars, outcome.failed)
            try:
                fetch.run(files)
            except (RelevoError, Stopped) as failure:
                outcome.failed(failure)
    if as_json:
        document.write({"files": [document.fields_of(transfer) for transfer in fetch.ended]})
    else:
        say(printable(getting.result_line(transfer)) for transfer in fetch.ended if getting.is_done(transfer))
    return outcome.code
