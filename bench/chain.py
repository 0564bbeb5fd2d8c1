"""A chain of hosts as a rival of the swarm: gRPC alone (bench/bare.py), each host hands on to the next what it has.

While all links are alike, everybody has nearly everything as soon as the first holder has sent it once, which is the
least time of any scheme. Nothing is decided for that, and nothing would be left of it if one host were slow or died:
what it shows is how near to the links' speed gRPC in Python gets on this machine with so many processes.
"""

import core  # noqa: F401 - before gRPC, which reads its environment once

# isort: split
import time
from pathlib import Path

from bench.bare import make_material
from bench.cases import MBIT, PATIENCE, Case, Result, least_time
from bench.hosts import Host, Hosts, plain_stream
from bench.measured import busy, processors
from bench.programs import Programs, until
from bench.scenery import MIB, Peer, random_name, same, write_random

_PORT = 7500
# Seconds for everybody to connect to the one before.
_CONNECTING = 2.0


class Chain:
    """The hosts of one case, each with a program that hands on what it gets."""

    def __init__(self, case: Case, programs: Programs, hosts: Hosts) -> None:
        self._case = case
        self._giver = Peer("giver", programs.base / "giver")
        self._giver.shared.mkdir(parents=True)
        self._size, self._targets = case.mib * MIB, list[Path]()
        secrets, rate = programs.base / "material", case.mbit * MBIT
        secrets.mkdir()
        make_material(secrets)

        def serve(host: Host, *what: str | Path) -> None:
            listen = ("--listen", f"{host.address}:{_PORT}", "--material", secrets)
            programs.serve(host.name, "bench.bare", *what, *listen, inside=host.inside)

        first = before = hosts.add("first", rate, rate)
        serve(first, "give", self._giver.shared / "file")
        for index in range(case.downloaders):
            host = hosts.add(f"peer{index}", rate, rate)
            self._targets.append(programs.base / f"{host.name}.bin")
            if not index:
                self._rate = plain_stream(first, host, round(rate / 8 * 2))
            serve(host, "take", f"{before.address}:{_PORT}", self._targets[-1], f"{self._size}")
            before = host

    def run(self) -> Result:
        """Puts the file where the first host gives it, compares the bytes, and returns what came out."""
        links = [self._rate] * self._case.downloaders
        result = Result(self._case, self._rate, least_time(self._size, self._rate, links, links), copies=1.0)
        write_random(self._size, self._giver)
        time.sleep(_CONNECTING)
        before, began = processors(), time.time()
        (self._giver.shared / random_name(self._size)).rename(self._giver.shared / "file")

        def everywhere() -> bool:
            time.sleep(0.25)
            return all(target.exists() for target in self._targets)

        until("the file is everywhere", everywhere, PATIENCE)
        result.busy = busy(before, processors())
        result.seconds = [target.stat().st_ctime - began for target in self._targets]  # when it got its name
        for target in self._targets:
            same(self._giver.shared / "file", target)
        return result
