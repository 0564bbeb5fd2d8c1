"""`python -m bench.transfer`: one file from one peer to another, beside other programs, in alternating rounds.

Over loopback, from a warm page cache to a disk: Relevo in plaintext and with TLS; the same bytes by gRPC alone, which
is what gRPC costs in Python; libtorrent; nginx and curl with a hash over the result, in plaintext and with TLS; and a
bare sendfile. Then Relevo and curl over a line with a delay.
Every file is synced before its time is taken, by Relevo itself or in its place. It prints medians, and ratios round by
round.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import click

from bench.bare import Bare
from bench.delaying import tcp_window
from bench.measured import Reading, Trial, fault_in, medians, ratios
from bench.pair import Pair
from bench.plain import Plain
from bench.programs import Failed, Program, Programs
from bench.scenery import MIB, Peer, random_name, write_random
from bench.torrent import Torrent
from bench.web import Web

# Memory that is had real before a trial, at most.
_MOST_MEMORY = 2 << 30
# The line, and not the machine, says how long these take: they differ little.
_DELAYED_ROUNDS = 3
# Fetches into an empty directory.
Fetch = Callable[[Path], Trial]

PLAIN, TLS, BARE, BARE_TLS, TORRENT, CURL, CURL_TLS, SENDFILE = (
    "Relevo, plaintext",
    "Relevo, TLS",
    "gRPC alone",
    "gRPC alone, TLS",
    "libtorrent",
    "curl and hash",
    "curl and hash, TLS",
    "sendfile, no check",
)


def _rate(trial: Trial) -> float:
    return trial.rate


def _cpu(trial: Trial) -> float:
    return trial.cpu


PAIRS: tuple[tuple[str, str, str, Reading], ...] = (
    ("rate, plaintext / gRPC alone", PLAIN, BARE, _rate),
    ("rate, TLS / gRPC alone with TLS", TLS, BARE_TLS, _rate),
    ("CPU, TLS / gRPC alone with TLS", TLS, BARE_TLS, _cpu),
    ("rate, plaintext / libtorrent", PLAIN, TORRENT, _rate),
    ("rate, TLS / libtorrent", TLS, TORRENT, _rate),
    ("rate, plaintext / curl and hash", PLAIN, CURL, _rate),
    ("rate, TLS / curl and hash with TLS", TLS, CURL_TLS, _rate),
    ("rate, gRPC alone / libtorrent", BARE, TORRENT, _rate),
    ("rate, gRPC alone with TLS / curl and hash with TLS", BARE_TLS, CURL_TLS, _rate),
    ("rate, plaintext / sendfile", PLAIN, SENDFILE, _rate),
    ("CPU, plaintext / libtorrent", PLAIN, TORRENT, _cpu),
    ("CPU, TLS / libtorrent", TLS, TORRENT, _cpu),
    ("CPU, TLS / plaintext", TLS, PLAIN, _cpu),
)
DELAYED_PAIRS: tuple[tuple[str, str, str, Reading], ...] = (
    ("rate, plaintext / curl and hash", PLAIN, CURL, _rate),
    ("rate, TLS / curl and hash", TLS, CURL, _rate),
)


def alternate(contenders: dict[str, Fetch], rounds: int, base: Path, size: int) -> dict[str, list[Trial]]:
    """Has every contender fetch `size` bytes in each round, into an empty directory, and returns their trials.

    Each round has them in another order: what memory the system has at hand, which in a virtual machine makes a second
    or two of processor time a GB, depends on who came before. The orders are the same at each run.
    """
    trials: dict[str, list[Trial]] = {name: [] for name in contenders}
    began = time.monotonic()
    for number in range(rounds):
        for name, fetch in Random(number).sample(list(contenders.items()), len(contenders)):
            with tempfile.TemporaryDirectory(dir=base) as directory:
                fault_in(min(size * 3 // 2, _MOST_MEMORY))
                trials[name].append(fetch(Path(directory)))
            print(f"round {number + 1}: {name}: {trials[name][-1].rate:.0f} MB/s", file=sys.stderr)
    print(f"{rounds} rounds in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return trials


def over_loopback(programs: Programs, file: Path, rounds: int) -> dict[str, list[Trial]]:
    """Compares everybody over loopback."""
    web = Web(programs, file)
    contenders: dict[str, Fetch] = {
        PLAIN: Pair(programs, "plain", file.parent, tls=False).fetch,
        TLS: Pair(programs, "tls", file.parent, tls=True).fetch,
        BARE: Bare(programs, file, tls=False).fetch,
        BARE_TLS: Bare(programs, file, tls=True).fetch,
        TORRENT: Torrent(programs, file).fetch,
        CURL: web.fetch,
        CURL_TLS: lambda directory: web.fetch(directory, tls=True),
        SENDFILE: Plain(programs, file).fetch,
    }
    return alternate(contenders, rounds, programs.base, file.stat().st_size)


def over_a_delay(programs: Programs, file: Path, rounds: int, delay: float) -> dict[str, list[Trial]]:
    """Compares Relevo with curl where bytes take `delay` milliseconds each way."""

    def delayed(name: str, listen: str, target: str) -> Program:
        return programs.serve(name, "bench.delaying", listen, target, "--delay", str(delay))

    contenders: dict[str, Fetch] = {}
    for name, tls in ((PLAIN, False), (TLS, True)):
        # Every address of 127.0.0.0/8 is this machine: the giver is at one, and said to be at another.
        label = "delayed-tls" if tls else "delayed-plain"
        pair = Pair(programs, label, file.parent, tls=tls, listen="127.0.0.2:0", host="127.0.0.3")
        port = pair.giver.address.rpartition(":")[2]
        delayed(f"{label}-line", f"127.0.0.3:{port}", f"127.0.0.2:{port}")
        contenders[name] = pair.fetch
    web = Web(programs, file)
    line = delayed("web-line", "127.0.0.3:0", web.plain)
    contenders[CURL] = lambda directory: web.fetch(directory, address=line.address)
    return alternate(contenders, rounds, programs.base, file.stat().st_size)


def memory(programs: Programs, label: str, file: Path, count: int) -> dict[str, list[Trial]]:
    """Fetches `count` files that are like `file` at once, with TLS, for the sake of the memory that it takes."""
    shared = programs.base / f"{label}-shared"
    shared.mkdir()
    for number in range(count):
        _copy_with_another_beginning(file, shared / f"{number}.bin", number)
    pair = Pair(programs, label, shared, tls=True)
    pair.files(count)
    size = file.stat().st_size
    return alternate({f"{count} × {size // MIB} MiB": pair.fetch}, 1, programs.base, count * size)


def _copy_with_another_beginning(file: Path, target: Path, number: int) -> None:
    """Makes a file with a content of its own, which takes no more room than it has to."""
    if file.stat().st_blocks * 512 < file.stat().st_size:
        target.touch()
        with target.open("r+b") as sparse:
            sparse.truncate(file.stat().st_size)
    else:
        shutil.copyfile(file, target)
    with target.open("r+b") as opened:
        opened.write(b"%d" % number)


def run(
    *, rounds: int = 5, size: int = 1024, delay: float = 25.0, delayed_size: int = 256, large: int = 0
) -> dict[str, str]:
    """Returns Markdown tables by what they show. Sizes are in MiB, the delay in milliseconds each way."""
    tables: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as directory:
        base = Path(directory)

        def file_of(mebibytes: int) -> Path:
            sharer = Peer(f"{mebibytes}", base / f"{mebibytes}-MiB")
            sharer.shared.mkdir(parents=True, exist_ok=True)
            write_random(mebibytes * MIB, sharer)
            return sharer.shared / random_name(mebibytes * MIB)

        def programs(name: str) -> Programs:
            (base / name).mkdir()
            return Programs(base / name)

        if rounds:
            with programs("loopback") as running:
                trials = over_loopback(running, file_of(size), rounds)
            tables[f"{size} MiB over loopback"] = medians(trials)
            tables[f"{size} MiB over loopback, round by round"] = ratios(trials, PAIRS)
        if rounds and delayed_size:
            with programs("delayed") as running:
                trials = over_a_delay(running, file_of(delayed_size), min(rounds, _DELAYED_ROUNDS), delay)
            window = f"{tcp_window() / MIB:g} MiB on the way at most"
            tables[f"{delayed_size} MiB over {2 * delay:g} ms there and back, {window}"] = medians(trials)
            tables[f"{delayed_size} MiB over {2 * delay:g} ms, round by round"] = ratios(trials, DELAYED_PAIRS)
        with programs("many") as running:
            trials = memory(running, "many", file_of(64), 16)
        if large:
            hole = base / "large.bin"
            hole.touch()
            with hole.open("r+b") as opened:
                opened.truncate(large * MIB)
            with programs("large") as running:
                trials |= memory(running, "large", hole, 1)
        tables["Memory, with TLS"] = medians(trials)
    return tables


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each contender.")
@click.option("--size", default=1024, show_default=True, help="MiB to fetch over loopback.")
@click.option("--delay", default=25.0, show_default=True, help="Milliseconds each way, on the line with a delay.")
@click.option("--delayed-size", default=256, show_default=True, help="MiB to fetch over it; 0: leave it out.")
@click.option(
    "--large", default=0, show_default=True, help="MiB of a sparse file for the trial of memory; 0: leave it out."
)
def main(rounds: int, size: int, delay: float, delayed_size: int, large: int) -> None:
    """Compares one transfer with those of other programs, on this machine."""
    tables = run(rounds=rounds, size=size, delay=delay, delayed_size=delayed_size, large=large)
    print("\n\n".join(f"{title}:\n\n{table}" for title, table in tables.items()))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
