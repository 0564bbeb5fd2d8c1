"""The process around a central: signals, and the line that says when it is ready."""

import asyncio
import logging
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from central.network.network import Network
from central.server import Central, running_central
from central.settings import Settings
from core import process
from core.listening import check_plaintext

log = logging.getLogger("relevo.central")


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
    check_plaintext(listen, insecure=insecure, anywhere=insecure_anywhere)
    if insecure:
        log.warning("serving in PLAINTEXT: nothing is encrypted, and whoever reaches %s is a member", listen)
    running = running_central(data, listen, settings, insecure=insecure, enrolment_port=enrolment_port)
    process.run(_serve(data, running), settings.limits)


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
