"""Trials of peers that reach central through others: carriers are killed, and the way to central is cut and mended."""

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import grpc

from peer.settings import control_address
from relevo.v1.peer_control_pb2 import SESSION_STATE_LIVE, GetStatusRequest
from relevo.v1.peer_control_pb2_grpc import PeerControlStub
from tests.faults.trials import Trial
from tests.test_processes import World

PATIENCE = 120.0


class Carried(World):
    """A central, two peers beside it, and ben, who has a door before central."""

    def __init__(self, base):
        super().__init__(base)
        self.directory = self.central()
        self.peers = {name: self.peer(name, self.directory) for name in ("ana", "cho")}
        self.share("ben", "b.txt", b"b" * 1000)
        self.peer("ben", self.directory).stop()
        self.door = self.opened(0)
        self._door_port = self.door.address.rpartition(":")[2]
        self.ben = self.serve("ben", "127.0.0.1:0", "--central", self.door.address)
        self.until(lambda: self.way() == "central")

    def opened(self, port):
        return self.run("tests.door", *self.directory.address.split(":"), port)

    def serve(self, name, listen, *more):
        home, shared = self.base / name / "home", self.base / name / "shared"
        return self.run("peer", "--home", home, "serve", shared, "--name", name, "--listen", listen, *more)

    def cut(self):
        self.door.kill()

    def mend(self):
        self.door = self.opened(self._door_port)

    def start_again(self, name):
        self.peers[name] = self.serve(name, self.peers[name].address)

    def status(self, name):
        with grpc.insecure_channel(control_address(self.base / name / "home")) as channel:
            return PeerControlStub(channel).GetStatus(GetStatusRequest(), timeout=5)

    def way(self):
        """How ben reaches central: `central`, the name of who carries, or empty."""
        found = self.status("ben")
        if found.session_state != SESSION_STATE_LIVE:
            return ""
        return found.carrier.name if found.HasField("carrier") else "central"

    def until(self, check):
        """Returns how long it takes until `check` is true."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError("it does not come back")
            time.sleep(0.01)
        return time.monotonic() - began


@contextmanager
def _world():
    with tempfile.TemporaryDirectory() as directory:
        world = Carried(Path(directory))
        try:
            yield world
        finally:
            for program in world.programs:
                if program.process.poll() is None:
                    program.kill()


def _listed(world):
    """Raises unless ben's file is listed: nobody is to notice that its way is another."""
    if world.listed("cho") != ["b.txt"] or world.listed("ana") != ["b.txt"]:
        raise AssertionError("ben was withdrawn")


def carrier_killed(rounds):
    """Kills whoever carries, and measures until another does."""
    found = []
    with _world() as world:
        world.cut()
        world.until(lambda: world.way() in world.peers)
        for _ in range(rounds):
            carrier = world.way()
            (other,) = world.peers.keys() - {carrier}
            world.peers[carrier].kill()
            found.append(world.until(lambda other=other: world.way() == other))
            world.start_again(carrier)
            _listed(world)
    return found


def way_cut(rounds):
    """Cuts the way to central, and measures until another peer carries."""
    found = []
    with _world() as world:
        for _ in range(rounds):
            world.cut()
            found.append(world.until(lambda: world.way() in world.peers))
            _listed(world)
            world.mend()
            world.until(lambda: world.way() == "central")
    return found


def way_mended(rounds):
    """Mends the way to central as soon as another peer carries, and measures until it is taken."""
    found = []
    with _world() as world:
        for _ in range(rounds):
            world.cut()
            world.until(lambda: world.way() in world.peers)
            world.mend()
            found.append(world.until(lambda: world.way() == "central"))
            _listed(world)
    return found


TRIALS = (
    Trial(
        "carrier killed",
        "Kills whoever carries a peer's calls to central, and measures until another does; it stays listed.",
        "s",
        6.0,
        20,
        3,
        carrier_killed,
    ),
    Trial(
        "way to central cut",
        "Cuts a peer's way to central, and measures until its calls are carried; it stays listed.",
        "s",
        6.0,
        20,
        3,
        way_cut,
    ),
    Trial(
        "way to central mended",
        "Mends a peer's way to central, and measures until it calls central itself again; it stays listed.",
        "s",
        15.0,
        20,
        3,
        way_mended,
    ),
)
