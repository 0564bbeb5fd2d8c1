"""Central as a peer has it that cannot call it: every call signed here, carried by another, and answered by central.

Whoever carries a call can delay it, and no more: what it changes, central refuses, and what it invents in central's
name, or keeps from another time, is refused here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from core import errors
from core.identity import Identity
from core.signing import check_answer, sign_request
from core.status import from_rpc_error, from_status
from core.trust import Trust
from peer.directory.carriers import Carrier, Carriers
from peer.directory.central_time import CentralTime
from peer.links.racing import first_success
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.content_pb2 import SignedAnswer

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2_grpc import CentralDirectoryAsyncStub

log = logging.getLogger("relevo.carried")

M = TypeVar("M", bound=Message)
TIMEOUT = 5.0
# How long a carrier may be silent before the next is tried beside it, in seconds: whatever arrives twice counts once.
PATIENCE = 1.0
_DIRECTORY = pb2.DESCRIPTOR.services_by_name["CentralDirectory"]


class CarriedCentral:
    """Calls central through the first of this peer's carriers that answers for it.

    Attributes:
        carriers: whom to ask.
    """

    def __init__(
        self,
        identity: Identity,
        carriers: Carriers,
        time: CentralTime,
        trust: Callable[[], Trust] | None,
        central: Callable[[], "CentralDirectoryAsyncStub"],
    ) -> None:
        """Makes it.

        Args:
            identity: who calls.
            carriers: whom to ask.
            time: central's.
            trust: tells whom to trust; None in plaintext, where nobody's word is proved.
            central: gives the stub of central itself.
        """
        self.carriers = carriers
        self._central = central
        self._identity = identity
        self._time = time
        self._trust = trust

    def stub(self) -> "CentralDirectoryAsyncStub":
        """Returns what calls CentralDirectory's unary RPCs as a stub does; they raise RelevoError."""
        return cast("CentralDirectoryAsyncStub", _Stub(self))

    async def call(self, method: str, request: Message, answer: type[M], timeout: float = TIMEOUT) -> M:
        """Returns central's answer to the RPC `method`, within `timeout` seconds.

        Raises:
            Unreachable: nobody brings an answer of central's.
            RelevoError: what central answered.
        """
        asked = self._signed(method, request)
        attempts = [partial(self._through, carrier, asked, timeout) for carrier in self.carriers.in_order()]
        try:
            async with asyncio.timeout(timeout):
                found = await first_success(attempts, PATIENCE)
        except TimeoutError as error:
            raise errors.Unreachable("no peer brings central's answer in time") from error
        return _read(found, answer)

    async def call_itself(self, method: str, request: Message, answer: type[M]) -> M:
        """Returns the answer of central itself to what is carried otherwise, asked where it knows its members.

        Raises:
            Unreachable: central does not answer, or does not take this peer's certificate.
            RelevoError: what central answered.
        """
        try:
            response = await self._central().Carry(self._signed(method, request), timeout=TIMEOUT)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return _read(response.answer, answer)

    def _signed(self, method: str, request: Message) -> pb2.CarryRequest:
        signed = sign_request(self._identity, method, request.SerializeToString(), self._time.now)
        return pb2.CarryRequest(signed=signed, public_key=self._identity.public_key)

    async def _through(self, carrier: Carrier, asked: pb2.CarryRequest, timeout: float) -> SignedAnswer:
        """Returns central's answer, as one carrier brings it. Raises Unreachable when it brings none."""
        began = self.carriers.clock()
        try:
            stub = await self.carriers.stub(carrier)
            response = await stub.Carry(relay_pb2.PeerRelayCarryRequest(request=asked), timeout=timeout)
            answer = response.response.answer
            if self._trust is not None:
                check_answer(answer, asked.signed, asked.public_key, self._trust(), self._time.now)
        except asyncio.CancelledError:
            if self.carriers.clock() - began > 0.9 * PATIENCE:  # another was faster by far; timers may be early
                self.carriers.rest(carrier)
            raise
        except errors.Unauthenticated as error:
            self.carriers.distrust(carrier)
            raise errors.Unreachable(f"what {carrier} brings is not central's answer") from error
        except (grpc.RpcError, errors.RelevoError) as error:
            self.carriers.rest(carrier)
            why = from_rpc_error(error) if isinstance(error, grpc.RpcError) else error
            raise errors.Unreachable(f"{carrier} does not carry calls to central: {why}") from error
        self.carriers.carried(carrier)
        return answer


class _Stub:
    """The unary RPCs of CentralDirectory by their names."""

    def __init__(self, central: CarriedCentral) -> None:
        self._central = central

    def __getattr__(self, rpc: str) -> Callable[..., Awaitable[Any]]:
        if rpc not in _DIRECTORY.methods_by_name:
            raise AttributeError(rpc)
        answer = GetMessageClass(_DIRECTORY.methods_by_name[rpc].output_type)
        method = f"/{_DIRECTORY.full_name}/{rpc}"
        return lambda request, timeout=TIMEOUT: self._central.call(method, request, answer, timeout)


def _read(found: SignedAnswer, answer: type[M]) -> M:
    """Returns the message in an answer. Raises the RelevoError in it."""
    try:
        match found.WhichOneof("outcome"):
            case "answer":
                return answer.FromString(found.answer)
            case "status":
                raise from_status(Status.FromString(found.status))
    except DecodeError as error:
        raise errors.Corrupt("central's answer cannot be read") from error
    raise errors.Corrupt("central's answer has nothing in it")
