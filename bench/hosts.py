"""Hosts with links of a certain rate, as network namespaces on this machine: one for each, on one bridge.

Needs root, and iproute2. Each host has one address, 10.88.0.N; its link is shaped both ways by a token bucket (tbf).
"""

import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Self

from bench.programs import Failed

_PREFIX = f"relevo-{os.getpid()}"
# What waits at a link that is full, in milliseconds, and what passes at once, in bytes.
QUEUE_MS = 50
BURST = 64 * 1024
_STREAM_PORT = 5000
_RECEIVE = f"""
import socket, sys, time
with socket.create_server(("", {_STREAM_PORT})) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    began, count = time.monotonic(), 0
    while data := connection.recv(1 << 20):
        if not count:
            began = time.monotonic()
        count += len(data)
    print(count / (time.monotonic() - began), flush=True)
"""
_SEND = f"""
import socket, sys
with socket.create_connection((sys.argv[1], {_STREAM_PORT})) as connection:
    data, left = bytes(65536), int(sys.argv[2])
    while left > 0:
        connection.sendall(data)
        left -= len(data)
"""


def missing() -> str:
    """Returns why there can be no hosts here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"`{program}` is missing (Debian: apt install iproute2)"
    return ""


class Host:
    """One host.

    Attributes:
        address: its IPv4 address.
        inside: what a command line begins with to run there.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"10.88.0.{number}"
        self.space = f"{_PREFIX}-{number}"
        self.inside = (shutil.which("ip") or "ip", "netns", "exec", self.space)


class Hosts:
    """The hosts of one run; a context manager that removes them all."""

    def __init__(self) -> None:
        self._bridge = f"{_PREFIX}-bridge"
        self._spaces: list[str] = []

    def __enter__(self) -> Self:
        self._add_space(self._bridge)
        _ip(self._bridge, "link", "add", "bridge", "type", "bridge")
        _ip(self._bridge, "link", "set", "bridge", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for space in self._spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)

    def add(self, name: str, up: float = 0.0, down: float = 0.0) -> Host:
        """Adds a host whose link carries `up` and `down` bits a second; 0: as fast as the machine is."""
        number = len(self._spaces)
        host = Host(name, number)
        self._add_space(host.space)
        _run(
            "ip",
            "link",
            "add",
            f"v{number}",
            "netns",
            self._bridge,
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            host.space,
        )
        _ip(self._bridge, "link", "set", f"v{number}", "master", "bridge")
        _ip(self._bridge, "link", "set", f"v{number}", "up")
        _ip(host.space, "address", "add", f"{host.address}/24", "dev", "eth0")
        _ip(host.space, "link", "set", "eth0", "up")
        _ip(host.space, "link", "set", "lo", "up")
        if up:
            _shape(host.space, "eth0", up)
        if down:
            _shape(self._bridge, f"v{number}", down)
        return host

    def plug(self, host: Host, *, connected: bool) -> None:
        """Plugs a host's cable in, or pulls it."""
        number = host.space.rpartition("-")[2]
        _ip(self._bridge, "link", "set", f"v{number}", "up" if connected else "down")

    def _add_space(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._spaces.append(name)


def plain_stream(sender: Host, receiver: Host, size: int) -> float:
    """Returns the bytes a second of one plain TCP stream of `size` bytes between two hosts."""
    command = (*receiver.inside, sys.executable, "-c", _RECEIVE)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiving:
        if receiving.stdout is None or receiving.stdout.readline() != "ready\n":
            raise Failed("the receiver of the plain stream did not start")
        _run(*sender.inside, sys.executable, "-c", _SEND, receiver.address, str(size))
        return float(receiving.stdout.readline())


def _shape(space: str, device: str, rate: float) -> None:
    shape = ("root", "tbf", "rate", f"{rate:.0f}", "burst", str(BURST), "latency", f"{QUEUE_MS}ms")
    _run("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", device, *shape)


def _ip(space: str, *arguments: str) -> None:
    _run("ip", "-n", space, *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command[:6])} … failed: {done.stderr.strip()}")
