import pytest

from peer.commands.progress_bars import Live, detail
from peer.commands.totals import Total
from relevo.v1 import peer_control_pb2 as pb2

ASKED = pb2.TransferSource()
DROPPED = pb2.TransferSource(dropped_reason="it lies")


@pytest.mark.parametrize(
    ("sources", "ending"),
    [
        ([], "checking this machine"),
        ([DROPPED], "waiting for a holder"),
        ([ASKED, DROPPED], "1 holder"),
        ([ASKED, ASKED], "2 holders"),
    ],
)
def test_a_bar_says_what_a_download_waits_for(sources, ending):
    transfer = pb2.Transfer(kind=pb2.TRANSFER_KIND_DOWNLOAD, size_bytes=2048, done_bytes=1024, sources=sources)
    assert detail(transfer) == f" 50%  1.0 KiB of 2.0 KiB  {ending}"


def set_of(*large, state="RUNNING"):
    files = [{"path": path, "size_bytes": 200, "done_bytes": done} for path, done in large]
    state = pb2.TransferState.Value(f"TRANSFER_STATE_{state}")
    return pb2.Transfer(transfer_id="7", state=state, set={"found_count": 9, "listed": True, "large_files": files})


def shown(live):
    return [(task.description, task.completed, task.total) for task in live._progress.tasks]


def test_a_set_shows_one_total_and_the_large_files_that_are_on_their_way():
    live = Live()
    live.total(Total(9, True, 2, 1000, 400, 10, 1))
    live.show(set_of(("d/film.mov", 50), ("d/other.iso", 0)))
    assert shown(live) == [("total", 400, 1000), ("film.mov", 50, 200), ("other.iso", 0, 200)]
    live.total(Total(9, True, 3, 1000, 600, 10, 1))
    live.show(set_of(("d/other.iso", 90), ("e/third", 1)))
    assert shown(live) == [("total", 600, 1000), ("other.iso", 90, 200), ("third", 1, 200)]
    live.show(set_of(("d/other.iso", 90), state="DONE"))
    assert shown(live) == [("total", 600, 1000)]


def test_a_single_file_has_no_total():
    live = Live()
    live.total(Total(1, True, 0, 10, 0, 0, 0))
    live.show(pb2.Transfer(transfer_id="1", path="a/x", size_bytes=10, done_bytes=3, state=pb2.TRANSFER_STATE_RUNNING))
    assert shown(live) == [("x", 3, 10)]
