"""`python -m tests.faults`: kills, stops and cuts off real programs, many times; exit code 1 when a bound is missed.

To add a family of trials, put a module beside this one with a tuple `TRIALS` of `tests.faults.trials.Trial`. It is
found by that name, and chosen by the module's name or by a part of the trial's: `make faults ONLY=liveness`.
`run(rounds)` starts the programs that it needs, does the trial `rounds` times and returns what it measured, each value
at most `bound` when all is well; it ends what it has started. `needs` says why it cannot be done on this machine: no
root, no gcc.
"""

import importlib
import platform
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

import click

from tests.faults.trials import Outcome, Trial, attempt, table


def families() -> dict[str, tuple[Trial, ...]]:
    """Returns the trials of every module in this directory that has some."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if path.stem != "trials" and not path.stem.startswith("test_"):
            module = importlib.import_module(f"tests.faults.{path.stem}")
            if trials := getattr(module, "TRIALS", ()):
                found[path.stem] = tuple(trials)
    return found


def chosen(names: tuple[str, ...]) -> list[Trial]:
    """Returns the trials of the families named, and those whose names contain one of `names`; all for no name.

    Raises:
        click.UsageError: a name means nothing.
    """
    known = families()
    everything = [(family, trial) for family, trials in known.items() for trial in trials]
    for name in names:
        if not any(name == family or name in trial.name for family, trial in everything):
            raise click.UsageError(f"there is no {name!r}; there are {', '.join(known)}, and see --list")
    return [
        trial
        for family, trial in everything
        if not names or any(name == family or name in trial.name for name in names)
    ]


def _one(trial: Trial, *, quick: bool) -> Outcome:
    began = time.monotonic()
    click.echo(f"{trial.name}: {trial.what}", err=True)
    outcome = attempt(trial, quick=quick)
    _, runs, _, median, worst, verdict = outcome.row()
    measured = f"{runs} runs, median {median}, worst {worst}" if outcome.values else ""
    seconds = time.monotonic() - began
    click.echo(f"    {verdict} after {seconds:.0f} s {outcome.why} {measured}".rstrip(), err=True)
    return outcome


@click.command()
@click.option("--quick", is_flag=True, help="Does each trial a few times only.")
@click.option("--list", "listing", is_flag=True, help="Says what there is, and does nothing.")
@click.argument("names", nargs=-1)
def main(*, quick: bool, listing: bool, names: tuple[str, ...]) -> None:
    """Runs the trials of the families NAMES, and those with a part of their names, or all of them."""
    trials = chosen(names)
    if listing:
        for trial in trials:
            click.echo(f"{trial.name}: {trial.what} At most {trial.bound:g} {trial.unit}, {trial.runs:,} times.")
        return
    # A shell starts what runs in the background with Ctrl-C ignored, and what is started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = datetime.now().astimezone().isoformat(" ", "minutes")
    click.echo(f"{started}, Python {platform.python_version()} on {platform.system()} {platform.release()}")
    outcomes = [_one(trial, quick=quick) for trial in trials]
    click.echo("\n".join(table(outcomes)))
    sys.exit(1 if any(outcome.bad for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
