"""What several transfers come to, as it is shown while they run and afterwards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.commands.totals import Total, figures, shares, total, ways
from relevo.v1 import peer_control_pb2 as pb2


def source(name, count, dropped=""):
    return pb2.TransferSource(peer={"peer_id": name, "name": name}, bytes=count, dropped_reason=dropped)


def test_a_total_counts_files_alone_sets_and_what_waits():
    alone = pb2.Transfer(
        state=pb2.TRANSFER_STATE_DONE,
        size_bytes=10,
        done_bytes=10,
        sources=[source("a", 10), source("b", 0, "it lies")],
    )
    some = pb2.Transfer(
        state=pb2.TRANSFER_STATE_RUNNING,
        size_bytes=100,
        done_bytes=40,
        rate_bytes_per_second=30,
        sources=[source("a", 10), source("c", 0)],
        set={"found_count": 7, "done_count": 2},
    )
    assert total([alone, some], [5, 6]) == Total(10, False, 3, 121, 50, 30, 2)
    assert total([]) == Total()


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (Total(10_000, True, 4160, 4 << 20, 1 << 20, 1 << 20, 2),
         "4,160 of 10,000 files  1.0 MiB of 4.0 MiB  1.0 MiB/s  3.0 s left  2 holders"),
        (Total(1000, False, 0, 5, 0, 0, 0), "0 of 1,000 files, more to be listed  0 B of 5 B"),
        (Total(2, False, 1, 5, 3, 9, 1), "1 of 2 files, more to be listed  3 B of 5 B  9 B/s  1 holder"),
        (Total(2, True, 1, 5, 9, 9, 1), "1 of 2 files  9 B of 5 B  9 B/s  0 ms left  1 holder"),
    ],
)  # fmt: skip
def test_a_total_in_figures(shown, words):
    assert figures(shown) == words


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 1 << 40), max_size=8))
def test_shares_name_those_who_gave_most_and_never_more_than_there_is(given_by):
    found = shares([pb2.Transfer(sources=[source(name, count)]) for name, count in given_by.items()])
    gave = {name: count for name, count in given_by.items() if count}
    if len(gave) < 2:
        assert found == ("1 holder" if gave else "")
        return
    assert found.startswith(f"{len(gave)} holders (")
    named = [part.split() for part in found.partition("(")[2].rstrip(")").split(", ")]
    percents = [int(percent.rstrip("%")) for name, percent in named if percent.endswith("%") and percent != "<1%"]
    assert sum(percents) <= 100
    assert percents == sorted(percents, reverse=True)
    assert (f"{len(gave) - 3} more" in found) == (len(gave) > 3)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0, 0), ""),
        ((9, 0, 0), ""),
        ((9, 9, 0), "reversed"),
        ((9, 0, 9), "relayed"),
        ((100, 30, 0), "70% direct, 30% reversed"),
        ((1000, 1, 200), "79% direct, <1% reversed, 20% relayed"),
    ],
)
def test_how_bytes_came_is_told_unless_all_came_directly(counts, words):
    assert ways(*counts) == words
