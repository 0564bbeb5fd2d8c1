"""A file is settled when it has rested."""

from hypothesis import given
from hypothesis import strategies as st

from peer.disk.rooted import Stamp
from peer.library.scan import Found
from peer.library.settling import Settling


def _found(path, version=0):
    return Found(path, path, Stamp(version, version, 1), False)


def test_a_file_settles_once_it_has_rested_and_is_then_given_out_once():
    settling = Settling(0.5)
    settling.seen(_found("a"), 10.0)
    assert settling.next_time() == 10.5
    assert settling.settled(10.49) == []
    assert settling.settled(10.5) == [_found("a")]
    assert settling.settled(11.0) == []
    assert settling.next_time() is None


def test_a_change_begins_the_rest_anew_and_another_look_does_not():
    settling = Settling(0.5)
    settling.seen(_found("a"), 10.0)
    settling.seen(_found("a"), 10.4)
    settling.seen(_found("b"), 10.4)
    settling.seen(_found("b", 1), 10.6)
    assert settling.settled(10.5) == [_found("a")]
    assert settling.settled(10.9) == []
    assert settling.settled(11.1) == [_found("b", 1)]


def test_a_file_that_is_gone_never_settles():
    settling = Settling(0.5)
    settling.seen(_found("a"), 10.0)
    settling.forget(["a", "never seen"])
    assert len(settling) == 0
    assert settling.settled(99.0) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.floats(0, 1)), max_size=40))
def test_what_settles_has_rested_and_what_has_rested_settles(steps):
    settling, now = Settling(0.5), 0.0
    last: dict[str, tuple[int, float]] = {}
    for path, version, wait in steps:
        now += wait
        ready = {found.path: found.stamp.size for found in settling.settled(now)}
        assert ready == {path: version for path, (version, since) in last.items() if since + 0.5 <= now}
        for each in ready:
            del last[each]
        if last.get(path, (None,))[0] != version:
            last[path] = (version, now)
        settling.seen(_found(path, version), now)
