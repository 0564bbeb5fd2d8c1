"""Trials of disks: full, read-only, failing, and bytes that change or rot under a peer that serves them."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from core.identity import Identity
from core.signing import new_request_id, sign_request
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.content_pb2 import FileEntry
from tests.faults.crashes import LOGIN, MIB, world
from tests.faults.trials import Trial
from tests.test_processes import Program, World, noise, until

SHIM = Path(__file__).with_name("failing_sync.c")
SMALL = 6 * MIB


def no_compiler() -> str:
    return "" if shutil.which("gcc") else "there is no gcc, with which a failing disk is made"


def no_mounts() -> str:
    return "" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount a small disk"


@contextmanager
def failing_sync(base: Path) -> Iterator[Path]:
    """Has programs that are started within it fail to sync as long as the file exists whose path it gives."""
    library, trigger = base / "failing_sync.so", base / "the disk fails"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True, timeout=60)
    before = dict(os.environ)
    os.environ |= {"LD_PRELOAD": str(library)}
    os.environ["FAILING_SYNC_WHILE"] = str(trigger)
    try:
        yield trigger
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def small_disk(at: Path, size: int = SMALL) -> Iterator[Path]:
    """Gives a directory on a disk of its own."""
    at.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True, timeout=20)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True, timeout=20)


class Publisher:
    """Publishes to a central in plaintext, one file a call, and knows what was acknowledged."""

    def __init__(self, address: str):
        self.identity = Identity.generate()
        self.acknowledged: list[str] = []
        self.version = 0
        self.connect(address)

    def connect(self, address: str):
        self.stub = CentralDirectoryStub(grpc.insecure_channel(address))
        details = pb2.LoginDetails(name="ana", min_protocol_version=1, max_protocol_version=1)
        signed = sign_request(self.identity, LOGIN, details.SerializeToString(), time.time())
        answer = self.stub.Login(
            pb2.LoginRequest(signed=signed, public_key=self.identity.public_key), timeout=20, wait_for_ready=True
        )
        self.session = answer.session_id

    def publish(self, size: int = 1) -> str:
        """Publishes a name of so many characters; returns why not, empty when it was acknowledged."""
        path = "/".join([f"{len(self.acknowledged):06}", *["x" * 200] * (size // 200)])
        request = pb2.PublishFilesRequest(
            peer_id=self.identity.peer_id,
            session_id=self.session,
            request_id=new_request_id(),
            base_version=self.version,
            added=[FileEntry(path=path, content_id=bytes(32), size_bytes=1)],
        )
        try:
            self.version = self.stub.PublishFiles(request, timeout=20).catalogue_version
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return error.details()
        self.acknowledged.append(path)
        return ""

    def lost(self) -> int:
        """Returns how many acknowledged names central does not list."""
        listed, token = set(), ""
        while True:
            page = self.stub.ListFiles(pb2.ListFilesRequest(page_size=500, page_token=token), timeout=20)
            listed |= {file.path for file in page.files}
            token = page.next_page_token
            if not token:
                return len(set(self.acknowledged) - listed)


def _killed_and_counted(here: World, central: Program, publisher: Publisher) -> float:
    central.end(signal.SIGKILL)
    publisher.connect(here.central(central.address).address)
    return float(publisher.lost())


def central_whose_sync_fails(rounds: int) -> list[float]:
    """Central's disk fails to sync and works again: what was refused is said to be the disk's fault."""
    lost = []
    for _ in range(rounds):
        with world(insecure=True) as here, failing_sync(here.base) as trigger:
            central = here.central()
            publisher = Publisher(central.address)
            for _ in range(20):
                assert publisher.publish() == ""
            trigger.touch()
            for _ in range(5):
                assert "disk" in (said := publisher.publish()), said
            assert central.process.poll() is None, "central has gone"
            trigger.unlink()
            until(lambda ana=publisher: ana.publish() == "", 30)
            lost.append(_killed_and_counted(here, central, publisher))
    return lost


def central_on_a_full_disk(rounds: int) -> list[float]:
    """Central's disk fills up and gets room again."""
    lost = []
    for _ in range(rounds):
        with world(insecure=True) as here, small_disk(here.base / "central", 24 * MIB) as disk:
            ballast = disk / "lock"  # a directory with other files would not be central's
            central = here.central()
            publisher = Publisher(central.address)
            with ballast.open("ab") as file, contextlib.suppress(OSError):
                while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > MIB:
                    file.write(bytes(65536))
                    file.flush()
            said = ""
            for _ in range(3000):
                if said := publisher.publish(3000):
                    break
            assert "full" in said, said
            assert central.process.poll() is None, "central has gone"
            os.truncate(ballast, 0)
            until(lambda ana=publisher: ana.publish() == "", 30)
            lost.append(_killed_and_counted(here, central, publisher))
    return lost


def peer_whose_sync_fails(rounds: int) -> list[float]:
    """A download whose sync fails leaves no file, says what is wrong, and succeeds when the disk does again."""
    wrong = []
    data = noise(3 * MIB)
    with world() as here:
        here.share("ana", "a.bin", data)
        central = here.central()
        here.peer("ana", central)
        with failing_sync(here.base) as trigger:
            ben = here.peer("ben", central)
        until(lambda: here.listed("ben") == ["a.bin"], 30)
        for number in range(rounds):
            out = here.base / f"out{number}"
            trigger.touch()
            failed = here.relevo("ben", "get", "a.bin", "--to", out)
            assert failed.returncode == 7, failed
            (line,) = failed.stderr.splitlines()[-1:]
            assert "the disk" in line, failed.stderr
            assert "Traceback" not in failed.stderr
            assert ben.process.poll() is None, "the daemon has gone"
            wrong.append(float((out / "a.bin").exists()))
            trigger.unlink()
            done = here.relevo("ben", "get", "a.bin", "--to", out)
            assert done.returncode == 0, done.stderr
            assert (out / "a.bin").read_bytes() == data
    return wrong


def peer_on_a_full_disk(rounds: int) -> list[float]:
    """A download to a disk that fills up meanwhile says so, leaves no file, and comes when there is room."""
    wrong = []
    data = noise(4 * MIB)
    with world() as here:
        here.share("ana", "a.bin", data)
        central = here.central()
        here.peer("ana", central)
        ben = here.peer("ben", central)
        until(lambda: here.listed("ben") == ["a.bin"], 30)
        for number in range(rounds):
            with small_disk(here.base / f"disk{number}") as disk:
                (disk / "ballast").write_bytes(bytes(3 * MIB))
                failed = here.relevo("ben", "get", "a.bin", "--to", disk)
                assert failed.returncode == 7, failed
                assert "room" in failed.stderr, failed.stderr
                assert ben.process.poll() is None, "the daemon has gone"
                wrong.append(float(sorted(path.name for path in disk.iterdir()) != ["ballast"]))
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=20)
                failed = here.relevo("ben", "get", "a.bin", "--to", disk)
                assert (failed.returncode, "read-only" in failed.stderr) == (7, True), failed
                subprocess.run(["mount", "-o", "remount,rw", disk], check=True, timeout=20)
                (disk / "ballast").unlink()
                done = here.relevo("ben", "get", "a.bin", "--to", disk)
                assert done.returncode == 0, done.stderr
                assert (disk / "a.bin").read_bytes() == data
                (disk / "a.bin").unlink()
                until(lambda: here.json("ben", "status") is not None, 30)
    return wrong


def rotten_block(rounds: int) -> list[float]:
    """A block rots on one of two holders' disks, with size and time as before: the file comes right from the other."""
    wrong = []
    with world() as here:
        central = here.central()
        for name in ("ana", "ben", "cho"):
            here.peer(name, central)
        for number in range(rounds):
            data, name = noise(8 * MIB + number), f"{number}.bin"
            rotten = here.share("ana", name, data)
            until(lambda wanted=name: wanted in here.listed("ben"), 60)
            got = here.relevo("ben", "get", name, "--to", here.base / "ben" / "shared")
            assert got.returncode == 0, got.stderr
            _rot(rotten, 5 * MIB)
            done = here.relevo("cho", "get", name, "--to", here.base / "out")
            assert done.returncode == 0, done.stderr
            wrong.append(float((here.base / "out" / name).read_bytes() != data))
    return wrong


def _rot(path: Path, at: int):
    """Changes a byte, and puts the times back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncated_while_served(rounds: int) -> list[float]:
    """The only holder's file is cut short or replaced in the middle of a download: seconds until it is withdrawn."""
    took = []
    with world() as here:
        central = here.central()
        ana = here.peer("ana", central)
        here.peer("ben", central)
        assert here.relevo("ana", "limit", "--upload", "4MiB/s").returncode == 0
        for number in range(rounds):
            name = f"{number}.bin"
            path = here.share("ana", name, noise(24 * MIB + number))
            until(lambda wanted=name: wanted in here.listed("ben"), 60)
            out = here.base / f"out{number}"
            getting = here.begin("ben", "get", name, "--to", out)
            until(lambda where=out: [*where.glob(".relevo-*.part")], 60)
            if number % 2:
                other = path.with_name(".other")
                other.write_bytes(b"other bytes")
                other.replace(path)
            else:
                os.truncate(path, MIB)
            began = time.monotonic()
            size = 24 * MIB + number
            until(lambda wanted=size: all(f["size_bytes"] != wanted for f in here.json("ben", "ls")["files"]), 60)
            took.append(time.monotonic() - began)
            getting.send_signal(signal.SIGINT)
            getting.wait(30)
            assert not (out / name).exists(), "a file that nobody has any more"
            assert ana.process.poll() is None
            path.unlink()
    return took


TRIALS = (
    Trial(
        "central's sync fails",
        "fsync in central fails with EIO and works again; what it had acknowledged and has not after a kill.",
        "lost",
        0,
        20,
        2,
        central_whose_sync_fails,
        no_compiler,
    ),
    Trial(
        "central's disk is full",
        "central's disk fills up and gets room again; what it had acknowledged and has not after a kill.",
        "lost",
        0,
        20,
        2,
        central_on_a_full_disk,
        no_mounts,
    ),
    Trial(
        "a peer's sync fails",
        "fsync in a daemon fails with EIO; downloads that stand there as if they were done.",
        "wrong",
        0,
        20,
        2,
        peer_whose_sync_fails,
        no_compiler,
    ),
    Trial(
        "a peer's disk is full, then read-only",
        "a download to a disk without room and to one that is read-only; what is left behind by it.",
        "wrong",
        0,
        20,
        2,
        peer_on_a_full_disk,
        no_mounts,
    ),
    Trial(
        "a rotten block",
        "a byte rots on one of two holders, its times as before; files that came wrong.",
        "wrong",
        0,
        20,
        3,
        rotten_block,
    ),
    Trial(
        "a file that changes while it is served",
        "the only holder's file is cut short or replaced in mid-download; until its old entry is gone.",
        "s",
        10,
        20,
        2,
        truncated_while_served,
    ),
)
