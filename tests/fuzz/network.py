"""A real central and a real peer with files, in this process, and raw calls of every RPC to them."""

import asyncio
import hashlib
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from central.server import running_central
from core.rpc import CONTROL_MESSAGE, PEER_MESSAGE, open_channel
from core.signing import new_request_id, sign_request
from peer.daemon import Peer, running_peer
from peer.settings import ServeSettings, control_address
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import SignedRequest
from tests.fuzz.engine import Broken
from tests.fuzz.identities import MALLORY, REQUEST, SESSION
from tests.fuzz.messages import services
from tests.fuzz.watch import Alarm, Memory, alarmed

# Which of the three servers has a service; every service has to be here.
SERVED_BY = {
    "relevo.v1.CentralDirectory": "central",
    "relevo.v1.PeerRelay": "peer",
    "relevo.v1.PeerControl": "control",
}
# It needs TLS, and has a target of its own: targets/enrolment.py.
ELSEWHERE = {"relevo.v1.Enrolment"}
_EVERYWHERE = (
    *health_pb2.DESCRIPTOR.services_by_name.values(),
    *reflection_pb2.DESCRIPTOR.services_by_name.values(),
)
DEADLINE = 10.0
_UPLOAD = b"copy me"
# What an aio client says of its own stream when that ends while it writes.
_ENDED = "Internal error from Core"
LOGIN = "/relevo.v1.CentralDirectory/Login"
# A defect, nothing at all, or no answer.
DEFECTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


def methods() -> dict[str, Any]:
    """Returns the descriptor of every RPC by `server/service/method`.

    Raises:
        KeyError: a service is new: say in SERVED_BY where it is served.
    """
    found = {}
    for name, service in services().items():
        if name not in ELSEWHERE:
            found.update({f"{SERVED_BY[name]}/{name}/{method.name}": method for method in service.methods})
    for server in SERVED_BY.values():
        for service in _EVERYWHERE:
            found.update({f"{server}/{service.full_name}/{method.name}": method for method in service.methods})
    return found


class Network:
    """The network that is shot at. Mallory has a session of her own; ana is honest, and must not notice anything."""

    def __init__(self) -> None:
        self.session_id = ""
        self._ana: Peer
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._methods = methods()

    async def __aenter__(self) -> "Network":
        self._stack = AsyncExitStack()
        try:
            await self._open_all()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open_all(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="relevo-fuzz-"))
        self._stack.callback(shutil.rmtree, self.base)
        self.alarm: Alarm = self._stack.enter_context(alarmed())
        self._memory = Memory()
        self._write_files()
        self.central = await self._stack.enter_async_context(running_central(self.base / "central", insecure=True))
        self._stack.push_async_callback(self._close_channels)
        self._own = AsyncExitStack()
        await self._stack.enter_async_context(self._own)
        await self._start_ana()
        for server, address in (("central", self.central.address), ("peer", f"127.0.0.1:{self._ana.server.port}")):
            await self._open(server, address, PEER_MESSAGE)
        await self._log_in()
        self._before = self._files()

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _write_files(self) -> None:
        for folder in ("shared", "canary", "scratch"):
            (self.base / folder).mkdir()
        (self.base / "shared" / "a.txt").write_bytes(b"a" * 100_000)
        (self.base / "shared" / "año nuevo.txt").write_bytes(b"")
        (self.base / "canary" / "secret").write_bytes(b"nobody touches this")
        (self.base / "scratch" / "upload.txt").write_bytes(_UPLOAD)

    async def _start_ana(self) -> None:
        settings = ServeSettings(
            home=self.base / "home",
            shared=self.base / "shared",
            centrals=(self.central.address,),
            name="ana",
            listen="127.0.0.1:0",
            insecure=True,
        )
        self._ana = await self._own.enter_async_context(running_peer(settings))
        await self._open("control", control_address(settings.home), CONTROL_MESSAGE)
        async with asyncio.timeout(20):
            await self._ana.session.wait_live()
            await self._ana.library.wait_scanned()
        for file in self._ana.library.files.values():
            await self._ana.publisher.published(file.path, file.content_id, 20)

    async def _open(self, server: str, address: str, most: int) -> None:
        if server in self._channels:
            await self._channels[server].close()
        self._channels[server] = open_channel(address, most)

    async def _close_channels(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def _log_in(self) -> None:
        details = pb2.LoginDetails(name="mallory", min_protocol_version=1, max_protocol_version=1)
        request = pb2.LoginRequest(
            signed=self.signed(LOGIN, details.SerializeToString()), public_key=MALLORY.public_key
        )
        answer = await self._raw("central", LOGIN, self._methods["central" + LOGIN])(request.SerializeToString())
        self.session_id = pb2.LoginResponse.FromString(answer).session_id

    def signed(self, method: str, payload: bytes) -> SignedRequest:
        """Returns a payload signed by mallory."""
        return sign_request(MALLORY, method, payload, self._ana.session.now)

    @property
    def values(self) -> dict[str, Any]:
        """What fields of valid requests hold, by their names."""
        file = self._ana.library.files["a.txt"]
        return {
            "peer_id": MALLORY.peer_id,
            "session_id": SESSION,
            "request_id": REQUEST,
            "author": MALLORY.peer_id,
            "holder_peer_id": self._ana.identity.peer_id,
            "content_id": file.content_id,
            "path": file.path,
            "size_bytes": file.size,
            "page_token": "",
            "page_size": 10,
            "placement_id": REQUEST,
            "addresses": "192.0.2.1:7400",
            "directory": str(self.base / "scratch"),
            "source": str(self.base / "scratch" / "upload.txt"),
            "base_version": 0,
            "removed_paths": "b.txt",
            "stored_content_ids": bytes(32),
            "dropped_content_ids": b"\x01" * 32,
            "index": 0,
            "page_index": 0,
            "bitmap": b"\x01",
            "service": "relevo.v1.PeerRelay",
            "file_containing_symbol": "relevo.v1.PeerRelay",
            "method": LOGIN,
        }

    async def call(self, name: str, body: bytes) -> bytes | None:
        """Calls `server/service/method` with the bytes of a request; returns the first answer, None when it is refused.

        Raises:
            Broken: the answer tells of a defect, or there is none in time.
        """
        server, path = name.split("/", 1)
        body = body.replace(SESSION.encode(), self.session_id.encode())
        body = body.replace(REQUEST.encode(), new_request_id().encode())
        try:
            answer = await self._raw(server, f"/{path}", self._methods[name])(body)
        except grpc.RpcError as error:
            await self.refused(error)
            return None
        if f"/{path}" == LOGIN:
            self.session_id = pb2.LoginResponse.FromString(answer).session_id
        return answer

    async def refused(self, error: Any) -> None:
        """Looks at a status; a session that is gone is opened anew, for the next input."""
        if error.code() in DEFECTS and error.details() != _ENDED:
            self.alarm.check()  # the log says more
            raise Broken(f"it answered {error.code().name}: {error.details()}")
        if error.code() == grpc.StatusCode.NOT_FOUND and "log in" in (error.details() or ""):
            await self._log_in()

    def stream(self, method: str) -> Any:
        """Opens a stream of bytes to central."""
        return self._channels["central"].stream_stream(method)(timeout=DEADLINE)

    def _raw(self, server: str, path: str, method: Any) -> Any:
        channel = self._channels[server]
        if not (method.client_streaming or method.server_streaming):
            unary = channel.unary_unary(path)
            return lambda body: unary(body, timeout=DEADLINE)

        async def first(body: bytes) -> bytes | None:
            if method.client_streaming:
                call: Any = channel.stream_stream(path)(timeout=DEADLINE)
                await call.write(body)
                await call.done_writing()
            else:
                call = channel.unary_stream(path)(body, timeout=DEADLINE)
            answer = await call.read()
            if answer is grpc.aio.EOF:
                if (code := await call.code()) != grpc.StatusCode.OK:
                    raise grpc.aio.AioRpcError(
                        code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=await call.details()
                    )
                return None
            call.cancel()
            return answer

        return first

    async def settle(self) -> None:
        """Stops what the inputs have begun, and starts ana anew when one told her to leave."""
        for transfer in list(self._ana.transfers.running()):
            await self._ana.transfers.cancel(transfer.transfer_id)
        if self._ana.stopped.done():
            self._ana.stopped.result()
            await self._own.aclose()
            await self._start_ana()
            await self._open("peer", f"127.0.0.1:{self._ana.server.port}", PEER_MESSAGE)

    def look(self) -> None:
        """Raises Broken when somebody noticed something."""
        self.alarm.check()
        if not self._ana.session.live and not self._ana.stopped.done():
            raise Broken(f"the honest peer has lost its session: {self._ana.session.problem}")

    async def look_closely(self) -> None:
        """Looks at everything that must hold after any input."""
        await self.settle()
        self.look()
        self._memory.check()
        now = self._files()
        added = [path.read_bytes() for path in now if path not in self._before and path.is_file()]
        if any(now.get(path) != digest for path, digest in self._before.items()):
            raise Broken("the shared directory or the canary has changed")
        if not all(_UPLOAD.startswith(data) for data in added):
            raise Broken("there is something in the shared directory that nobody put there")
        listed, _ = await self._ana.routes.list_files(pb2.ListFilesRequest(reference="a.txt"))
        mine = self._ana.library.files["a.txt"].content_id
        if mine not in {file.content_id for file in listed.files}:
            raise Broken("the honest peer's file is not in the catalogue any more")

    def _files(self) -> dict[Path, str]:
        """Returns what nobody may change, and what ana's owner has put there, with digests of what is in it."""
        paths = (*(self.base / "shared").rglob("*"), *(self.base / "canary").rglob("*"))
        return {path: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    found = hashlib.sha256(f"{path.stat().st_mode} {path.stat().st_mtime_ns}".encode())
    found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()
