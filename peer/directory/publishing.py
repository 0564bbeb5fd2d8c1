"""Publishing: keeps what central holds of this peer's library equal to the library, by batches of differences."""

import asyncio
import logging
from collections.abc import Mapping

import grpc

from core import errors
from core.names import printable
from core.signing import new_request_id
from core.status import from_rpc_error
from core.times import to_timestamp
from peer.directory.backlog import Backlog
from peer.directory.differences import MAX_DECLINED, Batch, Published
from peer.directory.logins import Login
from peer.directory.refusals import Refusals
from peer.directory.session import Session
from peer.library import Library, LibraryFile
from peer.library.record import Step
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry

log = logging.getLogger("relevo.publishing")

TIMEOUT = 20.0
RETRY_PAUSE = 1.0
# What changes within this time, in seconds, of the last batch travels together; a change after a rest does not wait.
SPACING = 0.1
# Pauses before a batch is sent once more, in seconds.
RESEND_PAUSES = (0.3, 1.0, None)
# What is noted of central's catalogue goes into a database, whose numbers have a sign.
_LAST_VERSION = (1 << 63) - 1


class Publisher:
    """Publishes while `run` runs.

    What central does not take holds nothing else up: an entry that breaks a rule is set aside, and when this peer has
    as much as one may, further additions wait as long as central says, while replacements and removals go on.

    Attributes:
        problem: why central does not have everything that is offered here; empty when nothing stands in the way.
    """

    def __init__(self, library: Library, session: Session) -> None:
        self._library = library
        self._session = session
        self.problem = ""
        self._published = Published()
        self._refusals = Refusals()
        self._backlog = Backlog(library, self._refusals)
        self._retry: asyncio.TimerHandle | None = None
        self._central_version: int | None = 0
        self._declined: dict[str, str] = {}
        self._confirm: set[bytes] = set()
        self._wake = asyncio.Event()
        self._sending = False
        self._doubts = 0
        self._settled = asyncio.Condition()

    @property
    def skipped(self) -> Mapping[str, str]:
        """Printable path of each file that central does not take, to the reason in one sentence."""
        return self._refusals.skipped

    def logged_in(self, version: int) -> None:
        """Hears which version central holds: another than the last acknowledged means publishing anew.

        What was refused is offered once more: it may be another central, or a newer one.
        """
        self._central_version = version
        self._refusals.forget()
        self._backlog.doubt_everything()
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
        """Tells central once more whether a content is stored here, for a directive that is carried out already."""
        self._confirm.add(content_id)
        self._wake.set()

    def decline(self, placement_id: str, reason: str) -> None:
        """Tells central that a store directive will not be carried out."""
        self._declined[placement_id] = reason
        self._wake.set()

    async def published(self, path: str, content_id: bytes, timeout: float) -> None:
        """Returns when central has acknowledged an entry.

        Raises:
            NotPossible: central does not take the entry.
            OverQuota: this peer publishes as much as one may.
            Unreachable: central has not answered within `timeout` seconds.
        """

        def done() -> bool:
            file = self._published.files.get(path)
            return file is not None and file.content_id == content_id

        def settled() -> bool:
            return done() or self._refusals.of(path, self._published) is not None

        try:
            async with asyncio.timeout(timeout), self._settled:
                await self._settled.wait_for(settled)
        except TimeoutError:
            raise errors.Unreachable("central has not taken the file into the catalogue yet; try again later") from None
        refusal = self._refusals.of(path, self._published)
        if refusal is not None and not done():
            raise refusal

    async def run(self) -> None:
        """Publishes differences as they appear, for ever.

        It begins when the library has had its first look, and with what an earlier run knew of central.
        """
        await self._library.wait_looked()
        recorded = await self._library.record.load()
        self._published = Published(recorded.central, recorded.version, recorded.files, recorded.stored)
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                login = await self._session.wait_live()
                self._wake.clear()
                try:
                    sent = await self._publish_all(login)
                except errors.RelevoError as error:
                    await self._recover(error)
                    continue
                if sent:
                    await asyncio.sleep(SPACING)
                await self._wake.wait()
        finally:
            if self._retry is not None:
                self._retry.cancel()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self._library.changed()
            self._wake.set()

    async def _publish_all(self, login: Login) -> bool:
        """Publishes all differences that there are now; returns whether there were any."""
        # Versions of two centrals have nothing to do with each other.
        if (login.central, self._central_version) != (self._published.central, self._published.version):
            self._published = Published(login.central)
            self._backlog.doubt_everything()
        batches = self._backlog.batches(self._published, self._confirm)
        if not self._published.version and not batches:
            batches = [] if self._central_version == 0 else [Batch()]
        if self._declined:
            batches.insert(0, Batch(declined=tuple(self._declined.items())[:MAX_DECLINED]))
        await self._tell_waiting()  # what an earlier run has published needs no batch
        for batch in batches:
            if not self._refusals.hold(batch, self._published):
                await self._send_parts(login, batch)
            await self._tell_waiting()
        if self._refusals.over is None:
            self._tell("")
        return bool(batches)

    async def _tell_waiting(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    async def _send_parts(self, login: Login, batch: Batch) -> None:
        """Sends a batch; one that is refused in ever smaller parts, until all is in that central takes."""
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                await self._send(login, part)
            except errors.OverQuota as error:
                halves = part.halves()
                if halves is None:
                    self._wait_for_room(part, error)
                    return
                parts += reversed(halves)
            except errors.InvalidInput as error:
                if not error.field.startswith("added"):
                    raise
                file, halves = part.named(error.field), part.halves()
                if file is not None:
                    self._put_aside(file, error)
                    parts += [rest for rest in [part.without(file)] if rest.added]
                elif halves is not None:
                    parts += reversed(halves)
                else:
                    raise

    def _put_aside(self, file: LibraryFile, error: errors.InvalidInput) -> None:
        log.warning("%s is not published: %s", printable(file.path), error)
        self._refusals.put_aside(file, str(error))
        self._wake.set()  # when it was all that there is to publish, central is still to hear that

    def _wait_for_room(self, batch: Batch, error: errors.OverQuota) -> None:
        if batch.stored:
            self._refusals.copies = error
        elif batch.added:
            self._refusals.files = error
        else:
            raise error
        self._tell(f"central does not take everything that this peer offers: {error}")
        if self._retry is not None:
            self._retry.cancel()
        pause = max(RETRY_PAUSE, error.retry_after)
        self._retry = asyncio.get_running_loop().call_later(pause, self._try_again)

    def _try_again(self) -> None:
        self._refusals.files = self._refusals.copies = None
        self._wake.set()

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
        self._confirm.difference_update(batch.stored, batch.dropped)
        for placement_id, _ in batch.declined:
            self._declined.pop(placement_id, None)
        if batch.declined and self._declined:
            self._wake.set()
        if batch.removed:
            self._refusals.files = None
        if batch.dropped:
            self._refusals.copies = None
        if self._session.login is login:  # a newer login has told what its central holds
            self._central_version = response.catalogue_version
        await self._library.record.note(
            Step(
                login.central,
                response.catalogue_version,
                anew=not request.base_version,
                added=batch.added,
                removed=batch.removed,
                stored=batch.stored,
                dropped=batch.dropped,
            )
        )

    async def _acknowledged(self, login: Login, request: pb2.PublishFilesRequest) -> pb2.PublishFilesResponse:
        """Sends a batch, the same request again when the answer is lost: central applies it once."""
        for pause in RESEND_PAUSES:
            try:
                response = await self._session.central_stub(login).PublishFiles(request, timeout=TIMEOUT)
                if response.catalogue_version > _LAST_VERSION:
                    raise errors.Corrupt("central tells a version of the catalogue that there cannot be")
                return response
            except (grpc.RpcError, errors.Unreachable) as error:
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
        self._tell(f"publishing waits: {error}")
        await asyncio.sleep(RETRY_PAUSE + (error.retry_after if isinstance(error, errors.Busy) else 0.0))

    def _tell(self, problem: str) -> None:
        """Shows a problem as long as it lasts, and logs it once."""
        if problem and problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem


def to_entry(file: LibraryFile) -> FileEntry:
    """Returns the message for one file of the library."""
    return FileEntry(
        path=file.path,
        content_id=file.content_id,
        size_bytes=file.size,
        modify_time=to_timestamp(file.modify_time),
        executable=file.executable,
    )
