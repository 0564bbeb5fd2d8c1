"""`.relevoignore` means what a .gitignore would mean."""

import unicodedata

import pytest

from peer.library.ignore import IgnoreRules, read_rules


@pytest.mark.parametrize(
    ("lines", "ignored", "kept"),
    [
        (["*.log"], ["a.log", "d/e.log"], ["a.txt", "log"]),
        (["/top"], ["top", "top/"], ["d/top"]),
        (["build/"], ["build/", "d/build/"], ["build"]),
        (["*.log", "!keep.log"], ["a.log"], ["keep.log"]),
        (["# comment", "", "a#b"], ["a#b"], ["# comment"]),
        (["d/**/x"], ["d/x", "d/e/f/x"], ["x"]),
        (["año*"], ["año 1"], ["ano 1"]),
        ([], [], ["a"]),
        (["# nothing but words"], [], ["a"]),
    ],
)
def test_patterns_are_those_of_git(lines, ignored, kept):
    rules = IgnoreRules(lines)
    assert [path for path in ignored if not rules.ignores(path)] == []
    assert [path for path in kept if rules.ignores(path)] == []
    assert not rules.problem


def test_a_line_that_is_no_pattern_is_named_and_the_others_hold():
    rules = IgnoreRules(["*.log", "!", "*.tmp"])
    assert "line 2" in rules.problem
    assert rules.ignores("a.log")
    assert rules.ignores("a.tmp")


def test_patterns_in_another_unicode_form_match_too(tmp_path):
    (tmp_path / ".relevoignore").write_text(unicodedata.normalize("NFD", "canción/\n"), encoding="utf-8")
    assert read_rules(tmp_path).ignores("canción/")


def test_a_missing_file_ignores_nothing(tmp_path):
    rules = read_rules(tmp_path)
    assert not rules.ignores("a")
    assert not rules.problem


def test_a_file_with_a_byte_order_mark_or_foreign_bytes_is_read(tmp_path):
    (tmp_path / ".relevoignore").write_bytes(b"\xef\xbb\xbf*.log\r\n\xff\r\n")
    assert read_rules(tmp_path).ignores("a.log")


def test_an_ignore_file_that_is_a_link_or_too_large_is_a_problem(tmp_path):
    (tmp_path / "elsewhere").write_text("*\n")
    (tmp_path / ".relevoignore").symlink_to(tmp_path / "elsewhere")
    rules = read_rules(tmp_path)
    assert rules.problem
    assert not rules.ignores("a")
    (tmp_path / ".relevoignore").unlink()
    (tmp_path / ".relevoignore").write_bytes(b"*\n" * 600_000)
    assert "1 MiB" in read_rules(tmp_path).problem
