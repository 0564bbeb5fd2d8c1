"""`relevo-central`, also `python -m central`: runs the central directory."""

from pathlib import Path
from typing import Any

import click

from central.commands.backup import backup
from central.commands.certificates import admin_cert, rotate_ca
from central.commands.members import invite, peers, revoke
from central.parameters import data_option, span, spelt
from central.quota_options import quota_options
from central.settings import DAY, Settings
from core.failures import PoliteGroup
from core.limit_options import limit_options
from core.options import Number, config_option, log_option

_DEFAULTS = Settings()
_SECONDS = Number(min=0.01, max=86_400)


@click.group("relevo-central", cls=PoliteGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="relevo", prog_name="relevo-central", message="%(prog)s %(version)s")
def cli() -> None:
    """The central directory of a Relevo network: who is alive, who holds what, who stores copies.

    Files never pass through it.
    """


@cli.command(context_settings={"auto_envvar_prefix": "RELEVO"})
@data_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address to serve on; port 0 lets the system choose.  [default: [::]:7400, every interface; "
    "127.0.0.1:7400 with --insecure]",
)
@click.option(
    "--enrolment-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Port on which peers join and renew their certificates.  [default: the one after --listen's]",
)
@config_option
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve in plaintext, without identities: whoever reaches the port is a member. On this machine only.",
)
@click.option("--insecure-anywhere", is_flag=True, help="Allow --insecure on addresses that other machines reach.")
@click.option(
    "--certificate-life",
    type=span(1, 365 * DAY),
    metavar="SPAN",
    default=spelt(_DEFAULTS.certificate_life),
    show_default=True,
    help="How long certificates count; they are renewed when two thirds of it are over.",
)
@click.option(
    "--enrolment-rate",
    type=Number(min=0.01, max=1_000_000),
    metavar="N",
    default=_DEFAULTS.enrolment_rate,
    show_default=True,
    help="Requests a second that one host may make to join or to renew; ten seconds' worth of them at once.",
)
@click.option(
    "--enrolment-total-rate",
    type=Number(min=0.01, max=1_000_000),
    metavar="N",
    default=_DEFAULTS.enrolment_total_rate,
    show_default=True,
    help="The same for all hosts together.",
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
    "--probe",
    type=_SECONDS,
    metavar="SECONDS",
    default=_DEFAULTS.probe,
    show_default=True,
    help="Time that other peers have to reach one that central hears nothing of.",
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
    type=Number(min=0.1, max=1_000_000),
    metavar="N",
    default=_DEFAULTS.max_beats,
    show_default=True,
    help="Beats a second of all peers together; with more peers, each beats more rarely.",
)
@click.option(
    "--replace-after",
    type=Number(min=0, max=30 * DAY),
    metavar="SECONDS",
    default=_DEFAULTS.replace_after,
    show_default=True,
    help="How long a copy is waited for when its peer has left, before another peer is to make one.",
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
    "--longest-search",
    type=Number(min=0.1, max=3_600),
    metavar="SECONDS",
    default=_DEFAULTS.longest_search,
    show_default=True,
    help="Time after which a search of the catalogue is given up.",
)
@click.option(
    "--forget-after",
    type=Number(min=0, max=36_500, min_open=True),
    metavar="DAYS",
    default=_DEFAULTS.forget_after / DAY,
    show_default=True,
    help="How long to remember what a peer that is gone had published.",
)
@click.option(
    "--drain",
    type=Number(min=0, max=86_400),
    metavar="SECONDS",
    default=_DEFAULTS.drain,
    show_default=True,
    help="How long running calls may take to end when central stops.",
)
@quota_options
@limit_options
@log_option
def serve(
    data: Path,
    listen: str | None,
    *,
    enrolment_port: int | None,
    insecure: bool,
    insecure_anywhere: bool,
    forget_after: float,
    **settings: Any,
) -> None:
    """Serve the directory until SIGTERM or Ctrl-C.

    The first start makes the network: its keys stay in the data directory. Peers join with a token from
    `relevo-central invite`.

    Every option can also stand in the configuration file, by its name, or in the environment, as RELEVO_NAME.
    """
    from central.process import run  # noqa: PLC0415 - grpc takes 0.13 s, which --help need not wait for

    run(
        data,
        listen or ("127.0.0.1:7400" if insecure else "[::]:7400"),
        Settings(forget_after=forget_after * DAY, **settings),
        enrolment_port=enrolment_port,
        insecure=insecure,
        insecure_anywhere=insecure_anywhere,
    )


for command in (invite, peers, revoke, rotate_ca, admin_cert, backup):
    cli.add_command(command)


def main() -> None:
    """Runs the command line; an error is one line on stderr and its own exit code."""
    cli(prog_name="relevo-central")


if __name__ == "__main__":
    main()
