import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.pages import decode_token, encode_token, page_size


@pytest.mark.parametrize(
    ("asked", "expected"), [(0, 100), (1, 1), (100, 100), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)]
)
def test_a_page_has_a_hundred_items_unless_asked_and_never_more_than_a_thousand(asked, expected):
    assert page_size(asked) == expected


@pytest.mark.parametrize("asked", [-1, -(2**31)])
def test_a_negative_page_size_is_refused_by_its_field(asked):
    with pytest.raises(InvalidInput) as caught:
        page_size(asked, "skipped_page_size")
    assert caught.value.field == "skipped_page_size"


KEY = st.tuples(
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63) + 1, 2**63 - 1),
)


@given(KEY)
def test_a_token_gives_back_its_key(key):
    token = encode_token(*key)
    assert decode_token(token, float, str, int) == key
    assert token.isascii()


def test_no_token_is_the_first_page():
    assert decode_token("", str) is None


def forged(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


FORGED = [
    "x",
    "====",
    "a b",
    "ñ",
    "\x00",
    forged("null"),
    forged("[]"),
    forged('"a"'),
    forged('{"a": 1}'),
    forged('["a"]'),
    forged('["a", 1, "b"]'),
    forged('[1, "a"]'),  # an integer is not a time
    forged('[true, "a"]'),
    forged('[1.5, "a", "b"]'),
    forged('[NaN, "a"]'),
    forged('[Infinity, "a"]'),
    forged('[1e999, "a"]'),
    forged('[1.5, "\\ud800"]'),
    forged("[" * 100_000),
    forged("[1.5, " + "9" * 5000 + "]"),
]


@pytest.mark.parametrize("token", FORGED, ids=range(len(FORGED)))
def test_a_token_that_was_not_given_out_is_refused_by_its_field(token):
    with pytest.raises(InvalidInput) as caught:
        decode_token(token, float, str)
    assert caught.value.field == "page_token"


def test_an_integer_that_no_database_holds_is_refused():
    with pytest.raises(InvalidInput):
        decode_token(forged(f"[{2**63}]"), int)


@given(st.text(), st.lists(st.sampled_from([str, float, int]), max_size=3))
def test_no_text_breaks_the_decoder(text, kinds):
    try:
        key = decode_token(text, *kinds)
    except InvalidInput:
        return
    assert key is None or [type(part) for part in key] == kinds


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_no_json_breaks_the_decoder(value):
    try:
        key = decode_token(forged(json.dumps(value)), str)
    except InvalidInput:
        return
    assert key is not None
    key[0].encode()
