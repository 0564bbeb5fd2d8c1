"""Requests that others have carried here: each is signed by its author, and each answer by central.

A carried request is answered by the method that answers its RPC, with its author as the caller. So whatever is checked
and counted there is checked and counted for the author, whoever the carrier is.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from central import decode, fields
from central.network.network import Network
from central.sessions.sessions import Sessions
from core.access import act_for
from core.addresses import is_loopback, observed, split_address
from core.errors import NotFound, RelevoError, SessionUnknown
from core.signing import session_name
from core.status import to_status
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import SignedAnswer, SignedRequest

# Whoever is not logged in may do this.
_BY_ANY_MEMBER = frozenset({decode.LOGIN, decode.RENEW})


@dataclass(frozen=True, slots=True)
class _Rpc:
    """What answers an RPC, and the message that it takes."""

    request: type[Message]
    answer: Callable[[Any, Any], Awaitable[Any]]


class _Call:
    """What gRPC knows of a carried call, as far as the methods that answer it ask: where its author is.

    A carrier's word for that counts when it is on this machine: it could say of itself what it says of the author.
    """

    def __init__(self, context: Any, told: str) -> None:
        """`context` is the carrier's call, `told` the author's `host:port` in its word."""
        carrier: str = context.peer()
        seen = observed(carrier)
        here = not seen or is_loopback(split_address(seen)[0])
        self._peer = f"ipv6:{told}" if told and here else carrier

    def peer(self) -> str:
        """Returns its address in gRPC's words."""
        return self._peer


class Carried:
    """Answers carried requests of the RPCs that were offered."""

    def __init__(self, sessions: Sessions, network: Network | None, wall: Callable[[], float]) -> None:
        """Makes it; without a network nothing is signed. `wall` tells seconds since 1970."""
        self._sessions = sessions
        self._network = network
        self._wall = wall
        self._rpcs: dict[str, _Rpc] = {}

    def offer(self, service: ServiceDescriptor, servicer: Any, names: Iterable[str]) -> None:
        """Has RPCs of `service` answered by `servicer`."""
        for name in names:
            rpc = _Rpc(GetMessageClass(service.methods_by_name[name].input_type), getattr(servicer, name))
            self._rpcs[f"/{service.full_name}/{name}"] = rpc

    async def carry(self, request: pb2.CarryRequest, context: Any) -> SignedAnswer:
        """Answers a request, also with an error: whoever carries it is told nothing that is not signed."""
        try:
            answer = SignedAnswer(answer=(await self._answer(request, context)).SerializeToString())
        except RelevoError as error:
            answer = SignedAnswer(status=to_status(error).SerializeToString())
        if self._network:
            self._network.signer().sign(answer, request.signed, request.public_key)
        return answer

    async def _answer(self, request: pb2.CarryRequest, context: Any) -> Message:
        signed = decode.carried(request, self._wall())
        rpc = self._rpcs.get(signed.method)
        if rpc is None:
            raise NotFound(f"{signed.method} is not an RPC that is carried")
        asked = rpc.request()
        fields.message(signed.payload, asked, "signed.payload")
        await self._admit(signed)
        _each_session_id(asked, lambda name: self._sessions.named(signed.author, name))
        answer: Message = await rpc.answer(asked, _Call(context, request.observed_address))
        _each_session_id(answer, session_name)
        return answer

    async def _admit(self, signed: SignedRequest) -> None:
        """Lets the author in as its certificate would, and makes it the caller.

        Raises:
            SessionUnknown: it is not logged in.
            NotEnrolled, Revoked: it is no member.
        """
        if signed.method not in _BY_ANY_MEMBER and not self._sessions.is_live(signed.author):
            raise SessionUnknown("this peer is not logged in; log in anew")
        if self._network and signed.method == decode.LOGIN:
            await self._network.check_member(signed.author)
        act_for(signed.author)


def _each_session_id(message: Message, put: Callable[[str], str]) -> None:
    """Puts another id in place of the session id that a request or an answer has, where it has one."""
    if isinstance(message, pb2.BeatRequest):
        message = message.beat
    if "session_id" not in message.DESCRIPTOR.fields_by_name:
        return
    found: Any = message
    found.session_id = put(found.session_id)
