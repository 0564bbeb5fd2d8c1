import pytest

from peer.commands.progress_bars import detail
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
