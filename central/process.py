"""The process around a central: the event loop, signals, and the line that says when it is ready."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from central.server import running_central
from central.settings import Settings
from core.rpc import tune_allocator

log = logging.getLogger("relevo.central")
_new_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # it does not exist for every system
    _new_loop = None


def run(data: Path, listen: str, settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        RelevoError: it cannot start.
    """
    tune_allocator()
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(data, listen, settings))


async def _serve(data: Path, listen: str, settings: Settings) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running_central(data, listen, settings) as central:
        click.echo(f"central ready on {central.address}")
        sys.stdout.flush()
        await stopped.wait()
        log.info("central is stopping")
