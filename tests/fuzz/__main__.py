"""`python -m tests.fuzz`: runs every target for a while; one line each, exit code 1 when anything was found."""

import asyncio
import logging
import sys
import time

import click

from tests.fuzz.engine import CORPUS, Report, Target, fuzz
from tests.fuzz.targets import TARGETS


async def _run(kind: type[Target], seconds: float, seed: int) -> Report:
    async with kind() as target:
        return await fuzz(target, seconds, seed)


@click.command()
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Time for each target.")
@click.option("--seed", type=int, default=None, help="Draws the same inputs again.  [default: from the clock]")
@click.argument("names", nargs=-1, type=click.Choice(sorted(TARGETS)))
def main(seconds: float, seed: int | None, names: tuple[str, ...]) -> None:
    """Fuzzes the targets NAMES, or all of them."""
    logging.getLogger().addHandler(logging.NullHandler())  # what is logged as an error, the targets look at
    seed = int(time.time()) if seed is None else seed
    click.echo(f"seed {seed}, {seconds:g} s for each target, Python {sys.version.split()[0]}")
    found = False
    for name in names or sorted(TARGETS):
        report = asyncio.run(_run(TARGETS[name], seconds, seed))
        found = found or bool(report.findings)
        click.echo(
            f"{name:<14} {report.executions:>8} executions {report.executions / report.seconds:>7.0f}/s   "
            f"corpus {report.corpus:>5}   lines {report.lines:>5}   crashes {len(report.findings)}"
        )
        for place, finding in report.findings.items():
            click.echo(f"  {place}\n  {finding.save(CORPUS / name)}")
            click.echo("\n".join("    " + line for line in finding.story.splitlines()[-12:]), err=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
