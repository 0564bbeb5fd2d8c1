"""Fetching files through the daemon: starting the transfers, following them, what to say at the end."""

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import Cancelled, RelevoError, Unreachable
from core.failures import Failure, Stopped
from core.names import last_part
from core.status import from_code
from core.times import from_timestamp
from peer.commands import document, show, totals
from peer.commands.client import Daemon, error_of, priority_value
from peer.commands.interruption import held_back
from peer.commands.progress_bars import Bars
from peer.sets.selections import Selection
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

# Transfers that a command keeps under way; the daemon remembers only so many that have ended.
AT_ONCE = 32
# Small files are there at once: the first looks come fast, then every 0.1 s.
FIRST_PAUSE, LAST_PAUSE = 0.01, 0.1
# Problems of a set that are told one by one.
PROBLEMS_TOLD = 20
# Problems of a set that the daemon remembers.
MOST_PROBLEMS = 1000

Start = tuple[int, Callable[[], pb2.Transfer]]


def options(limit_rate: int, priority: str, *, detach: bool) -> pb2.DownloadOptions:
    """Returns how the downloads of one command are carried out, which share one limit: bytes a second, 0 for none."""
    return pb2.DownloadOptions(
        priority=priority_value(priority),
        rate_limit_bytes_per_second=limit_rate,
        detached=detach,
        limit_group=secrets.token_hex(8) if limit_rate else "",
    )


class Fetch:
    """Fetches files into `directory`, an absolute path.

    Attributes:
        ended: the transfers that have ended, however they did, as far as `run` has come.
        accepted: the transfers that the daemon carries out by itself.
        problems: by the id of a set's transfer, what could not be fetched, as far as the daemon remembers it.
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
        self.problems: dict[str, list[pb2.SetProblem]] = {}
        self._daemon = daemon
        self._directory = directory
        self._options = options
        self._bars = bars
        self._failed = failed
        self._running: dict[str, pb2.Transfer] = {}

    def run(self, files: Iterable[CatalogueFile], selections: Sequence[Selection] = ()) -> None:
        """Fetches `files`, and what is selected. Of each that could not be fetched `failed` is told.

        Raises:
            Unreachable: the daemon has stopped.
            Stopped: the user pressed Ctrl-C, and every transfer was cancelled that was not begun to go on by itself.
        """
        waiting = deque(self._starts(files, selections))
        pause = FIRST_PAUSE
        try:
            while waiting or self._running:
                while waiting and len(self._running) < AT_ONCE:
                    self._start(waiting.popleft()[1])
                self._bars.total(totals.total([*self._running.values(), *self.ended], (size for size, _ in waiting)))
                for transfer in list(self._running.values()):
                    self._look(transfer)
                if self._running:
                    time.sleep(pause)
                    pause = min(pause * 1.5, LAST_PAUSE)
        except KeyboardInterrupt:
            raise Stopped(self._stop()) from None

    def hand_over(self, files: Iterable[CatalogueFile], selections: Sequence[Selection] = ()) -> None:
        """Has the daemon accept all of it, and returns. Of each that is refused `failed` is told.

        Raises:
            Unreachable: the daemon has stopped.
        """
        for _, start in self._starts(files, selections):
            self._start(start)
        self.accepted = list(self._running.values())

    def _starts(self, files: Iterable[CatalogueFile], selections: Sequence[Selection]) -> list[Start]:
        """Returns what starts each transfer, with its size as far as it is known: one for all that is selected."""
        once = {(file.content_id, last_part(file.path)): file for file in files}
        starts: list[Start] = [
            (file.size_bytes, partial(self._daemon.start_download, file, self._directory, self._options))
            for file in once.values()
        ]
        if selections:
            starts.insert(0, (0, partial(self._daemon.start_set, selections, self._directory, self._options)))
        if starts:
            self._directory.mkdir(parents=True, exist_ok=True)
        return starts

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

    def _start(self, start: Callable[[], pb2.Transfer]) -> None:
        try:
            with held_back():  # the daemon may have begun it when the user stops waiting for its answer
                transfer = start()
                self._running[transfer.transfer_id] = transfer
        except Unreachable:
            raise
        except RelevoError as error:
            self._failed(error)

    def _look(self, transfer: pb2.Transfer) -> None:
        now = transfer
        if transfer.HasField("set"):
            now = self._look_at_set(transfer)
        elif not is_over(transfer):
            now = self._daemon.transfer(transfer.transfer_id)
        self._running[transfer.transfer_id] = now
        self._bars.show(now)
        if not is_over(now):
            return
        self.ended.append(self._running.pop(transfer.transfer_id))
        if now.state == pb2.TRANSFER_STATE_FAILED and not self.problems.get(now.transfer_id):
            self._failed(error_of(now))
        elif (more := now.set.failed_count - PROBLEMS_TOLD) > 0:
            self._failed(from_code(now.error_code, f"and {more:,} more could not be fetched; --json lists up to 1,000"))
        elif now.state == pb2.TRANSFER_STATE_CANCELLED:
            self._failed(Cancelled(f"{now.path} was stopped; the same command goes on from where it was"))

    def _look_at_set(self, transfer: pb2.Transfer) -> pb2.Transfer:
        """Returns the transfer as it stands now, and tells of what could not be fetched since the last look."""
        known = self.problems.setdefault(transfer.transfer_id, [])
        while True:
            answer = self._daemon.look(transfer.transfer_id, len(known))
            for problem in answer.problems[: MOST_PROBLEMS - len(known)]:
                known.append(problem)
                if len(known) <= PROBLEMS_TOLD:
                    self._failed(_problem_error(problem))
            if not (answer.problems and is_over(answer.transfer) and len(known) < MOST_PROBLEMS):
                return answer.transfer


def _problem_error(problem: pb2.SetProblem) -> RelevoError:
    message = problem.error_message
    if problem.path not in message:
        message = f"{problem.path}: {message}"
    return from_code(problem.error_code, message)


def is_done(transfer: pb2.Transfer) -> bool:
    """Tells whether everything is in place."""
    return transfer.state == pb2.TRANSFER_STATE_DONE


def has_come(transfer: pb2.Transfer) -> bool:
    """Tells whether there is something to show: the file, or some of the set."""
    return transfer.set.done_count > 0 if transfer.HasField("set") else is_done(transfer)


def is_over(transfer: pb2.Transfer) -> bool:
    """Tells whether nothing will change any more."""
    return transfer.state in {pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED}


def accepted_line(transfer: pb2.Transfer) -> str:
    """Returns what the daemon carries out by itself: its id, and where it is to stand."""
    if transfer.HasField("set"):
        return f"{transfer.transfer_id[: show.SHORTEST_ID]}  {transfer.path}  {transfer.target}"
    return f"{transfer.transfer_id[: show.SHORTEST_ID]}  {show.size(transfer.size_bytes)}  {transfer.target}"


def result_line(transfer: pb2.Transfer) -> str:
    """Returns where a file stands now, and how it came there."""
    taken = from_timestamp(transfer.end_time) - from_timestamp(transfer.start_time)
    if not transfer.HasField("set"):
        return f"{transfer.target}  {show.size(transfer.size_bytes)}  {_how(transfer, taken)}"
    found = transfer.set
    count = show.count(found.done_count, "file")
    if found.done_count < found.found_count:
        count = f"{found.done_count:,} of {show.count(found.found_count, 'file')}"
    present = f", {found.present_count:,} of them already there" if 0 < found.present_count < found.done_count else ""
    how = f"{_how(transfer, taken)}{present}"
    return f"{transfer.target}  {transfer.path}  {count}, {show.size(transfer.size_bytes)}  {how}"


def total_line(transfers: Sequence[pb2.Transfer]) -> str:
    """Returns what several transfers came to: files, bytes, and how much came from whom."""
    all_ = totals.total(transfers)
    shares, ways = totals.shares(transfers), totals.ways_of(transfers)
    came = f" from {shares}{f', {ways}' if ways else ''}" if shares else ""
    return f"{show.count(all_.done_files, 'file')}, {show.size(all_.done)}{came}"


def _how(transfer: pb2.Transfer, taken: float) -> str:
    fetched = sum(source.bytes for source in transfer.sources)
    if not fetched:
        if transfer.copied_bytes:
            return "copied locally"
        return "from an earlier try" if transfer.resumed_bytes else "already there" if transfer.size_bytes else "empty"
    holders, ways = totals.shares([transfer]), totals.ways_of([transfer])
    speed = f" ({show.rate(fetched / taken)})" if taken > 0 else ""
    earlier = f", {show.size(transfer.resumed_bytes)} of it in an earlier try" if transfer.resumed_bytes else ""
    return f"in {show.span(taken)}{speed} from {holders}{f', {ways}' if ways else ''}{earlier}"


def as_json(fetch: Fetch) -> dict[str, Any]:
    """Returns what became of the transfers of a command: files by name, and sets with what could not be fetched."""
    files: list[dict[str, Any]] = []
    sets: list[dict[str, Any]] = []
    for transfer in (*fetch.ended, *fetch.accepted):
        fields = document.fields_of(transfer)
        if transfer.HasField("set"):
            problems = fetch.problems.get(transfer.transfer_id, ())
            sets.append({**fields, "problems": [document.fields_of(problem) for problem in problems]})
        else:
            files.append(fields)
    return {"files": files, "sets": sets}


def absolute(path: Path) -> Path:
    """Returns `path` from the root, `..` resolved by name; the daemon runs in another directory."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib has nothing that leaves symlinks as they are
