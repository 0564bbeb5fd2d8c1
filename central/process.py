"""The process around a central: the event loop, signals, and the line that says when it is ready."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from central.network import Network
from central.server import Central, running_central
from central.settings import Settings
from core.limits import open_files
from core.listening import check_plaintext
from core.rpc import tune_allocator

log = logging.getLogger("relevo.central")
_new_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # it does not exist for every system
    _new_loop = None


def run(
    data: Path,
    listen: str,
    settings: Settings,
    *,
    enrolment_port: int | None,
    insecure: bool,
    insecure_anywhere: bool,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        data: central's own directory.
        listen: `host:port` to serve on.
        settings: what can be set.
        enrolment_port: where peers join, on the same host; None for the port after the main one.
        insecure: whether to serve in plaintext.
        insecure_anywhere: whether other machines may reach that.

    Raises:
        RelevoError: it cannot start.
    """
    if insecure:
        if not insecure_anywhere:
            check_plaintext(listen)
        log.warning("serving in PLAINTEXT: nothing is encrypted, and whoever reaches %s is a member", listen)
    tune_allocator()
    open_files()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(
            _serve(data, running_central(data, listen, settings, insecure=insecure, enrolment_port=enrolment_port))
        )


async def _serve(data: Path, running: AbstractAsyncContextManager[Central]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running as central:
        if central.network:
            _introduce(central.network, data)
        click.echo(f"central ready on {central.address}")
        sys.stdout.flush()
        await stopped.wait()
        log.info("central is stopping")


def _introduce(network: Network, data: Path) -> None:
    """Says in the log which network it is, and of a new one how others get in."""
    log.info("this is network %s", network.network_id)
    if network.created:
        log.info("it is new: `relevo-central invite --data %s` prints a token with which one peer joins", data)
