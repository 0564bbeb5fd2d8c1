"""The frame of `make faults`: what counts as missed, what is skipped, what the table says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import chosen, families
from tests.faults.trials import FAILED, KEPT, MISSED, SKIPPED, Trial, attempt, table

ROOT = Path(__file__).parents[2]


def trial(values=(), *, quick_runs=1, why="", fails=None):
    def run(rounds):
        if fails:
            raise fails
        return list(values)[:rounds]

    return Trial("made up", "Says what it is told.", "s", 3.5, 9, quick_runs, run, lambda: why)


@pytest.mark.parametrize(
    ("made", "verdict", "why"),
    [
        (trial([3.5, 1.0]), KEPT, ""),
        (trial([1.0, 3.6, 9.0]), MISSED, "2 of 3 beyond 3.5 s"),
        (trial(), FAILED, "it measured nothing"),
        (trial([1.0], fails=OSError("no room")), FAILED, "OSError: no room"),
        (trial([9.0], why="needs root"), SKIPPED, "needs root"),
    ],
)
def test_a_trial_is_kept_missed_failed_or_skipped_and_says_why(made, verdict, why):
    outcome = attempt(made)
    assert (outcome.verdict, outcome.why) == (verdict, why)
    assert outcome.bad is (verdict in {MISSED, FAILED})


def test_with_quick_there_are_few_runs_or_none():
    assert attempt(trial([1.0] * 9, quick_runs=2), quick=True).values == [1.0, 1.0]
    assert attempt(trial([9.0], quick_runs=0), quick=True).verdict == SKIPPED


def test_the_table_has_a_row_for_each_trial_and_explains_beneath_it():
    lines = table([attempt(trial([1.0, 2.0, 4.0])), attempt(trial(why="needs root"))])
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["made up", "3", "3.5 s", "2 s", "4 s", "MISSED"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["made up", "0", "3.5 s", "", "", "skipped"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4:] == ["", "made up: MISSED: 1 of 3 beyond 3.5 s", "made up: skipped: needs root"]


def test_every_family_is_found_and_every_trial_has_a_name_of_its_own():
    names = [one.name for trials in families().values() for one in trials]
    assert len(set(names)) == len(names)
    assert not set(names) & set(families())
    for family, trials in families().items():
        assert chosen((family,)) == list(trials)


def test_the_command_lists_what_there_is_and_refuses_what_there_is_not():
    def faults(*arguments):
        command = [sys.executable, "-m", "tests.faults", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    listed = faults("--list")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == len(chosen(()))
    assert faults("nothing of the kind").returncode == 2
