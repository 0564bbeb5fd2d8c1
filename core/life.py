"""Proof that a peer lives: central's nonce, signed by the peer itself, whoever carries the two."""

from core.errors import InvalidInput
from core.identity import Identity, verify

NONCE_BYTES = 32
_CONTEXT = b"relevo proof of life v1"


def _message(peer_id: str, nonce: bytes) -> bytes:
    parts = (_CONTEXT, peer_id.encode(), nonce)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def prove(identity: Identity, nonce: bytes) -> bytes:
    """Returns the DER signature that proves that the holder of the key lives, and has seen `nonce`.

    Raises:
        InvalidInput: the nonce has another length than 32 bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise InvalidInput("nonce", f"a nonce is {NONCE_BYTES} bytes, not {len(nonce)}")
    return identity.sign(_message(identity.peer_id, nonce))


def check_proof(peer_id: str, public_key: bytes, nonce: bytes, signature: bytes) -> None:
    """Checks that the holder of `public_key`, which is this peer's, has signed `nonce` for this purpose.

    Raises:
        Unauthenticated: it has not.
    """
    verify(public_key, _message(peer_id, nonce), signature)
