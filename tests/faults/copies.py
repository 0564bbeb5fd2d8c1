"""Copies that `put` promised, while the peers that keep them are killed and come back at random."""

import functools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from bench.programs import Program, Programs
from core.errors import Unreachable
from peer.commands.client import Daemon
from relevo.v1 import peer_control_pb2 as pb2
from tests.faults.trials import Trial

PEERS, FILES, REPLICAS = 20, 200, 3
# What a daemon takes: where there is too little memory for all, there are fewer of them.
_MEMORY_EACH = 150 << 20
# While fewer holders of a file are down, the file has to have a copy that is not.
_FATAL = 3
_AT_ONCE = 4
_PATIENCE = 180.0
CALM = 60.0


@dataclass
class Host:
    """A peer that is killed and started again. It is down from before the kill until it says that it is ready."""

    name: str
    base: Path
    program: Program | None = None
    starting: "Future[Program] | None" = None
    returns: float = 0.0

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def shared(self) -> Path:
        return self.base / "shared"

    @property
    def up(self) -> bool:
        return self.program is not None

    def copy_of(self, content_id: bytes) -> Path:
        """Returns where its copy of a content stands, when it keeps one."""
        name = content_id.hex()
        return self.home / "store" / name[:2] / name

    def copies(self) -> dict[bytes, Path]:
        """Returns the copies that it keeps for others."""
        return {bytes.fromhex(path.name): path for path in self.home.glob("store/*/*") if len(path.name) == 64}


@dataclass
class File:
    """A file that its owner wants copies of."""

    path: str
    data: bytes = field(repr=False)
    owner: Host
    content_id: bytes = b""

    def held_by(self, host: Host) -> bool:
        """Tells whether a host has the bytes on disk, as its owner or for others."""
        return host is self.owner or host.copy_of(self.content_id).exists()


class Swarm:
    """A central and peers that each own some files, of which copies are wanted."""

    def __init__(self, base: Path, programs: Programs, starters: ThreadPoolExecutor, grace: float) -> None:
        self._programs = programs
        self._starters = starters
        arguments = ("--data", base / "central", "--listen", "127.0.0.1:0", "--insecure", "--replace-after", f"{grace}")
        self.central = programs.serve("central", "central", "serve", *arguments)
        self._base = base
        self.hosts: list[Host] = []
        self.files: list[File] = []

    def start(self, count: int) -> None:
        """Starts so many peers."""
        self.hosts = [Host(f"peer{number}", self._base / f"peer{number}") for number in range(count)]
        for host in self.hosts:
            host.shared.mkdir(parents=True)
            self._begin(host)
        for host in self.hosts:
            self._end_start(host)

    def put(self, count: int, replicas: int, chance: random.Random) -> None:
        """Has so many files made, spread over all peers, and copies of each asked for."""
        for number in range(count):
            owner = self.hosts[number % len(self.hosts)]
            file = File(f"file{number}.bin", chance.randbytes(chance.randrange(1_000, 200_000)), owner)
            (owner.shared / file.path).write_bytes(file.data)
            self.files.append(file)
        for host in self.hosts:
            own = [file for file in self.files if file.owner is host]
            with Daemon(host.home) as daemon:
                begun = [daemon.start_upload(host.shared / file.path, replicas).transfer_id for file in own]
                for file, transfer_id in zip(own, begun, strict=True):
                    transfer = self.until(lambda i=transfer_id: _ended(daemon.transfer(i)), f"{file.path} put")
                    if transfer.state != pb2.TRANSFER_STATE_DONE:
                        raise AssertionError(f"{file.path}: {transfer.error_message}")
                    file.content_id = transfer.content_id

    def until(self, check: Callable[[], object], what: str, patience: float = _PATIENCE) -> "pb2.Transfer":
        deadline = time.monotonic() + patience
        while True:
            with suppress(Unreachable):  # whoever is asked may have asked somebody who was killed
                if found := check():
                    return found  # type: ignore[return-value]
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {patience:g} s")
            time.sleep(0.1)

    def kill(self, host: Host, pause: float) -> None:
        """Kills a peer, which is to come back after a pause."""
        program, host.program = host.program, None
        host.returns = time.monotonic() + pause
        if program is not None:
            program.kill()

    def tend(self) -> None:
        """Starts those again whose pause is over, and notes who is ready."""
        for host in self.hosts:
            if host.starting is not None and host.starting.done():
                self._end_start(host)
            elif not host.up and host.starting is None and time.monotonic() >= host.returns:
                self._begin(host)

    def return_all(self) -> None:
        """Starts everybody who is down, and returns when all are ready."""
        for host in self.hosts:
            host.returns = 0.0
        self.tend()
        for host in self.hosts:
            if host.starting is not None:
                self._end_start(host)

    def lost(self) -> list[File]:
        """Returns the files of which no copy is up, although fewer holders than that are down."""
        found = []
        for file in self.files:
            holders = [host.up for host in self.hosts if file.held_by(host)]
            if not any(holders) and len(holders) < _FATAL:
                found.append(file)
        return found

    def settled(self, replicas: int) -> bool:
        """Tells whether central counts exactly as many live copies of every file as are wanted."""
        with Daemon(next(host for host in self.hosts if host.up).home) as daemon:
            listed = {file.content_id: file for file in daemon.files("")}
        return all(
            (file := listed.get(one.content_id)) is not None and file.live_copies == file.wanted_copies == replicas
            for one in self.files
        )

    def left_wrong(self, replicas: int) -> list[str]:
        """Returns what stays wrong: a copy that is to be deleted is counted no more, and still there for a moment."""
        with suppress(AssertionError):
            self.until(lambda: not self.wrong(replicas), "all is right", CALM)
        return self.wrong(replicas)

    def wrong(self, replicas: int) -> list[str]:
        """Returns what is wrong with what is on the disks: bytes, numbers of copies, counts of the quota."""
        found = []
        by_id = {file.content_id: file for file in self.files}
        count = dict.fromkeys(by_id, 0)
        for host in self.hosts:
            copies = host.copies()
            for content_id, path in copies.items():
                if content_id not in by_id:
                    found.append(f"{host.name} keeps {content_id.hex()}, which nobody wants")
                elif _bytes_of(path) != by_id[content_id].data:
                    found.append(f"{host.name} keeps wrong bytes for {by_id[content_id].path}")
                else:
                    count[content_id] += 1
            with Daemon(host.home) as daemon:
                status = daemon.status()
            size = sum(len(_bytes_of(path)) for path in copies.values())
            if (status.stored_count, status.stored_bytes) != (len(copies), size):
                found.append(f"{host.name} counts {status.stored_bytes} bytes in {status.stored_count}, not {size}")
            found += [f"{host.name} has left {path}" for path in host.home.glob("store/*/.relevo-*")]
        found += [f"{by_id[one].path} has {many} copies" for one, many in count.items() if many != replicas]
        return found

    def _begin(self, host: Host) -> None:
        arguments = ("serve", host.shared, "--name", host.name, "--listen", "127.0.0.1:0", "--insecure")
        command = ("peer", "--home", host.home, *arguments, "--central", self.central.address)
        host.starting = self._starters.submit(self._programs.serve, host.name, *command)

    def _end_start(self, host: Host) -> None:
        if host.starting is not None:
            host.program, host.starting = host.starting.result(), None


def _bytes_of(path: Path) -> bytes:
    """Returns what is in a copy; nothing when it has just been deleted."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _ended(transfer: pb2.Transfer) -> pb2.Transfer | None:
    return transfer if transfer.HasField("end_time") else None


@contextmanager
def swarm(grace: float) -> Iterator[Swarm]:
    """Gives a swarm without peers, and ends all of it."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relevo-copies-")))
        programs = stack.enter_context(Programs(base))
        starters = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        yield Swarm(base, programs, starters, grace)


def chaos(found: Swarm, seconds: float, most_down: int, pauses: Callable[[], float], chance: random.Random) -> set[str]:
    """Kills peers, which come back after `pauses`, and returns the files that had no live copy though they should."""
    lost: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        up = [host for host in found.hosts if host.up]
        if len(found.hosts) - len(up) < most_down:
            found.kill(chance.choice(up), pauses())
        lost |= {file.path for file in found.lost()}
        time.sleep(min(0.5, max(end - time.monotonic(), 0)))
        found.tend()
    return lost


@dataclass
class Campaign:
    """What was seen: files that were lost, seconds until all had their copies, and what was wrong in the end."""

    lost: set[str]
    calm: float
    wrong: list[str]


def peers_here() -> int:
    """Returns how many peers this machine carries, at most `PEERS`."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(5, min(PEERS, free // _MEMORY_EACH))


@functools.cache
def _tried(minutes: int) -> "Campaign | Exception":
    try:
        return _campaign(minutes)
    except Exception as error:  # noqa: BLE001 - every trial that looks at it tells
        return error


def campaign(minutes: int) -> Campaign:
    """Returns what became of it; it is done once for all the trials that ask. Raises what went wrong."""
    found = _tried(minutes)
    if isinstance(found, Exception):
        raise found
    return found


def _campaign(minutes: int) -> Campaign:
    chance = random.Random(minutes)
    count = peers_here()
    if count < PEERS:
        click.echo(f"    {count} peers, since there is no memory for {PEERS}", err=True)
    with swarm(30.0) as found:
        found.start(count)
        found.put(FILES, REPLICAS, chance)
        found.until(lambda: found.settled(REPLICAS), "all files copied")

        def pause() -> float:
            return chance.choice((chance.uniform(0, 25), chance.uniform(35, 80)))

        lost = chaos(found, 60.0 * minutes, count // 4, pause, chance)
        found.return_all()
        began = time.monotonic()
        found.until(lambda: found.settled(REPLICAS), "all copies back", 3 * CALM)
        return Campaign(lost, time.monotonic() - began, found.left_wrong(REPLICAS))


def _calm(minutes: int) -> list[float]:
    return [campaign(minutes).calm]


def _lost(minutes: int) -> list[float]:
    return [float(len(campaign(minutes).lost))]


def _wrong(minutes: int) -> list[float]:
    for line in campaign(minutes).wrong:
        click.echo(f"    {line}", err=True)
    return [float(len(campaign(minutes).wrong))]


_WHAT = "20 peers, 200 files with 3 copies each; a quarter of the peers is killed and back at random, for RUNS minutes:"
TRIALS = (
    Trial("copies are back", f"{_WHAT} until each has exactly 3 live ones again.", "s", CALM, 5, 1, _calm),
    Trial("copies are never lost", f"{_WHAT} files without one while less than 3 are down.", "files", 0, 5, 1, _lost),
    Trial("copies are right", f"{_WHAT} copies that differ, are one too many, or not counted.", "", 0, 5, 1, _wrong),
)
