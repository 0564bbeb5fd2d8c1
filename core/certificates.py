"""Certificates: what they are called, how they are signed, and who a certificate says that its holder is.

A network has an authority, whose self-signed certificate is called by the network's id and the authority's generation:
`k3v…q 1`; its successor is `k3v…q 2`. Whoever belongs to the network has a certificate from it with exactly one name (a
DNS subject alternative name):

    <peer id>.peer          a peer; the id is the SHA-256 of the very key that the certificate is for
    central.<network id>    central
    <label>.admin           an operator with grpcurl

All keys are ECDSA P-256: Ed25519 fails in gRPC's TLS.
"""

import base64
import hashlib
import re
import secrets
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from core.errors import InvalidInput, Unauthenticated
from core.identity import PEER_ID, load_public_key, peer_id_of, private_pem, public_der

NETWORK_ID = re.compile(r"[a-z2-7]{16}")
# A certificate counts from this long before it was issued, in seconds: clocks differ.
BACKDATED = 7_200.0
# A certificate that the library reads with a warning, such as one whose serial number is not positive, is one that its
# next version will not read: nobody's here, and refused today.
warnings.filterwarnings("error", category=CryptographyDeprecationWarning, module=re.escape(__name__))
# What reading a certificate may raise, whatever bytes it is made of.
_UNREADABLE = (
    CryptographyDeprecationWarning,
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
# Links between a certificate and an authority that counts: central gives eight, and whoever needs more joins anew.
_LONGEST_CHAIN = 9
_GENERATION = re.compile(r"[1-9][0-9]{0,8}")
ADMIN_LABEL = re.compile(r"[a-z0-9-]{1,63}")
_USES = {
    "peer": (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    "central": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "admin": (ExtendedKeyUsageOID.CLIENT_AUTH,),
}
_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class Kind(StrEnum):
    """What the holder of a certificate is."""

    PEER = "peer"
    CENTRAL = "central"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names: a peer by its id, central by its network's, an operator by a label."""

    kind: Kind
    label: str

    @property
    def name(self) -> str:
        """The DNS name in the certificate, which a dialler expects in the handshake."""
        return f"central.{self.label}" if self.kind is Kind.CENTRAL else f"{self.label}.{self.kind}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What counts of a certificate; times in seconds since 1970."""

    subject: Subject
    not_before: float
    not_after: float


def peer_name(peer_id: str) -> str:
    """Returns the name that a peer's certificate carries."""
    return Subject(Kind.PEER, peer_id).name


def central_name(network_id: str) -> str:
    """Returns the name that central's certificate carries."""
    return Subject(Kind.CENTRAL, network_id).name


def network_id_of(authority: bytes) -> str:
    """Returns the id of the network whose authority has this certificate (DER).

    Raises:
        InvalidInput: it is not the certificate of such an authority.
    """
    return _authority_name(authority)[0]


def _authority_name(authority: bytes) -> tuple[str, int]:
    """Returns network id and generation of an authority.

    Raises:
        InvalidInput: it is not the certificate of such an authority.
    """
    try:
        certificate = x509.load_der_x509_certificate(authority)
        name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        network_id, _, generation = name.partition(" ")
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        certificate.verify_directly_issued_by(certificate)
    except (*_UNREADABLE, IndexError, InvalidSignature) as error:
        raise InvalidInput("authority", "it is not the certificate of a network's authority") from error
    if not is_authority or not NETWORK_ID.fullmatch(network_id) or not _GENERATION.fullmatch(generation):
        raise InvalidInput("authority", "it is not the certificate of a network's authority")
    return network_id, int(generation)


@lru_cache(maxsize=4096)
def certificate_of(pem: bytes) -> Certificate:
    """Returns what a certificate says; whether its signature counts is checked in the handshake, not here.

    Raises:
        InvalidInput: it has not exactly one name of the forms above, or names a peer of another key.
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names
        key = public_der(found.public_key())
    except _UNREADABLE as error:
        raise InvalidInput("certificate", "it is not a certificate of this network's making") from error
    subject = _subject_of(name.value if isinstance(name, x509.DNSName) else "")
    if subject.kind is Kind.PEER and peer_id_of(key) != subject.label:
        raise InvalidInput("certificate", "it names a peer whose key is another")
    return Certificate(subject, found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())


def certified_key(certificates: Sequence[bytes], name: str, authorities: Sequence[bytes], now: float) -> bytes:
    """Returns the key (DER SubjectPublicKeyInfo) of whom a chain certifies as `name` at `now`, as a handshake would.

    Args:
        certificates: in DER, the holder's first, then those that lead to older authorities.
        name: what the holder has to be called.
        authorities: those that count, in DER.
        now: seconds since 1970.

    Raises:
        Unauthenticated: they do not certify anybody of that name.
    """
    try:
        own, *links = map(x509.load_der_x509_certificate, certificates)
        store = Store([x509.load_der_x509_certificate(one) for one in authorities])
        policy = PolicyBuilder().store(store).time(datetime.fromtimestamp(now, UTC)).max_chain_depth(_LONGEST_CHAIN)
        policy.build_server_verifier(x509.DNSName(name)).verify(own, links)
        return public_der(own.public_key())
    except (*_UNREADABLE, VerificationError) as error:
        raise Unauthenticated(f"the signature is not that of {name}") from error


def _subject_of(name: str) -> Subject:
    label, _, suffix = name.rpartition(".")
    if suffix == Kind.PEER and PEER_ID.fullmatch(label):
        return Subject(Kind.PEER, label)
    if label == Kind.CENTRAL and NETWORK_ID.fullmatch(suffix):
        return Subject(Kind.CENTRAL, suffix)
    if suffix == Kind.ADMIN and ADMIN_LABEL.fullmatch(label):
        return Subject(Kind.ADMIN, label)
    raise InvalidInput("certificate", f"{name!r} is not the name of a peer, of central or of an operator")


class Authority:
    """An authority's key with its certificate: it signs the certificates of a network.

    Attributes:
        network_id: 16 characters of lowercase base32, which stay when the network changes its authority.
        generation: 1 for the network's first authority, one more for each successor.
        certificate: its own, self-signed, in DER; about 380 bytes.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        self._key = key
        self.certificate = certificate
        self.network_id, self.generation = _authority_name(certificate)

    @property
    def _name(self) -> str:
        return f"{self.network_id} {self.generation}"

    @classmethod
    def create(cls, now: float, life: float, before: "Authority | None" = None) -> "Authority":
        """Returns the authority of a new network, or the successor of `before`; `life` in seconds."""
        key = ec.generate_private_key(ec.SECP256R1())
        if before is None:
            name = f"{base64.b32encode(secrets.token_bytes(10)).decode().lower()} 1"
        else:
            name = f"{before.network_id} {before.generation + 1}"
        return cls(key, _der(_authority(name, key.public_key(), name, now, life).sign(key, hashes.SHA256())))

    @classmethod
    def from_pem(cls, pem: bytes) -> "Authority":
        """Returns the authority whose key and certificate stand in `pem`, as `pem()` gives them.

        Raises:
            ValueError: there are not both, or they do not belong together.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            certificate = x509.load_pem_x509_certificate(pem)
            if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
                raise ValueError("the key is not the certificate's")
            return cls(key, _der(certificate))
        except (*_UNREADABLE, InvalidInput) as error:
            raise ValueError("it is not the key and the certificate of a network's authority") from error

    def pem(self) -> bytes:
        """Returns key and certificate, for a file that nobody else may read."""
        return private_pem(self._key) + to_pem([self.certificate])

    def issue(self, subject: Subject, public_key: bytes, now: float, life: float) -> bytes:
        """Returns a certificate (DER) for the holder of `public_key` (DER SubjectPublicKeyInfo); `life` in seconds.

        Raises:
            Unauthenticated: it is not an ECDSA P-256 key.
            InvalidInput: `subject` is a peer with another key.
        """
        if subject.kind is Kind.PEER and peer_id_of(public_key) != subject.label:
            raise InvalidInput("public_key", "a peer is named after its own key")
        certificate = (
            _built("", load_public_key(public_key), self._name, now, life)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject.name)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USES[subject.kind]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier(_key_id(self._key.public_key()), None, None), critical=False)
        )
        return _der(certificate.sign(self._key, hashes.SHA256()))

    def vouch_for(self, successor: "Authority", now: float, life: float) -> bytes:
        """Returns a certificate (DER) for the successor's key by this authority.

        Who only trusts this authority accepts what the successor issues when it comes along in the chain.
        """
        certificate = x509.load_der_x509_certificate(successor.certificate)
        public_key = certificate.public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise TypeError("an authority has an ECDSA P-256 key")
        built = _authority(successor._name, public_key, self._name, now, life)  # noqa: SLF001 - one of its own kind
        built = built.add_extension(
            x509.AuthorityKeyIdentifier(_key_id(self._key.public_key()), None, None), critical=False
        )
        return _der(built.sign(self._key, hashes.SHA256()))


def to_pem(certificates: Iterable[bytes]) -> bytes:
    """Returns DER certificates as one PEM text, in their order.

    Raises:
        InvalidInput: one is not a certificate.
    """
    try:
        return b"".join(
            x509.load_der_x509_certificate(one).public_bytes(serialization.Encoding.PEM) for one in certificates
        )
    except _UNREADABLE as error:
        raise InvalidInput("certificates", "one of them is not an X.509 certificate") from error


def from_pem(pem: bytes) -> tuple[bytes, ...]:
    """Returns the certificates in a PEM text, as DER.

    Raises:
        InvalidInput: there is none, or one cannot be read.
    """
    try:
        return tuple(_der(one) for one in x509.load_pem_x509_certificates(pem))
    except _UNREADABLE as error:
        raise InvalidInput("certificates", "they cannot be read") from error


def _built(name: str, key: ec.EllipticCurvePublicKey, issuer: str, now: float, life: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - BACKDATED, UTC))
        .not_valid_after(datetime.fromtimestamp(now + life, UTC))
    )


def _authority(
    name: str, key: ec.EllipticCurvePublicKey, issuer: str, now: float, life: float
) -> x509.CertificateBuilder:
    """Returns a certificate that may sign others. Strict verifiers ask for all three extensions."""
    return (
        _built(name, key, issuer, now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier(_key_id(key)), critical=False)
    )


def _key_id(key: ec.EllipticCurvePublicKey) -> bytes:
    """Returns what tells the keys of authorities apart: short, because an authority's certificate is in every token."""
    return hashlib.sha256(public_der(key)).digest()[:8]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
