import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from core.certificates import Authority, Kind, Subject, to_pem
from core.errors import ClockSkew, Unauthenticated
from core.identity import Identity
from core.signing import (
    WINDOW_SECONDS,
    AnswerSigner,
    check_answer,
    check_signed,
    new_request_id,
    session_name,
    sign_request,
)
from core.tls import Material
from core.trust import Trust
from relevo.v1.content_pb2 import SignedAnswer, SignedRequest

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


class Network:
    """Three authorities, each the successor of the one before, and central's key, certified by the last."""

    def __init__(self):
        self.authorities = [Authority.create(NOW, 1e8)]
        self.links = []
        for _ in range(2):
            before = self.authorities[-1]
            self.authorities.append(Authority.create(NOW, 1e8, before))
            self.links.insert(0, before.vouch_for(self.authorities[-1], NOW, 1e8))
        self.central = Identity.generate()

    def signer(self, subject=None, identity=None, links=None):
        subject = subject or Subject(Kind.CENTRAL, self.authorities[0].network_id)
        identity = identity or self.central
        own = self.authorities[-1].issue(subject, identity.public_key, NOW, 86_400.0)
        chain = to_pem((own, *(self.links if links is None else links)))
        return AnswerSigner.from_material(Material(identity.pem(), chain, b""))

    def trust(self, *generations):
        return Trust(1, tuple(self.authorities[each - 1].certificate for each in generations))


NETWORK = Network()


def answered(signer=None, request=None, **outcome):
    answer = SignedAnswer(**(outcome or {"answer": b"an answer"}))
    (signer or NETWORK.signer()).sign(answer, request or ASKED, ME.public_key)
    return SignedAnswer.FromString(answer.SerializeToString())


ASKED = signed()


def check(answer, request=ASKED, key=ME.public_key, trust=None, now=NOW):
    check_answer(answer, request, key, trust or NETWORK.trust(3), now)


@pytest.mark.parametrize("generations", [(1,), (2,), (3,), (3, 2)])
def test_centrals_answer_counts_for_whoever_trusts_any_authority_that_leads_there(generations):
    for outcome in ({"answer": b""}, {"answer": b"yes"}, {"status": b"no"}):
        check(answered(**outcome), trust=NETWORK.trust(*generations))


def test_the_signed_bytes_of_an_answer_are_what_the_protocol_says():
    def joined(*parts):
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    told = [b"relevo signed request v1", ASKED.author.encode(), ASKED.request_id.encode(), b"1800000000250000000"]
    told = joined(*told, METHOD.encode(), b"payload")
    asked = hashlib.sha256(joined(told, ASKED.signature, ME.public_key)).digest()
    message = joined(b"relevo signed answer v1", asked, b"status", b"no")
    key = load_der_public_key(NETWORK.central.public_key)
    key.verify(answered(status=b"no").signature, message, ec.ECDSA(hashes.SHA256()))


def _as_status(answer):
    answer.status = answer.answer


CHANGES = {
    "other words": lambda answer: setattr(answer, "answer", b"another answer"),
    "a status": _as_status,
    "no signature": lambda answer: answer.ClearField("signature"),
    "no certificate": lambda answer: answer.ClearField("certificates"),
    "rubbish for a certificate": lambda answer: answer.certificates.__setitem__(0, b"rubbish"),
    "the links alone": lambda answer: answer.certificates.pop(0),
    "nothing": lambda answer: answer.Clear(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_answer_that_was_changed_counts_for_nothing(change):
    answer = answered()
    change(answer)
    with pytest.raises(Unauthenticated):
        check(answer)


@pytest.mark.parametrize("field", FIELDS)
def test_an_answer_to_another_request_counts_for_nothing(field):
    other = signed()
    other.CopyFrom(ASKED)
    if field == "create_time":
        other.create_time.nanos += 1
    elif isinstance(getattr(other, field), bytes):
        setattr(other, field, getattr(other, field) + b"~")
    else:
        setattr(other, field, getattr(other, field) + "~")
    with pytest.raises(Unauthenticated):
        check(answered(request=other))
    with pytest.raises(Unauthenticated):
        check(answered(), key=OTHER.public_key)


def test_only_central_of_the_network_answers():
    network_id = NETWORK.authorities[0].network_id
    others = [
        NETWORK.signer(Subject(Kind.PEER, OTHER.peer_id), OTHER),
        NETWORK.signer(Subject(Kind.ADMIN, "central"), OTHER),
        NETWORK.signer(Subject(Kind.CENTRAL, "a" * 16), OTHER),
        Network().signer(Subject(Kind.CENTRAL, network_id)),
        AnswerSigner(OTHER, NETWORK.signer().certificates),
        AnswerSigner(NETWORK.central, NETWORK.signer(links=()).certificates[:1]),
    ]
    for signer in others[:-1]:
        with pytest.raises(Unauthenticated):
            check(answered(signer))
    check(answered(others[-1]))
    with pytest.raises(Unauthenticated):  # whoever knows an older authority only needs the links
        check(answered(others[-1]), trust=NETWORK.trust(1))


@pytest.mark.parametrize("when", [NOW - 7_300, NOW + 86_500])
def test_an_answer_by_a_certificate_that_does_not_count_now_counts_for_nothing(when):
    with pytest.raises(Unauthenticated):
        check(answered(), now=when)


@given(which=st.integers(0, 2), where=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_no_byte_of_a_certificate_can_be_changed(which, where, bits):
    answer = answered()
    changed = bytearray(answer.certificates[which])
    changed[where % len(changed)] ^= bits
    answer.certificates[which] = bytes(changed)
    with pytest.raises(Unauthenticated):
        check(answer, trust=NETWORK.trust(1))


def test_a_session_is_named_by_what_does_not_tell_its_id():
    assert session_name("0" * 32) == hashlib.sha256(b"0" * 32).hexdigest()[:32]
