"""Use cases of membership: who gets in, who stays in, and who does not any more."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from central.decode import Applicant
from central.network.authorities import OWN_KEY, Authorities
from central.network.register import Invitation, Register
from central.network.register_schema import FILE_NAME
from core.certificates import Kind, Subject, to_pem
from core.errors import NotEnrolled, NotPossible, Refused, Revoked
from core.identity import Identity
from core.private_files import write_private
from core.tls import Material
from core.tokens import INVITATION_BYTES, SECRET_BYTES, JoinToken
from core.trust import Trust

_HASH_KEY = "invitations.key"
_HASH_BYTES = 32
_NO_HASH = bytes(_HASH_BYTES)


@dataclass(frozen=True, slots=True)
class Membership:
    """What makes a key a member: its certificate with the links behind it (DER), and whom to trust."""

    network_id: str
    certificates: tuple[bytes, ...]
    trust: Trust
    enrolment_port: int


class Enrolment:
    """The network of one data directory: its register and its authorities, used by one thread at a time.

    Attributes:
        register: who belongs to the network.
        authorities: what issues its certificates.
        data: the directory.
    """

    def __init__(self, data: Path, register: Register) -> None:
        self.register = register
        self.authorities = Authorities(register, data)
        self.data = data

    @classmethod
    def open(cls, data: Path) -> "Enrolment":
        """Returns the network in `data`, whether central serves or not.

        Raises:
            NotPossible: there is none yet, or it cannot be used.
        """
        if not (data / FILE_NAME).exists():
            raise _no_network(data)
        register = Register.open(data, beside=True)
        if not register.authorities():
            register.close()
            raise _no_network(data)
        return cls(data, register)

    @classmethod
    def open_or_create(cls, data: Path, now: float) -> tuple["Enrolment", bool]:
        """Returns the network in `data`, and whether it was made just now; central holds the directory's lock.

        Raises:
            NotPossible: it cannot be used.
        """
        register = Register.open(data)
        try:
            found = cls(data, register)
            return found, found.authorities.create(now)
        except BaseException:
            register.close()
            raise

    def close(self) -> None:
        """Closes the register."""
        self.register.close()

    def key_files(self) -> list[Path]:
        """Returns the files, beside the register, without which the network cannot go on.

        Raises:
            NotPossible: the network's key is missing.
        """
        kept = (self.authorities.key_file(), self.data / OWN_KEY, self.data / _HASH_KEY)
        return [path for path in kept if path.exists()]

    def note_address(self, address: str, enrolment_port: int) -> None:
        """Notes where central listens (`host:port`), for tokens that are made beside it."""
        with self.register.changing():
            self.register.set_address(address, enrolment_port)

    def trust(self) -> Trust:
        """Returns whom members are to trust."""
        version = self.register.version()
        counting = (record.certificate for record in self.register.authorities() if not record.retired)
        return Trust(version, tuple(counting), frozenset(self.register.revoked()))

    def own_material(self, now: float, life: float) -> Material:
        """Returns what central shows in a handshake, with a fresh certificate; `life` in seconds.

        Raises:
            NotPossible: its key, or the network's, cannot be used.
        """
        identity = Identity.load_or_create(self.data / OWN_KEY)
        return self._material(identity, Subject(Kind.CENTRAL, self.authorities.network_id()), now, life)

    def admin_material(self, identity: Identity, label: str, now: float, life: float) -> Material:
        """Returns what an operator shows, called by `label` (core.certificates.ADMIN_LABEL); `life` in seconds."""
        return self._material(identity, Subject(Kind.ADMIN, label), now, life)

    def _material(self, identity: Identity, subject: Subject, now: float, life: float) -> Material:
        with self.register.changing():
            chain = self.authorities.issue(subject, identity.public_key, now, life)
        return Material(identity.pem(), to_pem(chain), to_pem(self.trust().authorities))

    def invite(
        self,
        now: float,
        *,
        uses: int,
        ttl: float,
        addresses: Sequence[str],
        enrolment_port: int,
        via: Sequence[str] = (),
    ) -> JoinToken:
        """Returns a token by which `uses` keys may join within `ttl` seconds.

        It says that central is at `addresses` (`host:port`), and to be reached through the peers `via` otherwise.

        Raises:
            NotPossible: the key of the hash cannot be written or read.
        """
        invitation_id, secret = secrets.token_bytes(INVITATION_BYTES), secrets.token_bytes(SECRET_BYTES)
        invitation = Invitation(self._hash(invitation_id, secret), now + ttl, uses)
        with self.register.changing():
            self.register.add_invitation(invitation_id, invitation, now)
            authority = self.register.authorities()[0].certificate
        return JoinToken(tuple(addresses), enrolment_port, invitation_id, secret, authority, tuple(via))

    def enroll(self, applicant: Applicant, now: float, life: float) -> Membership:
        """Makes the applicant a member and returns what makes it one; a member is answered again and uses nothing up.

        Raises:
            Revoked: its key was revoked.
            Refused: the invitation is no good; why not, and whether there is one, is not told.
        """
        shown = self._hash(applicant.invitation_id, applicant.secret)
        with self.register.changing():
            member = self.register.member(applicant.peer_id)
            if member and member.revoked is not None:
                raise Revoked
            invitation = self.register.invitation(applicant.invitation_id)
            right = hmac.compare_digest(shown, invitation.secret_hash if invitation else _NO_HASH)
            if not invitation or not right:
                raise _refused()
            if not member:
                if invitation.expires <= now or invitation.uses_left < 1:
                    raise _refused()
                self.register.use(applicant.invitation_id)
                self.register.add_member(applicant.peer_id, applicant.name, now)
            return self._membership(applicant.peer_id, applicant.public_key, now, life)

    def renew(self, peer_id: str, public_key: bytes, now: float, life: float) -> Membership:
        """Returns a fresh certificate for a member, however long ago its last one has expired.

        Raises:
            Revoked: its key was revoked.
            NotEnrolled: it never was a member.
        """
        with self.register.changing():
            self.check_member(peer_id)
            return self._membership(peer_id, public_key, now, life)

    def check_member(self, peer_id: str) -> None:
        """Checks that a peer belongs to the network.

        Raises:
            Revoked: its key was revoked.
            NotEnrolled: it never was a member.
        """
        member = self.register.member(peer_id)
        if member is None:
            raise NotEnrolled("this network does not know the peer; join with a token from `relevo-central invite`")
        if member.revoked is not None:
            raise Revoked

    def revoke(self, peer_id: str, now: float) -> None:
        """Revokes a member, for good.

        Raises:
            NotFound: there is no such member.
        """
        with self.register.changing():
            self.register.revoke(peer_id, now)

    def _membership(self, peer_id: str, public_key: bytes, now: float, life: float) -> Membership:
        certificates = self.authorities.issue(Subject(Kind.PEER, peer_id), public_key, now, life)
        self.register.certified(peer_id, now + life)
        trust = self.trust()
        return Membership(trust.network_id, certificates, trust, self.register.address()[1])

    def _hash(self, invitation_id: bytes, secret: bytes) -> bytes:
        """Returns what is kept of a secret: who reads the register alone cannot try secrets against it."""
        return hmac.digest(self._hash_key(), invitation_id + secret, hashlib.sha256)

    def _hash_key(self) -> bytes:
        path = self.data / _HASH_KEY
        try:
            if not path.exists():
                with self.register.changing():  # two commands at once make one key
                    if not path.exists():
                        write_private(path, secrets.token_bytes(_HASH_BYTES))
            return path.read_bytes()
        except OSError as error:
            raise NotPossible(f"cannot use {path}: {error.strerror}") from error


def _no_network(data: Path) -> NotPossible:
    return NotPossible(
        f"there is no network in {data} yet; start `relevo-central serve --data {data}` once, or name the directory "
        "that it uses with --data"
    )


def _refused() -> Refused:
    return Refused("this token does not let anybody in (any more); ask for another: `relevo-central invite` prints one")
