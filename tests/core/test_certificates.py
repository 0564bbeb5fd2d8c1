import datetime as dt
import itertools
import re
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from core.certificates import (
    BACKDATED,
    Authority,
    Kind,
    Subject,
    central_name,
    certificate_of,
    from_pem,
    network_id_of,
    peer_name,
    to_pem,
)
from core.errors import InvalidInput, Unauthenticated
from core.identity import Identity

NOW = 1_800_000_000.0
DAY = 86_400.0
FIRST = Authority.create(NOW, 365 * DAY)
ME, OTHER = Identity.generate(), Identity.generate()


def issued(subject, identity=ME, authority=FIRST, life=DAY):
    return authority.issue(subject, identity.public_key, NOW, life)


def made(*names, key=None):
    """A self-signed certificate with any names in it, as PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "k2")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def with_serial(number, pem):
    """The same certificate, whose signature is wrong then, with a serial number of one byte."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert der.count(b"\x02\x01\x01") == 1
    return der.replace(b"\x02\x01\x01", b"\x02\x01" + number.to_bytes(1, signed=True))


@pytest.mark.parametrize("number", [0, -1, -128])
def test_a_serial_number_that_is_not_positive_is_refused_and_nothing_is_warned_of(number):
    der = with_serial(number, made(x509.DNSName(f"{ME.peer_id}.peer")))
    script = (
        "import ssl, sys\n"
        "from core import certificates as c\n"
        "from core.errors import InvalidInput\n"
        f"der = bytes.fromhex({der.hex()!r}); pem = ssl.DER_cert_to_PEM_cert(der).encode()\n"
        "for read, data in ((c.to_pem, [der]), (c.from_pem, pem), (c.certificate_of, pem), (c.network_id_of, der)):\n"
        "    try: read(data)\n"
        "    except InvalidInput: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["refused"] * 4, "")


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (Subject(Kind.PEER, ME.peer_id), f"{ME.peer_id}.peer"),
        (Subject(Kind.CENTRAL, FIRST.network_id), f"central.{FIRST.network_id}"),
        (Subject(Kind.ADMIN, "ana-at-work"), "ana-at-work.admin"),
    ],
    ids=["peer", "central", "operator"],
)
def test_a_certificate_says_whom_it_names_and_when_it_counts(subject, name):
    certificate = certificate_of(to_pem([issued(subject)]))
    assert certificate.subject == subject
    assert subject.name == name
    assert (certificate.not_before, certificate.not_after) == (NOW - BACKDATED, NOW + DAY)


def test_the_names_that_a_dialler_expects_are_those_in_the_certificates():
    assert peer_name(ME.peer_id) == certificate_of(to_pem([issued(Subject(Kind.PEER, ME.peer_id))])).subject.name
    assert central_name("k3vk3vk3vk3vk3vk") == "central.k3vk3vk3vk3vk3vk"


def test_a_peer_is_never_named_after_another_key():
    with pytest.raises(InvalidInput, match="its own key"):
        issued(Subject(Kind.PEER, OTHER.peer_id), ME)


def test_a_certificate_that_names_a_peer_of_another_key_is_not_read():
    with pytest.raises(InvalidInput, match="key is another"):
        certificate_of(made(x509.DNSName(f"{ME.peer_id}.peer")))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
def test_keys_of_other_curves_get_no_certificate(curve):
    key = ec.generate_private_key(curve).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Unauthenticated):
        FIRST.issue(Subject(Kind.ADMIN, "ana"), der, NOW, DAY)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("ana.admin"), x509.DNSName("ben.admin")),
        (x509.DNSName("ana.admin"), x509.RFC822Name("ana@example.org")),
        (x509.RFC822Name("ana.admin"),),
        (x509.UniformResourceIdentifier("ana.admin"),),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),),
    ],
)
def test_a_certificate_has_exactly_one_name_and_that_is_a_dns_name(names):
    with pytest.raises(InvalidInput):
        certificate_of(made(*names))


HOSTILE = [
    "",
    ".",
    ".peer",
    "peer",
    "*.peer",
    "*.admin",
    "central.",
    "central.*",
    "ana.admin.",
    "Ana.admin",
    "a.b.admin",
]


@pytest.mark.parametrize(
    "name",
    [*HOSTILE, f"{ME.peer_id.upper()}.peer", f"{ME.peer_id}.peer.admin.x", "x" * 64 + ".admin"],
    ids=[*HOSTILE, "upper case", "more behind", "too long"],
)
def test_names_of_no_form_are_not_read(name):
    with pytest.raises(InvalidInput):
        certificate_of(made(x509.DNSName(name)))


@given(st.text("abz27-.*AZ19\x00 ", max_size=70), st.sampled_from(["", ".peer", ".admin", "central."]))
def test_whatever_a_certificate_is_called_it_names_what_the_forms_allow_or_nobody(text, form):
    name = form + text if form == "central." else text + form
    try:
        subject = certificate_of(made(x509.DNSName(name), key=KEY)).subject
    except InvalidInput:
        return
    assert subject.name == name
    assert subject.kind is not Kind.PEER
    assert re.fullmatch(r"central\.[a-z2-7]{16}|[a-z0-9-]{1,63}\.admin", name)


KEY = ec.generate_private_key(ec.SECP256R1())


@given(st.binary(max_size=300))
def test_bytes_that_are_no_certificate_are_refused_and_nothing_else_happens(data):
    for read in (certificate_of, from_pem, network_id_of):
        with pytest.raises(InvalidInput):
            read(data)
    with pytest.raises(InvalidInput):
        to_pem([data])
    with pytest.raises(ValueError, match="authority"):
        Authority.from_pem(data)


@given(st.integers(0, 376), st.integers(1, 255))
def test_an_authority_with_any_byte_changed_is_another_network_or_none(position, flip):
    data = bytearray(FIRST.certificate)
    data[position % len(data)] ^= flip
    with pytest.raises(InvalidInput):
        network_id_of(bytes(data))


def test_reading_the_same_certificate_again_costs_nothing_and_what_is_kept_is_bounded():
    certificate_of.cache_clear()
    shown = to_pem([issued(Subject(Kind.ADMIN, "ana"))])
    assert certificate_of(shown) is certificate_of(shown)
    assert certificate_of.cache_info().maxsize == 4096


def test_certificates_make_the_way_to_pem_and_back():
    both = (issued(Subject(Kind.ADMIN, "ana")), FIRST.certificate)
    assert from_pem(to_pem(both)) == both


def test_an_authority_is_kept_as_pem_and_signs_as_before():
    again = Authority.from_pem(FIRST.pem())
    assert (again.network_id, again.generation, again.certificate) == (FIRST.network_id, 1, FIRST.certificate)
    leaf = x509.load_der_x509_certificate(issued(Subject(Kind.ADMIN, "ana"), authority=again))
    leaf.verify_directly_issued_by(x509.load_der_x509_certificate(FIRST.certificate))


def test_a_key_and_a_certificate_that_do_not_belong_together_are_no_authority():
    other = Authority.create(NOW, DAY)
    key = FIRST.pem().partition(b"-----BEGIN CERT")[0]
    for pem in (key + to_pem([other.certificate]), key, to_pem([FIRST.certificate]), key + made(x509.DNSName("x"))):
        with pytest.raises(ValueError, match="authority"):
            Authority.from_pem(pem)


def test_networks_have_ids_of_their_own_which_their_authorities_tell():
    ids = {Authority.create(NOW, DAY).network_id for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch("[a-z2-7]{16}", each) for each in ids)
    assert network_id_of(FIRST.certificate) == FIRST.network_id


def test_a_successor_keeps_the_network_and_counts_on():
    second = Authority.create(NOW, DAY, FIRST)
    third = Authority.create(NOW, DAY, second)
    assert {network_id_of(one.certificate) for one in (FIRST, second, third)} == {FIRST.network_id}
    assert [FIRST.generation, second.generation, third.generation] == [1, 2, 3]
    assert len({one.certificate for one in (FIRST, second, third)}) == 3


def test_what_an_authority_issues_or_vouches_for_is_no_network_of_its_own():
    second = Authority.create(NOW, DAY, FIRST)
    for der in (issued(Subject(Kind.CENTRAL, FIRST.network_id)), FIRST.vouch_for(second, NOW, DAY)):
        with pytest.raises(InvalidInput):
            network_id_of(der)


def test_two_rotations_make_a_chain_from_the_latest_certificate_to_the_first_authority():
    second = Authority.create(NOW, DAY, FIRST)
    third = Authority.create(NOW, DAY, second)
    chain = [
        issued(Subject(Kind.PEER, ME.peer_id), authority=third),
        second.vouch_for(third, NOW, DAY),
        FIRST.vouch_for(second, NOW, DAY),
        FIRST.certificate,
    ]
    certificates = [x509.load_der_x509_certificate(one) for one in chain]
    for lower, upper in itertools.pairwise(certificates):
        lower.verify_directly_issued_by(upper)
    with pytest.raises((ValueError, InvalidSignature)):
        certificates[0].verify_directly_issued_by(certificates[2])


def test_only_authorities_may_sign_and_each_certificate_is_for_its_own_use():
    def of(der, extension):
        return x509.load_der_x509_certificate(der).extensions.get_extension_for_class(extension).value

    assert of(FIRST.certificate, x509.BasicConstraints).ca
    assert of(FIRST.certificate, x509.KeyUsage).key_cert_sign
    uses = {}
    for kind, label in ((Kind.PEER, ME.peer_id), (Kind.CENTRAL, FIRST.network_id), (Kind.ADMIN, "ana")):
        der = issued(Subject(kind, label))
        assert not of(der, x509.BasicConstraints).ca
        uses[kind] = {use._name for use in of(der, x509.ExtendedKeyUsage)}
    assert uses == {
        Kind.PEER: {"clientAuth", "serverAuth"},
        Kind.CENTRAL: {"serverAuth"},
        Kind.ADMIN: {"clientAuth"},
    }
