"""Asks central for membership: with a token the first time, with the peer's key alone from then on."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from core import errors
from core.addresses import join_address, split_address
from core.certificates import central_name, network_id_of, to_pem
from core.identity import Identity
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import sign_request
from core.tls import Material
from core.tokens import JoinToken
from peer.carried_central import CarriedCentral
from peer.central_errors import central_error
from peer.central_time import CentralTime
from peer.membership import Membership, answered
from peer.racing import first_success
from relevo.v1 import enrolment_pb2 as pb2
from relevo.v1.enrolment_pb2_grpc import EnrolmentStub

if TYPE_CHECKING:
    from relevo.v1.content_pb2 import SignedRequest
    from relevo.v1.enrolment_pb2_grpc import EnrolmentAsyncStub

log = logging.getLogger("relevo.identity")
T = TypeVar("T")
ENROLL_METHOD = "/relevo.v1.Enrolment/Enroll"
RENEW_METHOD = "/relevo.v1.Enrolment/Renew"
TIMEOUT = 5.0
# How long an address may be silent before the next is tried beside it, in seconds. Both may answer: asking twice
# changes nothing.
PATIENCE = 1.0


class Enrolling:
    """Calls Enrolment in the name of one key."""

    def __init__(self, identity: Identity, time: CentralTime, carried: CarriedCentral | None = None) -> None:
        """`time` is central's; `carried` is central by way of other peers, for members whom it does not answer."""
        self._identity = identity
        self._time = time
        self._carried = carried

    async def enroll(self, token: JoinToken, name: str) -> Membership:
        """Makes this peer, called `name`, a member by a token; the token's addresses are tried in order.

        Raises:
            Refused: the token does not count any more.
            Revoked: this peer's key was revoked.
            WrongIdentity, Unreachable: central answers at none of the addresses.
            RelevoError: what central answered.
        """
        network_id = network_id_of(token.authority)
        details = pb2.EnrollDetails(invitation_id=token.invitation_id, secret=token.secret, name=name)

        async def enroll(stub: "EnrolmentAsyncStub") -> Membership:
            signed = self._sign(ENROLL_METHOD, details.SerializeToString())
            request = pb2.EnrollRequest(signed=signed, public_key=self._identity.public_key)
            response = await stub.Enroll(request, timeout=TIMEOUT)
            return answered(response.membership, self._identity.peer_id, network_id)

        addresses = _at_port(token.addresses, token.enrolment_port)
        try:
            return await self._at_any(addresses, (token.authority,), network_id, enroll)
        except errors.Refused as error:
            if isinstance(error, errors.Revoked):
                raise
            raise errors.Refused(
                "the token does not count: it was used already, or is too old; "
                "ask the operator for another (relevo-central invite)"
            ) from error

    async def renew(self, membership: Membership, centrals: Sequence[str]) -> Membership:
        """Returns a fresh membership; the hosts of `centrals` (`host:port`) are tried in order.

        Raises:
            Revoked, NotEnrolled: why this peer is refused everywhere.
            WrongIdentity, Unreachable: central answers at none of the hosts, nor through another peer.
            RelevoError: what central answered.
        """

        def asked() -> pb2.RenewRequest:
            return pb2.RenewRequest(signed=self._sign(RENEW_METHOD, b""), public_key=self._identity.public_key)

        async def renew(stub: "EnrolmentAsyncStub") -> Membership:
            response = await stub.Renew(asked(), timeout=TIMEOUT)
            return answered(response.membership, self._identity.peer_id, membership.network_id)

        addresses = _at_port(centrals, membership.enrolment_port)
        try:
            return await self._at_any(addresses, membership.trust.authorities, membership.network_id, renew)
        except errors.Unreachable as error:
            if self._carried is None:
                raise
            try:
                response = await self._carried.call(RENEW_METHOD, asked(), pb2.RenewResponse)
            except errors.Unreachable:
                raise error from None
            return answered(response.membership, self._identity.peer_id, membership.network_id)

    def _sign(self, method: str, payload: bytes) -> "SignedRequest":
        return sign_request(self._identity, method, payload, self._time.now)

    async def _at_any(
        self,
        addresses: Sequence[str],
        authorities: Sequence[bytes],
        network_id: str,
        call: Callable[["EnrolmentAsyncStub"], Awaitable[Membership]],
    ) -> Membership:
        material = Material(b"", b"", to_pem(authorities))  # no certificate is asked for there
        others: list[errors.WrongIdentity] = []

        async def at(address: str) -> Membership | errors.RelevoError:
            try:
                return await self._at(address, material, network_id, call)
            except errors.Unreachable as error:  # it leads on to the next
                if isinstance(error, errors.WrongIdentity):
                    others.append(error)
                raise
            except errors.RelevoError as error:  # what central itself answers counts
                return error

        try:
            answer = await first_success([partial(at, address) for address in addresses], PATIENCE)
        except errors.Unreachable as error:
            raise others[0] if others else error  # noqa: B904 - it says more than the silence of another address
        if isinstance(answer, errors.RelevoError):
            raise answer
        return answer

    async def _at(
        self,
        address: str,
        material: Material,
        network_id: str,
        call: Callable[["EnrolmentAsyncStub"], Awaitable[Membership]],
    ) -> Membership:
        async with open_channel(address, CENTRAL_MESSAGE, material, central_name(network_id)) as channel:
            stub: Any = EnrolmentStub(channel)
            try:
                return await _translated(call(stub), address)
            except errors.ClockSkew as error:
                behind = self._time.correct(error)
                log.warning("this machine's clock is %.0f s behind central's; signing by central's", behind)
                return await _translated(call(stub), address)


async def _translated(call: Awaitable[T], address: str) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise central_error(error, address) from error


def _at_port(addresses: Sequence[str], port: int) -> list[str]:
    return list(dict.fromkeys(join_address(split_address(address)[0], port) for address in addresses))
