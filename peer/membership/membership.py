"""A peer's membership of a network: its certificate, whom it trusts, and when it has to ask for a fresh one.

It is one file of the home, `network/membership`, so that a crash leaves the old membership or the new one, whole.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from google.protobuf.message import DecodeError

from core.certificates import BACKDATED, NETWORK_ID, central_name, certificate_of, peer_name, to_pem
from core.errors import Corrupt, InvalidInput, NotPossible
from core.identity import Identity
from core.private_files import write_private
from core.tls import Material
from core.trust import Trust
from relevo.v1.enrolment_pb2 import Membership as MembershipMessage

_FILE = Path("network", "membership")
# The part of its life after which a certificate is renewed.
RENEWED_AT = 2 / 3
# Peers whose network has a new authority renew within this part of a certificate's life, and within so many seconds,
# not all at once.
SPREAD_LIFE, SPREAD_SECONDS = 1 / 20, 600.0


@dataclass(frozen=True, slots=True)
class Membership:
    """What makes a key a member; times in seconds since 1970.

    Attributes:
        network_id: names the network.
        certificates: in DER: the peer's own first, then those that lead to older authorities.
        trust: whom to trust.
        enrolment_port: of Enrolment at central's hosts.
        issued: when the certificate was made.
        expires: when it stops to count.
    """

    network_id: str
    certificates: tuple[bytes, ...]
    trust: Trust
    enrolment_port: int
    issued: float
    expires: float

    @classmethod
    def from_message(cls, message: MembershipMessage, peer_id: str) -> "Membership":
        """Returns what a message says.

        Raises:
            InvalidInput: it is not the membership of the peer with that id, or contradicts itself.
        """
        if not message.certificates or not NETWORK_ID.fullmatch(message.network_id):
            raise InvalidInput("membership", "it names no network, or holds no certificate")
        own = certificate_of(to_pem(message.certificates[:1]))
        trust = Trust.from_message(message.trust)
        if own.subject.name != peer_name(peer_id):
            raise InvalidInput("membership.certificates", "the first is not this peer's")
        if trust.network_id != message.network_id:
            raise InvalidInput("membership.trust", "it is another network's")
        if not 0 < message.enrolment_port < 1 << 16:
            raise InvalidInput("membership.enrolment_port", "it is no port")
        return cls(
            message.network_id,
            tuple(message.certificates),
            trust,
            message.enrolment_port,
            own.not_before + BACKDATED,
            own.not_after,
        )

    def to_message(self) -> MembershipMessage:
        """Returns the message that says the same."""
        return MembershipMessage(
            network_id=self.network_id,
            certificates=self.certificates,
            trust=self.trust.to_message(),
            enrolment_port=self.enrolment_port,
        )

    @property
    def life(self) -> float:
        """How long its certificate counts in all, in seconds."""
        return max(1.0, self.expires - self.issued)

    @property
    def central_name(self) -> str:
        """The name that central shows in the handshake."""
        return central_name(self.network_id)

    def renew_time(self) -> float:
        """Returns when the certificate is to be renewed, in seconds since 1970."""
        return self.issued + RENEWED_AT * self.life

    def expired(self, now: float) -> bool:
        """Tells whether the certificate has stopped to count at `now`."""
        return now >= self.expires

    def of_issuing_authority(self) -> bool:
        """Tells whether the certificate is from the authority that issues now; else it is renewed soon."""
        own = x509.load_der_x509_certificate(self.certificates[0])
        return own.issuer == x509.load_der_x509_certificate(self.trust.authorities[0]).subject

    def spread(self) -> float:
        """Returns within how many seconds to renew when the network has a new authority."""
        return min(SPREAD_SECONDS, SPREAD_LIFE * self.life)

    def hearing(self, trust: Trust) -> "Membership":
        """Returns the membership after central has said `trust` down a heartbeat: itself unless that is newer.

        Two streams overlap when a heartbeat moves, so what comes late must not take a revocation back. A central that
        was restored from a backup, whose versions are lower, is followed at the next renewal, which goes by what
        central answers.
        """
        if trust.version <= self.trust.version or trust.network_id != self.network_id:
            return self
        return replace(self, trust=trust)

    def at_port(self, enrolment_port: int) -> "Membership":
        """Returns the membership with another port of Enrolment: itself when it is the same, or none."""
        if enrolment_port == self.enrolment_port or not 0 < enrolment_port < 1 << 16:
            return self
        return replace(self, enrolment_port=enrolment_port)

    def renewed(self, answer: "Membership", asked: "Membership") -> "Membership":
        """Returns the membership after central's answer to a renewal that was asked for when `asked` held."""
        if self.trust is not asked.trust:
            return answer.hearing(self.trust)  # it was told something newer meanwhile
        if answer.trust.version:
            return answer
        # They are too many for an answer: whoever is known to be revoked stays so until a heartbeat tells all of them.
        return replace(answer, trust=replace(answer.trust, revoked=self.trust.revoked))

    def material(self, identity: Identity) -> Material:
        """Returns what the peer shows and accepts in handshakes."""
        return Material(identity.pem(), to_pem(self.certificates), to_pem(self.trust.authorities))


def load(home: Path, peer_id: str) -> Membership | None:
    """Returns the membership that `home` holds, or None when it holds none.

    Raises:
        NotPossible: the file cannot be read or understood, or is another peer's.
    """
    path = home / _FILE
    try:
        return Membership.from_message(MembershipMessage.FromString(path.read_bytes()), peer_id)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPossible(f"{path} cannot be read: {error.strerror}") from error
    except (InvalidInput, DecodeError) as error:
        raise NotPossible(f"{path} is damaged or another peer's; remove it and join again with a token") from error


def save(home: Path, membership: Membership) -> None:
    """Writes the membership into `home`, in place of what was there.

    Raises:
        OSError: it cannot be written.
    """
    path = home / _FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, membership.to_message().SerializeToString())


def answered(message: MembershipMessage, peer_id: str, network_id: str) -> Membership:
    """Returns the membership that central answered.

    Raises:
        Corrupt: it is none of this peer in this network.
    """
    try:
        found = Membership.from_message(message, peer_id)
    except InvalidInput as error:
        raise Corrupt(f"central's answer is no membership of this peer ({error}); tell the operator") from error
    if found.network_id != network_id:
        raise Corrupt("central's answer is a membership of another network; tell the operator")
    return found
