"""A network of real programs for trials: a central, peers, and one of these that sees the directory for the trial."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

import grpc

from bench.programs import Failed, Program, Programs
from core.rpc import CONTROL_MESSAGE
from peer.settings import control_address
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_control_pb2 as control_pb2
from relevo.v1.peer_control_pb2_grpc import PeerControlStub

LIVE, REACHED = pb2.PEER_STATE_LIVE, pb2.PEER_STATE_REACHED
# How often the directory is looked at, in seconds.
LOOK = 0.05
BACK_SECONDS = 60.0
EYE = "eye"


class Network:
    """Central and peers over TLS on this machine.

    Attributes:
        central: the program.
        peers: the programs by name; the first one, the eye, is harmed by nobody.
        options: with which every peer is started.
    """

    central: Program

    def __init__(self, programs: Programs, options: Sequence[str] = ()) -> None:
        self.programs = programs
        self.options = options
        self.peers: dict[str, Program] = {}
        self._channel: grpc.aio.Channel | None = None

    @property
    def data(self) -> Path:
        """Central's own directory."""
        return self.programs.base / "central"

    async def start(self, names: Iterable[str], *, listen: str = "127.0.0.1:0", inside: Sequence[str] = ()) -> None:
        """Starts central, the eye and these peers, and waits until all of them are live."""
        await self.start_central(listen, inside=inside)
        host = listen.rpartition(":")[0]
        await self._start_peer(EYE, inside=inside, listen=f"{host}:0", via="")
        await self.start_peers(names, inside=inside, listen=f"{host}:0")

    async def start_central(self, listen: str = "", *, inside: Sequence[str] = ()) -> None:
        """Starts central, on its address of before unless told another."""
        listen = listen or self.central.address
        arguments = ("central", "serve", "--data", self.data, "--listen", listen, "--enrolment-port", "0")
        self.central = await asyncio.to_thread(self.programs.serve, "central", *arguments, inside=inside)

    async def start_peers(
        self, names: Iterable[str], *, inside: Sequence[str] = (), listen: str = "127.0.0.1:0", via: str = ""
    ) -> None:
        """Starts peers, a few at a time, and waits until they are live and their files are listed.

        `via` is where they find central.
        """
        few = asyncio.Semaphore(4)

        async def start(name: str) -> None:
            async with few:
                await self._start_peer(name, inside=inside, listen=listen, via=via)

        names = list(names)
        await asyncio.gather(*map(start, names))
        await self.until_live(names)
        await self.until("published", lambda listed: all(name in listed and listed[name].file_count for name in names))

    async def _start_peer(self, name: str, *, inside: Sequence[str], listen: str, via: str) -> None:
        base = self.programs.base / name
        shared, home = base / "shared", base / "home"
        again = (home / "network").exists()
        if not again:
            shared.mkdir(parents=True)
            (shared / f"{name}.txt").write_text(name, "utf-8")
        how = [] if again else ["--join", await self.invite(via)]
        serve = ("peer", "--home", home, "serve", shared, "--name", name, "--listen", listen, *self.options, *how)
        self.peers[name] = await asyncio.to_thread(self.programs.serve, name, *serve, inside=inside)

    async def invite(self, via: str = "", uses: int = 1) -> str:
        """Returns a token with which peers join."""
        where = ("--address", via) if via else ()
        command = self.programs.begin("central", "invite", "--data", self.data, "--uses", str(uses), *where)
        return (await asyncio.to_thread(self.programs.finish, command)).strip()

    async def listed(self) -> dict[str, pb2.PeerListing]:
        """Returns the live peers by name, as central lists them."""
        if self._channel is None:
            options = [("grpc.max_receive_message_length", CONTROL_MESSAGE)]
            self._channel = grpc.aio.insecure_channel(control_address(self.programs.base / EYE / "home"), options)
        request = control_pb2.PeerControlListPeersRequest(request=pb2.ListPeersRequest(page_size=1000))
        answer = await PeerControlStub(self._channel).ListPeers(request, timeout=20, wait_for_ready=True)
        return {listing.peer.name: listing for listing in answer.response.peers}

    async def paths(self) -> set[str]:
        """Returns what the catalogue lists."""
        stub = PeerControlStub(self._channel)
        request = control_pb2.PeerControlListFilesRequest(request=pb2.ListFilesRequest(page_size=1000))
        answer = await stub.ListFiles(request, timeout=20)
        return {file.path for file in answer.response.files}

    async def until(
        self, what: str, check: Callable[[dict[str, pb2.PeerListing]], bool], seconds: float = BACK_SECONDS
    ) -> float:
        """Waits until the list of live peers is as wanted, and returns how long that took.

        Raises:
            Failed: it was not within `seconds`.
        """
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            with contextlib.suppress(grpc.RpcError):
                if check(await self.listed()):
                    return time.monotonic() - began
            await asyncio.sleep(LOOK)
        raise Failed(f"{what}: not within {seconds:g} s", self.central.log)

    async def until_live(self, names: Iterable[str]) -> float:
        """Waits until all these peers are plainly live, and returns how long that took."""
        wanted = set(names)

        def all_live(listed: dict[str, pb2.PeerListing]) -> bool:
            return all(name in listed and listed[name].state == LIVE for name in wanted)

        return await self.until(f"{', '.join(sorted(wanted))} live", all_live)

    async def withdrawn(self, names: Sequence[str], harm: Callable[[], None]) -> list[float]:
        """Harms peers, waits until they are listed no more, and returns how long it took central to withdraw each.

        Central's log says when: how late a busy machine lets somebody else see it is another matter.
        """
        listed = await self.listed()
        said, began = len(self.said()), time.time()
        harm()
        await self.until(f"{', '.join(names)} withdrawn", lambda left: not set(names) & set(left), 90.0)
        news = self.said()[said:]
        return [_time_of(f"peer {listed[name].peer.peer_id} fell silent", news) - began for name in names]

    async def logins(self) -> dict[str, float]:
        """Returns when the session of each peer began: another time means that it had to log in anew."""
        return {name: listing.login_time.ToNanoseconds() / 1e9 for name, listing in (await self.listed()).items()}

    def signal(self, names: Iterable[str], number: int) -> None:
        """Sends a signal to the processes of peers."""
        for name in names:
            os.killpg(self.peers[name].process.pid, number)

    def said(self) -> str:
        """Returns central's log."""
        return self.central.log.read_text("utf-8")

    async def close(self) -> None:
        """Lets go of the eye, and of everybody who is stopped."""
        if self._channel is not None:
            await self._channel.close()
        for program in self.peers.values():
            if program.process.poll() is None:
                os.killpg(program.process.pid, signal.SIGCONT)


def _time_of(words: str, log: str) -> float:
    """Returns when a program said something, in seconds since 1970."""
    line = next(line for line in log.splitlines() if words in line)
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


@contextlib.contextmanager
def programs() -> Iterator[Programs]:
    """Runs programs in a directory of their own, whose name is short since paths of Unix sockets are."""
    with (
        tempfile.TemporaryDirectory(prefix="relevo-faults-", ignore_cleanup_errors=True) as base,
        Programs(Path(base)) as made,
    ):
        yield made


@contextlib.asynccontextmanager
async def network(
    names: Iterable[str] = (),
    *,
    listen: str = "127.0.0.1:0",
    inside: Sequence[str] = (),
    options: Sequence[str] = (),
) -> AsyncIterator[Network]:
    """Runs central, an eye, and peers of these names while the context is open; `inside` begins their command lines.

    Every peer is started with `options`.
    """
    with programs() as some:
        made = Network(some, options)
        try:
            await made.start(names, listen=listen, inside=inside)
            yield made
        finally:
            await made.close()


class Gate:
    """A way to central that can be shut: a port of this process that carries connections to another one.

    Attributes:
        address: `host:port` to dial instead.
    """

    address: str

    def __init__(self, target: str) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def shut(self) -> None:
        """Carries nothing any more, and breaks nothing: whoever is connected hears nothing."""
        self._open.clear()

    def cut(self) -> None:
        """Breaks every connection; new ones are accepted, and nothing is carried on them while it is shut."""
        for writer in self._writers:
            writer.transport.abort()

    def open(self) -> None:
        """Carries everything again."""
        self._open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        self._writers.add(writer)
        onward = None
        try:
            await self._open.wait()
            back, onward = await asyncio.open_connection(host, int(port))
            self._writers.add(onward)
            await asyncio.gather(self._pipe(reader, onward), self._pipe(back, writer))
        except OSError:
            pass
        finally:
            for each in filter(None, (writer, onward)):
                self._writers.discard(each)
                each.transport.abort()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
