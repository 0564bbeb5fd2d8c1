"""Publishing: keeps what central holds of this peer's library equal to the library, by batches of differences."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from core import errors
from core.signing import new_request_id
from core.status import from_rpc_error
from core.times import to_timestamp
from peer.channels import Channels
from peer.library import Library, LibraryFile
from peer.session import Login, Session
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry

log = logging.getLogger("relevo.publishing")

MAX_ITEMS = 1000
# Central takes messages of 1 MiB; names may be long.
MAX_BATCH_BYTES = 512 * 1024
TIMEOUT = 20.0
RETRY_PAUSE = 1.0
# Pauses before a batch is sent once more, in seconds.
RESEND_PAUSES = (0.3, 1.0, None)
T = TypeVar("T")


@dataclass(slots=True)
class Published:
    """What the central at `central` is known to hold of this peer: the state after `version`."""

    central: str = ""
    version: int = 0
    files: dict[str, LibraryFile] = field(default_factory=dict)
    stored: set[bytes] = field(default_factory=set)

    def apply(self, batch: "Batch") -> None:
        """Takes over a batch that central has acknowledged."""
        self.version += 1
        for path in batch.removed:
            self.files.pop(path, None)
        self.files.update({file.path: file for file in batch.added})
        self.stored.difference_update(batch.dropped)
        self.stored.update(batch.stored)


@dataclass(frozen=True, slots=True)
class Batch:
    """Differences that travel together: at most 1,000 of a kind."""

    added: tuple[LibraryFile, ...] = ()
    removed: tuple[str, ...] = ()
    stored: tuple[bytes, ...] = ()
    dropped: tuple[bytes, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()


def differences(
    published: Published, files: Mapping[str, LibraryFile], stored: set[bytes], confirm: set[bytes]
) -> Iterator[Batch]:
    """Yields the batches that turn `published` into `files` and `stored`; none when nothing differs.

    Removals come first, so that a renamed file never shows twice. `confirm` are stored contents to name again.
    """
    removed = [path for path in published.files if path not in files]
    dropped = list(published.stored - stored)
    held = list((stored - published.stored) | (confirm & stored))
    # Nearly all are the same objects, and comparing their fields would take ten times as long.
    added = [file for path, file in files.items() if (known := published.files.get(path)) is not file and known != file]
    yield from (Batch(removed=chunk) for chunk in _chunks(removed, lambda path: len(path.encode())))
    yield from (Batch(dropped=chunk) for chunk in _chunks(dropped, len))
    yield from (Batch(stored=chunk) for chunk in _chunks(held, len))
    yield from (Batch(added=chunk) for chunk in _chunks(added, lambda file: len(file.path.encode()) + 80))


def _chunks(items: list[T], weight: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    chunk: list[T] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == MAX_ITEMS or size + weight(item) > MAX_BATCH_BYTES):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(item)
        size += weight(item)
    if chunk:
        yield tuple(chunk)


class Publisher:
    """Publishes while `run` runs."""

    def __init__(self, library: Library, session: Session, channels: Channels) -> None:
        self._library = library
        self._session = session
        self._channels = channels
        self._published = Published()
        self._central_version: int | None = 0
        self._declined: dict[str, str] = {}
        self._confirm: set[bytes] = set()
        self._wake = asyncio.Event()
        self._sending = False
        self._doubts = 0
        self._settled = asyncio.Condition()

    def logged_in(self, version: int) -> None:
        """Hears which version central holds: another than the last acknowledged means publishing anew."""
        self._central_version = version
        self._wake.set()

    def central_has(self, version: int) -> None:
        """Hears in a beat which version central holds.

        One beat proves nothing, since it may have crossed with a batch; two in a row without a batch between them do.
        """
        if version == self._published.version or self._sending:
            self._doubts = 0
            return
        self._doubts += 1
        if self._doubts > 1:
            self._doubts = 0
            self.logged_in(version)

    def confirm(self, content_id: bytes) -> None:
        """Names a stored content to central once more, for a directive that asks for what is here already."""
        self._confirm.add(content_id)
        self._wake.set()

    def decline(self, placement_id: str, reason: str) -> None:
        """Tells central that a store directive will not be carried out."""
        self._declined[placement_id] = reason
        self._wake.set()

    async def published(self, path: str, content_id: bytes, timeout: float) -> None:
        """Returns when central has acknowledged an entry.

        Raises:
            Unreachable: it has not within `timeout` seconds.
        """

        def done() -> bool:
            file = self._published.files.get(path)
            return file is not None and file.content_id == content_id

        try:
            async with asyncio.timeout(timeout), self._settled:
                await self._settled.wait_for(done)
        except TimeoutError:
            raise errors.Unreachable("central has not taken the file into the catalogue yet; try again later") from None

    async def run(self) -> None:
        """Publishes differences as they appear, for ever."""
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                login = await self._session.wait_live()
                self._wake.clear()
                try:
                    await self._publish_all(login)
                except errors.RelevoError as error:
                    await self._recover(error)
                    continue
                await self._wake.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self._library.changed()
            self._wake.set()

    async def _publish_all(self, login: Login) -> None:
        # Versions of two centrals have nothing to do with each other.
        if (login.central, self._central_version) != (self._published.central, self._published.version):
            self._published = Published(login.central)
        confirm = set(self._confirm)
        batches = list(differences(self._published, self._library.files, set(self._library.stored), confirm))
        if not self._published.version and not batches:
            batches = [] if self._central_version == 0 else [Batch()]
        if self._declined:
            batches.append(Batch(declined=tuple(self._declined.items())[:MAX_ITEMS]))
        for batch in batches:
            await self._send(login, batch)
            self._confirm.difference_update(batch.stored)
            for placement_id, _ in batch.declined:
                self._declined.pop(placement_id, None)
            async with self._settled:
                self._settled.notify_all()

    async def _send(self, login: Login, batch: Batch) -> None:
        request = pb2.PublishFilesRequest(
            peer_id=self._session.peer_id,
            session_id=login.session_id,
            request_id=new_request_id(),
            base_version=self._published.version,
            added=[to_entry(file) for file in batch.added],
            removed_paths=batch.removed,
            stored_content_ids=batch.stored,
            dropped_content_ids=batch.dropped,
            declined=[pb2.DeclinedCopy(placement_id=one, reason=reason[:500]) for one, reason in batch.declined],
        )
        self._sending = True
        try:
            response = await self._acknowledged(login, request)
        finally:
            self._sending, self._doubts = False, 0
        self._published.apply(batch)
        self._published.version = response.catalogue_version
        if self._session.login is login:  # a newer login has told what its central holds
            self._central_version = response.catalogue_version

    async def _acknowledged(self, login: Login, request: pb2.PublishFilesRequest) -> pb2.PublishFilesResponse:
        """Sends a batch, the same request again when the answer is lost: central applies it once."""
        for pause in RESEND_PAUSES:
            try:
                return await self._channels.central(login.central).PublishFiles(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                found = from_rpc_error(error)
                if not isinstance(found, errors.Unreachable) or pause is None:
                    raise found from error
                await asyncio.sleep(pause)
        raise errors.Unreachable("central does not answer")

    async def _recover(self, error: errors.RelevoError) -> None:
        if isinstance(error, errors.VersionConflict):
            self._central_version = None
            return
        if isinstance(error, errors.SessionUnknown):
            self._session.lost()
            return
        log.warning("publishing waits: %s", error)
        await asyncio.sleep(RETRY_PAUSE + (error.retry_after if isinstance(error, errors.Busy) else 0.0))


def to_entry(file: LibraryFile) -> FileEntry:
    """Returns the message for one file of the library."""
    return FileEntry(
        path=file.path,
        content_id=file.content_id,
        size_bytes=file.size,
        modify_time=to_timestamp(file.modify_time),
        executable=file.executable,
    )
