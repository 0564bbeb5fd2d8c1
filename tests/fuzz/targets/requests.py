"""Every request of every RPC, and streams of beats, against live servers."""

from asyncio import InvalidStateError
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_control_pb2 as control_pb2
from tests.fuzz.engine import Broken, Target
from tests.fuzz.identities import MALLORY, SESSION
from tests.fuzz.messages import spoil, valid
from tests.fuzz.mutations import mutated
from tests.fuzz.network import Network, methods

# What follows the name of an RPC whose payload stands in the input, to be signed before it is sent.
_SIGNED = " signed"
_LEAVE = b"control/relevo.v1.PeerControl/Logout"


class RequestTarget(Target):
    """One request. An input is a line with `server/service/method`, then the bytes of the request.

    A request that carries something signed has a second form, in which the bytes are the payload.
    """

    name = "requests"

    def __init__(self) -> None:
        self._methods = methods()
        self._payloads = _payloads(self._methods)

    async def __aenter__(self) -> "RequestTarget":
        self._network = await Network().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._network.__aexit__()

    def seeds(self) -> Sequence[bytes]:
        values = self._network.values
        kinds: dict[str, Any] = {name: method.input_type for name, method in self._methods.items()}
        kinds.update({name + _SIGNED: kind for name, kind in self._payloads.items()})
        return [_input(name, valid(kind, values)) for name, kind in kinds.items()]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        if data.startswith(_LEAVE) and random.random() < 0.95:  # ana has to be started anew after each
            data = other
        name, _, body = data.partition(b"\n")
        kind = self._kind(name.decode("ascii", "replace"))
        if kind is not None and random.random() < 0.6:
            message = GetMessageClass(kind)()
            with suppress(DecodeError):
                message.ParseFromString(body)
            for _ in range(random.choice((1, 1, 2, 4))):
                spoil(message, random)
            return name + b"\n" + message.SerializeToString()
        return name + b"\n" + mutated(body, other.partition(b"\n")[2], random)

    def _kind(self, name: str) -> Any:
        method = self._methods.get(name)
        return method.input_type if method else self._payloads.get(name.removesuffix(_SIGNED))

    async def run(self, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        name = head.decode("ascii", "replace")
        if self._kind(name) is None or not self._harmless(name, body):
            return
        if name.endswith(_SIGNED):
            name = name.removesuffix(_SIGNED)
            body = self._sign(name, body)
        answer = await self._network.call(name, body)
        if answer is not None:
            GetMessageClass(self._methods[name].output_type).FromString(answer)
        await self._network.settle()
        self._network.look()

    def _sign(self, name: str, payload: bytes) -> bytes:
        """Returns a request whose field `signed`, at whatever depth, carries the payload."""
        request = GetMessageClass(self._methods[name].input_type)()
        holder = request if "signed" in request.DESCRIPTOR.fields_by_name else request.request
        # A neighbour carries what is signed for central.
        method = "/" + name.partition("/")[2].replace("PeerRelay", "CentralDirectory")
        holder.signed.CopyFrom(self._network.signed(method, payload))
        if "public_key" in holder.DESCRIPTOR.fields_by_name:
            holder.public_key = MALLORY.public_key
        return request.SerializeToString()

    def _harmless(self, name: str, body: bytes) -> bool:
        """Tells whether a request keeps to the scratch directory: a peer's owner may name any, on this machine too."""
        base = self._network.base
        with suppress(DecodeError):
            if name.endswith("/StartDownload"):
                where = control_pb2.StartDownloadRequest.FromString(body).directory
                return _beneath(where, base)
            if name.endswith("/StartUpload"):
                where = control_pb2.StartUploadRequest.FromString(body).source
                return _beneath(where, base / "scratch")
        return True

    async def check(self) -> None:
        await self._network.look_closely()


def _payloads(found: dict[str, Any]) -> dict[str, Any]:
    """Returns what is signed in the requests that carry something signed, by RPC: `Login` signs LoginDetails."""
    payloads = {}
    for name, method in found.items():
        details = pb2.DESCRIPTOR.message_types_by_name.get(f"{method.name}Details")
        if details is not None and "/relevo.v1." in name and "PeerControl" not in name:
            payloads[name] = details
    return payloads


def _beneath(where: str, root: Path) -> bool:
    """Tells whether a path stays beneath a root, or leads nowhere anyway."""
    try:
        found = Path(where).resolve()
        return found.is_relative_to(root) or not found.exists()
    except (OSError, ValueError):  # no path at all
        return True


def _input(name: str, message: Message) -> bytes:
    return name.encode() + b"\n" + message.SerializeToString()


class BeatTarget(Target):
    """A heartbeat stream. An input is its beats, each behind two bytes of length."""

    name = "beats"
    _METHOD = "/relevo.v1.CentralDirectory/Heartbeat"
    _MOST = 24

    async def __aenter__(self) -> "BeatTarget":
        self._network = await Network().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._network.__aexit__()

    def seeds(self) -> Sequence[bytes]:
        beats = [
            pb2.HeartbeatRequest(peer_id=MALLORY.peer_id, session_id=SESSION, sequence=number, free_bytes=1 << 30)
            for number in (1, 2, 3)
        ]
        return [_framed([beat.SerializeToString() for beat in beats[:count]]) for count in (0, 1, 3)]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        beats = _frames(data)
        choice = random.randrange(6)
        if choice == 0:
            return mutated(data, other, random)
        if choice == 1:
            random.shuffle(beats)
        elif choice == 2:
            beats += random.choices([*beats, b""], k=random.choice((1, 4, 20)))
        elif beats:
            at = random.randrange(len(beats))
            beats[at] = _spoiled_beat(beats[at], other, random)
        return _framed(beats)

    async def run(self, data: bytes) -> None:
        beats = [beat.replace(SESSION.encode(), self._network.session_id.encode()) for beat in _frames(data)]
        call = self._network.stream(self._METHOD)
        answered = 0
        try:
            for beat in beats[: self._MOST]:
                await call.write(beat)
            await call.done_writing()
            while (answer := await call.read()) is not grpc.aio.EOF:
                answered += bool(pb2.HeartbeatResponse.FromString(answer).sequence)
        except (grpc.RpcError, InvalidStateError):
            pass  # the stream has ended, and says why below
        code = await call.code()
        if code == grpc.StatusCode.OK and answered > len(beats):
            raise Broken("there were more answers than beats")
        if code != grpc.StatusCode.OK:
            await self._network.refused(_Ended(code, await call.details()))
        self._network.look()

    async def check(self) -> None:
        await self._network.look_closely()


class _Ended:
    """How a stream ended, as an error tells it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def _spoiled_beat(beat: bytes, other: bytes, random: Random) -> bytes:
    message = pb2.HeartbeatRequest()
    if random.random() < 0.5:
        with suppress(DecodeError):
            message.ParseFromString(beat)
            spoil(message, random)
            return message.SerializeToString()
    return mutated(beat, other, random)


def _frames(data: bytes) -> list[bytes]:
    beats = []
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        beats.append(data[2 : 2 + length])
        data = data[2 + length :]
    return beats


def _framed(beats: list[bytes]) -> bytes:
    return b"".join(min(len(beat), 65_535).to_bytes(2, "big") + beat[:65_535] for beat in beats)
