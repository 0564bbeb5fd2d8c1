"""`make bench`: what TLS costs. The same work against the same programs with and without it, in alternating rounds.

A central and a peer run twice, once in plaintext and once with TLS as they come; a client in a process of its own loads
one of them at a time. It prints the medians of all rounds, and TLS as a multiple of plaintext.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.programs import Failed, Program, Programs, until
from bench.scenery import MIB, Peer, write_random
from core.certificates import Authority, central_name, peer_name

GB = 1e9
Round = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Network:
    """A central with one peer that shares one file."""

    programs: Programs
    central: Program
    peer: Program
    home: Path
    authority: Path | None

    @classmethod
    def start(cls, programs: Programs, label: str, shared: Path, *, tls: bool) -> "Network":
        """Starts both programs."""
        data, home = programs.base / label / "central", programs.base / label / "home"
        plain = () if tls else ("--insecure",)
        central = programs.serve(
            f"{label}-central", "central", "serve", "--data", data, "--listen", "127.0.0.1:0", *plain
        )
        way: tuple[str, ...] = ("--central", central.address, "--insecure")
        if tls:
            way = ("--join", programs.finish(programs.begin("central", "invite", "--data", data)).strip())
        peer = programs.serve(
            f"{label}-peer", "peer", "--home", home, "serve", shared, "--name", label, "--listen", "127.0.0.1:0", *way
        )
        return cls(programs, central, peer, home, data / "authorities" / "1.pem" if tls else None)

    def content_id(self) -> str:
        """Returns the content id of the file, once the peer has published it."""
        found = until("the file in the catalogue", lambda: self._relevo("ls")["files"], 120)
        return str(found[0]["content_id"])

    def round(self, content_id: str) -> Round:
        """Does each kind of work once."""
        names = self._names()
        return {
            "blocks": self._load("blocks", self.peer, names[1], "--content", content_id),
            "beats": self._load("beats", self.central, names[0]),
            "connections": self._load("connections", self.central, names[0]),
        }

    def _names(self) -> tuple[str, str]:
        if self.authority is None:
            return "", ""
        peer_id = self._relevo("status")["peer"]["peer_id"]
        return central_name(Authority.from_pem(self.authority.read_bytes()).network_id), peer_name(peer_id)

    def _load(self, kind: str, server: Program, name: str, *arguments: str) -> dict[str, float]:
        secure = ("--authority", self.authority) if self.authority else ()
        target = ("--address", server.address, "--pid", str(server.process.pid), "--name", name)
        command = self.programs.begin("bench.load", kind, *target, *secure, *arguments)
        return dict(json.loads(self.programs.finish(command)))

    def _relevo(self, *arguments: str) -> Any:
        return self.programs.json("peer", "--home", self.home, *arguments)


def per(unit: float, key: str) -> Callable[[dict[str, float]], float]:
    """Returns what reads `key` for each `unit` of the work done."""
    return lambda measured: measured[key] / (measured["amount"] / unit)


ROWS: tuple[tuple[str, str, str, Callable[[dict[str, float]], float]], ...] = (
    ("blocks, MB a second", "blocks", ".0f", lambda one: one["amount"] / 1e6 / one["seconds"]),
    ("blocks, server's CPU seconds a GB", "blocks", ".2f", per(GB, "server_cpu")),
    ("blocks, client's CPU seconds a GB", "blocks", ".2f", per(GB, "client_cpu")),
    ("beats, central's CPU µs each", "beats", ".0f", per(1e6, "server_cpu")),
    ("beats, longest answer in ms", "beats", ".0f", lambda one: one["longest_answer"] * 1e3),
    ("connections a second, one after the other", "connections", ".0f", lambda one: one["amount"] / one["seconds"]),
    ("connections, central's CPU ms each", "connections", ".2f", per(1e3, "server_cpu")),
)


def table(plain: list[Round], secure: list[Round]) -> str:
    """Returns the medians and their ratios as a Markdown table."""
    lines = ["| | plaintext | TLS | TLS / plaintext |", "|---|---|---|---|"]
    for text, kind, form, read in ROWS:
        without, with_it = (median(read(one[kind]) for one in rounds) for rounds in (plain, secure))
        lines.append(f"| {text} | {without:{form}} | {with_it:{form}} | {with_it / without:.2f} |")
    return "\n".join(lines)


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds of each kind.")
@click.option("--size", default=512, show_default=True, help="MiB to fetch in each round.")
def main(rounds: int, size: int) -> None:
    """Measures what TLS costs, on this machine."""
    with tempfile.TemporaryDirectory(prefix="relevo-bench-") as base, Programs(Path(base)) as programs:
        sharer = Peer("sharer", Path(base))
        sharer.shared.mkdir()
        write_random(size * MIB, sharer)
        networks = [Network.start(programs, label, sharer.shared, tls=label == "tls") for label in ("plain", "tls")]
        content_id, _ = (network.content_id() for network in networks)
        began = time.monotonic()
        done: tuple[list[Round], list[Round]] = ([], [])
        for number in range(rounds):
            for network, results in zip(networks, done, strict=True):
                results.append(network.round(content_id))
            print(f"round {number + 1} of {rounds}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(table(*done))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
