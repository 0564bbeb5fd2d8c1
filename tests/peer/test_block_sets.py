"""Sets of blocks as integers are sets of blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.fetching.block_sets import every, from_bitmap, lowest, members, run, run_in, set_of, to_bitmap

MOST = 300
sets = st.sets(st.integers(0, MOST - 1))


def blocks_of(number):
    return {index for index in range(number.bit_length()) if number >> index & 1}


@given(sets, sets)
def test_an_integer_has_the_blocks_of_its_set(some, others):
    assert blocks_of(set_of(some)) == some
    assert blocks_of(set_of(some) & ~set_of(others)) == some - others
    assert set_of(list(some)) == set_of(frozenset(some))


@given(sets.filter(bool), st.integers(0, 2 * MOST))
def test_the_lowest_block_from_a_start_on_goes_round(blocks, start):
    assert lowest(set_of(blocks), start) == min(blocks, key=lambda index: (index < start, index))


@given(st.integers(1, MOST), st.integers(1, 20), st.data())
def test_every_so_many_blocks_are_shares_of_all_without_overlap(count, step, data):
    first = data.draw(st.integers(0, step - 1))
    assert blocks_of(every(count, step, first)) == set(range(first, count, step))
    shares = [every(count, step, first) for first in range(step)]
    assert sum(shares) == (1 << count) - 1


@given(sets)
def test_a_bitmap_brings_a_set_over(blocks):
    first, bitmap = to_bitmap(set_of(blocks), 4096)
    assert first % 8 == 0
    assert len(bitmap) <= MOST // 8 + 1
    assert blocks_of(from_bitmap(first, bitmap, MOST)) == blocks
    if blocks:
        assert bitmap[0]
        assert bitmap[-1], "it has no more bytes than it needs"


@given(sets)
def test_a_set_names_its_members_in_order(blocks):
    assert list(members(set_of(blocks))) == sorted(blocks)


@given(sets, st.integers(0, MOST))
def test_a_run_ends_before_the_first_block_that_is_not_there(blocks, first):
    count = run_in(set_of(blocks), first)
    assert blocks_of(run(first, count)) == set(range(first, first + count)) <= blocks
    assert first + count not in blocks


@given(sets, st.integers(1, 10))
def test_of_a_wide_set_the_beginning_is_brought_over(blocks, most):
    first, bitmap = to_bitmap(set_of(blocks), most)
    assert len(bitmap) <= most
    assert blocks_of(from_bitmap(first, bitmap, MOST)) == {index for index in blocks if index < first + 8 * most}


@given(sets.filter(bool), st.integers(0, MOST), st.integers(0, 1000))
def test_a_bitmap_with_a_block_that_there_is_not_is_refused(blocks, count, first):
    bitmap = set_of(blocks).to_bytes(MOST // 8 + 1, "little")
    if first + max(blocks) < count:
        assert blocks_of(from_bitmap(first, bitmap, count)) == {first + index for index in blocks}
    else:
        with pytest.raises(ValueError, match=f"{count} blocks"):
            from_bitmap(first, bitmap, count)


@pytest.mark.parametrize(("bitmap", "count"), [(b"\x01", 10), (b"\xff" * 100, 2**31)])
def test_a_set_that_begins_in_the_billions_costs_nothing(bitmap, count):
    with pytest.raises(ValueError, match="counted from 0"):
        from_bitmap(2**32 - 1, bitmap, count)
    assert from_bitmap(2**32 - 1, bytes(100), count) == 0
