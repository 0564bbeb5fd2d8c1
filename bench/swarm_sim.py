"""`python -m bench.swarm_sim`: one file to many peers in virtual time, beside the least time of any scheme.

The schedulers are those of the daemons; links, messages and central are made up (bench/swarm_world.py). So a change of
a rule is judged within seconds, and for more peers than any machine can run. All links carry the same, but where a case
says otherwise. The bound is that of bench/swarm.py; `--compare` has its cases, so that its numbers can be set beside
these.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from bench.cases import HEAD, MBIT, Case, Result, least_time, row
from bench.scenery import MIB
from bench.swarm_member import Times
from bench.swarm_plot import plot
from bench.swarm_world import FIRST, World

# What TCP and TLS leave of a link.
PAYLOAD = 0.95
# Seconds within which everybody begins who does not come one by one.
TOGETHER = 0.05
# Seconds after which it is seen that the others have every block together.
SEEN = 0.05
# A swarm that takes so many times the least time is stuck.
STUCK = 50.0
# Max-min fair rates up to so many peers: they take as long as everything else together with 64.
FAIR = 64
# The blocks of all of these take as long to send: 84 ms. Fewer of them for so many peers that it would take hours.
SIZES = (
    *(Case(f"{count}", count, 32, 25) for count in (8, 16, 32, 100, 300)),
    Case("1000", 1000, 4, 6.25),
)
LARGE = (Case("3000", 3000, 2, 6.25), Case("10000", 10_000, 2, 6.25))
RULES = (Case("16", 16, 32, 25), Case("64", 64, 32, 25))
COMPARED = tuple(
    Case(f"{count} peers{what}", count, mib, mbit, **changes)
    for count, mib, mbit in ((8, 64, 50), (16, 32, 20))
    for what, changes in (
        ("", {}),
        (", one sends a fifth", {"slow": 0.2}),
        (", one every 2 s", {"apart": 2.0}),
        (", first holder killed", {"kill": True}),
    )
)


@dataclass
class Simulated(Result):
    """What came out of a simulation.

    Attributes:
        blocks: that the file has.
        messages: requests, answers and withdrawals for each block that somebody got.
        twice: part of all blocks that came to somebody who had it by then.
    """

    blocks: int = 0
    messages: float = 0.0
    twice: float = 0.0


def simulated(case: Case, *, seed: int, fair: bool | None = None, times: Times | None = None) -> Simulated:
    """Returns what comes out of a case; the same for the same arguments.

    Args:
        case: what is simulated.
        seed: draws the moments when peers begin, whom central names, and the order of blocks.
        fair: whether rates are max-min fair; None: for few peers.
        times: what messages take; None: as measured.

    Raises:
        Stuck: it does not end.
    """
    count, size, rate = case.downloaders, case.mib * MIB, case.mbit * MBIT / 8 * PAYLOAD
    ups = [rate] * (count - 1) + [rate * case.slow]
    bound = size / rate if case.apart else least_time(size, rate, ups, [rate] * count)
    world = World(size, rate, seed=seed, fair=count <= FAIR if fair is None else fair, times=times or Times())
    names = [f"peer-{number:05}" for number in range(count)]
    for number, (name, up) in enumerate(zip(names, ups, strict=True)):
        begins = case.apart * number if case.apart else world.random.uniform(0.0, TOGETHER)
        world.at(begins, _joining(world, name, up, rate))
    if case.kill:
        world.spread = lambda: world.at(world.now + SEEN, lambda: world.die(FIRST))
    world.run(STUCK * bound + case.apart * count, until=lambda: world.finished == count)
    seconds = [world.members[name].finished_at - world.members[name].began_at for name in names]
    blocks = world.layout.block_count
    got = count * blocks
    copies = world.members[FIRST].sent / size
    result = Simulated(case, rate, bound, seconds, copies)
    result.blocks, result.messages, result.twice = blocks, world.messages / got, world.twice / got
    return result


def _joining(world: World, name: str, up: float, down: float) -> Callable[[], None]:
    return lambda: world.join(name, up, down)


SIZES_HEAD = ("peers", "blocks", "last", "median", "copies by the first holder", "messages a block", "blocks twice")


def sizes_row(result: Simulated) -> tuple[str, ...]:
    """Returns a result as a row of the table of sizes; times are ratios to the least one."""
    return (
        f"{result.case.downloaders}",
        f"{result.blocks}",
        f"{result.ratio:.2f}",
        f"{statistics.median(result.seconds) / result.bound:.2f}",
        f"{result.copies:.2f}",
        f"{result.messages:.1f}",
        f"{100 * result.twice:.1f} %",
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Prints a table, each row as soon as it is there."""
    click.echo(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for each in rows:
        click.echo(f"| {' | '.join(each)} |")


def _rules(seed: int) -> Iterable[tuple[str, ...]]:
    """Yields what both rules for rates say of the same swarms."""
    for case in RULES:
        fair, share = (simulated(case, seed=seed, fair=fair).ratio for fair in (True, False))
        yield case.name, f"{fair:.3f}", f"{share:.3f}", f"{100 * (share / fair - 1):+.1f} %"


@click.command()
@click.argument("peers", type=click.IntRange(1), nargs=-1)
@click.option("--large", is_flag=True, help="Goes on to 10,000 peers; takes a good part of an hour.")
@click.option("--compare", is_flag=True, help="Simulates the cases of bench/swarm.py, for 8 and for 16 peers.")
@click.option("--rules", is_flag=True, help="Compares the two rules for the rates of flows.")
@click.option("--seed", default=1, show_default=True, help="Another one gives another swarm.")
@click.option("--delay", default=20.0, show_default=True, help="Milliseconds that a message takes.")
@click.option("--plot", "path", default=Path("docs/swarm.svg"), type=click.Path(path_type=Path), show_default=True)
def main(
    *, peers: tuple[int, ...], large: bool, compare: bool, rules: bool, seed: int, delay: float, path: Path
) -> None:
    """Simulates swarms of several sizes, prints what came out and plots it; of so many PEERS only, without a plot."""
    times = Times(message=delay / 1000)
    if compare:
        _table(HEAD, (row(simulated(case, seed=seed, times=times)) for case in COMPARED))
        return
    if rules:
        _table(("peers", "max-min fair", "least share", "difference"), _rules(seed))
        return
    cases = tuple(Case(f"{count}", count, 32, 25) for count in peers) or SIZES + (LARGE if large else ())
    results: list[Simulated] = []

    def rows() -> Iterable[tuple[str, ...]]:
        for case in cases:
            results.append(simulated(case, seed=seed, times=times))
            yield sizes_row(results[-1])

    _table(SIZES_HEAD, rows())
    if not peers:
        lines = {
            "the last": [(one.case.downloaders, one.ratio) for one in results],
            "the median": [(one.case.downloaders, statistics.median(one.seconds) / one.bound) for one in results],
        }
        path.write_text(plot(lines, "downloaders", "time, to the least possible"), "utf-8")


if __name__ == "__main__":
    main()
