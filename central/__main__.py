"""`relevo-central`, also `python -m central`: runs the central directory."""

import math
from pathlib import Path
from typing import Any

import click
import platformdirs

from central.quota_options import quota_options
from central.settings import DAY, Settings
from core.failures import PoliteGroup
from core.options import config_option, log_option

_DEFAULTS = Settings()


class _Number(click.FloatRange):
    """A range that not-a-number, which no comparison puts outside, does not pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        return self.fail("nan is not a number", param, ctx) if math.isnan(number) else number


_SECONDS = _Number(min=0.01, max=86_400)


@click.group("relevo-central", cls=PoliteGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relevo", prog_name="relevo-central", message="%(prog)s %(version)s")
def cli() -> None:
    """The central directory of a Relevo network: who is alive, who holds what, who stores copies.

    Files never pass through it.
    """


@cli.command(context_settings={"auto_envvar_prefix": "RELEVO"})
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: platformdirs.user_data_dir("relevo-central"),
    help="Directory that keeps the catalogue; it belongs to one central at a time.  "
    f"[default: {platformdirs.user_data_dir('relevo-central')}]",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:7400",
    show_default=True,
    help="Address to serve on; port 0 lets the system choose.",
)
@config_option
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve in plaintext. At present there is no other mode, so that this changes nothing.",
)
@click.option(
    "--beat-interval",
    type=_SECONDS,
    metavar="SECONDS",
    default=_DEFAULTS.beat_interval,
    show_default=True,
    help="Shortest time between two beats of a peer; its lease is 3.5 times as long.",
)
@click.option(
    "--grace",
    type=_SECONDS,
    metavar="SECONDS",
    default=_DEFAULTS.grace,
    show_default=True,
    help="Time that a broken heartbeat stream leaves for opening another.",
)
@click.option(
    "--sweep-interval",
    type=_SECONDS,
    metavar="SECONDS",
    default=_DEFAULTS.sweep_interval,
    show_default=True,
    help="Time from one search for silent peers to the next.",
)
@click.option(
    "--max-beats",
    type=_Number(min=0.1, max=1_000_000),
    metavar="N",
    default=_DEFAULTS.max_beats,
    show_default=True,
    help="Beats a second of all peers together; with more peers, each beats more rarely.",
)
@click.option(
    "--relay-cap",
    type=click.IntRange(min=1),
    metavar="N",
    default=_DEFAULTS.relay_cap,
    show_default=True,
    help="Most peers that use one peer as neighbour while another has room.",
)
@click.option(
    "--forget-after",
    type=_Number(min=0, max=36_500, min_open=True),
    metavar="DAYS",
    default=_DEFAULTS.forget_after / DAY,
    show_default=True,
    help="How long to remember what a peer that is gone had published.",
)
@click.option(
    "--drain",
    type=_Number(min=0, max=86_400),
    metavar="SECONDS",
    default=_DEFAULTS.drain,
    show_default=True,
    help="How long running calls may take to end when central stops.",
)
@quota_options
@log_option
def serve(data: Path, listen: str, insecure: bool, forget_after: float, **settings: float) -> None:
    """Serve the directory until SIGTERM or Ctrl-C.

    Every option can also stand in the configuration file, by its name, or in the environment, as RELEVO_NAME.
    """
    del insecure  # there is no other mode yet
    from central.process import run  # noqa: PLC0415 - grpc takes 0.13 s, which --help need not wait for

    run(data, listen, Settings(forget_after=forget_after * DAY, **settings))  # type: ignore[arg-type]


def main() -> None:
    """Runs the command line; an error is one line on stderr and its own exit code."""
    cli(prog_name="relevo-central")


if __name__ == "__main__":
    main()
