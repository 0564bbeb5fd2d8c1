"""Asks central for membership: with a token the first time, with the peer's key alone from then on.

Where central does not answer, it is asked through the entrance of another peer: TLS and all, so that it is central all
the same that has to show who it is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
from peer.directory.carried_central import CarriedCentral
from peer.directory.central_errors import central_error
from peer.directory.central_time import CentralTime
from peer.links.racing import first_success
from peer.membership.membership import Membership, answered
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

    def __init__(
        self,
        identity: Identity,
        time: CentralTime,
        *,
        entrances: Sequence[str] = (),
        carried: CarriedCentral | None = None,
    ) -> None:
        """Makes it.

        Args:
            identity: the key.
            time: central's.
            entrances: `host:port` of peers through which to reach Enrolment when central does not answer itself: at
                these hosts, on the port that it has at central.
            carried: central by way of other peers, for members whom it does not answer, or not on this port.
        """
        self._identity = identity
        self._time = time
        self._entrances = entrances
        self._carried = carried

    async def enroll(self, token: JoinToken, name: str) -> Membership:
        """Makes this peer, called `name`, a member by a token; its addresses are tried in order, then the entrances.

        Raises:
            Refused: the token does not count any more.
            Revoked: this peer's key was revoked.
            WrongIdentity, Unreachable: central answers at none of the addresses, nor through an entrance.
            RelevoError: what central answered.
        """
        network_id = network_id_of(token.authority)
        details = pb2.EnrollDetails(invitation_id=token.invitation_id, secret=token.secret, name=name)

        async def enroll(stub: "EnrolmentAsyncStub") -> Membership:
            signed = self._sign(ENROLL_METHOD, details.SerializeToString())
            request = pb2.EnrollRequest(signed=signed, public_key=self._identity.public_key)
            response = await stub.Enroll(request, timeout=TIMEOUT)
            return answered(response.membership, self._identity.peer_id, network_id)

        addresses = at_port(token.addresses, token.enrolment_port)
        entrances = at_port(self._entrances, token.enrolment_port)
        try:
            return await self._at_any(addresses, (token.authority,), network_id, enroll, entrances)
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
        authorities, network_id = membership.trust.authorities, membership.network_id

        def asked() -> pb2.RenewRequest:
            return pb2.RenewRequest(signed=self._sign(RENEW_METHOD, b""), public_key=self._identity.public_key)

        async def renew(stub: "EnrolmentAsyncStub") -> Membership:
            response = await stub.Renew(asked(), timeout=TIMEOUT)
            return answered(response.membership, self._identity.peer_id, network_id)

        centrals, entrances = (at_port(each, membership.enrolment_port) for each in (centrals, self._entrances))
        try:
            return await self._at_any(centrals, authorities, network_id, renew)
        except (errors.Unreachable, errors.Busy) as error:
            if self._carried is not None:
                # Strangers at this host may be who keeps central busy: it counts them apart from its members.
                call = self._carried.call_itself if isinstance(error, errors.Busy) else self._carried.call
                with contextlib.suppress(errors.Unreachable, errors.CertificateExpired):
                    response = await call(RENEW_METHOD, asked(), pb2.RenewResponse)
                    return answered(response.membership, self._identity.peer_id, network_id)
            if entrances:  # who has been off for long is let through there, and nowhere else
                with contextlib.suppress(errors.Unreachable):
                    return await self._at_any((), authorities, network_id, renew, entrances)
            raise

    def _sign(self, method: str, payload: bytes) -> "SignedRequest":
        return sign_request(self._identity, method, payload, self._time.now)

    async def _at_any(
        self,
        addresses: Sequence[str],
        authorities: Sequence[bytes],
        network_id: str,
        call: Callable[["EnrolmentAsyncStub"], Awaitable[Membership]],
        entrances: Sequence[str] = (),
    ) -> Membership:
        """Returns the first answer of central's: at one of the addresses, or through one of the entrances."""
        material = Material(b"", b"", to_pem(authorities))  # no certificate is asked for there
        others: list[errors.WrongIdentity] = []

        async def at(address: str) -> Membership | errors.RelevoError:
            try:
                return await self._at(address, material, network_id, call)
            except errors.Unreachable as error:  # it leads on to the next
                if isinstance(error, errors.WrongIdentity):
                    others.append(error)
                elif address in entrances:
                    raise await _closed(address, addresses) from error
                raise
            except errors.RelevoError as error:  # what central itself answers counts
                return error

        attempts = [partial(at, address) for address in dict.fromkeys((*addresses, *entrances))]
        try:
            answer = await first_success(attempts, PATIENCE)
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
                log.warning("%s", self._time.correct(error))
                return await _translated(call(stub), address)


async def _translated(call: Awaitable[T], address: str) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise central_error(error, address) from error


async def _closed(address: str, centrals: Sequence[str]) -> errors.Unreachable:
    """Returns why central, which does not answer at `centrals`, is not reached through the entrance at `address`."""
    central = f"central at {' or '.join(centrals)} does not answer"
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(*split_address(address))
    except OSError:
        return errors.Unreachable(
            f"{central}, and at {address} no peer lets newcomers in: "
            "the one there has to run with `relevo serve --entrance`"
        )
    writer.transport.abort()
    return errors.Unreachable(
        f"{central}, and the entrance at {address} does not lead to it: the peer there does not reach it "
        "either, has too many newcomers at once, or what it passes on is changed on the way"
    )


def at_port(addresses: Iterable[str], port: int) -> list[str]:
    """Returns the hosts of `addresses` (`host:port`) with another port, each once."""
    return list(dict.fromkeys(join_address(split_address(address)[0], port) for address in addresses))
