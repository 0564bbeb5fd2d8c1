import json
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.names import (
    MAX_PART_BYTES,
    MAX_PATH_BYTES,
    check_path,
    check_peer_name,
    folded,
    last_part,
    normal,
    path_problem,
    printable,
)

DATA = Path(__file__).parents[1] / "data"


def corpus(name: str) -> list[str]:
    lines = (DATA / name).read_text("ascii").splitlines()
    return [json.loads(line) for line in lines if line and not line.startswith("#")]


HOSTILE = corpus("hostile_names.txt")
ALLOWED = corpus("allowed_names.txt")


def test_the_corpus_is_large_and_has_no_doubles():
    assert len(HOSTILE) >= 300
    assert len(set(HOSTILE)) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_refused_by_its_field_and_shown_without_harm(name):
    with pytest.raises(InvalidInput) as caught:
        check_path(name, "added[3].path")
    assert caught.value.field == "added[3].path"
    assert all(char.isprintable() or char in "\u200c\u200d" for char in str(caught.value))
    str(caught.value).encode()


@pytest.mark.parametrize("name", ALLOWED, ids=range(len(ALLOWED)))
def test_a_name_that_breaks_no_rule_travels_unchanged(name):
    assert check_path(name) == name


def test_the_reason_says_which_rule():
    reasons = {
        "": "empty",
        "/a": "absolute",
        "a//b": "empty part",
        "a/../b": "'..'",
        "a/.": "'.'",
        "a\\b": "backslash",
        "a\x00": "control character",
        "a\x9bm": "control character",
        "\udcff": "not valid UTF-8",
        "n\u0303": "normal form C",
        "a" * 256: "255",
        "a/" * 2048 + "a": "4096",
    }
    for name, reason in reasons.items():
        assert reason in path_problem(name)


def test_the_limits_are_bytes_of_utf_8_to_the_byte():
    assert not path_problem("é" * 127 + "a")
    assert path_problem("é" * 128)
    longest = "/".join(["a" * 255] * 16)
    assert len(longest) == MAX_PATH_BYTES - 1
    assert not path_problem(longest)
    assert path_problem(longest + "/a")


@given(st.text(max_size=50))
def test_what_passes_can_be_joined_to_a_root_without_leaving_it(name):
    if path_problem(name):
        return
    assert os.path.normpath("/root/" + name) == "/root/" + name
    assert name == normal(name)
    assert all(0 < len(part.encode()) <= MAX_PART_BYTES for part in name.split("/"))


@given(st.text(max_size=50))
def test_a_name_in_another_normal_form_is_refused_rather_than_cleaned_up(name):
    if name != normal(name):
        assert path_problem(name)


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_nothing_that_steers_a_terminal_is_shown(text):
    shown = printable(text)
    assert all(unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} for char in shown)
    assert all(char in "\u200c\u200d" for char in shown if unicodedata.category(char) == "Cf")
    shown.encode()


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029]
)
def test_control_and_format_characters_are_escaped(code):
    assert printable(f"a{chr(code)}b") == f"a{chr(code).encode('unicode_escape').decode()}b"


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xE0041])
def test_bidirectional_overrides_and_tags_are_escaped(code):
    assert chr(code) not in printable(f"exe{chr(code)}txt")


@pytest.mark.parametrize(
    "text", ["空の.txt", "año", "Việt Nam", "مرحبا", "می\u200cخواهم", "👩\u200d👩\u200d👧", "a b", ""]
)
def test_every_script_is_shown_as_it_is(text):
    assert printable(text) == text


def test_names_compare_without_case_and_in_one_normal_form():
    assert folded("AÑO") == folded("an\u0303o")
    assert folded("Straße") == folded("STRASSE")
    assert folded("空の") == "空の"
    assert last_part("a/b/c") == "c"
    assert last_part("c") == "c"


@pytest.mark.parametrize("name", ["a", "mariana's laptop", "空の", "a" * 64, "👩\u200d👧"])
def test_a_peer_may_be_called_anything_that_can_be_shown(name):
    assert check_peer_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "\u3000", "a" * 65, "a\nb", "\x1b[31m", "a\u202eb", "\udcff", "a\x9b", "a\u2028"]
)
def test_a_peer_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(InvalidInput) as caught:
        check_peer_name(name)
    assert caught.value.field == "name"
