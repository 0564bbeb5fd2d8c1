"""`python -m bench.small_files`: many small files from one peer to another, beside rsync, in alternating rounds.

Over loopback, from a warm page cache to a disk, every file durable: Relevo with TLS as it comes, and an rsync daemon in
plaintext with `--fsync`; rsync without it shows what the syncs cost. A round has files of its own, since a peer copies
what it has. A command's time is from its start to its end; Relevo's daemon alone is timed as well.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import click

from bench.pair import Pair
from bench.programs import Failed, Programs, until

RELEVO, DAEMON, RSYNC_FSYNC, RSYNC = (
    "Relevo, TLS",
    "Relevo, TLS, without starting the command",
    "rsync --fsync",
    "rsync, nothing synced",
)
PAIRS = ((RELEVO, RSYNC_FSYNC), (DAEMON, RSYNC_FSYNC), (RELEVO, RSYNC))
# Modification times in whole seconds, so that copies have the very same.
_TIME = 1_700_000_000
# Files in one directory.
_TOGETHER = 500
_CONFIGURATION = """
use chroot = no
pid file = {base}/rsyncd.pid
{user}[shared]
path = {shared}
read only = yes
"""


class Rsync:
    """An rsync daemon."""

    def __init__(self, programs: Programs, shared: Path) -> None:
        """Serves a directory.

        Raises:
            Failed: rsync is not installed, too old for `--fsync`, or does not start.
        """
        rsync = shutil.which("rsync")
        if rsync is None:
            raise Failed("rsync is missing (Debian: apt-get install rsync)")
        if "--fsync" not in subprocess.run([rsync, "--help"], capture_output=True, text=True, check=True).stdout:
            raise Failed("this rsync is too old for --fsync; 3.2.4 has it")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        # As root it would become nobody, who may not read the files.
        user = "uid = root\ngid = root\n" if getpass.getuser() == "root" else ""
        configuration = programs.base / "rsyncd.conf"
        configuration.write_text(_CONFIGURATION.format(base=programs.base, shared=shared, user=user), "utf-8")
        self._rsync = rsync
        log = programs.base / "rsyncd.log"
        command = (
            "--daemon",
            "--no-detach",
            "--address=127.0.0.1",
            f"--port={self._port}",
            f"--config={configuration}",
        )
        programs.launch((rsync, *command), log)
        until("rsync serves", self._answers, log=log)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def fetch(self, name: str, directory: Path, *options: str) -> float:
        """Fetches a directory, and returns how long that took in seconds."""
        began = time.monotonic()
        url = f"rsync://127.0.0.1:{self._port}/shared/{name}"
        subprocess.run([self._rsync, "--archive", *options, url, str(directory)], check=True)
        return time.monotonic() - began


class Relevo:
    """A network of two peers over TLS, looked at through the command line of the one that fetches."""

    def __init__(self, programs: Programs, shared: Path, count: int) -> None:
        """Starts them, and waits until all `count` files are published."""
        self._programs = programs
        pair = Pair(programs, "small", shared, tls=True)
        self._home = programs.base / "small" / "taker"

        def published() -> bool:
            peers = programs.json("peer", "--home", self._home, "peers")["peers"]
            return bool(sum(peer["file_count"] for peer in peers) >= count)

        until("the files in the catalogue", published, 300, pair.giver.log)

    def fetch(self, name: str, directory: Path, count: int) -> tuple[float, float]:
        """Fetches a directory; returns how long that took in seconds, and how long the daemon alone was at it."""
        began = time.monotonic()
        found = self._programs.json("peer", "--home", self._home, "get", f"{name}/", "--to", directory, "--quiet")
        seconds = time.monotonic() - began
        (transfer,) = found["sets"]
        given = sum(source["bytes"] for source in transfer["sources"])
        if transfer["set"]["done_count"] != count or given != transfer["size_bytes"]:
            raise Failed(f"{name}: not every file came from the other peer")
        start, end = (datetime.fromisoformat(transfer[f"{which}_time"]) for which in ("start", "end"))
        self._wait_until_offered(count)
        return seconds, (end - start).total_seconds()

    def _wait_until_offered(self, count: int) -> None:
        """Waits until what was fetched is published, so that the next contender has the machine for itself."""

        def offered() -> bool:
            return bool(self._programs.json("peer", "--home", self._home, "status")["file_count"] >= count)

        until("what was fetched is offered", offered, 60)
        time.sleep(1.0)


def write_files(directory: Path, count: int, size: int) -> None:
    """Writes random files, some hundred in each directory."""
    for number in range(count):
        place = directory / f"{number // _TOGETHER:03}" / f"{number:06}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(os.urandom(size))
        os.utime(place, (_TIME + number, _TIME + number))


def check(source: Path, copy: Path) -> None:
    """Compares two directories file by file.

    Raises:
        Failed: they differ.
    """

    def tree(root: Path) -> dict[Path, tuple[int, int, bytes]]:
        files = (path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root): _seen(path) for path in files}

    if tree(source) != tree(copy):
        raise Failed(f"{copy} is not what {source} is")


def _seen(path: Path) -> tuple[int, int, bytes]:
    return path.stat().st_mtime_ns, path.stat().st_mode & 0o111, path.read_bytes()


def rounds_of(base: Path, rounds: int, count: int, size: int) -> dict[str, list[float]]:
    """Returns the seconds of every contender, round by round."""
    shared = base / "shared"
    for number in range(rounds):
        write_files(shared / f"round-{number}", count, size)
    seconds: dict[str, list[float]] = {name: [] for name in (RELEVO, DAEMON, RSYNC_FSYNC, RSYNC)}
    with Programs(base) as programs:
        rsync, relevo = Rsync(programs, shared), Relevo(programs, shared, rounds * count)

        def relevo_fetches(name: str, directory: Path) -> None:
            whole, alone = relevo.fetch(name, directory, count)
            seconds[RELEVO].append(whole)
            seconds[DAEMON].append(alone)

        contenders: tuple[Callable[[str, Path], None], ...] = (
            relevo_fetches,
            lambda name, directory: seconds[RSYNC_FSYNC].append(rsync.fetch(name, directory, "--fsync")),
            lambda name, directory: seconds[RSYNC].append(rsync.fetch(name, directory)),
        )
        for number in range(rounds):
            for fetch in contenders:
                with tempfile.TemporaryDirectory(dir=base) as directory:
                    os.sync()  # nobody pays for what another has written
                    fetch(f"round-{number}", Path(directory))
                    check(shared / f"round-{number}", Path(directory) / f"round-{number}")
            shown = ", ".join(f"{name} {found[-1]:.2f} s" for name, found in seconds.items())
            print(f"round {number + 1} of {rounds}: {shown}", file=sys.stderr)
    return seconds


def table(*rows: Sequence[str]) -> str:
    """Returns a Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def run(*, rounds: int = 5, count: int = 10_000, size: int = 4096) -> dict[str, str]:
    """Returns Markdown tables by what they show; `size` is in bytes."""
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as base:
        seconds = rounds_of(Path(base), rounds, count, size)
    rates = [(name, f"{count / median(found):,.0f}", f"{median(found):.2f}") for name, found in seconds.items()]
    ratios = []
    for one, other in PAIRS:
        found = [theirs / mine for mine, theirs in zip(seconds[one], seconds[other], strict=True)]
        ratios.append((f"{one} / {other}", *(f"{value:.2f}" for value in (median(found), min(found), max(found)))))
    title = f"{count:,} files of {size:,} bytes over loopback"
    return {
        title: table(("", "files a second", "seconds"), *rates),
        f"{title}, rates round by round": table(("", "median", "least", "most"), *ratios),
    }


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each contender.")
@click.option("--count", default=10_000, show_default=True, help="Files in each round.")
@click.option("--size", default=4096, show_default=True, help="Bytes of each file.")
def main(rounds: int, count: int, size: int) -> None:
    """Compares fetching many small files with rsync, on this machine."""
    tables = run(rounds=rounds, count=count, size=size)
    print("\n\n".join(f"{title}:\n\n{shown}" for title, shown in tables.items()))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
