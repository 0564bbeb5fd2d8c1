"""Fetching files through the daemon: which file a name means, following its transfer, what to say at the end."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from core.errors import Cancelled, NotFound, RelevoError, Unreachable
from core.failures import Choose, Failure, Stopped
from core.names import last_part, normal
from core.times import from_timestamp
from peer.commands import show
from peer.commands.client import Daemon, error_of
from peer.commands.progress_bars import Bars
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

# Transfers that a command keeps under way; the daemon remembers only so many that have ended.
AT_ONCE = 32
# Small files are there at once: the first looks come fast, then every 0.1 s.
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.1


def resolve(daemon: Daemon, name: str) -> CatalogueFile:
    """Returns the one file that `name` means: a path, a last part, or at least four digits of a content id.

    Raises:
        NotFound: there is none.
        Choose: there are several, with different bytes.
        Unreachable: nobody can be asked.
    """
    return chosen(name, daemon.candidates(normal(name)))


def chosen(name: str, candidates: Iterable[CatalogueFile]) -> CatalogueFile:
    """Returns the one of `candidates` that `name` means; the same bytes under several paths are one file.

    Raises:
        NotFound: there is none.
        Choose: there are several, with different bytes.
    """
    found = list(candidates)
    if not found:
        raise NotFound(f"no live peer offers {name!r}; `relevo ls` shows what there is")
    contents = {file.content_id.hex() for file in found}
    if len(contents) == 1:
        return found[0]
    ids = show.short_ids(contents)
    rows = [
        (ids[file.content_id.hex()], show.size(file.size_bytes), show.count(file.holder_count, "holder"), file.path)
        for file in found
    ]
    raise Choose(
        f"{name!r} is the name of {len(contents)} different files; choose one by its id, "
        f"such as `relevo get {rows[0][0]}`",
        show.table(("ID", ">SIZE", "HELD BY", "PATH"), rows)[1:],
    )


class Fetch:
    """Fetches files into `directory`, an absolute path.

    Attributes:
        ended: the transfers that have ended, however they did, as far as `run` has come.
    """

    def __init__(self, daemon: Daemon, directory: Path, bars: Bars, failed: Callable[[Failure], None]) -> None:
        self.ended: list[pb2.Transfer] = []
        self._daemon = daemon
        self._directory = directory
        self._bars = bars
        self._failed = failed
        self._running: dict[str, pb2.Transfer] = {}

    def run(self, files: Iterable[CatalogueFile]) -> None:
        """Fetches `files`. Of each that could not be fetched `failed` is told, and the others go on.

        Raises:
            Unreachable: the daemon has stopped.
            Stopped: the user pressed Ctrl-C, and every transfer was cancelled.
        """
        waiting = deque({(file.content_id, last_part(file.path)): file for file in files}.values())
        if waiting:
            self._directory.mkdir(parents=True, exist_ok=True)
        pause = FIRST_PAUSE
        try:
            while waiting or self._running:
                while waiting and len(self._running) < AT_ONCE:
                    self._start(waiting.popleft())
                for transfer in list(self._running.values()):
                    self._look(transfer)
                if self._running:
                    time.sleep(pause)
                    pause = min(pause * 1.5, LAST_PAUSE)
        except KeyboardInterrupt:
            for transfer_id in self._running:
                with suppress(RelevoError):  # it ended meanwhile, or the daemon did
                    self._daemon.cancel(transfer_id)
            raise Stopped("stopped; the same command goes on from where it was") from None

    def _start(self, file: CatalogueFile) -> None:
        try:
            transfer = self._daemon.start_download(file, self._directory)
            self._running[transfer.transfer_id] = transfer
        except Unreachable:
            raise
        except RelevoError as error:
            self._failed(error)

    def _look(self, transfer: pb2.Transfer) -> None:
        now = transfer if is_over(transfer) else self._daemon.transfer(transfer.transfer_id)
        self._running[now.transfer_id] = now
        self._bars.show(now)
        if not is_over(now):
            return
        self.ended.append(self._running.pop(now.transfer_id))
        if now.state == pb2.TRANSFER_STATE_FAILED:
            self._failed(error_of(now))
        elif now.state == pb2.TRANSFER_STATE_CANCELLED:
            self._failed(Cancelled(f"{now.path} was stopped; the same command goes on from where it was"))


def is_done(transfer: pb2.Transfer) -> bool:
    """Tells whether everything is in place."""
    return transfer.state == pb2.TRANSFER_STATE_DONE


def is_over(transfer: pb2.Transfer) -> bool:
    """Tells whether nothing will change any more."""
    return transfer.state in {pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED}


def result_line(transfer: pb2.Transfer) -> str:
    """Returns where a file stands now, and how it came there."""
    taken = from_timestamp(transfer.end_time) - from_timestamp(transfer.start_time)
    return f"{transfer.target}  {show.size(transfer.size_bytes)}  {_how(transfer, taken)}"


def _how(transfer: pb2.Transfer, taken: float) -> str:
    fetched = sum(source.bytes for source in transfer.sources)
    if not fetched:
        if transfer.copied_bytes:
            return "copied locally"
        return "from an earlier try" if transfer.resumed_bytes else "already there" if transfer.size_bytes else "empty"
    holders = show.count(sum(source.bytes > 0 for source in transfer.sources), "holder")
    speed = f" ({show.rate(fetched / taken)})" if taken > 0 else ""
    earlier = f", {show.size(transfer.resumed_bytes)} of it in an earlier try" if transfer.resumed_bytes else ""
    return f"in {show.span(taken)}{speed} from {holders}{earlier}"


def absolute(path: Path) -> Path:
    """Returns `path` from the root, `..` resolved by name; the daemon runs in another directory."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib has nothing that leaves symlinks as they are
