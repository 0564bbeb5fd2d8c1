"""Holdings know every place of a content, and publish each path once."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from peer.disk.rooted import Stamp
from peer.library.holdings import Holdings, LibraryFile, Place, PlaceKind

SHARED, FETCHED, STORED = Path("/shared"), Path("/home/user"), Path("/home/store")
STAMP = Stamp(1, 2, 3)


def _file(path, content):
    return LibraryFile(path, content, int(content), 2.0, False)


def _put(holdings, kind, name, content):
    if kind is PlaceKind.SHARED:
        holdings.put_shared(Place(kind, SHARED, name, STAMP), _file(name, content))
    elif kind is PlaceKind.FETCHED:
        holdings.put_fetched(Place(kind, FETCHED, name, STAMP), _file(name, content))
    else:
        holdings.put_stored(content, Place(kind, STORED, content.hex(), STAMP))


def _drop(holdings, kind, name, content):
    if kind is PlaceKind.SHARED:
        holdings.drop_shared(name)
    elif kind is PlaceKind.FETCHED:
        holdings.drop_fetched(FETCHED / name)
    else:
        holdings.drop_stored(content)


STEPS = st.tuples(st.booleans(), st.sampled_from(PlaceKind), st.sampled_from("abc"), st.sampled_from([b"1", b"2"]))


@given(st.lists(STEPS, max_size=30))
def test_places_and_published_files_are_those_of_a_simple_model(steps):
    holdings, model = Holdings(), {}
    for adds, kind, name, content in steps:
        key = (kind, content if kind is PlaceKind.STORED else name)
        before = (dict(holdings.files), dict(holdings.stored), holdings.version)
        if adds:
            _put(holdings, kind, name, content)
            model[key] = content
        else:
            _drop(holdings, kind, name, content)
            model.pop(key, None)
        held = {
            content: min((k for (k, _), c in model.items() if c == content), default=None) for content in (b"1", b"2")
        }
        for wanted, best in held.items():
            place = holdings.place(wanted)
            assert (place and place.kind) == best
        files = {name: content for (k, name), content in model.items() if k is PlaceKind.FETCHED}
        files |= {name: content for (k, name), content in model.items() if k is PlaceKind.SHARED}
        assert {path: file.content_id for path, file in holdings.files.items()} == files
        assert {path: file for path in "abc" if (file := holdings.file(path))} == holdings.files
        totals = holdings.totals
        assert (totals.files, totals.copies) == (len(holdings.files), len(holdings.stored))
        assert totals.file_bytes == sum(file.size for file in holdings.files.values())
        assert totals.copy_bytes == sum(holdings.stored.values())
        assert set(holdings.stored) == {name for (k, name) in model if k is PlaceKind.STORED}
        if (dict(holdings.files), dict(holdings.stored)) != before[:2]:
            assert holdings.version > before[2]
        touched = holdings.take_touched()
        assert {path for path in "abc" if before[0].get(path) != holdings.file(path)} <= touched.paths
        assert before[1].keys() ^ holdings.stored.keys() <= touched.contents
        assert not holdings.take_touched().paths


def test_a_snapshot_stays_as_it_was():
    holdings = Holdings()
    _put(holdings, PlaceKind.SHARED, "a", b"1")
    files, stored = holdings.files, holdings.stored
    _put(holdings, PlaceKind.SHARED, "b", b"2")
    _put(holdings, PlaceKind.STORED, "", b"3")
    assert set(files) == {"a"}
    assert not stored
    assert set(holdings.files) == {"a", "b"}


def test_putting_the_same_again_is_no_news():
    holdings = Holdings()
    for kind in PlaceKind:
        _put(holdings, kind, "a", b"1")
        version = holdings.version
        _put(holdings, kind, "a", b"1")
        assert holdings.version == version


def test_a_download_that_stands_back_is_named_with_the_reason():
    holdings = Holdings()
    _put(holdings, PlaceKind.FETCHED, "a", b"1")
    assert not holdings.conflicts
    _put(holdings, PlaceKind.SHARED, "a", b"2")
    assert "shared directory" in holdings.conflicts["/home/user/a"]
    holdings.put_shared(Place(PlaceKind.SHARED, SHARED, "a", STAMP), _file("a", b"1"))
    assert not holdings.conflicts
