"""Queries become searches that find exactly what they say, and never an SQL error."""

import contextlib
import fnmatch
import re
import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from central.catalogue.search import MAX_GRAMS, compile_reference, compile_text, position
from central.store.store import FileQuery, Order
from core.errors import InvalidInput
from core.names import folded


def glob(pattern: str, text: str) -> bool:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        return bool(database.execute("SELECT ? GLOB ?", (text, pattern)).fetchone()[0])


TRICKY = st.text(alphabet="ab]-^![*?/ñ空", max_size=9)


@given(TRICKY, TRICKY)
@example("[]-a]", "^")
@example("[^]", "^")
@example("[!^]", "^")
@example("[!a-]", "-")
@example("[b-a]", "b")
@example("[!b-a]", "b")
@example("[a-]*[]", "a[]")
@example("[^-]", "-")
@example("[--^]", "]")
def test_a_pattern_matches_what_a_shell_pattern_matches(pattern, text):
    search = compile_text(pattern)
    found = glob(search.glob, text) if search.glob else search.needle in text
    if search.needle or not pattern:
        model = pattern in text
    else:
        model = re.compile(fnmatch.translate(pattern)).fullmatch(text) is not None
    assert found == model


@given(TRICKY, TRICKY)
def test_every_match_contains_every_gram(pattern, text):
    search = compile_text(pattern)
    if glob(search.glob, text) if search.glob else search.needle in text:
        assert all(len(gram) == 3 and gram in text for gram in search.grams)


@given(st.text(max_size=40))
def test_any_text_is_a_search_or_invalid_input(text):
    try:
        search = compile_text(text)
    except InvalidInput:
        return
    assert len(search.grams) <= MAX_GRAMS
    glob(search.glob, text)


@pytest.mark.parametrize("text", ["a\0b", "\x1b[31m", "a" * 4097, "\ud800", "\x85"])
def test_text_that_no_path_can_have_is_refused(text):
    with pytest.raises(InvalidInput, match=r"^query: "):
        compile_text(text)
    with pytest.raises(InvalidInput, match=r"^reference: "):
        compile_reference(text)


def test_case_and_unicode_form_do_not_matter():
    assert compile_text("MAN\u0303ANA").needle == "mañana"
    assert compile_text("STRASSE").needle == folded("straße")


@pytest.mark.parametrize("text", ["[", "a[1", "]", "[!]", "%", "_", '"', "'", "\\"])
def test_text_without_a_closed_class_or_a_wildcard_is_a_substring(text):
    assert compile_text(text).needle == text


@pytest.mark.parametrize("text", ["", "*", "***"])
def test_a_search_for_everything_has_no_condition(text):
    assert compile_text(text) == compile_text("")


def test_only_a_pattern_with_a_slash_is_for_the_whole_path():
    assert compile_text("*.py").name_only
    assert not compile_text("src/*.py").name_only


def test_many_grams_are_bounded_and_begin_with_the_longest_run():
    assert compile_text("ab*cdefg").grams == ("cde", "efg")
    assert len(compile_text("".join(chr(0x4E00 + at) for at in range(1000))).grams) == MAX_GRAMS
    assert compile_text("空の").grams == ()


def test_a_reference_is_a_path_a_name_and_an_id_when_it_can_be():
    assert compile_reference("a/b") == compile_reference("a/b")
    assert compile_reference("a/b").name == ""
    assert compile_reference("n\u0303").path == "ñ"
    assert compile_reference("abc").ids is None
    assert compile_reference("abcde").ids == (b"\xab\xcd\xe0" + bytes(29), b"\xab\xcd\xef" + b"\xff" * 29)
    assert compile_reference("ABCD" * 16).ids == (b"\xab\xcd" * 16, b"\xab\xcd" * 16)
    assert compile_reference("abcd" * 16 + "a").ids is None
    with pytest.raises(InvalidInput):
        compile_reference("")


@pytest.mark.parametrize(
    ("order", "after"),
    [
        (Order.NEWEST_FIRST, ("a", "a", "00", 5)),
        (Order.BY_NAME, (1.0, "a", "00", 5)),
        (Order.BY_NAME, ("b", "a", "00", 5)),
        (Order.BY_NAME, ("a", "a", "zz", 5)),
        (Order.BY_NAME, ("a", "a", "00")),
        (Order.BY_NAME, ("a", "a", "00", "5")),
        (Order.NEWEST_FIRST, (1.0, "\ud800", "00", 5)),
        (Order.NEWEST_FIRST, (1.0, "a", 1.0, 5)),
    ],
)
def test_a_key_of_another_list_is_refused(order, after):
    with pytest.raises(InvalidInput, match="page token"):
        position(FileQuery(order=order, after=after))


def test_a_key_has_the_content_id_as_bytes():
    assert position(FileQuery(after=(1.5, "A", "00ff", 5))) == (1.5, "A", b"\x00\xff", 5)
    assert position(FileQuery(order=Order.BY_NAME, after=("a", "A", "00ff", 5))) == ("a", "A", b"\x00\xff", 5)
    assert position(FileQuery()) is None
