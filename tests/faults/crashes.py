"""Trials of crashes: central is killed under writes, peers in downloads and while they store."""

import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc

from core.errors import RelevoError
from core.identity import Identity
from core.manifest import manifest_of
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import new_request_id, sign_request
from peer.commands.client import Daemon
from peer.fetching.partial import WRITE_OUT
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.content_pb2 import FileEntry
from relevo.v1.peer_control_pb2 import TRANSFER_STATE_DONE
from tests.faults.trials import Trial
from tests.test_processes import World, until

MIB = 1 << 20
WRITERS = 6
PATHS = 20
LOGIN = "/relevo.v1.CentralDirectory/Login"


@contextmanager
def world(*, insecure=False) -> Iterator[World]:
    """Gives a network of real programs, which ends with it."""
    with tempfile.TemporaryDirectory(prefix="relevo-faults-", ignore_cleanup_errors=True) as base:
        found = World(Path(base))
        found.insecure = insecure
        try:
            yield found
        finally:
            for program in found.programs:
                with contextlib.suppress(ProcessLookupError):
                    program.kill()


class Writer:
    """A peer that publishes one file after the other as fast as central acknowledges them.

    Attributes:
        sent: the number of its last publication, which is the content of the file.
        acknowledged: the number of the last one that central has acknowledged.
    """

    def __init__(self, name: str):
        self.name = name
        self.identity = Identity.generate()
        self.sent = self.acknowledged = 0
        self.version = 0
        self.last = None

    async def log_in(self, stub):
        details = pb2.LoginDetails(name=self.name, min_protocol_version=1, max_protocol_version=1)
        signed = sign_request(self.identity, LOGIN, details.SerializeToString(), time.time())
        request = pb2.LoginRequest(signed=signed, public_key=self.identity.public_key)
        answer = await _answered(stub.Login, request)
        self.session, held = answer.session_id, answer.catalogue_version
        return held

    def path(self, number):
        return f"{self.name}/{number % PATHS:03}"

    async def write(self, stub):
        """Publishes until central is gone."""
        while True:
            self.sent += 1
            file = FileEntry(path=self.path(self.sent), content_id=self.sent.to_bytes(32, "big"), size_bytes=1)
            self.last = pb2.PublishFilesRequest(
                peer_id=self.identity.peer_id,
                session_id=self.session,
                request_id=new_request_id(),
                base_version=self.version,
                added=[file],
            )
            try:
                answer = await stub.PublishFiles(self.last, timeout=20)
            except grpc.aio.AioRpcError:
                return
            self.acknowledged, self.version = self.sent, answer.catalogue_version

    def lost(self, files):
        """Returns how many acknowledged publications are missing from what central lists."""
        lost = 0
        for number in range(max(1, self.acknowledged - PATHS + 1), self.acknowledged + 1):
            found = files.get(self.path(number), 0)
            # What was on its way when central was killed may be there or not, and nothing else.
            lost += found != number and not (found == self.sent == number + PATHS)
        return lost


def central_under_writes(rounds: int, least: float = 100.0) -> list[float]:
    """Kills central again and again while six peers write, and counts what it had acknowledged and has not.

    They have to make `least` writes a second on average: else it was no trial of central under load.
    """
    with world(insecure=True) as here:
        return asyncio.run(_killed_under_writes(here, rounds, least))


async def _killed_under_writes(here: World, rounds: int, least: float) -> list[float]:
    writers = [Writer(f"writer{number}") for number in range(WRITERS)]
    chance = random.Random()
    lost, listen, acknowledged, seconds = [], "127.0.0.1:0", 0, 0.0
    for turn in range(rounds + 1):
        central = await asyncio.to_thread(here.central, listen)
        listen = central.address
        channel = open_channel(central.address, CENTRAL_MESSAGE)
        stub = CentralDirectoryStub(channel)
        held = [await writer.log_in(stub) for writer in writers]
        if turn:
            lost.append(await _missing(stub, writers, held))
        for writer, version in zip(writers, held, strict=True):
            writer.version = version
        if turn == rounds:
            break
        writing = [asyncio.create_task(writer.write(stub)) for writer in writers]
        before, began = sum(writer.acknowledged for writer in writers), time.monotonic()
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        central.process.kill()
        acknowledged += sum(writer.acknowledged for writer in writers) - before
        seconds += time.monotonic() - began
        await asyncio.gather(*writing)
        await channel.close()
        await asyncio.to_thread(central.kill)
        with closing(sqlite3.connect(here.base / "central" / "central.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the database is damaged"
    rate = acknowledged / seconds
    assert rate >= least, f"central took only {rate:.0f} writes a second, which is no load"
    return lost


async def _missing(stub, writers, held) -> int:
    files, token = {}, ""
    while True:
        page = await _answered(stub.ListFiles, pb2.ListFilesRequest(page_size=500, page_token=token))
        files |= {file.path: int.from_bytes(file.content_id, "big") for file in page.files}
        token = page.next_page_token
        if not token:
            break
    lost = 0
    for writer, version in zip(writers, held, strict=True):
        lost += writer.lost(files)
        assert version >= writer.version, "central holds an older version than it had acknowledged"
        if files.get(writer.path(writer.sent)) == writer.sent > writer.acknowledged:
            # It was committed, and its answer never came: repeated, it is answered, and changes nothing.
            answer = await _answered(stub.PublishFiles, writer.last)
            assert answer.catalogue_version == version
            writer.acknowledged = writer.sent
        writer.sent = writer.acknowledged
    return lost


async def _answered(call, request):
    """Returns the answer to a request, which is asked again as it was while its connection breaks, as peers do."""
    for _ in range(4):
        try:
            return await call(request, timeout=20, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
    return await call(request, timeout=20, wait_for_ready=True)


def peer_in_downloads(rounds: int) -> list[float]:
    """Kills a peer in the middle of a download, which goes on by itself, and measures what it fetched again in MiB."""
    again: list[float] = []
    with world() as here:
        central = here.central()
        here.peer("ana", central)
        ben = here.peer("ben", central)
        with Daemon(here.base / "ana" / "home") as ana:
            ana.set_rate_limits(upload=24 * MIB)
        while len(again) < rounds:
            ben = _one_download(here, central, ben, again, rounds)
    return again


def _one_download(here, central, ben, again, rounds):
    home, out, name, data = (
        here.base / "ben" / "home",
        here.base / "out",
        f"{len(again)}.bin",
        random.randbytes(48 * MIB),
    )
    source = here.share("ana", name, data)
    until(lambda: name in here.listed("ben"), 60)
    done = here.relevo("ben", "get", name, "--to", out, "--detach")
    assert done.returncode == 0, done.stderr
    while len(again) < rounds and (at := _on_its_way(home, name, random.random())):
        ben.kill()
        assert not (out / name).exists() or (out / name).read_bytes() == data
        ben = here.peer("ben", central)
        after, _ = until(lambda: _moving(home, name), 60)
        kept = after.size_bytes - sum(source.bytes for source in after.sources)  # when it is over by now
        kept = kept if after.state == TRANSFER_STATE_DONE else after.resumed_bytes
        again.append(max(0, at.done_bytes - kept) / MIB)
    until(lambda: _transfer(home, name).state == TRANSFER_STATE_DONE, 60)
    assert (out / name).read_bytes() == data, "the file is not what was offered"
    assert not [*out.glob(".relevo-*")]
    (out / name).unlink()
    source.unlink()
    return ben


def _transfer(home, name):
    with Daemon(home) as daemon:
        return next((one for one in daemon.transfers() if one.path == name), None)


def _moving(home, name):
    """Returns the download when it has looked at all that was there and fetches more, or is over."""
    with contextlib.suppress(RelevoError):
        found = _transfer(home, name)
        if found and (found.state == TRANSFER_STATE_DONE or found.done_bytes > found.resumed_bytes):
            return found
    return None


def _on_its_way(home, name, part):
    """Waits until so much of a download is there and returns it, or None when it is over."""

    def far():
        found = _transfer(home, name)
        if found.state == TRANSFER_STATE_DONE:
            return "over"
        return found if found.size_bytes and found.done_bytes >= part * found.size_bytes else None

    found, _ = until(far, 60)
    return None if found == "over" else found


def peer_in_stores(rounds: int) -> list[float]:
    """Kills a peer at any moment while it stores; counts copies that central counts and that are not whole."""
    chance = random.Random()
    wrong: list[float] = []
    with world() as here:
        central = here.central()
        here.peer("ana", central)
        ben, store = here.peer("ben", central), here.base / "ben" / "home" / "store"
        with Daemon(here.base / "ana" / "home") as ana:
            ana.set_rate_limits(upload=8 * MIB)
        for number in range(rounds):
            data = chance.randbytes(4 * MIB)
            content = manifest_of(data).content_id.hex()
            source = here.base / f"{number}.bin"
            source.write_bytes(data)
            putting = here.begin("ana", "put", source, "--replicas", "1", "--wait")
            _until_stored(store, content, chance.uniform(0, 1.5 * len(data)), len(data))
            confirmed = putting.poll() == 0
            ben.kill()
            if confirmed or putting.poll() == 0:
                wrong.append(float(not _whole(store, content, data)))
            ben = here.peer("ben", central)
            assert putting.wait(60) == 0, "the copy was never confirmed"
            if len(wrong) <= number:
                wrong.append(float(not _whole(store, content, data)))
            source.unlink()
    return wrong


def _until_stored(store: Path, content: str, amount: float, size: int) -> None:
    """Waits until so many bytes of a copy are there; for more than its size, until some time after it is whole."""

    def there() -> bool:
        with contextlib.suppress(FileNotFoundError):  # it gets its final name meanwhile
            held = [path.stat() for path in store.rglob(f"*{content[:16]}*") if path.is_file()]
            return any(status.st_blocks * 512 >= min(amount, size) for status in held)
        return False

    until(there, 60)
    time.sleep(max(0.0, amount - size) / size * 0.6)


def _whole(store, content, data):
    return any(path.read_bytes() == data for path in store.rglob(f"*{content[:16]}*") if path.is_file())


TRIALS = (
    Trial(
        "central killed under writes",
        "kill -9 of central while six peers publish hundreds of files a second; what it had acknowledged and has not.",
        "lost",
        0,
        200,
        10,
        central_under_writes,
    ),
    Trial(
        "peer killed in a download",
        "kill -9 of a peer at any moment of a download, which goes on by itself; what had been fetched and is again.",
        "MiB",
        WRITE_OUT / MIB,
        200,
        8,
        peer_in_downloads,
    ),
    Trial(
        "peer killed while it stores",
        "kill -9 of a peer at any moment of a copy; copies that were confirmed and are not whole on its disk.",
        "wrong",
        0,
        200,
        8,
        peer_in_stores,
    ),
)
