"""Progress on stderr: bars on a terminal, nothing elsewhere."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from core.names import last_part, printable
from peer.commands import show, totals
from peer.commands.totals import Total, figures
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import Placement

_LABEL, _BAR = 28, 16
_TOTAL = "total"
# More bars than this would scroll away.
_MOST = 8
_OVER = {pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED}


class Bars(Protocol):
    """Shows how far work is."""

    def show(self, transfer: pb2.Transfer) -> None:
        """Shows a transfer as it stands; one that has ended leaves the screen."""

    def total(self, total: Total) -> None:
        """Shows what all transfers come to, when they are of several files."""

    def copies(self, placement: Placement) -> None:
        """Shows how many copies are confirmed; a placement that is kept leaves the screen."""


class Silent:
    """Shows nothing; a context manager like `Live`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, transfer: pb2.Transfer) -> None:
        """Shows nothing."""

    def total(self, total: Total) -> None:
        """Shows nothing."""

    def copies(self, placement: Placement) -> None:
        """Shows nothing."""


class Live:
    """Bars on the terminal while the context is open; they leave no trace behind."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import, and only a terminal needs it
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        def text(field: str) -> TextColumn:
            return TextColumn(field, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))

        self._progress = Progress(
            text("{task.description}"),
            BarColumn(_BAR),
            text("{task.fields[detail]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
            redirect_stdout=False,
            refresh_per_second=10,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, transfer: pb2.Transfer) -> None:
        """Shows a transfer as it stands; one that has ended leaves the screen."""
        over = transfer.state in _OVER
        if transfer.HasField("set"):
            self._show_large_files(transfer, over=over)
            return
        self._set(
            transfer.transfer_id, transfer.path, transfer.done_bytes, transfer.size_bytes, detail(transfer), over=over
        )

    def _show_large_files(self, transfer: pb2.Transfer, *, over: bool) -> None:
        """Shows the files of a set that come one by one; the set itself is in the total."""
        shown = {f"{transfer.transfer_id} {file.path}": file for file in transfer.set.large_files if not over}
        for key in [key for key in self._tasks if key.startswith(f"{transfer.transfer_id} ") and key not in shown]:
            self._progress.remove_task(self._tasks.pop(key))
        for key, file in shown.items():
            text = f"{show.percent(file.done_bytes, file.size_bytes):>4}  {show.size(file.size_bytes)}"
            self._set(key, file.path, file.done_bytes, file.size_bytes, text, over=False)

    def total(self, total: Total) -> None:
        """Shows what all transfers come to, when they are of several files; it stands first, and stays."""
        if total.files > 1 or not total.listed:
            self._set(_TOTAL, _TOTAL, total.done, total.size, figures(total), over=False)

    def copies(self, placement: Placement) -> None:
        """Shows how many copies are confirmed; a placement that is kept leaves the screen."""
        done, wanted = placement.live_copies, placement.wanted_copies
        text = f"{done} of {show.count(wanted, 'copy', 'copies')} confirmed"
        self._set(placement.placement_id, placement.path, done, wanted, text, over=done >= wanted)

    def _set(self, key: str, path: str, done: int, whole: int, text: str, *, over: bool) -> None:
        if over:
            if key in self._tasks:
                self._progress.remove_task(self._tasks.pop(key))
            return
        if key not in self._tasks:
            if len(self._tasks) >= _MOST:
                return
            label = show.clip(printable(last_part(path)), _LABEL)
            self._tasks[key] = self._progress.add_task(label, total=None, detail="")
        self._progress.update(self._tasks[key], total=whole or None, completed=done, detail=text)


def bars(*, quiet: bool = False) -> AbstractContextManager[Bars]:
    """Returns bars for a terminal on stderr, and silence when there is none or `quiet` is asked for."""
    return Silent() if quiet or not sys.stderr.isatty() else Live()


def detail(transfer: pb2.Transfer) -> str:
    """Returns a transfer in figures: ` 45%  1.2 GiB of 2.6 GiB  85.0 MiB/s  16 s left  4 holders`."""
    figures = [
        f"{show.percent(transfer.done_bytes, transfer.size_bytes):>4}",
        f"{show.size(transfer.done_bytes)} of {show.size(transfer.size_bytes)}",
    ]
    if transfer.kind == pb2.TRANSFER_KIND_UPLOAD:
        return figures[-1] if transfer.content_id else "adding it to the shared directory"
    if transfer.state == pb2.TRANSFER_STATE_PAUSED:
        return "  ".join([*figures, "paused"])
    if transfer.waiting_reason:
        return "  ".join([*figures, printable(transfer.waiting_reason)])
    speed = transfer.rate_bytes_per_second
    if speed:
        figures += [show.rate(speed), f"{show.span((transfer.size_bytes - transfer.done_bytes) / speed)} left"]
    asked = sum(not source.dropped_reason for source in transfer.sources)
    if asked:
        figures.append(show.count(asked, "holder"))
        figures += filter(None, [totals.ways_of([transfer])])
    else:  # before anybody is asked, what this machine has already is checked and copied
        figures.append("waiting for a holder" if transfer.sources else "checking this machine")
    return "  ".join(figures)
