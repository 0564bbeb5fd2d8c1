import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.commands import show

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99.94 * KIB, "99.9 KiB"),
        (99.96 * KIB, "100 KiB"),
        (1023.4 * KIB, "1023 KiB"),
        (1023.6 * KIB, "1.0 MiB"),
        (12.34 * MIB, "12.3 MiB"),
        (2 * GIB, "2.0 GiB"),
        (1 << 47, "128 TiB"),
        ((1 << 64) - 1, "16.0 EiB"),
    ],
)
def test_sizes_have_three_figures_and_a_unit(count, text):
    assert show.size(count) == text


@given(st.integers(0, (1 << 64) - 1))
def test_a_shown_size_never_reaches_the_next_unit(count):
    number, _, unit = show.size(count).partition(" ")
    assert float(number) < 1024
    assert unit in {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0031, "3 ms"),
        (0.9996, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_spans_are_read_in_two_units_at_most(seconds, text):
    assert show.span(seconds) == text


@pytest.mark.parametrize(
    ("past", "text"),
    [(0, "now"), (42, "42 s"), (300, "5 min"), (3 * 3600, "3 h"), (47 * 3600, "47 h"), (12 * 86400, "12 d")],
)
def test_ages_are_one_number_and_one_unit(past, text):
    assert show.age(NOW - past, NOW) == text


def test_what_is_older_than_a_month_shows_its_date():
    then = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    assert show.age(then, NOW) == "2026-01-31"


@pytest.mark.parametrize("then", [0, 1 << 62, -(1 << 62), float("inf")])
def test_a_time_that_no_calendar_holds_is_a_dash(then):
    assert show.age(then, NOW) == "-"


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=8))
def test_short_ids_are_prefixes_that_tell_all_apart(ids):
    short = show.short_ids(ids)
    assert set(short) == set(ids)
    for whole, prefix in short.items():
        assert whole.startswith(prefix)
        assert len(prefix) >= show.SHORTEST_ID
        assert [other for other in short if other.startswith(prefix)] == [whole]


@pytest.mark.parametrize("shared", [7, 8, 20, 63])
def test_ids_that_begin_alike_are_shown_up_to_where_they_differ(shared):
    one, other, apart = "a" * 64, "a" * shared + "b" * (64 - shared), "c" * 64
    short = show.short_ids([one, other, apart])
    assert len(short[one]) == len(short[other]) == max(shared + 1, 8)
    assert short[apart] == "cccccccc"


def test_tables_are_aligned_by_columns_on_screen():
    lines = show.table(
        ("NAME", ">SIZE", "PATH"), [("富士山", "1 B", "x"), ("niño", "100 B", "y"), ("e\u0301", "", "z")]
    )
    starts = {show.width(line[: line.index(mark)]) for line, mark in zip(lines, ("PATH", "x", "y", "z"), strict=True)}
    assert starts == {15}


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_no_cell_can_steer_the_terminal(rows):
    for line in show.table(("A", "B"), rows):
        assert "\x1b" not in line
        assert not [char for char in line if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
        assert not set(line) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@given(st.text(), st.integers(1, 40))
def test_clipped_text_fits(text, columns):
    assert show.width(show.clip(text, columns)) <= columns


def test_clipping_keeps_beginning_and_ending():
    assert show.clip("a-very-long-name.tar.gz", 11) == "a-ver…ar.gz"
    assert show.clip("富士山富士山.jpg", 9) == "富士….jpg"
    assert show.clip("short", 5) == "short"


def test_percent_is_100_only_when_everything_is_there():
    assert show.percent(0, 0) == "100%"
    assert show.percent(999_999, 1_000_000) == "99%"
    assert show.percent(1_000_000, 1_000_000) == "100%"


def test_words_are_listed_as_people_do():
    assert [show.listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
