"""How far a transfer is, and how fast."""

import pytest

from peer.fetching.progress import Progress
from peer.links.contacts import Contact

ANN = Contact("ann", "Ann", ("127.0.0.1:1",))


def test_the_rate_is_that_of_the_last_five_seconds():
    progress = Progress(10_000)
    progress.source(ANN)
    progress.begin(0.0)
    assert progress.rate(0.0) == 0.0
    for second in range(1, 11):
        progress.fetched("ann", 100, float(second))
    assert progress.rate(10.0) == pytest.approx(100, rel=0.01)
    assert progress.rate(12.5) == pytest.approx(60, rel=0.01)
    assert progress.rate(16.0) == 0.0


def test_the_rate_of_a_young_transfer_is_over_its_own_time():
    progress = Progress(1000)
    progress.source(ANN)
    progress.begin(100.0)
    progress.fetched("ann", 500, 100.5)
    assert progress.rate(101.0) == 500
    assert progress.rate(100.0) <= 5000


def test_many_blocks_in_a_moment_keep_few_records():
    progress = Progress(1000)
    progress.source(ANN)
    for step in range(10_000):
        progress.fetched("ann", 1, step / 1000)
    assert len(progress._recent) < 100
    assert progress.rate(10.0) == pytest.approx(1000, rel=0.05)


def test_done_bytes_are_those_resumed_copied_and_fetched():
    progress = Progress(100)
    progress.source(ANN)
    progress.resumed(10)
    progress.copied(20)
    progress.fetched("ann", 30, 0.0)
    assert (progress.done_bytes, progress.resumed_bytes, progress.copied_bytes) == (60, 10, 20)
    assert progress.source(ANN).bytes == 30
