"""A directory of a program's own."""

import os
import stat

import pytest

from core.errors import NotPossible
from core.own_directory import claim


def claimed(directory):
    return claim(directory, marks=("key.pem",), busy="somebody else has it")


def test_a_new_directory_is_its_owners_only(tmp_path):
    os.close(claimed(tmp_path / "deep" / "home"))
    assert stat.S_IMODE((tmp_path / "deep" / "home").stat().st_mode) == 0o700


def test_a_directory_of_somebody_elses_files_is_refused_and_stays_as_it_was(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "mine").touch()
    with pytest.raises(NotPossible, match="holds other files"):
        claimed(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["lock", "key.pem"])
def test_a_directory_that_was_used_before_is_taken_again(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "more").touch()
    os.close(claimed(tmp_path))


def test_one_that_others_could_enter_becomes_its_owners_only(tmp_path):
    """Made by hand, or by `mkdir -p` in somebody's script."""
    for home in (tmp_path / "used", tmp_path / "empty"):
        home.mkdir()
        home.chmod(0o755)
    (tmp_path / "used" / "key.pem").touch()
    for home in (tmp_path / "used", tmp_path / "empty"):
        os.close(claimed(home))
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_one_program_at_a_time_has_it(tmp_path):
    first = claimed(tmp_path)
    with pytest.raises(NotPossible, match="somebody else has it"):
        claimed(tmp_path)
    os.close(first)
    os.close(claimed(tmp_path))


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotPossible, match="cannot use"):
        claimed(tmp_path / "file")
