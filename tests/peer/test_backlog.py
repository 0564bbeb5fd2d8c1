"""What is left to publish is found where something was touched, and is all that there is."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from peer.directory.backlog import Backlog
from peer.directory.differences import Published
from peer.directory.refusals import Refusals
from peer.disk.rooted import Stamp
from peer.library.holdings import Holdings, LibraryFile, Place, PlaceKind

SHARED, ELSEWHERE, STORE = Path("/shared"), Path("/home/user"), Path("/home/store")
STAMP = Stamp(1, 2, 3)
NAMES = st.sampled_from("abcd")
CONTENTS = st.sampled_from([b"1" * 32, b"2" * 32, b"3" * 32])
STEPS = st.one_of(
    st.tuples(st.just("share"), NAMES, CONTENTS),
    st.tuples(st.just("unshare"), NAMES, CONTENTS),
    st.tuples(st.just("fetch"), NAMES, CONTENTS),
    st.tuples(st.just("unfetch"), NAMES, CONTENTS),
    st.tuples(st.just("store"), NAMES, CONTENTS),
    st.tuples(st.just("unstore"), NAMES, CONTENTS),
    st.tuples(st.just("refuse"), NAMES, CONTENTS),
    st.tuples(st.just("publish"), st.integers(0, 3), st.none()),
    st.tuples(st.just("doubt"), st.none(), st.none()),
)


def _file(name, content):
    return LibraryFile(name, content, 1, 2.0, False)


def _step(kind, name, content, holdings):
    if kind == "share":
        holdings.put_shared(Place(PlaceKind.SHARED, SHARED, name, STAMP), _file(name, content))
    elif kind == "unshare":
        holdings.drop_shared(name)
    elif kind == "fetch":
        holdings.put_fetched(Place(PlaceKind.FETCHED, ELSEWHERE, name, STAMP), _file(name, content))
    elif kind == "unfetch":
        holdings.drop_fetched(ELSEWHERE / name)
    elif kind == "store":
        holdings.put_stored(content, Place(PlaceKind.STORED, STORE, content.hex(), STAMP))
    else:
        holdings.drop_stored(content)


@given(st.lists(STEPS, max_size=40))
def test_whatever_is_touched_and_however_little_is_taken_at_a_time_central_ends_with_the_library(steps):
    holdings, refusals, published = Holdings(), Refusals(), Published(version=1)
    backlog = Backlog(holdings, refusals)
    refused = set()

    def publish(most):
        """Sends some of the batches; an entry that central refuses is put aside, as the publisher does."""
        for batch in backlog.batches(published, set())[:most]:
            taken = batch
            for file in batch.added:
                if (file.path, file.content_id) in refused:
                    refusals.put_aside(file, "a reason")
                    taken = taken.without(file)
            published.apply(taken)

    for kind, name, content in steps:
        if kind == "publish":
            publish(name)
        elif kind == "doubt":
            backlog.doubt_everything()
        elif kind == "refuse":
            refused.add((name, content))
        else:
            _step(kind, name, content, holdings)
    for _ in range(3):  # what is put aside is found out, then withdrawn
        publish(None)
    wanted = {path: file for path, file in holdings.files.items() if published.files.get(path) == file}
    aside = {path for path, file in holdings.files.items() if path not in wanted}
    assert published.files == wanted
    assert {(path, holdings.files[path].content_id) for path in aside} <= refused
    assert published.stored == set(holdings.stored)
    assert backlog.batches(published, set()) == []


def test_one_new_file_costs_no_look_at_the_others():
    class Looked(Holdings):
        def __init__(self):
            super().__init__()
            self.asked = []

        def file(self, path):
            self.asked.append(path)
            return super().file(path)

        @property
        def files(self):
            self.asked.append("all")
            return super().files

    holdings, published = Looked(), Published(version=1)
    backlog = Backlog(holdings, Refusals())
    for name in "abc":
        _step("share", name, b"1" * 32, holdings)
    for batch in backlog.batches(published, set()):
        published.apply(batch)
    assert backlog.batches(published, set()) == []
    holdings.asked.clear()
    _step("share", "d", b"1" * 32, holdings)
    assert [[file.path for file in batch.added] for batch in backlog.batches(published, set())] == [["d"]]
    assert holdings.asked == ["d"]
