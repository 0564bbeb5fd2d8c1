"""What an operator sees with grpcurl and a certificate from `relevo-central admin-cert`: real programs, over TLS."""

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GRPCURL = Path(sys.executable).with_name("grpcurl")
# grpcurl tries again for as long as it may when a handshake fails, in seconds.
IMPATIENT = ("-connect-timeout", "1")
KEPT = {key: value for key, value in os.environ.items() if not key.startswith("RELEVO_")}
ENVIRONMENT = {**KEPT, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "PYTHONUNBUFFERED": "1"}


def run(*command):
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=60, check=False
    )


def module(*arguments):
    done = run(sys.executable, "-m", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Network:
    """A central and a peer that shares one file, with an operator's certificate."""

    def __init__(self, base):
        self.base = base
        self.data = base / "central"
        self.programs = []
        self.central = self._serve("central", "serve", "--data", self.data, "--listen", "127.0.0.1:0")
        token = module("central", "invite", "--data", self.data).strip()
        (base / "shared").mkdir()
        (base / "shared" / "señal.txt").write_bytes(b"a")
        home = ("peer", "--home", base / "home")
        self.peer = self._serve(*home, "serve", base / "shared", "--join", token, "--listen", "127.0.0.1:0")
        while not json.loads(module(*home, "ls", "--json"))["files"]:
            time.sleep(0.1)
        self.printed = module("central", "admin-cert", "--data", self.data, "--label", "ana", "--to", base)
        (line,) = [line for line in self.printed.splitlines() if f" {self.central} list" in line][:1]
        words = line.split()
        self.central_name = words[words.index("-authority") + 1]
        self.peer_name = json.loads(module(*home, "status", "--json"))["peer"]["peer_id"] + ".peer"

    def _serve(self, *arguments):
        with (self.base / "log").open("ab") as log:
            program = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=ENVIRONMENT,
                cwd=ROOT,
            )
        self.programs.append(program)
        with selectors.DefaultSelector() as selector:
            selector.register(program.stdout, selectors.EVENT_READ)
            assert selector.select(30), (self.base / "log").read_text()
        line = program.stdout.readline().decode()
        assert " ready on " in line, line + (self.base / "log").read_text()
        return line.split()[-1]

    def grpcurl(self, name, *arguments, shown=True):
        files = ("-cert", self.base / "ana.pem", "-key", self.base / "ana-key.pem") if shown else ()
        return run(GRPCURL, "-cacert", self.base / "ca.pem", *files, "-authority", name, *arguments)

    def asked(self, name, *arguments):
        done = self.grpcurl(name, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self):
        for program in reversed(self.programs):
            program.kill()
            program.wait(20)
            program.stdout.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    network = None
    try:
        network = Network(tmp_path_factory.mktemp("network"))
        yield network
    finally:
        if network:
            network.stop()


def test_an_operator_lists_describes_and_calls_central(network):
    def ask(*arguments):
        return network.asked(network.central_name, *arguments)

    assert "relevo.v1.CentralDirectory" in ask(network.central, "list").split()
    assert "rpc LocateFile" in ask(network.central, "describe", "relevo.v1.CentralDirectory")
    assert "SERVING" in ask(network.central, "grpc.health.v1.Health/Check")
    assert "SERVING" in ask(network.central, "grpc.health.v1.Health/List")
    files = json.loads(ask("-d", '{"query": "señal"}', network.central, "relevo.v1.CentralDirectory/ListFiles"))
    assert [file["path"] for file in files["files"]] == ["señal.txt"]


def test_an_operator_asks_a_peer_under_its_own_name(network):
    assert "relevo.v1.PeerRelay" in network.asked(network.peer_name, network.peer, "list").split()
    answer = network.asked(
        network.peer_name, "-d", '{"request": {"query": "señal"}}', network.peer, "relevo.v1.PeerRelay/ListFiles"
    )
    assert [file["path"] for file in json.loads(answer)["response"]["files"]] == ["señal.txt"]
    assert network.grpcurl(network.central_name, *IMPATIENT, network.peer, "list").returncode != 0


def test_an_operator_changes_nothing_and_fetches_nothing(network):
    for name, address, method in (
        (network.central_name, network.central, "relevo.v1.CentralDirectory/PublishFiles"),
        (network.peer_name, network.peer, "relevo.v1.PeerRelay/GetBlock"),
    ):
        done = network.grpcurl(name, address, method)
        assert "PermissionDenied" in done.stderr


@pytest.mark.parametrize("place", ["central", "peer"])
def test_without_a_certificate_grpcurl_gets_nothing(network, place):
    name, address = getattr(network, f"{place}_name"), getattr(network, place)
    done = network.grpcurl(name, *IMPATIENT, address, "list", shown=False)
    assert done.returncode != 0
    assert "relevo" not in done.stdout
    assert run(GRPCURL, "-plaintext", *IMPATIENT, address, "list").returncode != 0


def test_the_commands_that_are_printed_work_as_they_stand(network):
    commands = [line.split() for line in network.printed.splitlines() if line.strip().startswith("grpcurl ")]
    assert commands
    for command in commands:
        if any(word.startswith(("<", "PEER", "HOST")) or "…" in word for word in command):
            continue  # of which something has to be filled in
        done = run(GRPCURL, *[word.strip("'") for word in command[1:]])
        assert done.returncode == 0, done.stderr
