"""Where the files of a selection go: beneath the directory that was chosen, each at a place of its own."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.names import path_problem
from peer.sets.selections import Selection, fixed_parts, is_pattern

PARTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/\\"), min_size=1)
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(lambda path: not path_problem(path))


@pytest.mark.parametrize(
    ("selection", "path", "target"),
    [
        (Selection(directory="photos"), "photos/2024/a.jpg", "photos/2024/a.jpg"),
        (Selection(directory="team/photos"), "team/photos/a.jpg", "photos/a.jpg"),
        (Selection(pattern="*.mov"), "a.mov", "a.mov"),
        (Selection(pattern="*.mov"), "trip/day 1/a.mov", "trip/day 1/a.mov"),
        (Selection(pattern="photos/**"), "photos/2024/a.jpg", "2024/a.jpg"),
        (Selection(pattern="PHOTOS/*"), "photos/a.jpg", "a.jpg"),
        (Selection(pattern="a/b/*.txt"), "a/b/c/x.txt", "c/x.txt"),
        (Selection(pattern="a/?/b/*.txt"), "a/x/b/y.txt", "x/b/y.txt"),
        (Selection(pattern="a/[bc]/x"), "a/b/x", "b/x"),
    ],
)
def test_a_directory_keeps_its_name_and_a_pattern_what_it_does_not_say(selection, path, target):
    assert selection.target(path) == target


@given(PATHS, PATHS)
def test_files_beneath_a_directory_stay_apart_and_beneath_its_last_part(directory, below):
    target = Selection(directory=directory).target(f"{directory}/{below}")
    assert target == f"{directory.rpartition('/')[2]}/{below}"
    assert not path_problem(target)


@given(PATHS, st.text(min_size=1))
def test_a_target_is_always_a_path_whatever_was_typed_and_whoever_answers(path, pattern):
    target = Selection(pattern=pattern).target(path)
    assert not path_problem(target)
    assert path.endswith(target)


@given(PATHS, PATHS, st.sampled_from(["*", "x/*", "dir/*", "a/b/?*", "[a-z]*/x"]))
def test_two_files_that_a_pattern_finds_never_get_one_place(one, other, pattern):
    assume(one != other)
    begin = "/".join(pattern.split("/")[: fixed_parts(pattern)])
    first, second = (f"{begin}/{path}" if begin else path for path in (one, other))
    selection = Selection(pattern=pattern)
    assert selection.target(first) != selection.target(second)


def test_what_looks_like_a_pattern_is_one():
    assert [text for text in ("a", "a*", "?", "[", "a]", "[a]", "x[1", "]a[") if is_pattern(text)] == ["a*", "?", "[a]"]
