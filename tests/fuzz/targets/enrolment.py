"""Enrolment over TLS, where anybody may knock; and the membership that a lying central would answer."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from central.server import ENROLMENT_MESSAGE, running_central
from central.settings import Settings
from core.addresses import join_address, split_address
from core.certificates import central_name, to_pem
from core.errors import RelevoError
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import new_request_id, sign_request
from core.tls import Material
from peer.membership.membership import answered
from relevo.v1 import enrolment_pb2 as pb2
from tests.fuzz.engine import Broken, Target
from tests.fuzz.identities import MALLORY, REQUEST
from tests.fuzz.messages import services, spoil, valid
from tests.fuzz.mutations import mutated
from tests.fuzz.network import DEADLINE, DEFECTS
from tests.fuzz.watch import Memory, alarmed

_SERVICE = "relevo.v1.Enrolment"
_SIGNED = " signed"
_MEMBERSHIP = "membership"
# Stand in an input for those of the invitation, which differ from run to run.
_INVITATION = b"inv" * 2 + b"it"
_SECRET = b"s" * 16


class EnrolmentTarget(Target):
    """One request, or one membership. An input is a line with the RPC, or `membership`, then the bytes.

    After `signed` in that line the bytes are the payload, which is signed before it is sent.
    """

    name = "enrolment"

    def __init__(self) -> None:
        self._kinds: dict[str, Any] = {}
        for method in services()[_SERVICE].methods:
            self._kinds[method.name] = method.input_type
            details = pb2.DESCRIPTOR.message_types_by_name.get(f"{method.name}Details")
            self._kinds[method.name + _SIGNED] = details or method.input_type
        self._kinds[_MEMBERSHIP] = pb2.Membership.DESCRIPTOR

    async def __aenter__(self) -> "EnrolmentTarget":
        self._stack = AsyncExitStack()
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        base = Path(tempfile.mkdtemp(prefix="relevo-fuzz-"))
        self._stack.callback(shutil.rmtree, base)
        self._alarm = self._stack.enter_context(alarmed())
        self._memory = Memory()
        often = Settings(enrolment_rate=1e6, enrolment_total_rate=1e6)
        central = await self._stack.enter_async_context(running_central(base / "data", settings=often))
        self._network = central.network_id
        self._token = await central.invite(uses=1 << 30)
        material = Material(b"", b"", to_pem([self._token.authority]))
        address = join_address(split_address(central.address)[0], central.enrolment_port)
        self._channel = open_channel(address, CENTRAL_MESSAGE, material, central_name(self._network))
        self._stack.push_async_callback(self._channel.close)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def seeds(self) -> Sequence[bytes]:
        values = {
            "invitation_id": _INVITATION,
            "secret": _SECRET,
            "name": "mallory",
            "author": MALLORY.peer_id,
            "request_id": REQUEST,
            "public_key": MALLORY.public_key,
            "network_id": self._network,
            "certificates": self._token.authority,
            "authorities": self._token.authority,
            "revoked_peer_ids": MALLORY.peer_id,
            "enrolment_port": 7401,
        }
        return [_input(name, valid(kind, values)) for name, kind in self._kinds.items()]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        name, _, body = data.partition(b"\n")
        kind = self._kinds.get(name.decode("ascii", "replace"))
        if kind is None or random.random() < 0.4:
            return name + b"\n" + mutated(body, other.partition(b"\n")[2], random)
        message = GetMessageClass(kind)()
        with suppress(DecodeError):
            message.ParseFromString(body)
        spoil(message, random)
        return name + b"\n" + message.SerializeToString()

    async def run(self, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        name = head.decode("ascii", "replace")
        if name not in self._kinds:
            return
        if name == _MEMBERSHIP:
            self._take(body)
            return
        rpc = name.removesuffix(_SIGNED)
        method = f"/{_SERVICE}/{rpc}"
        body = body.replace(_INVITATION, self._token.invitation_id).replace(_SECRET, self._token.secret)
        body = body.replace(REQUEST.encode(), new_request_id().encode())
        if name.endswith(_SIGNED):
            signed = sign_request(MALLORY, method, body, time.time())
            request = GetMessageClass(self._kinds[rpc])(signed=signed, public_key=MALLORY.public_key)
            body = request.SerializeToString()
        if len(body) <= ENROLMENT_MESSAGE:  # longer ones are refused unread, which takes gRPC a quarter of a second
            await self._call(method, body)

    async def _call(self, method: str, body: bytes) -> None:
        try:
            answer: bytes = await self._channel.unary_unary(method)(body, timeout=DEADLINE)
        except grpc.RpcError as error:
            status: Any = error
            self._alarm.check()
            if status.code() in DEFECTS:
                raise Broken(f"it answered {status.code().name}: {status.details()}") from error
            return
        self._alarm.check()
        # Whoever got in is a member of this network, and of no other.
        membership = pb2.EnrollResponse.FromString(answer).membership
        answered(membership, MALLORY.peer_id, self._network)

    def _take(self, body: bytes) -> None:
        with suppress(DecodeError, RelevoError):
            message = pb2.Membership.FromString(body)
            answered(message, MALLORY.peer_id, self._network)
            if message.network_id != self._network:
                raise Broken("a membership of another network was taken")

    async def check(self) -> None:
        self._alarm.check()
        self._memory.check()


def _input(name: str, message: Message) -> bytes:
    return name.encode() + b"\n" + message.SerializeToString()
