"""`relevo put`: share files, and have copies of them kept by other peers."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.errors import RelevoError, Unreachable
from core.failures import STOPPED, Stopped
from peer.commands import document
from peer.commands.common import daemon_of, json_option, say
from peer.commands.get import Outcome

if TYPE_CHECKING:
    from peer.commands.putting import Put

MAX_REPLICAS = 32


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--replicas",
    type=click.IntRange(0, MAX_REPLICAS),
    default=2,
    show_default=True,
    metavar="N",
    help="Copies to keep on other peers; 0 only shares.",
)
@click.option("--wait", is_flag=True, help="Return when the copies are confirmed.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this.")
@json_option
@click.pass_obj
def put(home: Path, files: tuple[Path, ...], *, replicas: int, wait: bool, timeout: float | None, as_json: bool) -> int:
    """Share files and have other peers keep copies.

    A file outside the shared directory is copied into it. Copies go on being made after the command has ended, whether
    it came to its end, to its --timeout (exit code 5) or to Ctrl-C (130).
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long to --wait: give both")
    deadline = None if timeout is None else time.monotonic() + timeout

    def given_up() -> bool:
        return deadline is not None and time.monotonic() >= deadline

    outcome = Outcome()
    done: list[Put] = []
    with daemon_of(home) as daemon:
        from peer.commands import getting, progress_bars, putting  # noqa: PLC0415 - gRPC is slow to import

        try:
            with progress_bars.bars() as bars:
                for file in files:
                    try:
                        putting.check_source(file)
                        done.append(putting.share(daemon, getting.absolute(file), replicas, bars, given_up))
                    except RelevoError as error:
                        outcome.failed(error)
                for at, shared in enumerate(done) if wait else ():
                    done[at] = putting.wait_kept(daemon, shared, bars, deadline, time.monotonic)
        except KeyboardInterrupt:
            outcome.failed(Stopped("stopped waiting; what was begun goes on, and `relevo ls` shows how many hold it"))
    if as_json:
        document.write({"files": [_fields(shared) for shared in done]})
    else:
        say(map(putting.put_line, done))
    if wait and outcome.code != STOPPED and not all(shared.kept for shared in done):
        outcome.failed(Unreachable(f"not every copy was confirmed within {timeout:g} s; central goes on seeing to it"))
    return outcome.code


def _fields(shared: "Put") -> dict[str, Any]:
    placement = shared.placement
    fields = {
        name: document.fields_of(shared.transfer)[name] for name in ("path", "target", "content_id", "size_bytes")
    }
    return {**fields, "placement": document.fields_of(placement) if placement else None}
