"""`relevo pause`, `resume`, `cancel`, `priority`: steer downloads that the daemon has accepted."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import NotFound, RelevoError, Unreachable
from core.failures import Choose
from core.names import printable
from peer.commands import document, show
from peer.commands.common import daemon_of, json_option, say
from peer.commands.get import Outcome

if TYPE_CHECKING:
    from peer.commands.client import Daemon
    from relevo.v1.peer_control_pb2 import Transfer

Step = Callable[["Daemon", str], "Transfer"]
_PRIORITIES = ("high", "normal", "low")
ids_argument = click.argument("ids", metavar="ID...", nargs=-1)


@click.command()
@ids_argument
@click.option("--all", "everything", is_flag=True, help="Pause every download.")
@json_option
@click.pass_context
def pause(ctx: click.Context, ids: tuple[str, ...], *, everything: bool, as_json: bool) -> int:
    """Stop downloads until they are resumed.

    They keep what they have fetched, give their bandwidth to others, and stay paused when the daemon starts again. An
    ID is the beginning of one that `relevo transfers` shows.
    """
    _check(ctx, ids, everything=everything)
    wanted = None if everything else ids
    return _steer(ctx.obj, wanted, ("waiting", "running"), lambda daemon, one: daemon.pause(one), as_json=as_json)


@click.command()
@ids_argument
@click.option("--all", "everything", is_flag=True, help="Resume every download that is paused.")
@json_option
@click.pass_context
def resume(ctx: click.Context, ids: tuple[str, ...], *, everything: bool, as_json: bool) -> int:
    """Let paused downloads go on.

    One that waits for a holder tries again at once.
    """
    _check(ctx, ids, everything=everything)
    wanted = None if everything else ids
    return _steer(ctx.obj, wanted, ("paused", "waiting"), lambda daemon, one: daemon.resume(one), as_json=as_json)


@click.command()
@ids_argument
@json_option
@click.pass_context
def cancel(ctx: click.Context, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Stop transfers for good.

    What a download has fetched stays in a hidden file beside its target, and the same `relevo get` goes on from there.
    """
    _check(ctx, ids, everything=False)
    return _steer(ctx.obj, ids, (), lambda daemon, one: daemon.cancel(one), as_json=as_json)


@click.command()
@click.argument("transfer_id", metavar="ID")
@click.argument("level", metavar="high|normal|low", type=click.Choice(_PRIORITIES))
@json_option
@click.pass_obj
def priority(home: Path, transfer_id: str, level: str, *, as_json: bool) -> int:
    """Say which downloads come first.

    Those of a higher priority run first, and get four times as much of a limited bandwidth. One of a lower priority
    waits for as long as they take all places.
    """
    return _steer(home, (transfer_id,), (), lambda daemon, one: daemon.prioritise(one, level), as_json=as_json)


def _check(ctx: click.Context, ids: Sequence[str], *, everything: bool) -> None:
    if everything and ids:
        raise click.UsageError("name transfers, or all of them with --all: not both", ctx)
    if not everything and not ids:
        raise click.UsageError("name transfers by their ids; `relevo transfers` shows them", ctx)


def _steer(home: Path, ids: Iterable[str] | None, states: tuple[str, ...], step: Step, *, as_json: bool) -> int:
    """Does `step` to the transfers that `ids` mean, or to all downloads in one of `states`; returns the exit code."""
    outcome, done = Outcome(), []
    with daemon_of(home) as daemon:
        known = list(daemon.transfers())
        for wanted in ids if ids is not None else _all_of(known, states):
            try:
                done.append(step(daemon, meant(wanted, known).transfer_id))
            except Unreachable:
                raise
            except (RelevoError, click.ClickException) as failure:
                outcome.failed(failure)
    if as_json:
        document.write({"transfers": [document.fields_of(transfer) for transfer in done]})
    elif done:
        say(map(line, done))
    elif ids is None:
        click.echo("there is no such download", err=True)
    return outcome.code


def _all_of(known: Sequence["Transfer"], states: tuple[str, ...]) -> list[str]:
    return [
        transfer.transfer_id
        for transfer in known
        if document.word(transfer, "kind") == "download" and document.word(transfer, "state") in states
    ]


def meant(wanted: str, known: Sequence["Transfer"]) -> "Transfer":
    """Returns the transfer that `wanted` means: an id, or the beginning of one; those that have not ended come first.

    Raises:
        NotFound: there is none.
        Choose: there are several.
    """
    found = [transfer for transfer in known if wanted and transfer.transfer_id.startswith(wanted.lower())]
    found = [transfer for transfer in found if not transfer.HasField("end_time")] or found
    if not found:
        raise NotFound(f"there is no transfer {wanted!r}; `relevo transfers` lists them")
    if len(found) > 1:
        rows = [(one.transfer_id, document.word(one, "state"), one.path) for one in found]
        raise Choose(
            f"{wanted!r} is the beginning of {len(found)} ids; choose one",
            show.table(("ID", "STATE", "PATH"), rows)[1:],
        )
    return found[0]


def line(transfer: "Transfer") -> str:
    """Returns how a transfer stands: `1a2b3c4d  paused  45% of 2.6 GiB  films/a.mkv`."""
    state = document.word(transfer, "state")
    level = document.word(transfer, "priority") if transfer.priority else ""
    done = f"{show.percent(transfer.done_bytes, transfer.size_bytes)} of {show.size(transfer.size_bytes)}"
    cells = (
        transfer.transfer_id[: show.SHORTEST_ID],
        f"{state}, {level} priority" if level not in {"", "normal"} else state,
        done,
        transfer.path or transfer.content_id.hex()[: show.SHORTEST_ID],
    )
    return printable("  ".join(cells))
