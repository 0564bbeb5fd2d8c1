"""A TCP proxy that delays: what it hears it says later, as a long line would.

`python -m bench.delaying LISTEN TARGET` says when it is ready. A long line limits too: a sender may have only so much
on the way that has not been acknowledged, and the acknowledgment takes as long as the bytes. Without that limit one
connection would be as fast as without any delay, which none is.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import click

from core.limits import Limits
from core.process import run

_CHUNK = 256 * 1024


def tcp_window() -> int:
    """Returns how many bytes one connection has on the way at most: this system's largest socket buffer."""
    return min(int(Path(f"/proc/sys/net/ipv4/tcp_{kind}mem").read_text("ascii").split()[2]) for kind in ("r", "w"))


class Line:
    """One direction of one connection."""

    def __init__(self, delay: float, window: int) -> None:
        """`delay` is in seconds, each way; `window` in bytes."""
        self._delay = delay
        self._room = window
        self._changed = asyncio.Event()
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Returns when the line has been closed at one end."""
        delivering = asyncio.create_task(self._deliver(writer))
        loop = asyncio.get_running_loop()
        try:
            while True:
                while self._room <= 0:
                    self._changed.clear()
                    await self._changed.wait()
                data = await reader.read(min(_CHUNK, self._room))
                self._room -= len(data)
                self._on_the_way.append((loop.time() + self._delay, data))
                self._changed.set()
                if not data:
                    await delivering
                    return
        finally:
            delivering.cancel()

    async def _deliver(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._on_the_way:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._on_the_way.popleft()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            loop.call_later(self._delay, self._acknowledge, len(data))

    def _acknowledge(self, size: int) -> None:
        self._room += size
        self._changed.set()


async def serve(listen: str, target: str, delay: float, window: int, ready: Callable[[str], object]) -> None:
    """Carries connections from `listen` to `target`, both `host:port`, until it is cancelled.

    Args:
        listen: where to listen; with port 0 the system chooses.
        target: where to carry what comes.
        delay: seconds each way.
        window: most bytes on the way in each direction of a connection.
        ready: is told the address.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port), limit=_CHUNK)
        try:
            await asyncio.gather(
                Line(delay, window).carry(reader, far_writer),
                Line(delay, window).carry(far_reader, writer),
            )
        except ConnectionError:
            pass  # whoever it was has gone
        finally:
            for end in (writer, far_writer):
                end.close()

    host, _, port = listen.partition(":")
    server = await asyncio.start_server(connected, host, int(port), limit=_CHUNK)
    async with server:
        host, port = server.sockets[0].getsockname()
        ready(f"{host}:{port}")
        await server.serve_forever()


@click.command()
@click.argument("listen")
@click.argument("target")
@click.option("--delay", type=float, required=True, help="Milliseconds each way.")
@click.option("--window", type=int, default=None, help="Bytes on the way at most.  [default: this system's for TCP]")
def main(listen: str, target: str, delay: float, window: int | None) -> None:
    """Carries connections from LISTEN to TARGET and back, later."""

    def ready(address: str) -> None:
        print(f"delaying ready on {address}", flush=True)

    run(serve(listen, target, delay / 1000, window or tcp_window(), ready), Limits())


if __name__ == "__main__":
    sys.exit(main())
