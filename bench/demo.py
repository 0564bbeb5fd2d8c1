"""`make demo`: one central and six peers on loopback share real files; one is killed; all leave. Everything is real.

Each step says in plain words what happened and what was measured, and compares the bytes. The last line is `demo ok`,
with exit code 0; otherwise the reason stands there, with exit code 1. No process stays behind in either case.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from bench.crowded_download import SIZE, crowded_download
from bench.killed_download import Kill, killed_download
from bench.programs import Failed, Program, Programs, until
from bench.scenery import MIB, Peer, listed, random_name, same, seconds, share_out, write_random
from core.errors import RelevoError
from peer.commands.client import Daemon
from peer.commands.show import count, rate, size, span
from relevo.v1.central_directory_pb2 import PeerListing

NAMES = ("ana", "ben", "carla", "dora")
NEWCOMERS = ("emil", "fina")
# The second and third size are for machines so fast that the kill comes too late for the first.
RANDOM_SIZES = (64 * MIB, 256 * MIB, 1024 * MIB)
UPLOAD = "año 2026 – medidas 空の.bin"
UPLOAD_BYTES = 8 * MIB + 1


class Demo:
    """The steps, in the order in which they are shown."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.peers = {name: Peer(name, programs.base / name) for name in NAMES}
        self.central: Program | None = None
        self.step = 0

    def run(self) -> None:
        """Shows everything.

        Raises:
            Failed: something did not happen as it should.
        """
        self.share_out()
        self.start()
        self.publish()
        self.search()
        self.upload()
        self.crowd()
        self.leaves_by_itself(self.download())
        self.log_out()

    def title(self, text: str) -> None:
        """Begins the next step."""
        self.step += 1
        click.echo(f"\n{click.style(f'{self.step}. {text}', bold=True)}")

    def share_out(self) -> None:
        """Splits this repository's own files between the peers; two of them hold the random file as well."""
        self.title("Four machines, each with a directory of real files")
        files = share_out(list(self.peers.values()))
        write_random(RANDOM_SIZES[0], self.peers["ana"], self.peers["ben"])
        say(f"{count(files, 'file')} of this repository, split between {listed(NAMES)}")
        say(f"{random_name(RANDOM_SIZES[0])}, random bytes, the same on ana and on ben")

    def start(self) -> None:
        """Starts the central and the four daemons, on ports that the system chooses; each joins with a token."""
        self.title("They start and join, each with a token; everything is encrypted from here on")
        self.central = self.programs.serve(
            *("central", "central", "serve", "--data", self.programs.base / "central", "--listen", "127.0.0.1:0")
        )
        say(
            f"central  {self.central.address:<16} ready after {span(self.central.took)}, with the keys of a new network"
        )
        for peer in self.peers.values():
            self.serve(peer, "--join", self.invite())

    def invite(self) -> str:
        """Returns a token that lets one peer join."""
        return self.programs.finish(
            self.programs.begin("central", "invite", "--data", self.programs.base / "central")
        ).strip()

    def serve(self, peer: Peer, *arguments: str) -> None:
        """Starts the daemon of a peer."""
        peer.program = self.programs.serve(
            *(peer.name, "peer", "--home", peer.home, "serve", peer.shared, "--name", peer.name),
            *("--listen", "127.0.0.1:0", *arguments),
        )
        say(f"{peer.name:<8} {peer.program.address:<16} ready after {span(peer.program.took)}, logged in")

    def publish(self) -> None:
        """Waits until everything is in the catalogue, and shows who reaches the network through whom."""
        self.title("They publish what they share, by themselves, and get neighbours")
        expected = set().union(*(peer.paths() for peer in self.peers.values()))
        began = time.monotonic()
        with self.daemon("dora") as daemon:
            until("all files in the catalogue", lambda: {file.path for file in daemon.files("")} == expected)
            say(
                f"{count(len(expected), 'file')} in the catalogue {span(time.monotonic() - began)} after the last start"
            )
            listings = until("neighbours for everybody", lambda: _complete(list(daemon.peers())))
        names = {one.peer.peer_id: one.peer.name for one in listings}
        told = sorted((one.peer.name, names[one.primary_peer_id], names[one.backup_peer_id]) for one in listings)
        if any(len(set(three)) != 3 for three in told):
            raise Failed(f"somebody is its own neighbour, or has one twice: {told}")
        say("neighbour and backup: " + " · ".join(f"{name} by {first}, {second}" for name, first, second in told))

    def search(self) -> None:
        """Lists and searches through a neighbour."""
        self.title("List and search: each question goes through a neighbour")
        for asker, pattern in (("carla", ""), ("carla", "*.proto"), ("dora", "RANDOM")):
            began = time.monotonic()
            files = self.relevo(asker, "ls", *([pattern] if pattern else []))["files"]
            took = span(time.monotonic() - began)
            shown = f"{asker}$ relevo ls {pattern}".rstrip()
            say(f"{shown:<24} {count(len(files), 'file')}, {took}")
            if not files:
                raise Failed(f"relevo ls {pattern} finds nothing")
        if [file["holder_count"] for file in files] != [2]:
            raise Failed(f"the random file should have two holders: {files}")
        route = self.relevo("dora", "neighbour")["route"]
        if route["kind"] not in {"primary", "backup"}:
            raise Failed(f"the question went the way {route['kind']!r}, not through a neighbour")
        say(f"the last one went through {route['peer']['name']}, in {span(route['took_seconds'])}")

    def upload(self) -> None:
        """Uploads a file with two copies, and compares them on the disks of those who store them."""
        self.title("Upload with two copies")
        source = self.programs.base / UPLOAD
        source.write_bytes(os.urandom(UPLOAD_BYTES))
        began = time.monotonic()
        document = self.relevo("carla", "put", source, "--replicas", "2", "--wait", "--timeout", "60")["files"][0]
        took = span(time.monotonic() - began)
        copies = [copy["peer"]["name"] for copy in document["placement"]["copies"] if copy["confirmed"]]
        say(f"carla$ relevo put '{UPLOAD}' --replicas 2 --wait")
        say(f"{size(UPLOAD_BYTES)}, copies confirmed by {listed(copies)} after {took}")
        if len(set(copies) - {"carla"}) != 2:
            raise Failed(f"copies on {copies}, instead of on two others")
        content_id = document["content_id"]
        for name in copies:
            same(source, self.peers[name].home / "store" / content_id[:2] / content_id)
        say("the bytes on their disks are the same")

    def crowd(self) -> None:
        """Has five peers, two of them new, download a file at once that only ana has."""
        self.title("One holder, five downloaders at once, slow links: they help each other")
        write_random(SIZE, self.peers["ana"])
        for name in NEWCOMERS:
            self.peers[name] = Peer(name, self.programs.base / name)
            self.peers[name].shared.mkdir(parents=True)
            self.serve(self.peers[name], "--join", self.invite())
        first, *others = self.peers.values()
        for line in crowded_download(self.programs, first, others).told():
            say(line)

    def download(self) -> Kill:
        """Downloads the random file from both holders, and kills one of them on the way."""
        self.title("Download from several holders at once, while one is killed")
        for length in RANDOM_SIZES:
            name = random_name(length)
            say(f"dora$ relevo get {name}")
            ben = self.running("ben")
            if kill := killed_download(self.programs, self.peers["dora"].home, name, self.peers["dora"].fetched, ben):
                self.tell_download(kill)
                return kill
            say(f"{size(length)} were there before the kill could fall in: once more, with a larger file")
            if length != RANDOM_SIZES[-1]:
                self.prepare(length * 4)
        raise Failed("the download was always over before the kill; this machine is too fast for the demonstration")

    def prepare(self, length: int) -> None:
        """Publishes the random file of the next try, from two holders that live."""
        self.running("ben")
        write_random(length, self.peers["ana"], self.peers["ben"])
        with self.daemon("dora") as daemon:
            name = random_name(length)
            until(f"{name} in the catalogue", lambda: [1 for one in daemon.files(name) if one.holder_count == 2], 120)

    def tell_download(self, kill: Kill) -> None:
        """Says what the download did, and compares the bytes."""
        document, at = kill.document, kill.at
        before = {source.peer.name: source.bytes for source in at.sources}
        part = f"{at.done_bytes / at.size_bytes:.0%}"
        say(f"killed ben with SIGKILL at {part}, when {_given(before)} had come")
        given = {source["peer"]["name"]: source["bytes"] for source in document["sources"]}
        if sum(given.values()) != document["size_bytes"]:
            raise Failed(f"{document['size_bytes']} bytes, of which holders gave {given}")
        dropped = [source["dropped_reason"] for source in document["sources"] if source["peer"]["name"] == "ben"]
        say(f"finished all the same: {_given(given)}{''.join(f'; ben: {reason}' for reason in dropped if reason)}")
        taken = seconds(document["end_time"]) - seconds(document["start_time"])
        same(self.peers["ana"].shared / document["path"], self.peers["dora"].fetched / document["path"])
        say(f"{size(document['size_bytes'])} in {span(taken)}, {rate(document['size_bytes'] / taken)}; same bytes")

    def leaves_by_itself(self, kill: Kill) -> None:
        """Waits until the killed peer is out of the directory."""
        self.title("The killed peer leaves the directory by itself")
        only_ben = self.peers["ben"].paths() - self.peers["ana"].paths()
        with self.daemon("carla") as daemon:
            until("ben out of the directory", lambda: "ben" not in {one.peer.name for one in daemon.peers()})
            say(f"central withdrew ben {span(time.monotonic() - kill.time)} after the kill")
            left = {file.path for file in daemon.files("")}
            listings = list(daemon.peers())
            name = kill.document["path"]
            until(f"two holders of {name}", lambda: [1 for one in daemon.files(name) if one.holder_count == 2])
        if only_ben & left:
            raise Failed(f"still in the catalogue: {sorted(only_ben & left)}")
        if not {one.primary_peer_id for one in listings} <= {one.peer.peer_id for one in listings}:
            raise Failed("somebody still has ben as neighbour")
        say(f"{count(len(only_ben), 'file')} that only ben had are out of the catalogue; nobody has ben as neighbour")
        say(f"{name} has 2 holders again: ana, and dora, who serves what it fetched")

    def log_out(self) -> None:
        """Logs everybody out and stops central."""
        self.title("Everybody logs out")
        for name in (name for name in self.peers if name != "ben"):
            program = self.peers[name].program
            said = self.programs.finish(self.programs.begin("peer", "--home", self.peers[name].home, "logout")).strip()
            say(f"{name}$ relevo logout".ljust(22) + said)
            if program is None or program.ended():
                raise Failed(f"the daemon of {name} did not end well", self.programs.base / f"{name}.log")
        if self.central is None:
            raise ValueError("central runs")
        self.central.process.send_signal(signal.SIGTERM)
        if code := self.central.ended():
            raise Failed(f"central ended with {code}", self.central.log)
        say("central stopped on SIGTERM, exit code 0")

    def running(self, name: str) -> Program:
        """Returns the program of a peer, started again when it was killed."""
        peer = self.peers[name]
        if peer.program is None or peer.program.process.poll() is not None:
            self.serve(peer)
        if peer.program is None:
            raise ValueError(f"{name} runs")
        return peer.program

    def daemon(self, name: str) -> Daemon:
        """Returns a connection to a peer's daemon, where looking is much faster than with a command each time."""
        return Daemon(self.peers[name].home)

    def relevo(self, name: str, *arguments: str | Path) -> Any:
        """Runs `relevo … --json` as the user of a peer."""
        return self.programs.json("peer", "--home", self.peers[name].home, *arguments)


def say(text: str) -> None:
    """Writes a line below the title of the step."""
    click.echo(f"   {text}")


def _complete(listings: list[PeerListing]) -> list[PeerListing] | None:
    """Returns the peers when each has a neighbour and a backup."""
    return listings if all(one.primary_peer_id and one.backup_peer_id for one in listings) else None


def _given(given: dict[str, int]) -> str:
    return " and ".join(f"{size(given[name])} from {name}" for name in sorted(given))


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupted(number: int, frame: object) -> None:
    """Begins the end, which further signals do not disturb."""
    del number, frame
    for stopping in _STOPPING:
        signal.signal(stopping, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Runs the demonstration and returns the exit code."""
    for number in _STOPPING:
        signal.signal(number, _interrupted)
    os.environ["GRPC_VERBOSITY"] = "NONE"
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="relevo-demo-", ignore_cleanup_errors=True) as base:
        click.echo(f"One central and six peers on this machine; everything is real, below {base}")
        try:
            with Programs(Path(base)) as programs:
                Demo(programs).run()
        except (Failed, RelevoError) as error:
            click.echo(f"\ndemo FAILED: {error}", err=True)
            return 1
        except KeyboardInterrupt:
            click.echo("\ndemo stopped; no process is left", err=True)
            return 130
    click.echo(f"\n{span(time.monotonic() - began)} in all; no process is left")
    click.echo("demo ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
