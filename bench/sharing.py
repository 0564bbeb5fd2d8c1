"""A network with TLS in which one peer shares very many small files: until they are published, and after a restart."""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measured import peak, used
from bench.programs import Failed, Program, Programs, until
from bench.traced import opened
from core.certificates import Authority, central_name
from peer.commands.client import Daemon
from relevo.v1 import peer_control_pb2 as pb2

FILE_BYTES = 4096
_PER_DIRECTORY = 1000
# How often the daemon is asked how far it is, in seconds.
_ASK = 0.2
_PATIENCE = 300.0


def make_files(directory: Path, count: int) -> None:
    """Makes files of 4 KiB, each with bytes of its own, in directories of a thousand."""
    some = os.urandom(FILE_BYTES)
    for number in range(count):
        if number % _PER_DIRECTORY == 0:
            place = directory / f"d{number // _PER_DIRECTORY:04}"
            place.mkdir(parents=True)
        (place / f"f{number % _PER_DIRECTORY:03}.bin").write_bytes(number.to_bytes(8, "big") + some[8:])


@dataclass(frozen=True, slots=True)
class Start:
    """How the start of a daemon went; times in seconds since then, processor time in seconds."""

    offered: float
    published: float
    daemon_cpu: float
    central_cpu: float
    peak: int
    longest_answer: float


class Sharing:
    """A central with TLS, and a peer that shares a directory with `count` files when it runs."""

    def __init__(self, programs: Programs, shared: Path, count: int) -> None:
        self._programs = programs
        self._shared = shared
        self._count = count
        self._data = programs.base / "central-data"
        self._home = programs.base / "home"
        self._central = programs.serve("central", "central", "serve", "--data", self._data, "--listen", "127.0.0.1:0")
        self._daemon: Program | None = None

    def start(self) -> Start:
        """Starts the daemon and returns when everything is published."""
        began, central_before = time.monotonic(), used(self._central.process.pid)
        daemon = self._serve("peer")
        offered, longest = 0.0, 0.0
        with Daemon(self._home) as control:
            while not offered or self._published()[0] < self._count:
                asked = time.monotonic()
                status = control.status()
                answered = time.monotonic()
                longest = max(longest, answered - asked)
                live = status.session_state == pb2.SESSION_STATE_LIVE
                if not offered and live and status.file_count == self._count:
                    offered = answered - began
                    continue
                if answered - began > _PATIENCE:
                    raise Failed("the files are not published", daemon.log)
                time.sleep(_ASK)
        published = time.monotonic() - began
        pid = daemon.process.pid
        central = used(self._central.process.pid) - central_before
        return Start(offered, published, used(pid), central, peak(pid), longest)

    def stop(self) -> None:
        """Stops the daemon as a service manager does."""
        if self._daemon is not None:
            os.killpg(self._daemon.process.pid, signal.SIGTERM)
            self._daemon.process.wait(_PATIENCE)
            self._daemon = None

    def version(self) -> int:
        """Returns the version of what central holds, once central has had time for another batch."""
        time.sleep(1.0)
        return self._published()[1]

    def opened_in_a_start(self) -> int:
        """Has the daemon offer everything under strace, stops it, and returns how many shared files it opened.

        Raises:
            FileNotFoundError: there is no strace.
        """
        calls = self._programs.base / "calls"
        began = time.monotonic()
        self._serve("traced-peer", "bench.traced", calls)
        with Daemon(self._home) as control:
            while control.status().file_count < self._count:
                if time.monotonic() - began > _PATIENCE:
                    raise Failed("the files are not offered", self._programs.base / "traced-peer.log")
                time.sleep(_ASK)
        time.sleep(1.0 + time.monotonic() - began)  # it looks at everything once more when it can watch
        self.stop()
        paths = opened(calls.read_text("utf-8", "replace"))
        return sum(path.startswith(f"{self._shared}/") and path.endswith(".bin") for path in paths)

    def touch_one(self) -> None:
        """Changes one of the files."""
        next(self._shared.rglob("*.bin")).write_bytes(os.urandom(FILE_BYTES))

    def begin_beats(self, end: Path) -> "subprocess.Popen[str]":
        """Has other peers log in and beat, each on a connection of its own, until a file `end` appears."""
        authority = self._data / "authorities" / "1.pem"
        name = central_name(Authority.from_pem(authority.read_bytes()).network_id)
        target = ("--address", self._central.address, "--pid", str(self._central.process.pid), "--name", name)
        some = ("--peers", "20", "--interval", "0.5", "--until", end)
        beats = self._programs.begin("bench.load", "beats", *target, "--authority", authority, *some)
        until("the other peers", lambda: self._live() == 20, 60, self._central.log)
        return beats

    def end_beats(self, beats: "subprocess.Popen[str]", end: Path) -> dict[str, float]:
        """Returns what the beating peers measured."""
        end.touch()
        return dict(json.loads(self._programs.finish(beats)))

    def _serve(self, name: str, *before: str | Path) -> Program:
        way: tuple[str | Path, ...] = ("--central", self._central.address)
        if not self._home.exists():
            invite = self._programs.begin("central", "invite", "--data", self._data)
            way = ("--join", self._programs.finish(invite).strip())
        self._daemon = self._programs.serve(
            name, *before, "peer", "--home", self._home, "serve", self._shared, "--listen", "127.0.0.1:0", *way
        )
        return self._daemon

    def _published(self) -> tuple[int, int]:
        """Returns how many files central holds of the peer that publishes most, and the version: what is committed."""
        row = self._ask("SELECT file_count, catalogue_version FROM peers ORDER BY file_count DESC LIMIT 1")
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def _live(self) -> int:
        return int(self._ask("SELECT count(*) FROM live")[0])

    def _ask(self, query: str) -> Any:
        with closing(sqlite3.connect(f"file:{self._data / 'central.db'}?mode=ro", uri=True)) as db:
            return db.execute(query).fetchone()
