"""Downloads that this machine's user asks for: into a directory of theirs, and into the library."""

import logging
import os
from pathlib import Path

from core import errors
from core.content import DIGEST_BYTES, Layout
from core.names import check_path, last_part, printable
from core.times import from_timestamp
from peer.fetching.transfer import Downloader, FetchRequest
from peer.library import Library
from peer.work.orders import Way
from peer.work.transfers import Kind, Order, State, Transfer, Transfers
from relevo.v1.content_pb2 import FileEntry
from relevo.v1.peer_control_pb2 import StartDownloadRequest

log = logging.getLogger("relevo.downloads")
_AS_ASKED = Order()


class Downloads:
    """Starts downloads; one that is under way to the same place already is joined."""

    def __init__(self, downloader: Downloader, library: Library, transfers: Transfers) -> None:
        self._downloader = downloader
        self._library = library
        self._transfers = transfers

    def start(self, file: FileEntry, directory: str, order: Order = _AS_ASKED) -> Transfer:
        """Starts to fetch `file` into `directory`, an absolute path, under the last part of its own, as `order` says.

        Raises:
            InvalidInput: path, content id, size or directory break a rule.
            NotPossible: the directory is not there or cannot be written to.
            AlreadyExists: another content is on its way to the same place.
            Busy: too many downloads have not ended.
        """
        request = _checked(file, directory)
        if not order.transfer_id:  # what goes on may find its disk later
            check_directory(request.directory)
        target = str(request.directory / request.name)
        for running in self._transfers.running():
            if (running.kind, running.target) == (Kind.DOWNLOAD, target):
                if running.content_id == request.content_id:
                    self._transfers.join(running, order)
                    return running
                raise errors.AlreadyExists(
                    f"another file is on its way to {printable(target)}; choose another directory with --to"
                )

        async def work(transfer: Transfer) -> None:
            transfer.state = State.RUNNING
            fetched = await self._downloader.fetch(request, transfer.progress, transfer.allowance)
            try:
                await self._library.add_fetched(fetched.location, file.path, fetched.manifest)
            except errors.RelevoError as error:  # moved on by its user already, or the index fails: the file is theirs
                log.warning("%s is fetched, but not offered to others: %s", transfer.path, error)

        return self._transfers.start(
            Kind.DOWNLOAD,
            work,
            path=file.path,
            target=target,
            size=request.size,
            content_id=request.content_id,
            order=order,
        )

    def ways(self) -> dict[str, Way]:
        """Returns how downloads are begun again after a restart, by the name of the message that asked for them."""
        return {
            StartDownloadRequest.DESCRIPTOR.full_name: Way(
                StartDownloadRequest, lambda request, order: self.start(request.file, request.directory, order)
            )
        }


def _checked(file: FileEntry, directory: str) -> FetchRequest:
    check_path(file.path, "file.path")
    if len(file.content_id) != DIGEST_BYTES:
        raise errors.InvalidInput("file.content_id", f"a content id has {DIGEST_BYTES} bytes")
    try:
        size = Layout(file.size_bytes).size
    except ValueError as error:
        raise errors.InvalidInput("file.size_bytes", str(error)) from error
    where = absolute_directory(directory)
    return FetchRequest(
        content_id=file.content_id,
        size=size,
        directory=where,
        name=last_part(file.path),
        modify_time=from_timestamp(file.modify_time) if file.HasField("modify_time") else None,
        executable=file.executable,
    )


def absolute_directory(directory: str) -> Path:
    """Returns a directory that the user named. Raises InvalidInput when it is no absolute path."""
    where = Path(directory)
    if not where.is_absolute() or "\0" in directory:
        raise errors.InvalidInput("directory", "the directory is an absolute path")
    return where


def check_directory(where: Path) -> None:
    """Checks that downloads can go into a directory that the user named.

    Raises:
        NotPossible: it is not there, or cannot be written to.
    """
    if not where.is_dir():
        raise errors.NotPossible(f"{where} is not a directory; make it first, or choose another with --to")
    if not os.access(where, os.W_OK | os.X_OK):
        read_only = os.statvfs(where).f_flag & os.ST_RDONLY
        why = "is on a read-only file system" if read_only else "cannot be written to by the daemon's user"
        raise errors.NotPossible(f"{where} {why}; choose another with --to")
