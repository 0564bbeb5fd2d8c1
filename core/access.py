"""Who may call what. Who calls is told by the certificate, never by a field; what has no rule here is refused.

Rules are for roles, and a role comes from the way in: the certificate behind a TLS connection, the Unix socket in a
directory that only its owner can enter, the enrolment port, or plaintext, where nobody is who they say.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from core.certificates import Kind, certificate_of
from core.errors import CertificateExpired, InvalidInput, Refused, Revoked, Unauthenticated
from core.trust import Trust


class Role(Enum):
    """What a caller is."""

    PEER = auto()  # a member, by its certificate
    ADMIN = auto()  # an operator, by a certificate
    OWNER = auto()  # a daemon's own user, on its socket
    STRANGER = auto()  # whoever reaches the enrolment port
    PLAINTEXT = auto()  # whoever reaches a port without TLS


_PEER = frozenset({Role.PEER, Role.PLAINTEXT})
_MEMBER = frozenset({Role.PEER, Role.ADMIN, Role.PLAINTEXT})
_INSPECTOR = _MEMBER | {Role.OWNER}
_OWNER = frozenset({Role.OWNER})
_ANYBODY = frozenset({Role.STRANGER})

# The whole table. A test goes through it by the descriptors of all services, so that a new RPC without a rule fails.
RULES: dict[str, frozenset[Role]] = {
    "/relevo.v1.CentralDirectory/Login": _PEER,
    "/relevo.v1.CentralDirectory/Logout": _PEER,
    "/relevo.v1.CentralDirectory/Heartbeat": _PEER,
    "/relevo.v1.CentralDirectory/PublishFiles": _PEER,
    "/relevo.v1.CentralDirectory/PlaceFile": _PEER,  # the author has signed it; the caller may be a neighbour
    "/relevo.v1.CentralDirectory/EndPlacement": _PEER,  # likewise
    "/relevo.v1.CentralDirectory/ReportHolder": _PEER,
    "/relevo.v1.CentralDirectory/ReportProbe": _PEER,  # the suspect has signed it; the caller is whoever reached it
    "/relevo.v1.CentralDirectory/Beat": _PEER,
    "/relevo.v1.CentralDirectory/Carry": _PEER,  # as PlaceFile; each RPC that is carried has its author as its caller
    "/relevo.v1.CentralDirectory/GetNeighbours": _MEMBER,
    "/relevo.v1.CentralDirectory/ListPeers": _MEMBER,
    "/relevo.v1.CentralDirectory/ListFiles": _MEMBER,
    "/relevo.v1.CentralDirectory/LocateFile": _MEMBER,
    "/relevo.v1.CentralDirectory/LocateFiles": _MEMBER,
    "/relevo.v1.CentralDirectory/GetPlacement": _MEMBER,
    "/relevo.v1.PeerRelay/ListFiles": _MEMBER,
    "/relevo.v1.PeerRelay/LocateFile": _MEMBER,
    "/relevo.v1.PeerRelay/LocateFiles": _MEMBER,
    "/relevo.v1.PeerRelay/GetNeighbours": _MEMBER,
    "/relevo.v1.PeerRelay/PlaceFile": _PEER,
    "/relevo.v1.PeerRelay/EndPlacement": _PEER,
    "/relevo.v1.PeerRelay/Carry": _PEER,
    "/relevo.v1.PeerRelay/GetManifest": _MEMBER,
    "/relevo.v1.PeerRelay/GetBlock": _PEER,
    "/relevo.v1.PeerRelay/GetContents": _PEER,
    "/relevo.v1.PeerRelay/Probe": _PEER,
    "/relevo.v1.PeerRelay/DialBack": _PEER,
    "/relevo.v1.PeerRelay/Attach": _PEER,
    "/relevo.v1.PeerRelay/Deliver": _PEER,
    "/relevo.v1.PeerRelay/Invite": _PEER,
    "/relevo.v1.PeerControl/GetStatus": _OWNER,
    "/relevo.v1.PeerControl/ListFiles": _OWNER,
    "/relevo.v1.PeerControl/ListPeers": _OWNER,
    "/relevo.v1.PeerControl/GetNeighbours": _OWNER,
    "/relevo.v1.PeerControl/StartDownload": _OWNER,
    "/relevo.v1.PeerControl/StartSetDownload": _OWNER,
    "/relevo.v1.PeerControl/StartUpload": _OWNER,
    "/relevo.v1.PeerControl/ListTransfers": _OWNER,
    "/relevo.v1.PeerControl/GetTransfer": _OWNER,
    "/relevo.v1.PeerControl/CancelTransfer": _OWNER,
    "/relevo.v1.PeerControl/PauseTransfer": _OWNER,
    "/relevo.v1.PeerControl/ResumeTransfer": _OWNER,
    "/relevo.v1.PeerControl/SetTransferPriority": _OWNER,
    "/relevo.v1.PeerControl/SetRateLimits": _OWNER,
    "/relevo.v1.PeerControl/GetPlacement": _OWNER,
    "/relevo.v1.PeerControl/EndPlacement": _OWNER,
    "/relevo.v1.PeerControl/Logout": _OWNER,
    "/relevo.v1.Enrolment/Enroll": _ANYBODY,
    "/relevo.v1.Enrolment/Renew": _ANYBODY,
    "/grpc.health.v1.Health/Check": _INSPECTOR,
    "/grpc.health.v1.Health/List": _INSPECTOR,
    "/grpc.health.v1.Health/Watch": _INSPECTOR,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _INSPECTOR,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _INSPECTOR,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Attributes:
        role: what it is.
        peer_id: which peer; empty unless a certificate names one.
        carrier: the peer, empty in plaintext, that has brought what this one has signed; None: it calls itself.
    """

    role: Role
    peer_id: str = ""
    carrier: str | None = None

    def check_is(self, peer_id: str) -> None:
        """Checks that a field or an envelope which names a peer names the caller; in plaintext it has to be believed.

        Raises:
            Refused: it names somebody else.
        """
        if self.role is Role.PLAINTEXT:
            return
        if self.role is not Role.PEER or peer_id != self.peer_id:
            raise Refused("this is another peer's; a certificate speaks for its own peer only")


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Returns who makes the call that is being answered; LookupError outside of one."""
    return _caller.get()


def admit(way_in: "WayIn", method: str, context: Any) -> None:
    """Lets a call in, and makes `caller` tell who makes it.

    Raises:
        Unauthenticated, Refused: it may not.
    """
    found = way_in.caller(context)
    if found.role not in RULES.get(method, frozenset()):
        raise Refused(f"{method} is not for this caller")
    _caller.set(found)


def act_for(peer_id: str) -> None:
    """Has `caller` tell, until the call that is being answered ends, the peer that has signed what is brought."""
    _caller.set(Caller(Role.PEER, peer_id, caller().peer_id))


class WayIn(Protocol):
    """Tells who calls."""

    def caller(self, context: Any) -> Caller:
        """Returns who makes a call (`context` is gRPC's). Raises Unauthenticated or Refused."""
        ...


class Fixed:
    """A way in on which everybody has the same role."""

    def __init__(self, role: Role) -> None:
        self._caller = Caller(role)

    def caller(self, context: Any) -> Caller:
        """Returns the same caller for every call."""
        del context
        return self._caller


PLAINTEXT = Fixed(Role.PLAINTEXT)
OWN_SOCKET = Fixed(Role.OWNER)
ENROLMENT = Fixed(Role.STRANGER)


class Certificates:
    """TLS with client certificates. Expiry and revocation count at every call: a connection outlives both."""

    def __init__(self, trust: Callable[[], Trust], wall: Callable[[], float]) -> None:
        """`trust` and `wall` (seconds since 1970) are asked at every call."""
        self._trust = trust
        self._wall = wall

    def caller(self, context: Any) -> Caller:
        """Returns who the certificate behind the connection names.

        Raises:
            Unauthenticated: there is none, or none of this network's making.
            CertificateExpired: it is not valid at this time.
            Revoked: it does not count any more.
            Refused: it is neither a peer's nor an operator's.
        """
        shown = context.auth_context().get("x509_pem_cert")
        if not shown:
            raise Unauthenticated("this call came without a certificate")
        try:
            certificate = certificate_of(shown[0])
        except InvalidInput as error:
            raise Unauthenticated("the certificate is not one of this network's") from error
        if not certificate.not_before <= self._wall() < certificate.not_after:
            raise CertificateExpired("the certificate is not valid at this time; renew it")
        subject = certificate.subject
        if subject.kind is Kind.PEER:
            if subject.label in self._trust().revoked:
                raise Revoked
            return Caller(Role.PEER, subject.label)
        if subject.kind is Kind.ADMIN:
            return Caller(Role.ADMIN)
        raise Refused("this certificate is for serving only")
