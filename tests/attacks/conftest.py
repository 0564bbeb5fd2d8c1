"""A network of certificates, a peer's server in a process of its own, and a client of HTTP/2 that keeps no manners."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
import pytest

from core.certificates import Authority, Kind, Subject, peer_name, to_pem
from core.identity import Identity
from core.rpc import PEER_MESSAGE, open_channel
from core.tls import Material
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub

ROOT = Path(__file__).parents[2]
DAY = 86_400.0


class Network:
    """An authority, and material for as many members as a test wants."""

    def __init__(self):
        self._authority = Authority.create(time.time(), 365 * DAY)

    def member(self, identity=None) -> Material:
        identity = identity or Identity.generate()
        leaf = self._authority.issue(Subject(Kind.PEER, identity.peer_id), identity.public_key, time.time(), DAY)
        return Material(identity.pem(), to_pem([leaf]), to_pem([self._authority.certificate]))


@dataclass
class Victim:
    """A server that runs in another process."""

    process: subprocess.Popen
    port: int
    content_id: bytes = b""
    peer_id: str = ""
    network: Network | None = None
    stopped: bool = False

    @property
    def name(self) -> str:
        return peer_name(self.peer_id)

    def peak(self) -> int:
        """The most that it has occupied since it started."""
        return _status(self.process.pid, "VmHWM")

    def stop(self) -> None:
        """Has it stop in order; a second signal could come when nobody heeds it any more."""
        if not self.stopped:
            self.stopped = True
            self.process.send_signal(signal.SIGTERM)

    @asynccontextmanager
    async def channel(self, material=None):
        """The connection of a member with manners."""
        material = material or (self.network and self.network.member())
        async with open_channel(f"127.0.0.1:{self.port}", PEER_MESSAGE, material, self.name) as channel:
            async with asyncio.timeout(20):
                await channel.channel_ready()
            yield channel

    @asynccontextmanager
    async def honest(self, material=None):
        """The same, as a stub."""
        async with self.channel(material) as channel:
            yield PeerRelayStub(channel)


def _status(pid, field) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


@pytest.fixture
def times():
    """How many times as much `make attacks` throws at a server as `make test` does."""
    return 10 if os.environ.get("RELEVO_ATTACKS") == "full" else 1


@contextmanager
def victims(directory):
    """Yields a function that starts a server, with options `name=value` of its own; in the end all of them stop."""
    started = []
    network, identity = Network(), Identity.generate()
    for name, pem in zip(("key", "chain", "authorities"), _parts(network.member(identity)), strict=True):
        (directory / f"{name}.pem").write_bytes(pem)

    def start(*options):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "GRPC_VERBOSITY": "NONE"}
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("victim.py"), directory, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        victim = Victim(process, 0, peer_id=identity.peer_id, network=network)
        started.append(victim)
        port, content_id = process.stdout.readline().split()
        victim.port, victim.content_id = int(port), bytes.fromhex(content_id)
        return victim

    yield start
    for victim in started:
        victim.stop()
        _, errors = victim.process.communicate(timeout=20)
        assert (victim.process.returncode, errors) == (0, "")


@pytest.fixture
def victim(tmp_path):
    with victims(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def lasting_victim(tmp_path_factory):
    """The same, for a server that all tests of a module attack: what one does to it concerns no other."""
    with victims(tmp_path_factory.mktemp("victim")) as start:
        yield start


@pytest.fixture
def central(tmp_path):
    """A central as it runs, in plaintext."""
    command = [
        sys.executable,
        "-m",
        "central",
        "serve",
        "--insecure",
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "error",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}
    process = subprocess.Popen(
        [*command, "--data", tmp_path / "central"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    port = process.stdout.readline().rpartition(":")[2]
    yield Victim(process, int(port))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def _parts(material):
    return material.key, material.chain, material.authorities


class Raw:
    """A connection of HTTP/2 that does what it is told, and gRPC's client never would."""

    def __init__(self, reader, writer, window, *, deaf=False):
        self.reader, self.writer, self._deaf = reader, writer, deaf
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.local_settings.acknowledge()
        self.window = window
        self.headers, self.data, self.ended, self.reset = {}, {}, set(), {}
        self.changed = asyncio.Event()
        self.closed = asyncio.Event()
        self._pump = asyncio.create_task(self._read())

    async def greet(self):
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def send(self, frames: bytes):
        """Sends bytes past the protocol."""
        self.writer.write(frames)
        await self.writer.drain()

    async def call(self, path, message=b"", *, deadline=None, compressed=False, encoding=None, extra=(), length=None):
        """Makes a call and returns its stream's number."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*headers_of(path, deadline, encoding), *extra])
        body = bytes([compressed]) + (length or len(message)).to_bytes(4, "big") + message
        await self.flush()
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if not room:
                if self.closed.is_set() or stream in self.ended:
                    return stream
                await self._news()
                continue
            self.h2.send_data(stream, body[:room], end_stream=room == len(body))
            body = body[room:]
            await self.flush()
        return stream

    async def answer(self, stream, seconds=10.0):
        """Waits until the stream or the connection ends, and returns the trailers."""
        async with asyncio.timeout(seconds):
            while stream not in self.ended and not self.closed.is_set():
                await self._news()
        return self.headers.get(stream, {})

    async def begun(self, stream, seconds=10.0):
        """Waits until the server has begun to answer."""
        async with asyncio.timeout(seconds):
            while stream not in self.headers:
                await self._news()

    async def _news(self):
        self.changed.clear()
        await self.changed.wait()

    async def _read(self):
        try:
            while data := await self.reader.read(1 << 16):
                for event in () if self._deaf else self.h2.receive_data(data):
                    self._note(event)
                if pending := self.h2.data_to_send():
                    self.writer.write(pending)
                self.changed.set()
        except (OSError, ssl.SSLError, h2.exceptions.H2Error):
            pass
        finally:
            self.closed.set()
            self.changed.set()

    def _note(self, event):
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.headers.setdefault(event.stream_id, {}).update(event.headers)
            case h2.events.DataReceived():
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                if self.window:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.ended.add(event.stream_id)
                self.reset[event.stream_id] = event.error_code

    async def close(self):
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self.writer.transport.abort()


@pytest.fixture
async def raw(tmp_path):
    """Returns a function that opens a raw connection to a victim.

    A window of 0 lets no answer through; a deaf one reads without understanding, which costs the test no time. With a
    `host` (127.0.0.2, …) it comes from there.
    """
    contexts = {}
    async with AsyncExitStack() as stack:

        async def connect(victim, *, material=None, window=65_535, greet=True, deaf=False, host=None):
            material = material or (victim.network and victim.network.member())
            if material and material not in contexts:
                contexts[material] = context_of(tmp_path, material)
            tls = {"ssl": contexts[material], "server_hostname": victim.name} if material else {}
            here = {"local_addr": (host, 0)} if host else {}
            reader, writer = await asyncio.open_connection("127.0.0.1", victim.port, **tls, **here)
            connection = Raw(reader, writer, window, deaf=deaf)
            stack.push_async_callback(connection.close)
            if greet:
                await connection.greet()
            return connection

        yield connect


@pytest.fixture
def tls(tmp_path):
    """Python's own TLS, with the certificate of a member."""
    return lambda material: context_of(tmp_path, material)


@pytest.fixture
def seconds():
    """Returns how long a call takes; its failure is raised."""

    async def measure(call) -> float:
        start = time.perf_counter()
        await call
        return time.perf_counter() - start

    return measure


def headers_of(path, deadline=None, encoding=None):
    return [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *([("grpc-timeout", f"{round(deadline * 1000)}m")] if deadline else []),
        *([("grpc-encoding", encoding)] if encoding else []),
    ]


@pytest.fixture
def frames():
    """What HTTP/2 is made of, for tests that put it together wrongly."""
    return Frames


class Frames:
    DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
    END_STREAM, END_HEADERS = 1, 4

    @staticmethod
    def frame(kind, flags=0, stream=0, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    @staticmethod
    def headers(path, deadline=None):
        """Headers in a form that depends on none before."""
        encoded = [(name, value, True) for name, value in headers_of(path, deadline)]
        return hpack.Encoder().encode(encoded)


def context_of(directory, material):
    key, chain = directory / "mine.key", directory / "mine.pem"
    key.write_bytes(material.key)
    chain.write_bytes(material.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=material.authorities.decode())
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(["h2"])
    return context
