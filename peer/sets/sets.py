"""Downloads of many files in one transfer: whole directories, and what patterns find."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from core.errors import InvalidInput
from core.names import check_path
from peer.directory.routes import Routes
from peer.fetching.finder import Accuse
from peer.fetching.reaching import Reach
from peer.fetching.transfer import Downloader
from peer.library import Library
from peer.sets.gatherer import FindMany, Gatherer
from peer.sets.selections import Selection, is_pattern
from peer.sets.set_download import SetDownload
from peer.sets.set_listing import entries
from peer.sets.set_progress import SetProgress
from peer.work.downloads import absolute_directory, check_directory
from peer.work.orders import Way
from peer.work.transfers import Kind, Order, State, Transfer, Transfers
from relevo.v1.peer_control_pb2 import FileSelection, StartSetDownloadRequest

# Selections in one request, and bytes in a pattern.
MOST_SELECTIONS = 1000
MOST_PATTERN = 4096
_AS_ASKED = Order()


class Sets:
    """Starts downloads of sets; one that is under way already is joined.

    Attributes:
        find_many: asks who holds each of many contents.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        reach: Reach,
        find_many: FindMany,
        downloader: Downloader,
        library: Library,
        transfers: Transfers,
        self_id: str,
        clock: Callable[[], float],
        accuse: Accuse,
    ) -> None:
        self._routes = routes
        self._reach = reach
        self.find_many = find_many
        self._downloader = downloader
        self._library = library
        self._transfers = transfers
        self._self_id = self_id
        self._clock = clock
        self._accuse = accuse

    def start(self, request: StartSetDownloadRequest, order: Order = _AS_ASKED) -> Transfer:
        """Starts to fetch what is selected, into an absolute directory, as `order` says.

        Raises:
            InvalidInput: the selections or the directory break a rule.
            NotPossible: the directory is not there or cannot be written to.
            Busy: too many downloads have not ended.
        """
        if not 0 < len(request.selections) <= MOST_SELECTIONS:
            raise InvalidInput("selections", f"a set has 1 to {MOST_SELECTIONS} selections")
        selections = list(dict.fromkeys(map(_selection, request.selections)))
        root = absolute_directory(request.directory)
        if not order.transfer_id:  # what goes on may find its disk later
            check_directory(root)
        path = ", ".join(selection.name for selection in selections)
        for running in self._transfers.running():
            if (running.kind, running.path, running.target) == (Kind.DOWNLOAD, path, str(root)):
                self._transfers.join(running, order)
                return running

        async def work(transfer: Transfer) -> None:
            transfer.state = State.RUNNING
            progress = transfer.progress
            if not isinstance(progress, SetProgress):
                raise TypeError("a set has the progress of a set")
            await asyncio.to_thread(check_directory, root)  # after a restart its disk may be away
            real = Path(await asyncio.to_thread(os.path.realpath, root))
            gatherer = Gatherer(
                self.find_many,
                self._reach,
                self._self_id,
                self._clock,
                accuse=self._accuse,
                allowance=transfer.allowance,
            )
            download = SetDownload(
                real,
                progress,
                gatherer=gatherer,
                downloader=self._downloader,
                find_many=self.find_many,
                shelf=self._library,
                clock=self._clock,
                allowance=transfer.allowance,
            )
            progress.begin(self._clock())
            await download.run([(selection, entries(self._routes, selection)) for selection in selections])

        return self._transfers.start(
            Kind.DOWNLOAD, work, path=path, target=str(root), order=order, progress=SetProgress()
        )

    def ways(self) -> dict[str, Way]:
        """Returns how sets are begun again after a restart, by the name of the message that asked for them."""
        return {StartSetDownloadRequest.DESCRIPTOR.full_name: Way(StartSetDownloadRequest, self.start)}


def _selection(message: FileSelection) -> Selection:
    match message.WhichOneof("which"):
        case "beneath":
            return Selection(directory=check_path(message.beneath, "selections.beneath"))
        case "pattern" if is_pattern(message.pattern) and len(message.pattern.encode()) <= MOST_PATTERN:
            return Selection(pattern=message.pattern)
    raise InvalidInput("selections", f"say a directory, or a shell pattern of at most {MOST_PATTERN} bytes")
