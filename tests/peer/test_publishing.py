"""Differences between the library and what central holds of it."""

from hypothesis import given
from hypothesis import strategies as st

from peer.library import LibraryFile
from peer.publishing import MAX_BATCH_BYTES, MAX_ITEMS, Batch, Published, differences

paths = st.text("abcé空", min_size=1, max_size=3)
libraries = st.dictionaries(paths, st.binary(min_size=32, max_size=32), max_size=8)
contents = st.sets(st.binary(min_size=32, max_size=32), max_size=6)


def as_files(library):
    return {path: LibraryFile(path, content, 1, 0.0, executable=False) for path, content in library.items()}


@given(libraries, contents, libraries, contents)
def test_applying_the_differences_makes_central_equal_to_the_library(before, stored_before, after, stored_after):
    published = Published(version=3, files=as_files(before), stored=set(stored_before))
    batches = list(differences(published, as_files(after), stored_after, set()))
    for batch in batches:
        published.apply(batch)
    assert published.files == as_files(after)
    assert published.stored == stored_after
    assert published.version == 3 + len(batches)
    assert list(differences(published, as_files(after), stored_after, set())) == []


def test_batches_stay_below_centrals_limits():
    long = {f"{number:05d}/{'x' * 200}" * 15: b"i" * 32 for number in range(3000)}
    batches = list(differences(Published(), as_files(long), set(), set()))
    assert sum(len(batch.added) for batch in batches) == 3000
    assert all(len(batch.added) <= MAX_ITEMS for batch in batches)
    assert all(sum(len(file.path) for file in batch.added) <= MAX_BATCH_BYTES for batch in batches)


def test_a_stored_content_that_central_asks_for_again_is_named_once_more():
    held = b"c" * 32
    published = Published(version=1, stored={held})
    assert list(differences(published, {}, {held}, {held})) == [Batch(stored=(held,))]


def test_a_content_that_is_not_stored_is_never_confirmed():
    assert list(differences(Published(version=1), {}, set(), {b"c" * 32})) == []
