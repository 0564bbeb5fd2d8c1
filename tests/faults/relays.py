"""Peers that nobody can dial: how soon they are reached, and what the death of a relay costs."""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.hosts import Host, Hosts, missing
from bench.programs import Failed, Program, Programs, until
from peer.commands.client import Daemon
from relevo.v1 import peer_control_pb2 as pb2
from tests.faults.trials import Trial

MIB = 1 << 20
_OVER = {pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED}
# Seen at another address than the one that it listens on, a peer is hidden; all of 127.0.0.0/8 is this machine.
_OPEN, _HIDDEN = ("--listen", "127.0.0.1:0"), ("--listen", "127.0.0.2:0", "--upload-limit", "8MiB")


class Scene:
    """A central, two relays, and two hidden peers, one of which shares a file."""

    def __init__(self, programs: Programs, data: bytes) -> None:
        self._programs = programs
        self.base = programs.base
        self._data = programs.base / "central"
        (programs.base / "uma" / "shared").mkdir(parents=True)
        (programs.base / "uma" / "shared" / "video.mkv").write_bytes(data)

    def central(self, listen: str, inside: Sequence[str] = ()) -> None:
        arguments = ("central", "serve", "--data", self._data, "--listen", listen)
        self._programs.serve("central", *arguments, inside=inside)

    def peer(self, name: str, *options: str, inside: Sequence[str] = ()) -> Program:
        token = self._programs.finish(self._programs.begin("central", "invite", "--data", self._data)).strip()
        shared = self.base / name / "shared"
        shared.mkdir(parents=True, exist_ok=True)
        arguments = ("peer", "--home", self.home(name), "serve", shared, "--name", name, "--join", token, *options)
        return self._programs.serve(name, *arguments, inside=inside)

    def home(self, name: str) -> Path:
        return self.base / name / "home"

    def attached(self, name: str) -> bool:
        with Daemon(self.home(name)) as daemon:
            found = daemon.status()
        return found.reachability == pb2.REACHABILITY_HIDDEN and len(found.relay.attached_to) == 2

    def relayed(self, name: str) -> int:
        with Daemon(self.home(name)) as daemon:
            return int(daemon.status().relay.relayed_bytes)

    def fetch(self, daemon: Daemon) -> str:
        """Has the file fetched by the daemon, and returns the transfer's id."""
        file = until("the file in the catalogue", lambda: next(iter(daemon.files("")), None), 60)
        target = self.base / "got"
        target.mkdir()
        return daemon.start_download(file, target).transfer_id

    def check(self, data: bytes) -> None:
        if (self.base / "got" / "video.mkv").read_bytes() != data:
            raise Failed("the file is not what was shared")


def _pause_after_kill(data: bytes) -> float:
    """Returns the longest pause of a relayed download of which the relay is killed in the middle, in seconds."""
    with tempfile.TemporaryDirectory(prefix="relevo-faults-") as base, Programs(Path(base)) as programs:
        scene = Scene(programs, data)
        scene.central("127.0.0.1:0")
        relays = {name: scene.peer(name, *_OPEN) for name in ("ana", "ben")}
        for name in ("uma", "uwe"):
            scene.peer(name, *_HIDDEN)
            until(f"{name} attached", partial(scene.attached, name), 60)
        with Daemon(scene.home("uwe")) as daemon:
            transfer_id = scene.fetch(daemon)
            killed = until("a relay in use", lambda: next((r for r in relays if scene.relayed(r) > 4 * MIB), None), 60)
            relays[killed].kill()
            done, since, longest = 0, time.monotonic(), 0.0
            while (transfer := daemon.transfer(transfer_id)).state not in _OVER:
                now = time.monotonic()
                longest = max(longest, now - since)
                if transfer.done_bytes != done:
                    done, since = transfer.done_bytes, now
                if now - since > 60:
                    raise Failed("nothing comes any more")
                time.sleep(0.02)
        if transfer.state != pb2.TRANSFER_STATE_DONE:
            raise Failed(f"the download failed: {transfer.error_message}")
        scene.check(data)
        return longest


def relay_killed(rounds: int) -> list[float]:
    """Kills the relay of a download between two hidden peers."""
    data = random.Random(1).randbytes(32 * MIB)
    return [_pause_after_kill(data) for _ in range(rounds)]


def _until_fetched(data: bytes) -> float:
    """Returns how long it takes from the last start until a file has come between two hosts that nobody can dial."""
    with ExitStack() as stack:
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="relevo-faults-"))
        hosts = stack.enter_context(Hosts())
        programs = stack.enter_context(Programs(Path(base)))
        scene = Scene(programs, data)
        middle = hosts.add("central")
        scene.central(f"{middle.address}:7400", middle.inside)

        def started(name: str, *, hidden: bool) -> Host:
            host = hosts.add(name)
            # What listens on loopback alone no other host gets in to, whatever address is told.
            where = ("127.0.0.1:0", "--advertise", host.address) if hidden else (f"{host.address}:0",)
            scene.peer(name, "--listen", *where, inside=host.inside)
            return host

        for name in ("ana", "ben"):
            started(name, hidden=False)
        for name in ("uma", "uwe"):
            started(name, hidden=True)
        began = time.monotonic()
        for name in ("uma", "uwe"):
            until(f"{name} attached", partial(scene.attached, name), 60)
        with Daemon(scene.home("uwe")) as daemon:
            transfer_id = scene.fetch(daemon)
            until("the download's end", lambda: daemon.transfer(transfer_id).state in _OVER, 60)
            transfer = daemon.transfer(transfer_id)
        if transfer.state != pb2.TRANSFER_STATE_DONE:
            raise Failed(f"the download failed: {transfer.error_message}")
        if sum(source.relayed_bytes for source in transfer.sources) != len(data):
            raise Failed("not everything came through a relay")
        scene.check(data)
        return time.monotonic() - began


def hidden_hosts(rounds: int) -> list[float]:
    """Has two hosts that nobody can dial find that out, attach, and exchange a file."""
    data = random.Random(2).randbytes(4 * MIB)
    return [_until_fetched(data) for _ in range(rounds)]


TRIALS = (
    Trial(
        "relay killed",
        "kill -9 of the relay in the middle of a download between two peers that nobody can dial: the longest pause.",
        "s",
        5.0,
        20,
        2,
        relay_killed,
    ),
    Trial(
        "hidden hosts",
        "Two hosts that nobody can dial, from their start to a file that one has fetched from the other.",
        "s",
        20.0,
        10,
        1,
        hidden_hosts,
        missing,
    ),
)
