"""Storing copies for others: carries out central's directives to store and to drop them, within a quota."""

import asyncio
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from core import errors
from core.content import DIGEST_BYTES
from peer.directory.publishing import Publisher
from peer.disk import rooted
from peer.disk.disk_errors import disk_error
from peer.fetching.partial import partial_name
from peer.fetching.progress import Progress
from peer.fetching.transfer import Downloader, FetchRequest
from peer.library import Library
from peer.work.transfers import Kind, State, Transfer, Transfers
from relevo.v1 import central_directory_pb2 as pb2

log = logging.getLogger("relevo.storing")
# Copies that are fetched at the same time.
AT_ONCE = 4
# Copies that are fetched or wait for it; whatever central asks for beyond them is declined.
MOST_PROMISED = 10_000
# Holders that are away come back: what fails for want of them is tried again, everything else is declined.
_LATER = (errors.NotFound, errors.Unreachable, errors.Busy)
# Pause before that, in seconds: some beats, so that central has asked again by then if it still wants the copy.
RETRY_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class _Promise:
    """A copy that is being fetched: its size in bytes, and the placements that want it."""

    size: int
    asked_for: set[str]
    transfer: Transfer


class Storing:
    """Fetches what central asks for, confirms what is on disk, declines what does not fit, drops what nobody wants.

    Only copies for others are ever dropped: what the user shares or has fetched lies elsewhere.

    Args:
        quota: most bytes to keep for others.
        home: where the copies stand; its file system's free space is a limit too.
    """

    def __init__(
        self,
        *,
        library: Library,
        downloader: Downloader,
        publisher: Publisher,
        transfers: Transfers,
        quota: int,
        home: Path,
    ) -> None:
        self.quota = quota
        self._library = library
        self._downloader = downloader
        self._publisher = publisher
        self._transfers = transfers
        self._home = home
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[bytes, _Promise] = {}
        self._dropping: dict[bytes, asyncio.Task[None]] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes that are kept for others or promised to be."""
        stored = self._library.totals.copy_bytes
        return stored + sum(promise.size for promise in self._under_way.values())

    def free_bytes(self) -> int:
        """Returns how many bytes this peer still offers."""
        try:
            on_disk = shutil.disk_usage(self._home).free
        except OSError:
            return 0
        return max(0, min(self.quota - self.used_bytes, on_disk - self._promised_bytes))

    @property
    def _promised_bytes(self) -> int:
        """Bytes of copies that are to be fetched and are not on disk yet: nobody else is promised their room."""
        return sum(promise.size - promise.transfer.progress.done_bytes for promise in self._under_way.values())

    def obey(self, directives: list[pb2.Directive]) -> None:
        """Takes directives, which central repeats until they are confirmed or declined."""
        for directive in directives:
            match directive.WhichOneof("action"):
                case "store":
                    self._store(directive.store)
                case "drop":
                    self._drop(directive.drop.content_id)

    def _store(self, store: pb2.StoreDirective) -> None:
        content_id, size = store.content_id, store.size_bytes
        if len(content_id) != DIGEST_BYTES:
            self._publisher.decline(store.placement_id, "the directive names no content")
        elif content_id in self._dropping:
            return  # it was told before central heard that this is being dropped; if it still wants it, it asks again
        elif self._library.stores(content_id):
            self._publisher.confirm(content_id)
        elif content_id in self._under_way:
            # Who tells another size of the same content is not served by this, and shall not have this declined either.
            if self._under_way[content_id].size == size:
                self._under_way[content_id].asked_for.add(store.placement_id)
        elif size > self.free_bytes():
            self._publisher.decline(store.placement_id, "no room within the quota")
        elif len(self._under_way) >= MOST_PROMISED:
            self._publisher.decline(store.placement_id, "too many copies are waiting already")
        else:
            asked_for = {store.placement_id}
            transfer = self._transfers.start(
                Kind.STORE,
                lambda transfer: self._keep(transfer, size, asked_for),
                size=size,
                content_id=content_id,
                placement_id=store.placement_id,
            )
            self._under_way[content_id] = _Promise(size, asked_for, transfer)
            transfer.ended.add_done_callback(lambda _: self._under_way.pop(content_id))

    def _drop(self, content_id: bytes) -> None:
        if len(content_id) == DIGEST_BYTES and content_id not in self._dropping:
            task = asyncio.create_task(self._delete(content_id))
            self._dropping[content_id] = task
            task.add_done_callback(lambda _: self._dropping.pop(content_id))

    async def _delete(self, content_id: bytes) -> None:
        """Deletes a copy, or what there is of it, and tells central; when it fails, central is going to ask again."""
        promise = self._under_way.get(content_id)
        try:
            if promise is not None:
                promise.asked_for.clear()
                await self._transfers.cancel(promise.transfer.transfer_id)
            await self._library.drop_stored(content_id)
            await self._discard(content_id)
        except errors.RelevoError as error:
            log.warning("a copy that nobody wants any more stays: %s", error)
            await asyncio.sleep(RETRY_PAUSE)
        else:
            self._publisher.confirm(content_id)

    async def _discard(self, content_id: bytes) -> None:
        """Removes what was fetched of a copy that is not going to be whole: no quota counts it."""
        directory = self._library.store_path(content_id).parent
        try:
            await asyncio.to_thread(rooted.remove, directory, partial_name(content_id))
        except OSError as error:
            log.warning("what was fetched of %s stays in %s: %s", content_id.hex(), directory, error.strerror)

    async def close(self) -> None:
        """Ends what is being dropped; what is not by then is told again at the next start."""
        tasks = list(self._dropping.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, transfer: Transfer, size: int, asked_for: set[str]) -> None:
        try:
            await self._patiently(transfer, size, asked_for)
        except asyncio.CancelledError:
            self._decline(asked_for, "the user of the storing peer stopped it")
            if transfer.cancelled:  # else the daemon is stopping, and goes on with it next time
                await self._discard(transfer.content_id)
            raise
        except Exception as error:
            known = isinstance(error, errors.RelevoError)
            self._decline(asked_for, str(error) if known else "the storing peer failed; its log has the details")
            await self._discard(transfer.content_id)
            raise

    async def _patiently(self, transfer: Transfer, size: int, asked_for: set[str]) -> None:
        """Fetches a copy, again and again while nobody gives it and central goes on asking."""
        while True:
            try:
                async with self._slots:
                    transfer.state = State.RUNNING
                    return await self._fetch(transfer, size)
            except _LATER:
                asked_for.clear()
                transfer.state = State.WAITING
                await asyncio.sleep(RETRY_PAUSE)
                if not asked_for:
                    raise
                transfer.progress = Progress(size, sources=transfer.progress.sources)

    async def _fetch(self, transfer: Transfer, size: int) -> None:
        place = self._library.store_path(transfer.content_id)
        request = FetchRequest(
            content_id=transfer.content_id,
            size=size,
            directory=place.parent,
            name=place.name,
            modify_time=None,
            executable=False,
            most=size,
        )
        try:
            await asyncio.to_thread(rooted.make_directories, place.parents[2], "/".join(place.parts[-3:-1]), 0o700)
        except OSError as error:
            raise disk_error(error, place.parent) from error
        fetched = await self._downloader.fetch(request, transfer.progress, transfer.allowance)
        await self._library.add_stored(fetched.manifest)

    def _decline(self, placement_ids: set[str], reason: str) -> None:
        for placement_id in placement_ids:
            self._publisher.decline(placement_id, reason)
