"""`make bench-swarm`: one file to many peers, beside the least time in which any scheme could do it.

Real daemons, TLS and tokens as they come, each in a network namespace of its own whose link is shaped both ways
(bench/hosts.py). For a file of F bytes, a first holder that sends u bytes a second and N downloaders that send u_i and
receive d_i, no scheme ends before max(F/u, F/min d_i, N·F/(u + Σu_i)) (Kumar and Ross, "Peer-assisted file
distribution: the minimum distribution time", 2006). The rates are those of one plain TCP stream between two such hosts.
The clock of each downloader runs from when its daemon has taken the download to when the file is in place.
Chains (bench/chain.py) show how near to the links gRPC in Python gets with so many processes on this machine.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from bench.cases import HEAD, MBIT, PATIENCE, Case, Result, least_time, row
from bench.chain import Chain
from bench.hosts import Host, Hosts, missing, plain_stream
from bench.measured import busy, processors
from bench.programs import Failed, Programs, until
from bench.scenery import MIB, Peer, random_name, write_random
from core.content import Layout
from core.times import from_timestamp
from peer.commands.client import Daemon
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.content_pb2 import CatalogueFile

CASES = (
    Case("8 peers", 8, 64, 50),
    Case("16 peers", 16, 64, 20),
    Case("8 peers, large file, slow links", 8, 128, 20),
    Case("16 peers, small file, slow links", 16, 32, 20),
    Case("8 peers, one sends a fifth", 8, 64, 50, slow=0.2),
    Case("8 peers, one every 2 s", 8, 64, 50, apart=2.0),
    Case("8 peers, first holder killed", 8, 64, 50, kill=True),
    Case("16 peers, fast links", 16, 64, 50),
    Case("a chain of 16, gRPC alone", 16, 64, 50, chain=True),
    Case("a chain of 16, gRPC alone", 16, 32, 20, chain=True),
)


class Swarm:
    """The hosts and daemons of one case."""

    def __init__(self, case: Case, programs: Programs, hosts: Hosts) -> None:
        self._case = case
        self._programs = programs
        rate = case.mbit * MBIT
        central = hosts.add("central")
        self._first = hosts.add("first", rate, rate)
        last = case.downloaders - 1
        self._others = [
            hosts.add(f"peer{index}", rate * (case.slow if index == last else 1.0), rate)
            for index in range(case.downloaders)
        ]
        self.rate = plain_stream(self._first, self._others[0], round(rate / 8 * 2))
        data = programs.base / "central"
        programs.serve(
            "central", "central", "serve", "--data", data, "--listen", f"{central.address}:7400", inside=central.inside
        )
        invite = ("central", "invite", "--data", data, "--uses", str(case.downloaders + 1))
        self._token = programs.finish(programs.begin(*invite, "--address", f"{central.address}:7400")).strip()
        self._holder = self._serve(self._first)
        self.size = case.mib * MIB
        write_random(self.size, self._holder)
        self._peers = [self._serve(host) for host in self._others]

    def _serve(self, host: Host) -> Peer:
        peer = Peer(host.name, self._programs.base / host.name)
        peer.shared.mkdir(parents=True)
        peer.program = self._programs.serve(
            *(peer.name, "peer", "--home", peer.home, "serve", peer.shared, "--name", peer.name),
            *("--join", self._token),
            inside=host.inside,
        )
        return peer

    def run(self) -> Result:
        """Fetches the file with everybody, compares the bytes, and returns what came out."""
        case = self._case
        slow = [self.rate] * (case.downloaders - 1) + [self.rate * case.slow]
        downs = [self.rate] * case.downloaders
        # Whoever comes alone finds at least one whole upload, and can take no more than its own link does.
        bound = self.size / self.rate if case.apart else least_time(self.size, self.rate, slow, downs)
        result = Result(case, self.rate, bound)
        name = random_name(self.size)
        daemons = [Daemon(peer.home) for peer in self._peers]
        file = until("the file is listed everywhere", lambda: _listed(daemons, name), 60)
        until("everybody is connected", lambda: [1 for one in daemons if len(list(one.peers())) > case.downloaders], 30)
        before = processors()

        def start(number: int) -> str:
            time.sleep(case.apart * number)
            return daemons[number].start_download(file, self._peers[number].shared).transfer_id

        with ThreadPoolExecutor(len(daemons)) as together:
            running = list(zip(daemons, together.map(start, range(len(daemons))), strict=True))
        sent = self._kill_when_spread(running) if case.kill else None
        transfers = [self._ended(daemon, transfer_id) for daemon, transfer_id in running]
        result.busy = busy(before, processors())
        result.seconds = [from_timestamp(one.end_time) - from_timestamp(one.start_time) for one in transfers]
        if sent is None:
            with Daemon(self._holder.home) as holder:
                sent = holder.status().sent_bytes
        result.copies = sent / self.size
        wanted = _digest(self._holder.shared / name)
        if any(_digest(peer.shared / name) != wanted for peer in self._peers):
            raise Failed("the bytes differ")
        return result

    def _kill_when_spread(self, running: list[tuple[Daemon, str]]) -> int:
        """Kills the first holder once the others hold every block together; returns how many bytes it has sent."""
        layout = Layout(self.size)

        def spread() -> bool:
            time.sleep(0.05)
            held = (blocks for peer in self._peers for blocks in _written(peer.shared, layout))
            return len(set().union(*held)) == layout.block_count

        until("the others hold every block together", spread, PATIENCE)
        with Daemon(self._holder.home) as holder:
            sent = holder.status().sent_bytes
        if self._holder.program is not None:
            self._holder.program.kill()
        if not any(daemon.transfer(one).state == pb2.TRANSFER_STATE_RUNNING for daemon, one in running):
            raise Failed("everybody had finished before the kill")
        return sent

    def _ended(self, daemon: Daemon, transfer_id: str) -> pb2.Transfer:
        def ended() -> pb2.Transfer | None:
            time.sleep(0.25)  # the daemons say when: asking often would take their processor
            found = daemon.transfer(transfer_id)
            return found if found.HasField("end_time") else None

        transfer = until("a download ends", ended, PATIENCE)
        if transfer.state != pb2.TRANSFER_STATE_DONE:
            raise Failed(f"a download failed: {transfer.error_message}")
        return transfer


def _listed(daemons: list[Daemon], name: str) -> CatalogueFile | None:
    for daemon in daemons:
        found = list(daemon.files(name))
        if not found:
            time.sleep(0.1)
            return None
    return found[0]


def _written(directory: Path, layout: Layout) -> Iterator[set[int]]:
    """Yields the blocks of each file in progress that are wholly on the disk, not in a hole."""
    for path in directory.glob(".relevo-*.part"):
        with path.open("rb") as file:
            yield {index for index in range(layout.block_count) if _is_written(file.fileno(), layout, index)}


def _is_written(descriptor: int, layout: Layout, index: int) -> bool:
    begin = layout.block_offset(index)
    try:
        if os.lseek(descriptor, begin, os.SEEK_DATA) != begin:
            return False
        return os.lseek(descriptor, begin, os.SEEK_HOLE) >= begin + layout.block_length(index)
    except OSError:  # there is nothing but a hole to the end
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measured(case: Case) -> Result:
    """Runs one case from nothing, and leaves nothing behind."""
    directory = tempfile.TemporaryDirectory(prefix="relevo-swarm-")
    with directory as base, Hosts() as hosts, Programs(Path(base)) as programs:
        kind = Chain if case.chain else Swarm
        return kind(case, programs, hosts).run()


def _row(results: list[Result]) -> tuple[str, ...]:
    """Returns the round in the middle as a row of the table; beside its ratio, the least and the most of all."""
    in_order = sorted(results, key=lambda one: one.ratio)
    cells = list(row(in_order[len(in_order) // 2]))
    if len(in_order) > 1:
        cells[HEAD.index("ratio")] += f" ({in_order[0].ratio:.2f} to {in_order[-1].ratio:.2f})"
    return tuple(cells)


@click.command()
@click.argument("numbers", type=int, nargs=-1)
@click.option("--rounds", default=1, show_default=True, help="Runs of each case, one after the other of all.")
def main(numbers: tuple[int, ...], rounds: int) -> None:
    """Measures the cases, or those of these NUMBERS, counted from 0."""
    if why := missing():
        click.echo(f"not measured: {why}", err=True)
        sys.exit(1)
    results: dict[Case, list[Result]] = {CASES[number]: [] for number in numbers or range(len(CASES))}
    for _ in range(rounds):
        for case, of_case in results.items():
            of_case.append(measured(case))
            click.echo(" | ".join(row(of_case[-1])), err=True)
    for line in (HEAD, ("---",) * len(HEAD), *map(_row, results.values())):
        click.echo(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
