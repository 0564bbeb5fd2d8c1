"""`python -m bench`: measures everything that docs/benchmarks.md lists, and writes there what came out."""

import datetime as dt
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from bench.report import machine, measured, names

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
# Network namespaces need root.
_FOR_ROOT = ("swarm",)


def _run(command: list[str]) -> str:
    """Runs a command, shows what it prints, and returns that; what it says of its progress goes to stderr."""
    click.echo(f"\n$ {' '.join(['python', *command[1:]])}", err=True)
    began = time.monotonic()
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=PAGE.parents[1], env=environment)
    click.echo(done.stdout)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:4])} ended with {done.returncode}; nothing was written")
    click.echo(f"{time.monotonic() - began:.0f} s", err=True)
    return done.stdout


@click.command()
@click.argument("only", nargs=-1)
def main(only: tuple[str, ...]) -> None:
    """Measures all that needs no root, or ONLY these: tls, transfer, relayed, small_files, library, limits, swarm."""
    page = PAGE.read_text("utf-8")
    if unknown := set(only) - set(names(page)):
        sys.exit(f"docs/benchmarks.md lists no {', '.join(sorted(unknown))}; there are {', '.join(names(page))}")
    where = f"{dt.datetime.now().astimezone():%d %B %Y}, load {os.getloadavg()[0]:.1f} before: {machine()}."
    written = measured(page, lambda name: name in only if only else name not in _FOR_ROOT, _run, where)
    PAGE.write_text(written, "utf-8")
    click.echo("docs/benchmarks.md is written", err=True)


if __name__ == "__main__":
    main()
