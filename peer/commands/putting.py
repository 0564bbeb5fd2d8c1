"""Sharing files through the daemon, and waiting until their copies are confirmed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidInput, NotFound, Unreachable
from core.names import printable
from peer.commands import show
from peer.commands.client import Daemon, error_of
from peer.commands.getting import FIRST_PAUSE, LAST_PAUSE, is_over
from peer.commands.progress_bars import Bars
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_KEPT, Placement


@dataclass(frozen=True)
class Put:
    """A file that is shared, and its placement if copies were wanted."""

    transfer: pb2.Transfer
    placement: Placement | None = None

    @property
    def kept(self) -> bool:
        """Whether every wanted copy is confirmed; true when none was wanted."""
        return self.placement is None or self.placement.state == PLACEMENT_STATE_KEPT


def check_source(source: Path) -> None:
    """Checks that `source` is a file that can be shared.

    Raises:
        NotFound: it is not there.
        InvalidInput: it is a directory or another thing that is not a file.
    """
    if not source.exists():
        raise NotFound(f"there is no file {source}")
    if not source.is_file():
        what = "a directory: put the files in it one by one" if source.is_dir() else "not a regular file"
        raise InvalidInput("", f"{source} is {what}")


def share(daemon: Daemon, source: Path, replicas: int, bars: Bars, given_up: Callable[[], bool] = lambda: False) -> Put:
    """Shares `source`, an absolute path, asks central for `replicas` copies, and says how things stand then.

    Raises:
        Unreachable: `given_up` said so first; sharing goes on.
        RelevoError: it could not be shared or placed.
    """
    transfer = daemon.start_upload(source, replicas)
    pause = FIRST_PAUSE
    while not is_over(transfer):
        bars.show(transfer)
        if given_up():
            raise Unreachable(f"{source} is still being shared; that goes on, and `relevo transfers` shows it")
        time.sleep(pause)
        pause = min(pause * 1.5, LAST_PAUSE)
        transfer = daemon.transfer(transfer.transfer_id)
    bars.show(transfer)
    if transfer.state != pb2.TRANSFER_STATE_DONE:
        raise error_of(transfer)
    if not transfer.placement_id:
        return Put(transfer)
    asked = Placement(placement_id=transfer.placement_id, path=transfer.path, wanted_copies=replicas)
    return Put(transfer, _looked_at(daemon, asked))


def _looked_at(daemon: Daemon, placement: Placement) -> Placement:
    """Returns the placement as it stands; as it was last known while central does not answer."""
    try:
        return daemon.placement(placement.placement_id)
    except Unreachable:
        if not daemon.runs():
            raise
        return placement


def wait_kept(daemon: Daemon, put: Put, bars: Bars, deadline: float | None, clock: Callable[[], float]) -> Put:
    """Waits until every copy is confirmed, or until `clock` (monotonic seconds) reaches `deadline`."""
    pause = FIRST_PAUSE
    while put.placement is not None and not put.kept and (deadline is None or clock() < deadline):
        bars.copies(put.placement)
        time.sleep(pause if deadline is None else min(pause, max(deadline - clock(), 0)))
        pause = min(pause * 1.5, LAST_PAUSE)
        put = Put(put.transfer, _looked_at(daemon, put.placement))
    if put.placement is not None:
        bars.copies(put.placement)
    return put


def put_line(put: Put) -> str:
    """Returns what was shared and how far its copies are."""
    shared = f"{put.transfer.path}  {show.size(put.transfer.size_bytes)}  shared"
    return printable(shared if put.placement is None else f"{shared}, {copies(put.placement)}")


def copies(placement: Placement) -> str:
    """Returns how far a placement is: `1 of 2 copies so far (on ana), ben is storing`."""
    confirmed = [copy.peer.name for copy in placement.copies if copy.confirmed]
    storing = [copy.peer.name for copy in placement.copies if not copy.confirmed]
    on = f" (on {show.listed(confirmed)})" if confirmed else ""
    wanted = show.count(placement.wanted_copies, "copy", "copies")
    if placement.state == PLACEMENT_STATE_KEPT:
        return f"{placement.live_copies} of {wanted}{on}"
    missing = placement.wanted_copies - len(confirmed) - len(storing)
    also = [f"{show.listed(storing)} {'is' if len(storing) == 1 else 'are'} storing"] if storing else []
    if missing > 0:
        also.append(f"{show.count(missing, 'more peer')} with room {'is' if missing == 1 else 'are'} needed")
    return ", ".join([f"{placement.live_copies} of {wanted} so far{on}", *also])
