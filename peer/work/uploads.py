"""Uploads: a file joins the shared directory, the catalogue hears of it, central places copies; and giving them up."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from core.errors import Busy, OverQuota, Unreachable
from core.identity import Identity
from core.names import printable
from core.signing import sign_request
from peer.directory.publishing import Publisher
from peer.directory.routes import Routes
from peer.directory.session import Session
from peer.library import Library
from peer.work.transfers import Kind, State, Transfer, Transfers
from relevo.v1 import central_directory_pb2 as pb2

T = TypeVar("T")
PLACE_METHOD = "/relevo.v1.CentralDirectory/PlaceFile"
END_METHOD = "/relevo.v1.CentralDirectory/EndPlacement"
# How long a lost session may take to come back, in seconds.
SESSION_TIMEOUT = 5.0
# How long central may take to acknowledge the new entry, in seconds; batches before it may be large.
PUBLISH_TIMEOUT = 120.0
# Pauses before what central had no room for is asked again, in seconds.
BUSY_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Uploads:
    """Shares files and has them copied."""

    def __init__(
        self,
        *,
        identity: Identity,
        library: Library,
        publisher: Publisher,
        session: Session,
        routes: Routes,
        transfers: Transfers,
    ) -> None:
        self._identity = identity
        self._library = library
        self._publisher = publisher
        self._session = session
        self._routes = routes
        self._transfers = transfers

    def start(self, source: Path, replicas: int) -> Transfer:
        """Starts to share `source`, an absolute path, and to place `replicas` copies (0: none)."""

        async def work(transfer: Transfer) -> None:
            await self._upload(source, replicas, transfer)

        return self._transfers.start(Kind.UPLOAD, work, path=source.name, target=str(self._library.shared))

    async def _upload(self, source: Path, replicas: int, transfer: Transfer) -> None:
        transfer.state = State.RUNNING
        file = await self._library.share(source)
        transfer.path, transfer.content_id = file.path, file.content_id
        transfer.progress.size = transfer.progress.done_bytes = file.size
        transfer.target = str(self._library.shared / file.path)
        if not replicas:
            return
        await self._wait_live(f"{printable(file.path)} is shared, but", "put it again when it is, to have copies made")
        await self._publisher.published(file.path, file.content_id, PUBLISH_TIMEOUT)
        details = pb2.PlaceFileDetails(content_id=file.content_id, path=file.path, replicas=replicas)
        signed = sign_request(self._identity, PLACE_METHOD, details.SerializeToString(), self._session.now)
        request = pb2.PlaceFileRequest(signed=signed)
        try:
            response, _ = await _patiently(lambda: self._routes.place_file(request))
        except OverQuota as error:
            text = f"{printable(file.path)} is shared, but no further copies are made: {error}"
            raise OverQuota(text, error.retry_after, error.metadata) from error
        transfer.placement_id = response.placement.placement_id

    async def give_up(self, content_id: bytes) -> pb2.EndPlacementResponse:
        """Gives up this peer's claim to copies of a content, and returns what that ended.

        Raises:
            NotFound: it has none; the message says who has.
            Unreachable: this peer is not logged in, or nobody answers.
        """
        await self._wait_live("nothing is given up:", "try again when it is")
        details = pb2.EndPlacementDetails(content_id=content_id)
        signed = sign_request(self._identity, END_METHOD, details.SerializeToString(), self._session.now)
        request = pb2.EndPlacementRequest(signed=signed)
        response, _ = await _patiently(lambda: self._routes.end_placement(request))
        return response

    async def _wait_live(self, so_far: str, advice: str) -> None:
        try:
            async with asyncio.timeout(SESSION_TIMEOUT):
                await self._session.wait_live()
        except TimeoutError:
            raise Unreachable(f"{so_far} this peer is not logged in ({self._session.problem}): {advice}") from None


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Returns what `call` does; while central has no room for another change of this peer, it is made again later.

    Many changes at once, each by several ways, may be more than central lets one peer have waiting. Each is signed
    once, so that central does it once.
    """
    for pause in BUSY_PAUSES:
        try:
            return await call()
        except Busy as error:
            await asyncio.sleep(max(pause, error.retry_after) * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
    return await call()
