import base64
import hashlib
import os
import re
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotPossible, Unauthenticated
from core.identity import PEER_ID, Identity, peer_id_of, verify

ME = Identity.generate()
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def pem(key, encryption=None) -> bytes:
    return key.private_bytes(PEM, PKCS8, encryption or serialization.NoEncryption())


def public_der(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_peer_id_is_the_base32_of_the_digest_of_the_public_key():
    digest = hashlib.sha256(ME.public_key).digest()
    assert base64.b32decode(ME.peer_id.upper() + "====") == digest
    assert len(ME.peer_id) == 52
    assert re.fullmatch(r"[a-z2-7]{52}", ME.peer_id)
    assert PEER_ID.fullmatch(ME.peer_id)
    assert peer_id_of(ME.public_key) == ME.peer_id


def test_the_peer_id_of_a_key_never_changes():
    key = ec.derive_private_key(1, ec.SECP256R1())
    assert Identity(key).peer_id == "ltjff6ym5cjsinx27dgncbajqg4j5zfnnop6tyvcw7trvlfsptjq"


def test_a_key_is_made_once_and_kept(tmp_path):
    path = tmp_path / "key.pem"
    made = Identity.load_or_create(path)
    assert Identity.load_or_create(path).peer_id == made.peer_id
    assert list(tmp_path.iterdir()) == [path]
    assert Identity.load_or_create(tmp_path / "other.pem").peer_id != made.peer_id


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_can_read_a_key(tmp_path, umask):
    before = os.umask(umask)
    try:
        Identity.load_or_create(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_what_a_crash_left_beside_the_key_does_not_stop_the_next_start(tmp_path):
    (tmp_path / f".key.pem.{os.getpid()}").write_bytes(b"half a key")
    assert Identity.load_or_create(tmp_path / "key.pem").peer_id


UNREADABLE = {
    "empty": b"",
    "text": b"hello",
    "half": pem(ec.generate_private_key(ec.SECP256R1()))[:100],
    "binary": bytes(range(256)),
    "password": pem(ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"secret")),
    "public key": Identity.generate()
    ._key.public_key()
    .public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    "ed25519": pem(ed25519.Ed25519PrivateKey.generate()),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": pem(ec.generate_private_key(ec.SECP256K1())),
    "RSA": pem(rsa.generate_private_key(65537, 2048)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_holds_no_such_key_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "key.pem"
    path.write_bytes(UNREADABLE[kind])
    with pytest.raises(NotPossible, match=r"key\.pem holds"):
        Identity.load_or_create(path)
    assert path.read_bytes() == UNREADABLE[kind]


def test_a_key_that_cannot_be_read_or_written_is_said_so(tmp_path):
    with pytest.raises(NotPossible, match="cannot be read"):
        Identity.load_or_create(tmp_path)
    with pytest.raises(NotPossible, match="cannot be written"):
        Identity.load_or_create(tmp_path / "nowhere" / "key.pem")


@given(st.binary())
def test_a_signature_is_its_authors_over_its_message(message):
    signature = ME.sign(message)
    assert len(signature) <= 72
    verify(ME.public_key, message, signature)
    for key, said in ((Identity.generate().public_key, message), (ME.public_key, message + b"\0")):
        with pytest.raises(Unauthenticated):
            verify(key, said, signature)


def test_no_flipped_bit_of_a_signature_passes():
    signature = ME.sign(b"message")
    for bit in range(len(signature) * 8):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Unauthenticated):
            verify(ME.public_key, b"message", bytes(forged))


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_made_up_keys_and_signatures_are_unauthenticated_and_nothing_else(key, signature):
    with pytest.raises(Unauthenticated):
        verify(key, b"message", signature)
    with pytest.raises(Unauthenticated):
        verify(ME.public_key, b"message", signature)


@given(st.integers(0, len(ME.public_key) * 8 - 1))
def test_no_flipped_bit_of_a_key_passes(bit):
    forged = bytearray(ME.public_key)
    forged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Unauthenticated):
        verify(bytes(forged), b"message", ME.sign(b"message"))


def test_a_key_has_one_spelling_and_so_one_id():
    key = serialization.load_der_public_key(ME.public_key)
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    short = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert serialization.load_der_public_key(short) == key
    with pytest.raises(Unauthenticated):
        verify(short, b"message", ME.sign(b"message"))


OTHER_KEYS = {
    "ed25519": public_der(ed25519.Ed25519PrivateKey.generate()),
    "P-384": public_der(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": public_der(ec.generate_private_key(ec.SECP256K1())),
    "RSA": public_der(rsa.generate_private_key(65537, 2048)),
    # An algorithm that the library has never heard of.
    "unknown": bytes.fromhex("301a300d06092a864886f70d01010d05000309003006020101020101"),
}


@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_a_key_of_another_kind_is_unauthenticated(kind):
    with pytest.raises(Unauthenticated):
        verify(OTHER_KEYS[kind], b"message", b"signature")
