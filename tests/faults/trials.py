"""Trials of faults: what one is, what became of it, and the table that says so."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

COLUMNS = ("trial", "runs", "bound", "median", "worst", "verdict")
KEPT, MISSED, SKIPPED, FAILED = "kept", "MISSED", "skipped", "FAILED"


@dataclass(frozen=True)
class Trial:
    """Something that is done to real programs many times, and measured each time.

    Attributes:
        name: a few words, for the table and the command line.
        what: what is done and what is measured, in one sentence.
        unit: of the bound and of what is measured: `s`, `×`, `deaths`.
        bound: the most that any measured value may be; what has to be at least something is measured upside down.
        runs: how often it is done.
        quick_runs: how often with `--quick`; 0 leaves it out.
        run: does it so many times and returns what was measured, one value or more for each time; raises when something
            went wrong that has no measure.
        needs: says why it cannot be done here; empty when it can.
    """

    name: str
    what: str
    unit: str
    bound: float
    runs: int
    quick_runs: int
    run: Callable[[int], list[float]]
    needs: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: `values` in its unit, or `why` there are none."""

    trial: Trial
    values: Sequence[float] = ()
    verdict: str = KEPT
    why: str = ""

    @property
    def bad(self) -> bool:
        """Whether a bound was missed, or the trial did not come to its end."""
        return self.verdict in {MISSED, FAILED}

    def row(self) -> tuple[str, ...]:
        """Returns its row of the table."""
        trial, values = self.trial, self.values
        bound = f"{trial.bound:g} {trial.unit}"
        if not values:
            return (trial.name, "0", bound, "", "", self.verdict)
        middle, worst = (f"{value:.3g} {trial.unit}" for value in (statistics.median(values), max(values)))
        return (trial.name, f"{len(values):,}", bound, middle, worst, self.verdict)


def attempt(trial: Trial, *, quick: bool = False) -> Outcome:
    """Runs a trial; whatever it raises is its outcome."""
    runs = trial.quick_runs if quick else trial.runs
    if not runs:
        return Outcome(trial, verdict=SKIPPED, why="it takes too long for --quick")
    if why := trial.needs():
        return Outcome(trial, verdict=SKIPPED, why=why)
    try:
        values = trial.run(runs)
    except Exception as error:  # noqa: BLE001 - one trial's failure is no reason to leave the others out
        return Outcome(trial, verdict=FAILED, why=f"{type(error).__name__}: {error}")
    if not values:
        return Outcome(trial, verdict=FAILED, why="it measured nothing")
    missed = sum(value > trial.bound for value in values)
    if missed:
        return Outcome(trial, values, MISSED, f"{missed} of {len(values)} beyond {trial.bound:g} {trial.unit}")
    return Outcome(trial, values)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the lines of a table with a row for each outcome, and beneath it what needs explaining."""
    rows = [COLUMNS, *(outcome.row() for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    explained = [f"{outcome.trial.name}: {outcome.verdict}: {outcome.why}" for outcome in outcomes if outcome.why]
    return [*lines, "", *explained] if explained else lines
