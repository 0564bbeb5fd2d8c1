"""Trials of an entrance: newcomers that do not reach central join through it while a stranger floods it."""

import contextlib
import socket
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from core.addresses import split_address
from tests.faults.trials import Trial
from tests.test_processes import World, until

PATIENCE = 120.0
# All of 127.0.0.0/8 is this machine: where the entrance is, where the stranger comes from, and where nobody listens.
ENTRANCE, STRANGER, NOWHERE = "127.0.0.2", "127.0.0.5", "127.0.0.9:7400"
HELD = 200


class Flood:
    """Opens connections to an address as fast as they come, says something on each, and holds the latest of them."""

    def __init__(self, address: str) -> None:
        self.opened = 0
        self._address = split_address(address)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        held: deque[socket.socket] = deque()
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(self._address, 5, source_address=(STRANGER, 0)))
                held[-1].send(b"hello")
                self.opened += 1
            if len(held) > HELD:
                held.popleft().close()
        for connection in held:
            connection.close()


def joined_beside_a_flood(rounds: int) -> list[float]:
    """Starts newcomers one after the other, and measures each until its file is listed at the other end."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        try:
            central = world.central()
            options = ("--advertise", "127.0.0.1", "--entrance", ENTRANCE)
            ana = world.peer("ana", central, *options, listen="0.0.0.0:0")
            way = f"{ENTRANCE}:{split_address(ana.address)[1]}"
            with Flood(world.json("ana", "status")["entrance"]["address"]) as flood:
                found = [_listed_after(world, f"newcomer-{number}", way) for number in range(rounds)]
            if flood.opened < 100 * rounds:
                raise AssertionError(f"the stranger has opened {flood.opened} connections only")
        finally:
            for program in world.programs:
                if program.process.poll() is None:
                    program.kill()
    return found


def _listed_after(world: World, name: str, way: str) -> float:
    """Returns how long it takes from a newcomer's start until its file is listed, in seconds."""
    token = world.invite("--address", NOWHERE, "--via", way)
    world.share(name, f"{name}.txt", b"new")
    home, shared = world.base / name / "home", world.base / name / "shared"
    began = time.monotonic()
    newcomer = world.run(
        "peer", "--home", home, "serve", shared, "--name", name, "--listen", "127.0.0.1:0", "--join", token
    )
    until(lambda: f"{name}.txt" in world.listed("ana"), PATIENCE)
    took = time.monotonic() - began
    newcomer.stop()
    return took


TRIALS = (
    Trial(
        "joined through a flooded entrance",
        "Starts a newcomer that does not reach central while a stranger floods the entrance, until its file is listed.",
        "s",
        15.0,
        20,
        2,
        joined_beside_a_flood,
    ),
)
