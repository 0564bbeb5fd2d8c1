"""`relevo serve`: the daemon in the foreground."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import InvalidInput
from core.limit_options import limit_options
from core.limits import Limits
from core.names import check_peer_name
from core.options import config_option, log_option
from peer.commands import params
from peer.commands.relay_options import relay_options
from peer.settings import CARRIED, CARRIED_EACH, MAX_DOWNLOADS, SLOTS, SLOTS_EACH, RelayLimits

if TYPE_CHECKING:
    from peer.settings import Remembered


@click.command(context_settings={"auto_envvar_prefix": "RELEVO"})
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--central", type=params.address, multiple=True, metavar="HOST:PORT", help="Where central is; repeat for others."
)
@click.option(
    "--friend",
    type=params.friend,
    multiple=True,
    metavar="PEER_ID@HOST:PORT",
    help="A peer to ask when neither a neighbour nor central answers; repeat for others.",
)
@click.option(
    "--via",
    type=params.friend,
    multiple=True,
    metavar="HOST:PORT",
    help="A peer through which to reach central when it is not reached itself; repeat for a backup. PEER_ID@HOST:PORT "
    "insists on that peer; HOST:PORT takes any member.",
)
@click.option(
    "--join",
    default="",
    metavar="TOKEN",
    help="Become a member of the network whose operator gave this token; needed once.",
)
@click.option("--name", metavar="NAME", help="What others see this peer as.  [default: the host name]")
@click.option(
    "--listen",
    type=params.listen_address,
    metavar="HOST:PORT",
    help="Where to serve other peers: [::] is every address, IPv4 too; with port 0 the system chooses.  "
    "[default: [::]:0; 127.0.0.1:0 with --insecure]",
)
@click.option(
    "--advertise",
    type=params.host,
    default="",
    metavar="HOST",
    help="The host under which others reach this peer.  [default: found from the route to central]",
)
@click.option(
    "--entrance",
    type=params.entrance,
    default="",
    metavar="HOST[:PORT]",
    help="Let newcomers through to central that do not reach it: [::] is every address. They join with --via and this "
    "host; PORT is for a router that maps it to central's enrolment port, which is used otherwise.  [default: nobody]",
)
@click.option(
    "--store-quota",
    type=params.size,
    default="10GiB",
    show_default=True,
    metavar="SIZE",
    help="Most to store for others.",
)
@click.option(
    "--max-blocks",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=SLOTS,
    show_default=True,
    help="Most blocks given at once; each takes up to 2 MiB of memory.",
)
@click.option(
    "--max-blocks-each",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=SLOTS_EACH,
    show_default=True,
    help="Most blocks given at once to one peer.",
)
@click.option(
    "--max-carried",
    type=click.IntRange(0, 10_000),
    metavar="N",
    default=CARRIED,
    show_default=True,
    help="Most directory calls carried to central at once for other peers; 0: none.",
)
@click.option(
    "--max-carried-each",
    type=click.IntRange(0, 10_000),
    metavar="N",
    default=CARRIED_EACH,
    show_default=True,
    help="Most directory calls carried to central at once for one peer.",
)
@click.option(
    "--upload-limit",
    type=params.rate,
    default="none",
    show_default=True,
    metavar="RATE",
    help="Most bytes a second to all other peers together, such as 2MiB/s; `relevo limit` changes it.",
)
@click.option(
    "--download-limit",
    type=params.rate,
    default="none",
    show_default=True,
    metavar="RATE",
    help="Most bytes a second from all other peers together; `relevo limit` changes it.",
)
@click.option(
    "--max-downloads",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=MAX_DOWNLOADS,
    show_default=True,
    help="Most downloads that run at once; the others wait in the order of their priorities.",
)
@relay_options
@limit_options
@click.option("--insecure", is_flag=True, help="Use no encryption and no identity: for trying it on one machine.")
@click.option("--insecure-anywhere", is_flag=True, help="With --insecure, serve other machines all the same.")
@config_option
@log_option
@click.pass_context
def serve(
    ctx: click.Context,
    directory: Path | None,
    *,
    central: tuple[str, ...],
    friend: tuple[str, ...],
    via: tuple[str, ...],
    join: str,
    name: str | None,
    listen: str | None,
    advertise: str,
    entrance: str,
    store_quota: int,
    max_blocks: int,
    max_blocks_each: int,
    max_carried: int,
    max_carried_each: int,
    upload_limit: int,
    download_limit: int,
    max_downloads: int,
    relay: RelayLimits,
    limits: Limits,
    insecure: bool,
    insecure_anywhere: bool,
) -> None:
    """Share the directory DIR with the network, until stopped.

    The first time, --join takes the token that the network's operator got from `relevo-central invite`; it says where
    central is, too. DIR, --central, --friend, --via and --name may be left out when this home has been served before:
    it remembers them. Every option can also stand in the environment (RELEVO_JOIN, RELEVO_LISTEN, …) or in the --config
    file.
    """
    from peer.settings import ServeSettings, default_name, recall  # noqa: PLC0415 - `--help` does without

    home: Path = ctx.obj
    if insecure and join:
        raise click.UsageError("--join makes this peer a member, and --insecure does without members: choose one", ctx)
    kept = recall(home)
    settings = ServeSettings(
        home=home,
        shared=_shared(ctx, directory, home, kept),
        centrals=central or (() if join else kept.centrals),
        friends=friend or kept.friends,
        via=via or kept.via,
        name=_name(ctx, name or kept.name or default_name()),
        listen=listen or ("127.0.0.1:0" if insecure else "[::]:0"),
        advertise=advertise,
        entrance=entrance,
        store_quota=store_quota,
        slots=max_blocks,
        slots_each=max_blocks_each,
        carried=max_carried,
        carried_each=max_carried_each,
        upload_limit=upload_limit,
        download_limit=download_limit,
        max_downloads=max_downloads,
        relay=relay,
        limits=limits,
        join=join,
        insecure=insecure,
        insecure_anywhere=insecure_anywhere,
    )
    if insecure and not settings.centrals:
        raise click.UsageError("name the central to use: --central HOST:PORT", ctx)
    settings.check()
    from peer.process import run  # noqa: PLC0415 - slow to import, and `--help` does without

    run(settings)


def _shared(ctx: click.Context, given: Path | None, home: Path, kept: "Remembered") -> Path:
    directory = given or kept.shared
    if directory is None:
        raise click.UsageError("name the directory to share: relevo serve DIR --join TOKEN", ctx)
    shared = directory.absolute()
    if not shared.is_dir():
        what = "is not a directory:" if shared.exists() else "does not exist: make it first, or"
        raise click.UsageError(f"{shared} {what} name another directory to share", ctx)
    _keep_apart(ctx, shared.resolve(), home.resolve())
    return shared


def _keep_apart(ctx: click.Context, shared: Path, home: Path) -> None:
    """Refuses to share the home, which holds the peer's key; below a hidden directory nothing is shared anyway."""
    inside = home.is_relative_to(shared) and not any(part.startswith(".") for part in home.relative_to(shared).parts)
    if inside or shared.is_relative_to(home):
        raise click.UsageError(
            f"{shared} and the home {home} lie in each other, and the home holds this peer's key: "
            "share another directory, or choose another --home",
            ctx,
        )


def _name(ctx: click.Context, name: str) -> str:
    try:
        return check_peer_name(name)
    except InvalidInput as error:
        raise click.BadParameter(str(error).removeprefix("name: "), ctx, param_hint="--name") from error
