from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from central.copies.placement import Candidate, choose

CANDIDATES = st.lists(
    st.builds(Candidate, st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 2**63 - 1)),
    unique_by=lambda candidate: candidate.peer_id,
    max_size=20,
)


@given(CANDIDATES, st.integers(0, 2**47), st.integers(0, 32), st.data(), st.integers())
def test_a_choice_is_of_distinct_peers_with_room_that_are_not_excluded(candidates, size, wanted, data, seed):
    names = [candidate.peer_id for candidate in candidates]
    excluded = data.draw(st.sets(st.sampled_from(names))) if names else set()
    chosen = choose(candidates, size, wanted, excluded, Random(seed))
    fit = {candidate.peer_id for candidate in candidates if candidate.free_bytes >= size} - excluded
    assert len(chosen) == len(set(chosen)) == min(wanted, len(fit))
    assert set(chosen) <= fit
    assert chosen == choose(candidates, size, wanted, excluded, Random(seed))


def test_free_space_is_the_weight():
    random = Random(7)
    candidates = [Candidate("large", 3_000), Candidate("small", 1_000), Candidate("tiny", 0)]
    drawn = Counter(choose(candidates, 10, 1, set(), random)[0] for _ in range(4_000))
    assert drawn["tiny"] == 0
    assert 0.72 < drawn["large"] / 4_000 < 0.78


def test_an_empty_file_fits_where_nothing_is_free():
    assert choose([Candidate("full", 0)], 0, 3, set(), Random(1)) == ["full"]
