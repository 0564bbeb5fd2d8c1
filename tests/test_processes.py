"""Real processes, real files, real kills: the programs as a user runs them."""

import contextlib
import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from central.__main__ import cli as central
from core.content import Layout
from peer.cli import relevo
from peer.commands.client import Daemon
from peer.settings import control_address
from relevo.v1.peer_control_pb2 import SESSION_STATE_LIVE, SetRateLimitsRequest
from relevo.v1.peer_control_pb2_grpc import PeerControlStub
from tests.network import CENTRAL_HOST

MIB = 1024 * 1024
GRPCURL = str(Path(sys.executable).with_name("grpcurl"))
ROOT = Path(__file__).parent.parent


def environment():
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RELEVO_")}
    return {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "PYTHONUNBUFFERED": "1"}


class Program:
    """A central or a daemon that runs until it is told to stop."""

    def __init__(self, *arguments, log):
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.interpreter(), "-m", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
                cwd=ROOT,
            )
        try:
            self.address = self._ready()
        except BaseException:
            self.kill()
            raise

    def interpreter(self):
        return [sys.executable]

    def _ready(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(60), f"not ready in time: {self.log.read_text()}"
        line = self.process.stdout.readline()
        assert " ready on " in line, f"{line!r}: {self.log.read_text()}"
        return line.split()[-1]

    def kill(self):
        return self.end(signal.SIGKILL)

    def stop(self):
        return self.end(signal.SIGTERM)

    def end(self, name):
        self.process.send_signal(name)
        code = self.process.wait(60)
        self.process.stdout.close()
        return code


class CommandFailed(AssertionError):
    """A command that only looks has ended with an error: just then, it may be."""


class World:
    """A network of programs, over TLS unless `insecure`."""

    def __init__(self, base):
        self.base = base
        self.programs = []
        self.insecure = False

    def run(self, *arguments):
        program = Program(*arguments, log=self.base / "log")
        self.programs.append(program)
        return program

    def central(self, listen=f"{CENTRAL_HOST}:0"):
        mode = ["--insecure"] if self.insecure else ["--enrolment-port", "0"]
        return self.run("central", "serve", "--data", self.base / "central", "--listen", listen, *mode)

    def peer(self, name, central, *options, listen="127.0.0.1:0"):
        """Starts a daemon: with a token the first time, with what its home remembers later."""
        shared, home = self.base / name / "shared", self.base / name / "home"
        shared.mkdir(parents=True, exist_ok=True)
        if self.insecure:
            how = ["--central", central.address, "--insecure"]
        else:
            how = [] if (home / "network").exists() else ["--join", self.invite()]
        return self.run("peer", "--home", home, "serve", shared, "--name", name, "--listen", listen, *how, *options)

    def invite(self, *options):
        command = ["invite", "--data", str(self.base / "central"), *options]
        done = CliRunner().invoke(central, command, prog_name="relevo-central")
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    def share(self, name, path, data):
        target = self.base / name / "shared" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target

    def command(self, name, *arguments):
        return [sys.executable, "-m", "peer", "--home", str(self.base / name / "home"), *map(str, arguments)]

    def begin(self, name, *arguments):
        """Starts a command as a process of its own."""
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.command(name, *arguments), **streams, env=environment(), cwd=ROOT)

    def finish(self, name, *arguments):
        """Runs a command as a process of its own, as its user does."""
        return subprocess.run(
            self.command(name, *arguments),
            capture_output=True,
            text=True,
            env=environment(),
            cwd=ROOT,
            timeout=60,
            check=False,
        )

    def relevo(self, name, *arguments):
        """Runs a command in this process, where it costs a tenth: who waits asks again and again."""
        _, _, _, *rest = command = self.command(name, *arguments)
        done = CliRunner().invoke(relevo, rest, prog_name="relevo")
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    def look(self, name, *arguments):
        done = self.relevo(name, *arguments)
        if done.returncode:
            raise CommandFailed(f"{arguments} at {name} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def json(self, name, *arguments):
        return json.loads(self.look(name, *arguments, "--json"))

    def listed(self, name):
        return sorted(file["path"] for file in self.json(name, "ls")["files"])


def until(check, seconds=40.0):
    """Returns what `check` answers as soon as that is true, and how long it took.

    A command that fails meanwhile is asked again, as its user would do: connections that broke come back one by one.
    """
    began = time.monotonic()
    while True:
        vain = AssertionError("waited in vain")
        try:
            if found := check():
                return found, time.monotonic() - began
        except CommandFailed as error:
            vain = error
        if time.monotonic() - began > seconds:
            raise vain
        time.sleep(0.03)


def answer(look):
    """Returns the first answer to `look`, whatever it is: only a command that fails is asked again."""
    ((found,), _) = until(lambda: (look(),))
    return found


def last_seen(check, seconds=30.0):
    """Returns how late the last look began at which `check` was true; how long a look takes does not count."""
    began = seen = looks = time.monotonic()
    while check():
        seen = looks
        assert seen - began < seconds, "waited in vain"
        time.sleep(0.01)
        looks = time.monotonic()
    return seen - began


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    for program in world.programs:
        program.kill()


def noise(size):
    return random.Random(size).randbytes(size)


def test_files_are_listed_fetched_placed_and_withdrawn_by_the_command_line(world, tmp_path):
    data = noise(3 * MIB)
    world.share("ana", "señal/空の video.mkv", data)
    central = world.central()
    for name in ("ana", "ben", "cho"):
        world.peer(name, central)
    until(lambda: world.listed("ben") == ["señal/空の video.mkv"])

    done = world.finish("ben", "get", "空の video.mkv", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "空の video.mkv").read_bytes() == data

    (tmp_path / "informe.pdf").write_bytes(noise(MIB))
    done = world.finish("ben", "put", tmp_path / "informe.pdf", "--replicas", "2", "--wait")
    assert done.returncode == 0, done.stderr
    assert world.finish("ben", "logout").returncode == 0
    done = world.finish("cho", "get", "informe.pdf", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "informe.pdf").read_bytes() == noise(MIB)


def test_exit_codes_say_what_went_wrong_and_nothing_shows_a_traceback(world, tmp_path):
    world.share("ana", "a.txt", b"theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_bytes(b"mine")
    central = world.central()
    world.peer("ana", central)
    ben = world.peer("ben", central)
    until(lambda: world.listed("ben") == ["a.txt"])
    results = {
        3: world.finish("ben", "get", "no such file"),
        7: world.finish("ben", "get", "a.txt", "--to", tmp_path / "out"),
        2: world.finish("ben", "get"),
    }
    ben.stop()
    results[5] = world.finish("ben", "ls")
    for code, done in results.items():
        assert done.returncode == code, done
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"mine"


def test_a_killed_peer_leaves_the_directory_by_itself_and_everybody_ends_with_code_0(world):
    world.share("ana", "a.txt", b"a")
    central = world.central()
    ana, ben = world.peer("ana", central), world.peer("ben", central)
    until(lambda: world.listed("ben") == ["a.txt"])
    ana.kill()
    assert last_seen(lambda: world.listed("ben")) < 6
    assert ben.stop() == 0
    assert central.stop() == 0


def logins(world):
    return {peer["peer"]["peer_id"]: peer["login_time"] for peer in world.json("ana", "peers")["peers"]}


# Else whoever comes back to central a moment later than another logs in anew by way of that one.
NO_CARRIERS = ("--max-carried", "0")


def test_nobody_is_taken_for_dead_while_central_itself_was_stopped(world):
    central = world.central()
    world.share("ana", "a.txt", b"ana's")
    world.peer("ana", central, *NO_CARRIERS)
    world.peer("ben", central, *NO_CARRIERS)
    until(lambda: world.listed("ben") == ["a.txt"])
    central.process.send_signal(signal.SIGSTOP)
    time.sleep(8)  # a lease is 7 s
    central.process.send_signal(signal.SIGCONT)
    until(lambda: world.relevo("ben", "status").returncode == 0)
    time.sleep(4)
    assert answer(lambda: world.listed("ben")) == ["a.txt"]
    log = central.log.read_text()
    assert " fell silent" not in log
    assert [log.count(f"peer {name} (") for name in ("ana", "ben")] == [1, 1], "nobody had to log in again"


def test_invariant_2_what_was_acknowledged_survives_kill_9_of_central(world):
    world.share("ana", "a.txt", b"a")
    central = world.central()
    world.peer("ana", central, *NO_CARRIERS)
    world.peer("ben", central, *NO_CARRIERS)
    until(lambda: world.listed("ben") == ["a.txt"])
    sessions = logins(world)
    central.kill()
    again = world.central(listen=central.address)
    for name in ("ana", "ben"):
        until(lambda name=name: world.json(name, "status")["session_state"] == "live")
    assert answer(lambda: world.listed("ben")) == ["a.txt"]
    assert answer(lambda: logins(world)) == sessions
    assert again.address == central.address


def test_invariant_2_a_confirmed_copy_survives_kill_9_of_everybody(world, tmp_path):
    data = noise(2 * MIB)
    (tmp_path / "precious.bin").write_bytes(data)
    central = world.central()
    everybody = [world.peer("ana", central), world.peer("ben", central)]
    done = world.relevo("ana", "put", tmp_path / "precious.bin", "--replicas", "1", "--wait")
    assert done.returncode == 0, done.stderr
    for program in [central, *everybody]:
        program.kill()
    again = world.central(listen=central.address)
    world.peer("ben", again)
    world.peer("cho", again)
    until(lambda: world.listed("cho") == ["precious.bin"])
    done = world.relevo("cho", "get", "precious.bin", "--to", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "precious.bin").read_bytes() == data


def test_a_download_goes_on_after_kill_9_with_what_was_on_disk(world, tmp_path):
    data = noise(192 * MIB)
    world.share("ana", "big.bin", data)
    central = world.central()
    world.peer("ana", central)
    limit_uploads(world.base / "ana" / "home", 24 * MIB)  # the kill has to come before its end
    ben = world.peer("ben", central)
    until(lambda: world.listed("ben") == ["big.bin"])
    out = tmp_path / "out"
    out.mkdir()
    getting = world.begin("ben", "get", "big.bin", "--to", out)

    def some_of_it_is_there():
        return any(part.stat().st_blocks * 512 > 12 * MIB for part in out.glob(".relevo-*.part"))

    until(some_of_it_is_there)
    ben.kill()
    getting.wait(30)
    assert not (out / "big.bin").exists()
    limit_uploads(world.base / "ana" / "home", 0)
    world.peer("ben", central)
    fetched = world.json("ben", "get", "big.bin", "--to", out, "--quiet")
    assert (out / "big.bin").read_bytes() == data
    assert fetched["files"][0]["resumed_bytes"] >= 8 * MIB


def limit_uploads(home, rate):
    with grpc.insecure_channel(control_address(home)) as channel:
        request = SetRateLimitsRequest(upload_bytes_per_second=rate)
        PeerControlStub(channel).SetRateLimits(request, timeout=20, wait_for_ready=True)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_downloaders_help_each_other_and_finish_without_the_first_holder(world, tmp_path, end):
    """It is killed, ends in order, or falls silent as soon as the others have every block together."""
    data = noise(32 * MIB)
    layout = Layout(len(data))
    blocks = [data[layout.block_offset(index) :][: layout.block_length(index)] for index in range(layout.block_count)]
    world.share("ana", "big.bin", data)
    central = world.central()
    ana = world.peer("ana", central)
    limit_uploads(world.base / "ana" / "home", 8 * MIB)
    names = ["ben", "cho", "dee"]
    for name in names:
        world.peer(name, central)
        limit_uploads(world.base / name / "home", 4 * MIB)  # they have to pass on more than ana gives
    until(lambda: world.listed("dee") == ["big.bin"])
    outs = {name: tmp_path / name / "out" for name in names}
    getting = [world.begin(name, "get", "big.bin", "--to", outs[name]) for name in names]
    lacking = set(range(layout.block_count))

    def all_blocks_are_there():
        for file in (file for out in outs.values() for file in (*out.glob(".relevo-*.part"), *out.glob("big.bin"))):
            with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
                for index in list(lacking):
                    if os.pread(opened.fileno(), len(blocks[index]), layout.block_offset(index)) == blocks[index]:
                        lacking.discard(index)
        return not lacking

    until(all_blocks_are_there, 40)
    whole = [name for name in names if (outs[name] / "big.bin").exists()]
    ana.process.send_signal(end)
    assert [process.wait(60) for process in getting] == [0, 0, 0]
    given = Counter()
    for name in names:
        assert (outs[name] / "big.bin").read_bytes() == data
        (transfer,) = world.json(name, "transfers")["transfers"]
        given.update({source["peer"]["name"]: source["bytes"] for source in transfer["sources"]})
    assert len(whole) < 3, "there was something left to do without it"
    assert sum(given.values()) == 3 * len(data)
    assert all(given[name] for name in names), "everybody gave something"
    assert given["ana"] < 1.5 * len(data)


def test_a_download_of_which_a_tenth_is_there_when_central_is_killed_completes(world, tmp_path):
    """Nor does it need central to get on without a holder that is killed later: both were named at its beginning."""
    data = noise(16 * MIB)
    central = world.central()
    peers = {name: world.peer(name, central) for name in ("ana", "cho", "ben")}
    for name in ("ana", "cho"):
        world.share(name, "big.bin", data)
        limit_uploads(world.base / name / "home", MIB // 2)
    until(lambda: [file["holder_count"] for file in world.json("ben", "ls")["files"]] == [2], 60)
    out = tmp_path / "out"
    getting = world.begin("ben", "get", "big.bin", "--to", out)
    with Daemon(world.base / "ben" / "home") as ben:

        def there(part):
            return next((one.done_bytes for one in ben.transfers() if one.done_bytes >= part * len(data)), 0)

        at, _ = until(lambda: there(0.1), 60)
        central.kill()
        assert at < len(data) / 4, "most of it was still to come"
        until(lambda: ben.status().session_state != SESSION_STATE_LIVE, 30)
        assert there(0) < len(data) / 2, "much was still to come when it was known that central is away"
        limit_uploads(world.base / "cho" / "home", 4 * MIB)
        peers["ana"].kill()
        assert getting.wait(60) == 0
        (done,) = ben.transfers()
    assert (out / "big.bin").read_bytes() == data
    assert {source.peer.name for source in done.sources if source.bytes} == {"ana", "cho"}
    assert central.process.poll() is not None


def transfers(world, name):
    return {transfer["path"]: transfer for transfer in world.json(name, "transfers")["transfers"]}


def state(world, name, path):
    return transfers(world, name)[path]["state"]


@pytest.fixture
def slowly(world):
    """A network in which ana has three files, and gives only a little at a time."""
    for number in range(3):
        world.share("ana", f"file-{number}", noise(2 * MIB + number))
    central = world.central()
    world.peer("ana", central)
    ben = world.peer("ben", central)
    until(lambda: len(world.listed("ben")) == 3)
    assert world.relevo("ana", "limit", "--upload", "100KiB/s").returncode == 0
    return central, ben


def test_accepted_downloads_go_on_by_themselves_after_kill_9_but_not_what_was_paused_or_stopped(
    world, tmp_path, slowly
):
    central, ben = slowly
    out = tmp_path / "out"
    for number in range(2):
        done = world.relevo("ben", "get", f"file-{number}", "--to", out, "--detach")
        assert done.returncode == 0, done.stderr
    watched = world.begin("ben", "get", "file-2", "--to", out)
    until(lambda: "file-2" in transfers(world, "ben"))
    watched.send_signal(signal.SIGINT)
    assert watched.wait(20) == 130
    paused = transfers(world, "ben")["file-1"]["transfer_id"]
    until(lambda: transfers(world, "ben")["file-1"]["done_bytes"])
    assert world.relevo("ben", "pause", paused[:8]).returncode == 0
    ben.kill()
    assert world.relevo("ana", "limit", "--upload", "none").returncode == 0

    world.peer("ben", central)
    until(lambda: state(world, "ben", "file-0") == "done")
    found = transfers(world, "ben")
    assert (out / "file-0").read_bytes() == noise(2 * MIB)
    assert (found["file-1"]["state"], found["file-2"]["state"]) == ("paused", "cancelled")
    assert found["file-1"]["transfer_id"] == paused
    assert found["file-1"]["done_bytes"], "what it has is told"
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["file-0"]

    assert world.relevo("ben", "resume", "--all").returncode == 0
    until(lambda: state(world, "ben", "file-1") == "done")
    assert (out / "file-1").read_bytes() == noise(2 * MIB + 1)
    assert transfers(world, "ben")["file-1"]["resumed_bytes"]


def test_a_daemon_that_is_stopped_goes_on_with_its_downloads_when_it_is_started_again(world, tmp_path, slowly):
    central, ben = slowly
    assert world.relevo("ben", "get", "file-0", "--to", tmp_path, "--detach").returncode == 0
    until(lambda: state(world, "ben", "file-0") == "running")
    assert ben.stop() == 0
    assert world.relevo("ana", "limit", "--upload", "none").returncode == 0
    again = world.peer("ben", central)
    until(lambda: state(world, "ben", "file-0") == "done")
    with Daemon(world.base / "ben" / "home") as daemon:  # whose answer comes when it is remembered too
        daemon.cancel(transfers(world, "ben")["file-0"]["transfer_id"])
    again.kill()
    world.peer("ben", central)
    assert state(world, "ben", "file-0") == "done", "what has ended is remembered"


def test_a_detached_download_waits_until_a_holder_is_there(world, tmp_path):
    world.share("ana", "late.bin", noise(MIB))
    central = world.central()
    ana = world.peer("ana", central)
    world.peer("ben", central)
    until(lambda: world.listed("ben") == ["late.bin"])
    assert world.relevo("ana", "limit", "--upload", "10KiB/s").returncode == 0
    assert world.relevo("ben", "get", "late.bin", "--to", tmp_path, "--detach").returncode == 0
    assert world.relevo("ben", "pause", "--all").returncode == 0
    ana.kill()
    until(lambda: not world.listed("ben"))
    assert world.relevo("ben", "resume", "--all").returncode == 0
    until(lambda: "nobody holds" in transfers(world, "ben")["late.bin"]["waiting_reason"])
    world.peer("ana", central)
    until(lambda: world.listed("ben") == ["late.bin"])
    assert world.relevo("ben", "resume", "--all").returncode == 0
    until(lambda: state(world, "ben", "late.bin") == "done")
    assert (tmp_path / "late.bin").read_bytes() == noise(MIB)


def test_a_second_central_on_the_same_data_or_port_refuses_to_start(world, tmp_path):
    central = world.central()
    for data, listen in ((tmp_path / "central", "127.0.0.1:0"), (tmp_path / "elsewhere", central.address)):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "central", "serve", "--data", str(data)),
                *("--listen", listen, "--enrolment-port", "0"),
            ],
            capture_output=True,
            text=True,
            env=environment(),
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 7
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def grpcurl(*arguments):
    done = subprocess.run([GRPCURL, "-plaintext", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_grpcurl_inspects_and_calls_a_peer_in_plaintext(world):
    world.insecure = True
    world.share("ana", "a.txt", b"a")
    ana = world.peer("ana", world.central())
    until(lambda: world.listed("ana") == ["a.txt"])
    assert "relevo.v1.PeerRelay" in grpcurl(ana.address, "list")
    assert "rpc GetBlock" in grpcurl(ana.address, "describe", "relevo.v1.PeerRelay")
    assert "SERVING" in grpcurl(ana.address, "grpc.health.v1.Health/Check")
    answer = grpcurl("-d", '{"request": {"query": "a"}}', ana.address, "relevo.v1.PeerRelay/ListFiles")
    assert json.loads(answer)["response"]["files"][0]["path"] == "a.txt"


def test_sigint_ends_a_daemon_as_politely_as_sigterm(world):
    central = world.central()
    ana = world.peer("ana", central)
    world.peer("ben", central)
    until(lambda: len(world.json("ben", "peers")["peers"]) == 2)
    assert ana.end(signal.SIGINT) == 0
    assert len(answer(lambda: world.json("ben", "peers")["peers"])) == 1
    assert " fell silent" not in central.log.read_text()


def whole_files(root, files):
    """Returns which of `files` stand beneath `root`; each has to be whole, and nothing else may be there."""
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found.keys() <= files.keys(), "nothing half done under a name, and nothing left over"
    assert all(files[path] == data for path, data in found.items())
    return found.keys()


def test_a_directory_survives_kill_9_at_any_time_and_goes_on_by_itself(world, tmp_path):
    files = {f"d/{number % 13}/{number}.txt": f"{number} ".encode() * 400 for number in range(4000)}
    for path, data in files.items():
        world.share("ana", path, data)
    central = world.central()
    world.peer("ana", central)
    ben = world.peer("ben", central)
    until(lambda: world.json("ben", "peers")["peers"][-1]["file_count"] == len(files), 60)
    limit_uploads(world.base / "ana" / "home", 2 * MIB)  # the kills have to come before its end
    to = tmp_path / "to"
    command = world.begin("ben", "get", "d/", "--to", to)

    def more_than(before):
        return (count := sum(1 for _ in to.glob("d/*/*"))) > before or count == len(files)

    for attempt in range(3):
        before = len(whole_files(to, files)) if to.exists() else 0
        until(lambda before=before: more_than(before))
        ben.kill()
        command.wait(20)
        there = whole_files(to, files)
        ben = world.peer("ben", central)
        assert attempt or len(there) < len(files), "it was killed on its way"
        if len(there) == len(files):
            break
    limit_uploads(world.base / "ana" / "home", 0)
    until(lambda: len(whole_files(to, files)) == len(files), 60)
    again = world.relevo("ben", "get", "d/", "--to", to)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"{to}  d/  4,000 files, ")
    assert "already there" in again.stdout
    until(lambda: world.json("ben", "status")["file_count"] == len(files), 30)


def test_a_pattern_and_a_directory_come_from_two_peers_under_one_command(world, tmp_path):
    ana = {"trip/a.mov": noise(MIB), "trip/notes/1.txt": b"one", "same.txt": b"ana's"}
    ben = {"trip/b.mov": noise(300_000), "other.mov": noise(90_000), "same.txt": b"ben's"}
    for name, files in (("ana", ana), ("ben", ben)):
        for path, data in files.items():
            world.share(name, path, data)
    central = world.central()
    for name in ("ana", "ben", "cho"):
        world.peer(name, central)
    until(lambda: world.listed("cho") == sorted([*ana, *ben]))
    to = tmp_path / "to"
    document = world.json("cho", "get", "trip/", "o*.mov", "--to", to)
    (found,) = document["sets"]
    assert (found["state"], found["set"]["done_count"], found["path"]) == ("done", 4, "trip/, o*.mov")
    assert {source["peer"]["name"] for source in found["sources"] if source["bytes"]} == {"ana", "ben"}
    wanted = {**ana, **ben}
    del wanted["same.txt"]
    assert whole_files(to, wanted) == wanted.keys()
    twins = world.relevo("cho", "get", "*.txt", "--to", to)
    assert twins.returncode == 7
    assert "same.txt is the name of 2 different files" in twins.stderr
    assert (to / "trip/notes/1.txt").read_bytes() == b"one"
    assert not (to / "same.txt").exists()


def test_a_central_that_is_restored_from_a_backup_serves_its_members_without_their_doing(world, tmp_path):
    world.share("ana", "a.txt", b"ana's")
    central = world.central()
    ana = world.peer("ana", central)
    world.peer("ben", central)
    until(lambda: world.listed("ben") == ["a.txt"])
    command = [
        sys.executable,
        "-m",
        "central",
        "backup",
        "--data",
        str(world.base / "central"),
        str(tmp_path / "b.tar"),
    ]
    subprocess.run(command, env=environment(), cwd=ROOT, check=True, timeout=60)
    world.share("ana", "later.txt", b"after the backup")
    until(lambda: "later.txt" in world.listed("ben"))
    central.kill()
    shutil.rmtree(world.base / "central")
    (world.base / "central").mkdir(0o700)
    subprocess.run(["tar", "-xpf", tmp_path / "b.tar", "-C", world.base / "central"], check=True, timeout=20)
    world.central(listen=central.address)
    until(lambda: world.json("ben", "status")["session_state"] == "live", 30)
    until(lambda: world.listed("ben") == ["a.txt", "later.txt"], 30)
    ana.stop()
    world.peer("ana", central)  # it is a member still, and needs no token
    until(lambda: len(world.json("ben", "peers")["peers"]) == 2, 30)


def through(world, name):
    """Returns by whom a daemon says that central is reached: empty when it is reached directly, None when it is not."""
    (line,) = [line for line in world.look(name, "status").splitlines() if line.startswith("network")]
    if "NOT" in line:
        return None
    return line.partition("which is reached through ")[2]


def test_a_daemon_that_loses_central_goes_on_through_others_that_are_killed_and_returns(world, tmp_path):
    world.share("ben", "b.txt", noise(MIB))
    central = world.central()
    ana, cho = world.peer("ana", central), world.peer("cho", central)
    world.peer("ben", central).stop()
    door = world.run("tests.door", *central.address.split(":"), 0)
    home, shared = world.base / "ben" / "home", world.base / "ben" / "shared"
    ways = ["--central", door.address, "--via", ana.address, "--via", cho.address]
    door.kill()
    ben = world.run("peer", "--home", home, "serve", shared, "--name", "ben", "--listen", "127.0.0.1:0", *ways)
    names = {f"{name} ({program.address})": name for name, program in (("ana", ana), ("cho", cho))}
    first, _ = until(lambda: names.get(through(world, "ben")))  # whoever answers sooner
    killed, other = (ana, "cho") if first == "ana" else (cho, "ana")
    until(lambda: world.listed(other) == ["b.txt"])

    killed.kill()
    until(lambda: names.get(through(world, "ben")) == other)
    assert answer(lambda: world.listed(other)) == ["b.txt"]
    done = world.relevo(other, "get", "b.txt", "--to", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out" / "b.txt").read_bytes()) == (0, noise(MIB))
    (tmp_path / "c.txt").write_bytes(noise(1000))
    done = world.relevo(other, "put", tmp_path / "c.txt", "--replicas", "1", "--wait")
    assert done.returncode == 0, done.stderr
    assert world.json("ben", "status")["stored_count"] == 1

    central.kill()
    until(lambda: through(world, "ben") is None)
    world.central(central.address)
    until(lambda: names.get(through(world, "ben")) == other)
    assert answer(lambda: world.listed(other)) == ["b.txt", "c.txt"]

    world.run("tests.door", *central.address.split(":"), door.address.split(":")[1])
    until(lambda: through(world, "ben") == "", 60)
    assert answer(lambda: world.listed(other)) == ["b.txt", "c.txt"]
    assert ben.stop() == 0
    # Who was killed is there for a lease more: central has begun with that session again.
    until(lambda: [one["peer"]["name"] for one in world.json(other, "peers")["peers"]] == [other])


def test_a_newcomer_joins_through_another_peer_without_ever_reaching_central_and_comes_back(world, tmp_path):
    world.share("ana", "a.txt", noise(1000))
    world.share("ben", "b.txt", noise(MIB))
    central = world.central()
    reached = ("--advertise", "127.0.0.1", "--entrance", "127.0.0.2")
    ana = world.peer("ana", central, *reached, listen="0.0.0.0:0")
    way = f"127.0.0.2:{ana.address.split(':')[1]}"
    token = world.invite("--address", "127.0.0.9:7400", "--via", way)  # where nobody listens
    home, shared = world.base / "ben" / "home", world.base / "ben" / "shared"
    serve = ("peer", "--home", home, "serve", shared, "--name", "ben", "--listen", "127.0.0.1:0")
    ben = world.run(*serve, "--join", token)
    until(lambda: way in (through(world, "ben") or ""))
    until(lambda: world.listed("ana") == ["a.txt", "b.txt"])
    entrance = world.json("ana", "status")["entrance"]
    assert (entrance["address"].split(":")[0], int(entrance["led_count"])) == ("127.0.0.2", 1)
    done = world.relevo("ana", "get", "b.txt", "--to", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out" / "b.txt").read_bytes()) == (0, noise(MIB))

    assert ben.stop() == 0
    until(lambda: world.listed("ana") == ["a.txt", "b.txt"])  # as a holder of what it has fetched
    ben = world.run(*serve)
    until(lambda: way in (through(world, "ben") or ""))
    done = world.relevo("ben", "get", "a.txt", "--to", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out" / "a.txt").read_bytes()) == (0, noise(1000))


def test_a_newcomer_that_is_let_in_nowhere_is_told_why_and_ends(world):
    central = world.central()
    world.peer("ana", central, "--entrance", "127.0.0.2")
    token = world.invite("--address", "127.0.0.9:7400")
    central.kill()
    home, shared = world.base / "ben" / "home", world.base / "ben" / "shared"
    shared.mkdir(parents=True)
    for host, why in (("127.0.0.2", "does not lead to it"), ("127.0.0.3", "has to run with `relevo serve --entrance`")):
        done = world.finish("ben", "serve", shared, "--join", token, "--via", f"{host}:7500")
        assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr
        assert why in done.stderr
        assert not (home / "network").exists()
    log = (world.base / "log").read_text()
    assert f"newcomers cannot be let in: central's enrolment does not answer at {CENTRAL_HOST}:" in log


def test_a_relay_that_is_killed_in_the_middle_is_replaced_by_the_backup_and_the_user_notices_nothing(world):
    """Both who gives and who takes are hidden: each is seen at another address than the one that it listens on."""
    data = random.Random(5).randbytes(24 * MIB)
    central = world.central()
    relays = {name: world.peer(name, central) for name in ("ana", "ben")}
    world.share("uma", "video.mkv", data)
    for name in ("uma", "uwe"):
        world.peer(name, central, "--upload-limit", "8MiB", listen="127.0.0.2:0")
        until(lambda name=name: len(world.json(name, "status")["relay"]["attached_to"]) == 2, 40)
    until(lambda: world.listed("uwe") == ["video.mkv"], 40)
    target = world.base / "got"
    target.mkdir()
    command = ("get", "video.mkv", "--to", target)
    with contextlib.ExitStack() as stack:
        getting = world.begin("uwe", *command)
        stack.callback(getting.kill)

        def used():
            found = {name: world.json(name, "status")["relay"]["relayed_bytes"] for name in relays}
            return next((name for name, count in found.items() if int(count) > 2 * MIB), None)

        relays[until(used, 40)[0]].kill()
        assert getting.wait(60) == 0
    assert (target / "video.mkv").read_bytes() == data
    status = world.json("uwe", "status")
    assert status["reachability"] == "hidden"
    assert int(status["received_relayed_bytes"]) == len(data)
    assert "nobody can dial this peer" in world.relevo("uwe", "status").stdout
    again = world.relevo("uwe", *command)
    assert again.returncode == 0, again.stderr
