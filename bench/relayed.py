"""`python -m bench.relayed`: one file from a peer that nobody can dial, beside one that is dialled.

Over loopback with TLS, from a warm page cache to a disk, in alternating rounds: directly; pushed by a holder to who can
be dialled; and through a relay, between two peers that cannot. Every program is a process of its own on this machine,
whose processors they share. It prints medians, and ratios round by round.
"""

import sys
import tempfile
from pathlib import Path

import click

from bench.measured import Reading, Trial, medians, ratios
from bench.pair import Pair
from bench.programs import Failed, Programs
from bench.scenery import MIB, Peer, random_name, write_random
from bench.transfer import alternate

DIRECT, PUSHED, RELAYED = "direct", "reversed", "through a relay"


def _rate(trial: Trial) -> float:
    return trial.rate


PAIRS: tuple[tuple[str, str, str, Reading], ...] = (
    ("rate, through a relay / direct", RELAYED, DIRECT, _rate),
    ("rate, reversed / direct", PUSHED, DIRECT, _rate),
)


def run(*, rounds: int = 5, size: int = 512) -> dict[str, str]:
    """Returns Markdown tables by what they show; `size` is in MiB."""
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as directory:
        base = Path(directory)
        sharer = Peer(f"{size}", base / f"{size}-MiB")
        sharer.shared.mkdir(parents=True)
        write_random(size * MIB, sharer)
        file = sharer.shared / random_name(size * MIB)
        (base / "programs").mkdir()
        with Programs(base / "programs") as programs:
            trials = alternate(
                {
                    DIRECT: Pair(programs, "direct", file.parent, tls=True).fetch,
                    PUSHED: Pair(programs, "reversed", file.parent, tls=True, relays=2, hidden=("giver",)).fetch,
                    RELAYED: Pair(
                        programs, "relayed", file.parent, tls=True, relays=2, hidden=("giver", "taker")
                    ).fetch,
                },
                rounds,
                programs.base,
                size * MIB,
            )
    return {
        f"{size} MiB from a peer that nobody can dial, with TLS, over loopback": medians(trials),
        f"{size} MiB, round by round": ratios(trials, PAIRS),
    }


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each way.")
@click.option("--size", default=512, show_default=True, help="MiB to fetch.")
def main(rounds: int, size: int) -> None:
    """Compares the ways from a holder to whoever fetches, on this machine."""
    tables = run(rounds=rounds, size=size)
    print("\n\n".join(f"{title}:\n\n{table}" for title, table in tables.items()))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
