import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ClockSkew, Unauthenticated
from core.identity import Identity
from core.signing import WINDOW_SECONDS, check_signed, new_request_id, sign_request
from relevo.v1.content_pb2 import SignedRequest

METHOD = "/relevo.v1.CentralDirectory/PlaceFile"
NOW = 1_800_000_000.25
ME, OTHER = Identity.generate(), Identity.generate()


def signed(**changes) -> SignedRequest:
    request = sign_request(ME, METHOD, b"payload", NOW)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def test_an_honest_request_passes_after_a_journey():
    carried = SignedRequest.FromString(signed().SerializeToString())
    check_signed(carried, ME.public_key, METHOD, NOW)
    assert carried.author == ME.peer_id
    assert carried.payload == b"payload"


def test_the_signed_bytes_are_what_the_protocol_says():
    request = signed()
    fields = [
        b"relevo signed request v1",
        request.author.encode(),
        request.request_id.encode(),
        b"1800000000250000000",
        METHOD.encode(),
        b"payload",
    ]
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    load_der_public_key(ME.public_key).verify(request.signature, message, ec.ECDSA(hashes.SHA256()))


FIELDS = [field.name for field in SignedRequest.DESCRIPTOR.fields]


@pytest.mark.parametrize("field", FIELDS)
def test_a_change_of_any_one_field_is_detected(field):
    request = signed()
    if field == "create_time":
        request.create_time.nanos += 1
    elif isinstance(getattr(request, field), bytes):
        setattr(request, field, getattr(request, field)[:-1] + bytes([getattr(request, field)[-1] ^ 1]))
    else:
        setattr(request, field, getattr(request, field)[:-1] + "~")
    for method in {METHOD, request.method}:
        with pytest.raises(Unauthenticated):
            check_signed(request, ME.public_key, method, NOW)


@given(st.data())
def test_no_byte_moves_from_one_field_to_the_next(data):
    text = "abcdefghijklmnop"
    cut = data.draw(st.integers(1, len(text) - 1))
    request = sign_request(ME, text[:8], text[8:].encode(), NOW)
    if cut == 8:
        return
    request.method, request.payload = text[:cut], text[cut:].encode()
    with pytest.raises(Unauthenticated):
        check_signed(request, ME.public_key, request.method, NOW)


def test_another_key_is_refused():
    with pytest.raises(Unauthenticated):
        check_signed(signed(), OTHER.public_key, METHOD, NOW)


@pytest.mark.parametrize("method", ["/relevo.v1.CentralDirectory/Login", "", METHOD + "/"])
def test_a_request_for_one_method_is_no_request_for_another(method):
    with pytest.raises(Unauthenticated, match="not for"):
        check_signed(signed(), ME.public_key, method, NOW)


@pytest.mark.parametrize("off", [-WINDOW_SECONDS, -1.0, 0.0, 1.0, WINDOW_SECONDS])
def test_ten_minutes_to_either_side_are_within_the_window(off):
    check_signed(signed(), ME.public_key, METHOD, NOW + off)


@pytest.mark.parametrize(("off", "side"), [(WINDOW_SECONDS + 1, "before"), (-WINDOW_SECONDS - 1, "after")])
def test_outside_the_window_central_tells_its_time(off, side):
    with pytest.raises(ClockSkew, match=side) as caught:
        check_signed(signed(), ME.public_key, METHOD, NOW + off)
    assert float(caught.value.metadata["central_time"]) == pytest.approx(NOW + off, abs=0.001)


def test_a_forged_request_does_not_learn_that_its_clock_is_wrong():
    request = signed(payload=b"other")
    with pytest.raises(Unauthenticated) as caught:
        check_signed(request, ME.public_key, METHOD, NOW + 10 * WINDOW_SECONDS)
    assert type(caught.value) is Unauthenticated


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1), st.binary(max_size=80))
def test_a_made_up_request_is_unauthenticated_and_nothing_else(seconds, nanos, signature):
    request = signed(signature=signature)
    request.create_time.seconds, request.create_time.nanos = seconds, nanos
    with pytest.raises(Unauthenticated):
        check_signed(request, ME.public_key, METHOD, NOW)


def test_request_ids_are_fresh_unless_a_request_is_repeated():
    assert signed().request_id != signed().request_id
    assert len(new_request_id()) == 32
    assert int(new_request_id(), 16)
    kept = hashlib.md5(b"x").hexdigest()
    assert sign_request(ME, METHOD, b"", NOW, kept).request_id == kept
