"""Nothing is acknowledged that is not on disk: the order of system calls of the real programs, as strace sees them.

The programs speak plaintext here, so that what they send can be read in their calls.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from core.identity import Identity
from core.manifest import manifest_of
from core.signing import new_request_id, sign_request
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.content_pb2 import FileEntry
from tests.test_processes import Program, World, noise, until

CALLS = "pwrite64,write,writev,fsync,fdatasync,link,linkat,rename,renameat,renameat2,sendmsg,sendto"
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)? <(\d+\.\d+)>$")
HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


def tracing():
    """Returns why nothing can be traced here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-D", "-o", "/dev/null", "true"], capture_output=True, check=False, timeout=20)
    return "" if tried.returncode == 0 else "strace may not trace here"


pytestmark = pytest.mark.skipif(bool(tracing()), reason=tracing() or "it can")


@dataclass(frozen=True)
class Call:
    """A system call that succeeded; `words` are its descriptors' files and its strings, in the order of arguments."""

    name: str
    words: tuple[bytes, ...]
    began: float
    ended: float

    @property
    def file(self):
        return os.fsdecode(self.words[0]) if self.words else ""

    @property
    def data(self):
        return b"".join(self.words[1:])


def calls(directory):
    """Returns all calls of all threads, by when they began."""
    found = []
    for path in directory.iterdir():
        for line in path.read_text("ascii").splitlines():
            matched = LINE.match(line)
            if matched and int(matched[4]) >= 0:
                words = tuple(bytes.fromhex(word.replace("\\x", "")) for word in HEX.findall(matched[3]))
                began = float(matched[1])
                found.append(Call(matched[2], words, began, began + float(matched[5])))
    return sorted(found, key=lambda call: call.began)


class Traced(Program):
    """A program under strace, which writes one file for each thread into `traces`."""

    def __init__(self, *arguments, log, traces):
        traces.mkdir()
        self.traces = traces
        self.command = ["strace", "-D", "-ff", "-y", "-xx", "-ttt", "-T", "-s", "2000000", "-e", f"trace={CALLS}"]
        self.command += ["-o", str(traces / "t"), sys.executable]
        super().__init__(*arguments, log=log)

    def interpreter(self):
        return self.command

    def ended_calls(self):
        """Stops the program, and returns its calls when the last of them is written."""
        assert self.stop() == 0
        until(lambda: all("+++ exited" in path.read_text("ascii")[-200:] for path in self.traces.iterdir()), 30)
        return calls(self.traces)


class TracedWorld(World):
    """Plaintext; the programs that are started within `traced` are."""

    def __init__(self, base):
        super().__init__(base)
        self.insecure = True
        self.traced = False

    def run(self, *arguments):
        if not self.traced:
            return super().run(*arguments)
        program = Traced(*arguments, log=self.base / "log", traces=self.base / f"trace{len(self.programs)}")
        self.programs.append(program)
        return program


@pytest.fixture
def world(tmp_path):
    world = TracedWorld(tmp_path)
    yield world
    for program in world.programs:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


def one(found, condition, what):
    matching = [call for call in found if condition(call)]
    assert matching, f"nothing is {what}"
    return matching


def in_order(*steps):
    for before, after in itertools.pairwise(steps):
        assert before.ended <= after.began, f"{after} came before the end of {before}"


def grpc_message(message):
    data = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def test_central_answers_a_publication_when_its_journal_is_synced(world):
    world.traced = True
    central = world.central()
    identity, path = Identity.generate(), "a name that nothing else has.txt"
    versions = []

    def call(stub):
        details = pb2.LoginDetails(name="ana", min_protocol_version=1, max_protocol_version=1)
        method = "/relevo.v1.CentralDirectory/Login"
        signed = sign_request(identity, method, details.SerializeToString(), time.time())
        session = stub.Login(pb2.LoginRequest(signed=signed, public_key=identity.public_key), timeout=20)
        file = FileEntry(path=path, content_id=bytes(32), size_bytes=1)
        request = pb2.PublishFilesRequest(
            peer_id=identity.peer_id, session_id=session.session_id, request_id=new_request_id(), added=[file]
        )
        versions.append(stub.PublishFiles(request, timeout=20))

    with grpc.insecure_channel(central.address) as channel:
        call(CentralDirectoryStub(channel))
    found = central.ended_calls()
    answer = grpc_message(versions[0])
    (sent,) = one(found, lambda call: call.name.startswith("send") and answer in call.data, "answered")
    journal = [call for call in found if call.file.endswith("central.db-wal")]
    written = one(
        journal,
        lambda call: call.name == "pwrite64" and path.encode() in call.data and call.began < sent.began,
        "written",
    )
    synced = one(
        journal,
        lambda call: (
            call.name in {"fsync", "fdatasync"} and written[-1].ended <= call.began and call.ended <= sent.began
        ),
        "synced between the last write and the answer",
    )
    in_order(written[-1], synced[0], sent)


def test_a_copy_is_confirmed_when_its_bytes_its_name_and_its_record_are_synced(world, tmp_path):
    central = world.central()
    world.peer("ana", central)
    world.traced = True
    ben = world.peer("ben", central)
    data = noise(3 << 20)
    content = manifest_of(data).content_id
    (tmp_path / "precious.bin").write_bytes(data)
    done = world.relevo("ana", "put", tmp_path / "precious.bin", "--replicas", "1", "--wait")
    assert done.returncode == 0, done.stderr
    found = ben.ended_calls()

    store = world.base / "ben" / "home" / "store"
    partial = f".relevo-{content.hex()[:32]}.part"
    blocks = one(found, lambda call: call.name == "pwrite64" and call.file.endswith(partial), "written")
    assert sum(len(call.data) for call in blocks) == len(data)
    assert len(blocks) > 3, "as it came"
    synced = one(found, lambda call: call.name == "fsync" and call.file.endswith(partial), "synced")[-1]
    for block in blocks:
        in_order(block, synced)
    named = one(
        found,
        lambda call: (
            call.name in {"link", "linkat", "rename", "renameat", "renameat2"}
            and any(os.fsdecode(word).endswith(partial) for word in call.words)
        ),
        "named",
    )[0]
    directory = one(
        found,
        lambda call: (
            call.name == "fsync"
            and Path(call.file).is_relative_to(store)
            and call.began >= named.ended
            and not call.file.endswith(partial)
        ),
        "made durable under its name",
    )[0]
    record = one(
        found,
        lambda call: (
            call.name == "pwrite64"
            and call.file.endswith("index.db-wal")
            and content in call.data
            and call.began >= named.ended
        ),
        "recorded",
    )[0]
    kept = one(
        found,
        lambda call: (
            call.name in {"fsync", "fdatasync"} and call.file.endswith("index.db-wal") and call.began >= record.ended
        ),
        "recorded for good",
    )[0]
    number = pb2.PublishFilesRequest.DESCRIPTOR.fields_by_name["stored_content_ids"].number
    confirmed = bytes([number << 3 | 2, 32]) + content
    told = one(found, lambda call: call.name.startswith("send") and confirmed in call.data, "confirmed")[0]
    in_order(synced, named, directory, told)
    in_order(record, kept, told)


def test_keys_and_what_a_home_remembers_are_synced_before_they_replace_what_was_there(world):
    central = world.central()
    world.traced = True
    ana = world.peer("ana", central)
    found = ana.ended_calls()
    home = world.base / "ana" / "home"
    replaced = one(
        found,
        lambda call: call.name.startswith("rename") and Path(os.fsdecode(call.words[-1])).parent == home,
        "moved into the home",
    )
    assert home / "key.pem" in {Path(os.fsdecode(call.words[-1])) for call in replaced}
    for move in replaced:
        before = os.fsdecode(move.words[-2])
        written = one(found, lambda call, f=before: call.name == "write" and call.file == f, f"written to {before}")[-1]
        synced = one(found, lambda call, f=before: call.name == "fsync" and call.file == f, f"synced of {before}")[-1]
        directory = one(
            found,
            lambda call, m=move: call.name == "fsync" and call.file == str(home) and call.began >= m.ended,
            "made durable under its name",
        )[0]
        in_order(written, synced, move, directory)
