"""`python -m tests.defences`: takes each defence away in turn, and looks whether the tests that show it fail.

It works on a copy of this checkout. Exit code 1 when a test passes without its defence, or fails with it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import click

from tests.defences.table import DEFENCES, Defence

ROOT = Path(__file__).parents[2]
_COPIED = ("core", "central", "peer", "tests", "protos", "generated", "docs", "bench", "pyproject.toml", "Makefile")
_ALL_TESTS_S, _ONE_TEST_S = 120, 40
"""How long the tests of one defence may take, and each of them: without some defences a test waits for ever."""

# Of a test with several parameters the last of these counts that any of them had.
_OUTCOMES = ("not run", "skipped", "passed", "failed")


def _files(names: tuple[str, ...]) -> list[str]:
    """Returns the files in which tests of these names stand."""
    pattern = re.compile(rf"^(?:async )?def (?:{'|'.join(names)})\(", re.MULTILINE)
    paths = (ROOT / "tests").rglob("test_*.py")
    return [str(path.relative_to(ROOT)) for path in sorted(paths) if pattern.search(path.read_text("utf-8"))]


def _finished(command: list[str], copy: Path, environment: dict[str, str], patience: float) -> bool:
    """Runs a command, and says whether it ended in time; what it has started ends with it then."""
    with (
        (copy / "said.txt").open("w") as said,
        subprocess.Popen(
            command, cwd=copy, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False
    return True


def _outcomes(copy: Path, names: tuple[str, ...], *, full: bool, patience: float) -> dict[str, str]:
    """Returns what became of each test, one of `_OUTCOMES`."""
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={_ONE_TEST_S}"]
    command += [f"--junitxml={report}", *_files(names), "-k", " or ".join(names)]
    environment = {**os.environ, "PYTHONPATH": f"{copy}:{copy / 'generated'}", "GRPC_VERBOSITY": "NONE"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "RELEVO_ATTACKS": "full" if full else ""}
    outcomes = dict.fromkeys(names, "not run")
    if _finished(command, copy, environment, patience) and report.exists():
        for case in ET.parse(report).iter("testcase"):
            name = case.get("name", "").partition("[")[0]
            if name in outcomes:
                outcomes[name] = max(outcomes[name], _outcome(case), key=_OUTCOMES.index)
    return outcomes


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def _recompile(copy: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "@protos/protoc.args"]
    subprocess.run(command, cwd=copy, capture_output=True, check=True)


@contextmanager
def _without(copy: Path, defence: Defence) -> Iterator[None]:
    """Keeps the copy without a defence for a while."""
    before = {piece.file: (copy / piece.file).read_text("utf-8") for piece in defence.pieces}
    protos = any(file.endswith(".proto") for file in before)
    for piece in defence.pieces:
        path = copy / piece.file
        path.write_text(path.read_text("utf-8").replace(piece.code, piece.without), "utf-8")
    try:
        if protos:
            _recompile(copy)
        yield
    finally:
        for file, text in before.items():
            (copy / file).write_text(text, "utf-8")
        if protos:
            _recompile(copy)


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="relevo-defences-") as scratch:
        copy = Path(scratch)
        for name in _COPIED:
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        yield copy


def _bad(copy: Path, names: set[str], *, full: bool) -> set[str]:
    """Returns which of the tests neither pass nor are skipped."""
    if not names:
        return set()
    outcomes = _outcomes(copy, tuple(sorted(names)), full=full, patience=600)
    return {name for name, how in outcomes.items() if how not in {"passed", "skipped"}}


def _with_all(copy: Path, chosen: list[Defence]) -> set[str]:
    """Returns the tests that do not pass where every defence is in its place: twice, since the machine may be busy."""
    bad = set()
    for full in (False, True):
        names = {name for one in chosen if one.full is full for name in one.tests}
        bad |= _bad(copy, _bad(copy, names, full=full), full=full)
    return bad


def _chosen(words: tuple[str, ...]) -> list[Defence]:
    def about(one: Defence) -> str:
        return " ".join([*(piece.file for piece in one.pieces), *one.tests])

    return [one for one in DEFENCES if not words or any(word in about(one) for word in words)]


@click.command()
@click.argument("words", nargs=-1)
def main(words: tuple[str, ...]) -> None:
    """Tries the defences whose files or tests have one of WORDS in their names, or all of them."""
    chosen = _chosen(words)
    if not chosen:
        raise click.UsageError(f"no defence is about {' or '.join(words)}")
    shown, unshown, skipped = 0, 0, 0
    with _copy() as copy:
        if bad := _with_all(copy, chosen):
            said = (copy / "said.txt").read_text("utf-8")
            raise click.ClickException(f"{said}\n{', '.join(sorted(bad))}: not passed with every defence in its place")
        for defence in chosen:
            began = time.monotonic()
            with _without(copy, defence):
                outcomes = _outcomes(copy, defence.tests, full=defence.full, patience=_ALL_TESTS_S)
            click.echo(f"{time.monotonic() - began:5.1f} s  without {defence.head()}")
            for name, how in outcomes.items():
                click.echo(f"         {how:8}{name}")
            shown += sum(how == "failed" for how in outcomes.values())
            skipped += sum(how == "skipped" for how in outcomes.values())
            unshown += sum(how in {"passed", "not run"} for how in outcomes.values())
    click.echo(
        f"{len(chosen)} defences: {shown} tests fail without theirs, {unshown} do not, {skipped} cannot be run here"
    )
    sys.exit(1 if unshown else 0)


if __name__ == "__main__":
    main()
