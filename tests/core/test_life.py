import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput, Unauthenticated
from core.identity import Identity
from core.life import NONCE_BYTES, check_proof, prove
from core.signing import sign_request

ANA, BEN = Identity.generate(), Identity.generate()
NONCE = bytes(range(NONCE_BYTES))


def test_a_proof_is_of_one_peer_and_one_nonce():
    proof = prove(ANA, NONCE)
    check_proof(ANA.peer_id, ANA.public_key, NONCE, proof)
    for peer_id, key, nonce in (
        (BEN.peer_id, ANA.public_key, NONCE),
        (ANA.peer_id, BEN.public_key, NONCE),
        (ANA.peer_id, ANA.public_key, bytes(NONCE_BYTES)),
    ):
        with pytest.raises(Unauthenticated):
            check_proof(peer_id, key, nonce, proof)


def test_who_proves_that_it_lives_signs_nothing_else_by_that():
    """Whatever nonce a liar sends: no signed request comes of it, nor a proof of one."""
    signed = sign_request(ANA, "/relevo.v1.CentralDirectory/Login", b"", 0.0)
    with pytest.raises(Unauthenticated):
        check_proof(ANA.peer_id, ANA.public_key, NONCE, signed.signature)


@given(st.binary(max_size=100).filter(lambda nonce: len(nonce) != NONCE_BYTES))
def test_a_nonce_of_another_length_is_not_signed(nonce):
    with pytest.raises(InvalidInput):
        prove(ANA, nonce)
