"""The process around a daemon: signals, and the line that says when it is ready."""

import asyncio
import logging
import signal
from typing import Any

import click

from core import process
from peer.daemon import running_peer
from peer.settings import ServeSettings, remember

log = logging.getLogger("relevo.peer")

# How long `serve` waits for central before it says that it is ready without it, in seconds.
PATIENCE = 5.0


def run(settings: ServeSettings) -> None:
    """Runs the daemon until it is told to stop.

    Raises:
        RelevoError: it cannot start, or has to stop: another daemon has the home, the same home logged in elsewhere.
    """
    process.run(_serve(settings), settings.limits)


async def _serve(settings: ServeSettings) -> None:
    loop = asyncio.get_running_loop()
    async with running_peer(settings) as peer:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, peer.stop_soon)
        live = asyncio.ensure_future(peer.session.wait_live())
        waiting: list[asyncio.Future[Any]] = [live, peer.stopped]
        await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        live.cancel()
        if peer.stopped.done():
            return await peer.stopped
        try:
            remember(peer.settings)
        except OSError as error:
            log.warning("the home cannot remember these settings: %s", error)
        if not peer.session.live:
            log.warning("not logged in yet (%s); serving all the same", peer.session.problem)
        click.echo(f"peer {settings.name} ready on {peer.contact().addresses[0]}")
        return await peer.stopped
