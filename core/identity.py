"""A peer's key: who it is, what it signs, how others check it."""

import base64
import hashlib
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from core.errors import NotPossible, Unauthenticated
from core.private_files import write_private

PEER_ID = re.compile(r"[a-z2-7]{52}")
_SCHEME = ec.ECDSA(hashes.SHA256())


def peer_id_of(public_key: bytes) -> str:
    """Returns the peer id of a DER SubjectPublicKeyInfo: lowercase unpadded base32 of its SHA-256, 52 characters."""
    return base64.b32encode(hashlib.sha256(public_key).digest()).decode().rstrip("=").lower()


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Checks an ECDSA P-256 signature with SHA-256 over `message`.

    Raises:
        Unauthenticated: the key is not such a key, or the signature is not of that key over that message.
    """
    try:
        load_public_key(public_key).verify(signature, message, _SCHEME)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Unauthenticated("the signature is not the author's") from error


def load_public_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    """Returns the key in a DER SubjectPublicKeyInfo.

    Of the spellings of a key only the usual one counts: an id is of these bytes, and a key has one id.

    Raises:
        Unauthenticated: it is not an ECDSA P-256 key.
    """
    try:
        key = serialization.load_der_public_key(public_key)
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise Unauthenticated("the key is not an ECDSA P-256 key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1" or public_der(key) != public_key:
        raise Unauthenticated("the key is not an ECDSA P-256 key")
    return key


class Identity:
    """An ECDSA P-256 key pair.

    Attributes:
        peer_id: 52 characters that name the holder of the key.
        public_key: DER SubjectPublicKeyInfo.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_key = public_der(key.public_key())
        self.peer_id = peer_id_of(self.public_key)

    @classmethod
    def generate(cls) -> "Identity":
        """Returns a new identity."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load_or_create(cls, path: Path) -> "Identity":
        """Returns the identity kept in `path` (PEM), which is made, 0600 and synced, when it is not there.

        Raises:
            NotPossible: the file is there and cannot be read, or holds no such key, or cannot be made.
        """
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            try:
                write_private(path, private_pem(key))
            except OSError as error:
                raise NotPossible(f"the key cannot be written to {path}: {error.strerror}") from error
            return cls(key)
        try:
            loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise NotPossible(f"the key in {path} cannot be read: {error.strerror}") from error
        except (UnsupportedAlgorithm, ValueError, TypeError) as error:  # TypeError: it wants a password
            raise NotPossible(f"{path} holds no readable key; restore it, or remove it to become a new peer") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name != "secp256r1":
            raise NotPossible(f"{path} holds a key of another kind; restore it, or remove it to become a new peer")
        return cls(loaded)

    @classmethod
    def from_pem(cls, pem: bytes) -> "Identity":
        """Returns the identity whose key `pem()` gave.

        Raises:
            ValueError: it is not such a key.
        """
        loaded = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name != "secp256r1":
            raise ValueError("it is a key of another kind")
        return cls(loaded)

    def pem(self) -> bytes:
        """Returns the private key as PEM, for a file that nobody else may read and for TLS."""
        return private_pem(self._key)

    def sign(self, message: bytes) -> bytes:
        """Returns the DER signature over `message`."""
        return self._key.sign(message, _SCHEME)


def public_der(key: CertificatePublicKeyTypes) -> bytes:
    """Returns the DER SubjectPublicKeyInfo of a key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns a private key as PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
