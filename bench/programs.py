"""Runs Relevo's programs for a demonstration or a benchmark, and leaves none of them behind, whatever happens."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
READY_SECONDS = 30.0
COMMAND_SECONDS = 120.0
STOP_SECONDS = 8.0
_LOG_LINES = 12
# Becomes the program whose command line follows, on a leash: Linux kills it when the process that started it dies, by
# `kill -9` too. The id of that process tells whether it had died before the leash was on.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Failed(Exception):
    """What was to be shown did not happen; the text says what, and how the log of the program ends."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        lines = log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:] if log and log.exists() else []
        super().__init__("\n".join([reason, *(f"    {log and log.stem}: {line}" for line in lines)]))


def until(what: str, check: Callable[[], T | None], seconds: float = 30.0, log: Path | None = None) -> T:
    """Returns what `check` answers as soon as it is true.

    Raises:
        Failed: it was not within `seconds`; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:g} s", log)
        time.sleep(0.005)
    return found


class Program:
    """A central or a daemon that has said that it is ready.

    Attributes:
        address: `host:port` from its ready line.
        took: seconds from its start to that line.
    """

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.name = name
        self.log = log
        self.process = process
        began = time.monotonic()
        self.address = self._ready()
        self.took = time.monotonic() - began

    def _ready(self) -> str:
        output = self.process.stdout
        if output is None:
            raise ValueError("the program's output is not read")
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            line = output.readline() if selector.select(READY_SECONDS) else ""
        if " ready on " not in line:
            raise Failed(f"{self.name} did not start", self.log)
        return line.split()[-1]

    def kill(self) -> None:
        """Kills it with SIGKILL and returns when it is dead."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def ended(self) -> int:
        """Waits until it has ended by itself, and returns its exit code.

        Raises:
            Failed: it goes on.
        """
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not stop", self.log) from None


class Programs:
    """The programs of one run, in one temporary directory; a context manager that ends them all."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def serve(self, name: str, *arguments: str | Path, inside: Sequence[str] = ()) -> Program:
        """Starts a program that serves, such as `central serve`, and returns it when it is ready.

        `inside` begins its command line: what runs it on another host, for one.

        Raises:
            Failed: it does not get ready.
        """
        log = self.base / f"{name}.log"
        with log.open("ab") as errors:
            return Program(name, self._start([*inside, *_module(arguments)], errors), log)

    def launch(self, command: Sequence[str], log: Path) -> "subprocess.Popen[str]":
        """Starts somebody else's program, by its absolute path; what it says goes to `log`."""
        with log.open("ab") as errors:
            return self._start(command, errors, errors)

    def begin(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Starts a command and returns at once; `finish` waits for it."""
        return self._start(_module(arguments), subprocess.PIPE)

    def finish(self, command: "subprocess.Popen[str]") -> str:
        """Returns what a command wrote to stdout.

        Raises:
            Failed: it failed, or did not end.
        """
        try:
            output, errors = command.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"{_shown(command)} does not end") from None
        if command.returncode:
            raise Failed(f"{_shown(command)} ended with {command.returncode}: {errors.strip() or output.strip()}")
        return output

    def json(self, *arguments: str | Path) -> Any:
        """Runs a command with `--json` and returns its document.

        Raises:
            Failed: it failed, or did not end.
        """
        return json.loads(self.finish(self.begin(*arguments, "--json")))

    def close(self) -> None:
        """Ends everything that runs: politely, and after some seconds by force."""
        for process in reversed(self._processes):
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait(STOP_SECONDS)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()

    def _start(
        self, command: Sequence[str], errors: int | IO[bytes], output: int | IO[bytes] = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RELEVO_")}
        process = subprocess.Popen(
            [sys.executable, "-c", _LEASH, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env={**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'generated'}", "PYTHONUNBUFFERED": "1"},
            process_group=0,  # Ctrl-C is for the one who started them, who ends them in order
        )
        self._processes.append(process)
        return process


def _module(arguments: Sequence[str | Path]) -> list[str]:
    """Returns the command line of one of this repository's programs."""
    return [sys.executable, "-m", *map(str, arguments)]


def _shown(command: "subprocess.Popen[str]") -> str:
    arguments = list(map(str, command.args)) if isinstance(command.args, list) else [str(command.args)]
    return " ".join(arguments[6:])


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)
