"""Fetching files through the daemon: which file a name means, following its transfer, what to say at the end."""

import os
import secrets
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
from peer.commands.client import Daemon, error_of, priority_value
from peer.commands.progress_bars import Bars
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

# Transfers that a command keeps under way; the daemon remembers only so many that have ended.
AT_ONCE = 32
# Small files are there at once: the first looks come fast, then every 0.1 s.
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.1


def options(limit_rate: int, priority: str, *, detach: bool) -> pb2.DownloadOptions:
    """Returns how the downloads of one command are carried out, which share one limit: bytes a second, 0 for none."""
    return pb2.DownloadOptions(
        priority=priority_value(priority),
        rate_limit_bytes_per_second=limit_rate,
        detached=detach,
        limit_group=secrets.token_hex(8) if limit_rate else "",
    )


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
        accepted: the transfers that the daemon carries out by itself.
    """

    def __init__(
        self,
        daemon: Daemon,
        directory: Path,
        bars: Bars,
        failed: Callable[[Failure], None],
        options: pb2.DownloadOptions | None = None,
    ) -> None:
        self.ended: list[pb2.Transfer] = []
        self.accepted: list[pb2.Transfer] = []
        self._daemon = daemon
        self._directory = directory
        self._options = options
        self._bars = bars
        self._failed = failed
        self._running: dict[str, pb2.Transfer] = {}

    def run(self, files: Iterable[CatalogueFile]) -> None:
        """Fetches `files`. Of each that could not be fetched `failed` is told, and the others go on.

        Raises:
            Unreachable: the daemon has stopped.
            Stopped: the user pressed Ctrl-C, and every transfer was cancelled that was not begun to go on by itself.
        """
        waiting = deque(self._each_once(files))
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
            raise Stopped(self._stop()) from None

    def hand_over(self, files: Iterable[CatalogueFile]) -> None:
        """Has the daemon accept `files`, and returns. Of each that is refused `failed` is told, and the others go on.

        Raises:
            Unreachable: the daemon has stopped.
        """
        for file in self._each_once(files):
            self._start(file)
        self.accepted = list(self._running.values())

    def _each_once(self, files: Iterable[CatalogueFile]) -> list[CatalogueFile]:
        found = {(file.content_id, last_part(file.path)): file for file in files}
        if found:
            self._directory.mkdir(parents=True, exist_ok=True)
        return list(found.values())

    def _stop(self) -> str:
        """Cancels what nobody else relies on, and returns what to tell the user."""
        others = [transfer for transfer in self._running.values() if transfer.detached]
        for transfer in self._running.values():
            if not transfer.detached:
                with suppress(RelevoError):  # it ended meanwhile, or the daemon did
                    self._daemon.cancel(transfer.transfer_id)
        if not others:
            return "stopped; the same command goes on from where it was"
        what = show.count(len(others), "download")
        return f"stopped; {what} in the background {'goes' if len(others) == 1 else 'go'} on, see `relevo transfers`"

    def _start(self, file: CatalogueFile) -> None:
        try:
            transfer = self._daemon.start_download(file, self._directory, self._options)
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


def accepted_line(transfer: pb2.Transfer) -> str:
    """Returns what the daemon carries out by itself: its id, and where it is to stand."""
    return f"{transfer.transfer_id[: show.SHORTEST_ID]}  {show.size(transfer.size_bytes)}  {transfer.target}"


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
