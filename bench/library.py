"""`python -m bench.library`: one large file, very many small ones, a restart, and files that change meanwhile.

Everything runs on real files; what is published goes from a real daemon to a real central, with TLS. About ninety
seconds.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import click

from bench import hashing
from bench.hashing import MIB, RELEVO, Outcomes
from bench.programs import Failed, Programs
from bench.sharing import Sharing, Start, make_files
from core.rpc import tune_allocator


def table(*rows: Sequence[str]) -> str:
    """Returns a Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def hash_table(seconds: dict[str, list[float]]) -> str:
    """Returns the medians of each way of hashing, and Relevo as a multiple of each, round by round."""
    rows: list[Sequence[str]] = [("", "seconds", "Relevo is so many times as long", "least", "most")]
    for name, found in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(seconds[RELEVO], found, strict=True)]
        shown = [f"{value:.2f}" for value in (median(ratios), min(ratios), max(ratios))]
        rows.append((name, f"{median(found):.2f}", *shown))
    return table(*rows)


def start_table(first: Start, restarts: list[Start], beats: dict[str, float]) -> str:
    """Returns how the first start with all files and the later ones went."""

    def row(text: str, form: str, of_first: float, of_later: list[float]) -> tuple[str, str, str]:
        return text, f"{of_first:{form}}", f"{median(of_later):{form}}"

    return table(
        ("", "first start", "restart, median"),
        row("all files offered, s", ".1f", first.offered, [one.offered for one in restarts]),
        row("all files published, s", ".1f", first.published, [one.published for one in restarts]),
        row("daemon's CPU, s", ".1f", first.daemon_cpu, [one.daemon_cpu for one in restarts]),
        row("central's CPU, s", ".1f", first.central_cpu, [one.central_cpu for one in restarts]),
        row("daemon's peak memory, MiB", ".0f", first.peak / MIB, [one.peak / MIB for one in restarts]),
        row(
            "daemon's longest answer, ms",
            ".0f",
            first.longest_answer * 1e3,
            [one.longest_answer * 1e3 for one in restarts],
        ),
        (
            f"central's longest answer to {beats['amount']:.0f} beats of 20 other peers, ms",
            f"{beats['longest_answer'] * 1e3:.0f}",
            "",
        ),
    )


def change_table(defended: dict[str, Outcomes], undefended: dict[str, Outcomes]) -> str:
    """Returns what became of files that were changed while they were hashed, with the defence and without."""
    rows: list[Sequence[str]] = [
        ("", "no id, hashed again", "the id before the change", "a wrong id", "a wrong id without the defence")
    ]
    for how, found in defended.items():
        counts = (found.refused, found.as_it_was, found.wrong, undefended[how].wrong)
        rows.append((how, *(f"{count}" for count in counts)))
    return table(*rows)


def run(
    *, size: int = 4096, rounds: int = 5, files: int = 100_000, restarts: int = 3, changes: int = 200
) -> dict[str, str]:
    """Returns Markdown tables by what they show. The size is in MiB; 0 leaves a part out."""
    tables: dict[str, str] = {}
    began = time.monotonic()

    def told(title: str, shown: str) -> None:
        tables[title] = shown
        print(f"{title}: done after {time.monotonic() - began:.0f} s", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as directory:
        base = Path(directory)
        if size:
            large = base / "large.bin"
            hashing.write_whole(large, size)
            told(f"One file of {size} MiB in the page cache, hashed", hash_table(hashing.compare(large, rounds)))
            large.unlink()
        if changes:
            (base / "changing").mkdir()
            found = [hashing.change_while_hashed(base / "changing", changes, defended=one) for one in (True, False)]
            told(f"Files of 4 MiB, changed while they are hashed, {changes} each", change_table(*found))
        if files:
            _share(base, files, restarts, told)
    return tables


def _share(base: Path, files: int, restarts: int, told: Callable[[str, str], None]) -> None:
    shared = base / "shared"
    make_files(shared, files)
    with Programs(base) as programs:
        sharing = Sharing(programs, shared, files)
        end = base / "end"
        beats = sharing.begin_beats(end)
        first = sharing.start()
        measured = sharing.end_beats(beats, end)
        version = sharing.version()
        later = []
        for _ in range(restarts):
            sharing.stop()
            later.append(sharing.start())
            if sharing.version() != version:
                raise Failed("a restart with nothing changed has published something")
        sharing.stop()
        told(f"{files} files of 4 KiB, with TLS", start_table(first, later, measured))
        if shutil.which("strace"):
            nothing = sharing.opened_in_a_start()
            sharing.touch_one()
            one = sharing.opened_in_a_start()
            counts = table(("nothing changed", "one file changed"), (str(nothing), str(one)))
            told("Shared files opened by a restart, seen by strace", counts)


@click.command()
@click.option("--size", default=4096, show_default=True, help="MiB of the large file; 0: leave it out.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of hashing it.")
@click.option("--files", default=100_000, show_default=True, help="Small files; 0: leave them out.")
@click.option("--restarts", default=3, show_default=True, help="Restarts with nothing changed.")
@click.option("--changes", default=200, show_default=True, help="Files for each way of changing; 0: leave them out.")
def main(size: int, rounds: int, files: int, restarts: int, changes: int) -> None:
    """Measures the library, on this machine."""
    tune_allocator()
    tables = run(size=size, rounds=rounds, files=files, restarts=restarts, changes=changes)
    print("\n\n".join(f"{title}:\n\n{shown}" for title, shown in tables.items()))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
