"""The RPCs of Enrolment: let through, decode, one call, encode. Errors become statuses in `core.status`."""

from collections.abc import Callable
from typing import Any

from central import decode, encode
from central.network.network import Network
from core.addresses import observed
from core.errors import Busy
from core.rate import Gate
from relevo.v1 import enrolment_pb2 as pb2
from relevo.v1.enrolment_pb2_grpc import EnrolmentServicer as Servicer


class EnrolmentServicer(Servicer):
    """Enrolment on a network; whoever comes too often is turned away before anything is looked at."""

    def __init__(self, network: Network, gate: Gate, life: float, clock: Callable[[], float]) -> None:
        """`life` of certificates in seconds; `clock` is monotonic."""
        self._network = network
        self._gate = gate
        self._life = life
        self._clock = clock

    async def Enroll(self, request: pb2.EnrollRequest, context: Any) -> pb2.EnrollResponse:
        self._let_through(context)
        now = self._network.now()
        applicant = decode.applicant(request, now)
        membership = await self._network.run(lambda network: network.enroll(applicant, now, self._life))
        return pb2.EnrollResponse(membership=encode.membership(membership))

    async def Renew(self, request: pb2.RenewRequest, context: Any) -> pb2.RenewResponse:
        self._let_through(context)
        now = self._network.now()
        peer_id, key = decode.renewal(request, now), request.public_key
        membership = await self._network.run(lambda network: network.renew(peer_id, key, now, self._life))
        return pb2.RenewResponse(membership=encode.membership(membership))

    def _let_through(self, context: Any) -> None:
        pause = self._gate.take(observed(context.peer()), self._clock())
        if pause:
            raise Busy("too many requests come from there, or in all; wait a little", pause)
