"""Carrying directory calls for others: what a neighbour does. Identical look-ups in flight become one."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message

from core.errors import Unreachable
from peer.directory.routes import TIMEOUT, Routes
from relevo.v1 import central_directory_pb2 as pb2

T = TypeVar("T")
# Central may take so long for a large batch of files, in seconds; whoever has it carried may give up before.
CARRY_TIMEOUT = 20.0


class Joined:
    """Runs a look-up once for all who ask for it while it runs."""

    def __init__(self) -> None:
        self._running: dict[Any, asyncio.Task[Any]] = {}
        self._waiting: dict[Any, int] = {}

    async def run(self, key: Any, work: Callable[[], Awaitable[T]]) -> T:
        """Returns the result of `work`, or of the work under the same `key` that is running already.

        It is cancelled when everybody who waits for it has been.
        """
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(_as_coroutine(work))
            self._waiting[key] = 0
            task.add_done_callback(partial(self._ended, key))
        self._waiting[key] += 1
        try:
            result: T = await asyncio.shield(task)
            return result
        except asyncio.CancelledError:
            if self._running.get(key) is task and self._waiting[key] == 1:
                self._forget(key, task)  # at once: whoever asks while it is ending begins anew
                task.cancel()
            raise
        finally:
            if self._running.get(key) is task:
                self._waiting[key] -= 1

    def _forget(self, key: Any, task: asyncio.Task[Any]) -> None:
        if self._running.get(key) is task:
            del self._running[key], self._waiting[key]

    def _ended(self, key: Any, task: asyncio.Task[Any]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may be left


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


class DirectCarrier:
    """Carries calls to central, reads under this peer's own name: to no other neighbour, so that no loop can form."""

    def __init__(self, routes: Routes, reaches_central: Callable[[], bool] = lambda: True) -> None:
        """`reaches_central` tells whether this peer is logged in to central without anybody's help."""
        self._routes = routes
        self._reaches_central = reaches_central
        self._joined = Joined()

    async def list_files(self, request: pb2.ListFilesRequest) -> pb2.ListFilesResponse:
        """Carries CentralDirectory.ListFiles; raises its errors, or Unreachable."""
        return await self._look_up(request, lambda central: central.ListFiles(request, timeout=TIMEOUT))

    async def locate_file(self, request: pb2.LocateFileRequest) -> pb2.LocateFileResponse:
        """Carries CentralDirectory.LocateFile; raises its errors, or Unreachable."""
        return await self._look_up(request, lambda central: central.LocateFile(request, timeout=TIMEOUT))

    async def locate_files(self, request: pb2.LocateFilesRequest) -> pb2.LocateFilesResponse:
        """Carries CentralDirectory.LocateFiles; raises its errors, or Unreachable."""
        return await self._look_up(request, lambda central: central.LocateFiles(request, timeout=TIMEOUT))

    async def get_neighbours(self, request: pb2.GetNeighboursRequest) -> pb2.GetNeighboursResponse:
        """Carries CentralDirectory.GetNeighbours; raises its errors, or Unreachable."""
        return await self._look_up(request, lambda central: central.GetNeighbours(request, timeout=TIMEOUT))

    async def place_file(self, request: pb2.PlaceFileRequest) -> pb2.PlaceFileResponse:
        """Carries CentralDirectory.PlaceFile unchanged; raises its errors, or Unreachable."""
        return await self._routes.at_central(lambda central: central.PlaceFile(request, timeout=TIMEOUT))

    async def end_placement(self, request: pb2.EndPlacementRequest) -> pb2.EndPlacementResponse:
        """Carries CentralDirectory.EndPlacement unchanged; raises its errors, or Unreachable."""
        return await self._routes.at_central(lambda central: central.EndPlacement(request, timeout=TIMEOUT))

    async def carry(self, request: pb2.CarryRequest) -> pb2.CarryResponse:
        """Carries CentralDirectory.Carry, whose request and answer prove themselves.

        Raises:
            Unreachable: this peer does not reach central either, or only with another's help.
        """
        if not self._reaches_central():
            raise Unreachable("this peer does not reach central either; ask another")
        return await self._routes.at_central_itself(lambda central: central.Carry(request, timeout=CARRY_TIMEOUT))

    async def _look_up(self, request: Message, call: Callable[[Any], Awaitable[T]]) -> T:
        key = (type(request), request.SerializeToString(deterministic=True))
        return await self._joined.run(key, lambda: self._routes.at_central(call))
