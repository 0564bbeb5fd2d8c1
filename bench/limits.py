"""`python -m bench.limits`: whether limits are kept, with real programs over TLS, watched for half a minute each.

For each limit it prints by how much the bytes of any ten seconds differ from it: those that the holder has sent, as it
counts them itself, and those that left over its connections, TLS and all, as the kernel counts them. Then how downloads
of different priorities, and several downloaders of one slow holder, share.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from bench.programs import Failed, Program, Programs, until
from bench.scenery import MIB, Peer, random_name, write_random
from peer.commands.client import Daemon, priority_value
from peer.commands.params import rate as read_rate
from peer.commands.show import rate as shown_rate
from relevo.v1 import peer_control_pb2 as pb2

SPAN = 10.0
# The limits come into force with some debt or savings, and a first block has to be asked for.
WARM_UP = 2.0
TICK = 0.1


@dataclass
class Counter:
    """A number of bytes that grows, looked at now and then."""

    read: Callable[[], int]
    seen: list[tuple[float, int]] = field(default_factory=list)

    def look(self) -> None:
        """Notes what it is now."""
        self.seen.append((time.monotonic(), self.read()))

    def worst(self, rate: float) -> float:
        """Returns by which part of it the bytes of some ten seconds differ most from `rate`, signed."""
        errors = []
        for at, (began, before) in enumerate(self.seen):
            later = next((look for look in self.seen[at:] if look[0] - began >= SPAN), None)
            if later is not None:
                errors.append((later[1] - before) / (later[0] - began) / rate - 1)
        return max(errors, key=abs)

    def rate(self) -> float:
        """Returns the bytes a second over all the time."""
        (began, before), (ended, after) = self.seen[0], self.seen[-1]
        return (after - before) / (ended - began)


class Network:
    """A central and peers, each with a daemon and a connection to it."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._data = programs.base / "central"
        self._stack = contextlib.ExitStack()
        self.central = programs.serve(
            "central", "central", "serve", "--data", self._data, "--listen", "127.0.0.1:0", "--enrolment-port", "0"
        )

    def peer(self, name: str, size: int = 0) -> "Machine":
        """Starts a peer that shares a random file of `size` bytes."""
        peer = Peer(name, self._programs.base / name)
        peer.shared.mkdir(parents=True)
        if size:
            write_random(size, peer)
            (peer.shared / random_name(size)).rename(peer.shared / f"{name}.bin")
        token = self._programs.finish(self._programs.begin("central", "invite", "--data", self._data)).strip()
        where = ("--name", name, "--listen", "127.0.0.1:0", "--join", token)
        peer.program = self._programs.serve(name, "peer", "--home", peer.home, "serve", peer.shared, *where)
        daemon = self._stack.enter_context(Daemon(peer.home))
        return Machine(peer, peer.program, daemon)

    def close(self) -> None:
        """Closes the connections."""
        self._stack.close()


@dataclass(frozen=True)
class Machine:
    """A peer that runs."""

    peer: Peer
    program: Program
    daemon: Daemon

    def get(self, name: str, **options: object) -> str:
        """Has the daemon fetch `name`, and returns the transfer's id."""
        file = until(f"{name} in the catalogue", lambda: next(iter(self.daemon.candidates(name)), None), 120)
        to = self.peer.base / "to"
        to.mkdir(exist_ok=True)
        return self.daemon.start_download(file, to, pb2.DownloadOptions(detached=True, **options)).transfer_id  # type: ignore[arg-type]

    def sent(self) -> Counter:
        """Returns what the daemon has sent of blocks."""
        return Counter(lambda: self.daemon.status().sent_bytes)

    def on_the_wire(self) -> Counter:
        """Returns what the kernel has sent from the daemon's port."""
        port = int(self.program.address.rpartition(":")[2])
        sent: dict[str, int] = {}

        def read() -> int:
            sent.update(_bytes_sent(port))  # what a connection has sent counts when it has ended too
            return sum(sent.values())

        return Counter(read)


def _bytes_sent(port: int) -> dict[str, int]:
    """Returns by remote address what the connections accepted on `port` have had acknowledged; Linux's `ss` tells."""
    text = subprocess.run(["ss", "-tinHO", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in text.splitlines()]
    return {
        words[4]: int(word.partition(":")[2]) for words in lines for word in words if word.startswith("bytes_acked:")
    }


def watch(counters: Sequence[Counter], seconds: float) -> None:
    """Looks at all counters for so long."""
    time.sleep(WARM_UP)
    until_ = time.monotonic() + seconds
    while time.monotonic() < until_:
        for counter in counters:
            counter.look()
        time.sleep(TICK)


def kept(network: Network, rates: Sequence[str], seconds: float) -> Iterator[str]:
    """Yields rows: how well each limit is kept, set in each of the three ways; the rates side by side."""
    ways = ("upload", "download", "get --limit-rate")
    holders = {rate: network.peer(f"holder-{at}", 512 * MIB) for at, rate in enumerate(rates)}
    for number, way in enumerate(ways):
        watched: dict[str, tuple[Counter, Counter]] = {}
        takers = []
        for at, (rate, holder) in enumerate(holders.items()):
            taker = network.peer(f"taker-{number}-{at}")
            holder.daemon.set_rate_limits(read_rate(rate) if way == "upload" else 0)
            if way == "download":
                taker.daemon.set_rate_limits(download=read_rate(rate))
            own = read_rate(rate) if way == ways[2] else 0
            takers.append((taker, taker.get(f"{holder.peer.name}.bin", rate_limit_bytes_per_second=own)))
            watched[rate] = holder.sent(), holder.on_the_wire()
        watch([counter for pair in watched.values() for counter in pair], seconds)
        for rate, (sent, wire) in watched.items():
            told = f"{sent.worst(read_rate(rate)):+.1%} | {wire.worst(read_rate(rate)):+.1%}"
            yield f"| {way} | {rate} | {shown_rate(sent.rate())} | {told} |"
        for taker, transfer in takers:
            taker.daemon.cancel(transfer)


def shared(network: Network, seconds: float) -> Iterator[str]:
    """Yields rows: who gets how much of one limit."""
    holder, taker = network.peer("sharing", 256 * MIB), network.peer("ranking")
    other = network.peer("other", 256 * MIB)
    taker.daemon.set_rate_limits(download=4 * MIB)
    ids = {
        level: taker.get(f"{name.peer.name}.bin", priority=priority_value(level))
        for level, name in (("high", holder), ("normal", other))
    }
    done = {level: Counter(lambda one=one: taker.daemon.transfer(one).done_bytes) for level, one in ids.items()}  # type: ignore[misc]
    watch(list(done.values()), seconds)
    high, normal = (counter.rate() for counter in done.values())
    both = f"{shown_rate(high)} and {shown_rate(normal)}"
    yield f"| high beside normal priority, 4MiB/s | {both}: {high / normal:.1f} to 1 |"
    for one in ids.values():
        taker.daemon.cancel(one)
    holder.daemon.set_rate_limits(upload=50 * 1024)
    takers = [network.peer(f"slow-{number}") for number in range(4)]
    started = [(one, one.get("sharing.bin")) for one in takers]
    sent = holder.sent()
    rates = [
        Counter(lambda one=one, key=key: sum(source.bytes for source in one.daemon.transfer(key).sources))  # type: ignore[misc]
        for one, key in started
    ]
    watch([sent, *rates], max(180.0, 4 * seconds))
    blocks = ", ".join(f"{counter.seen[-1][1] / MIB:.0f}" for counter in rates)
    yield f"| four downloaders of one holder, 50KiB/s | {shown_rate(sent.rate())} in all, blocks of 1 MiB: {blocks} |"


@click.command()
@click.option("--seconds", default=25.0, show_default=True, help="How long each limit is watched.")
@click.option("--rates", default="100KiB/s,1MiB/s,10MiB/s", show_default=True, help="Limits, all at the same time.")
@click.option("--share/--no-share", default=True, help="Whether to watch priorities and a slow holder too.")
def main(seconds: float, rates: str, share: bool) -> None:
    """Watches limits being kept."""
    with tempfile.TemporaryDirectory(prefix="relevo-limits-") as base, Programs(Path(base)) as programs:
        network = Network(programs)
        try:
            print("| limit | | mean | worst 10 s, holder's count | worst 10 s, kernel's count |\n|---|---|---|---|---|")
            for row in kept(network, rates.split(","), seconds):
                print(row, flush=True)
            if share:
                print("\n| shared | |\n|---|---|")
                for row in shared(network, seconds):
                    print(row, flush=True)
        finally:
            network.close()


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
