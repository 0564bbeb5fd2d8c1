"""The authorities' files, and what is left when a process dies at any step of a change."""

import stat
from contextlib import closing

import pytest
from cryptography import x509

from central.network import authorities as module
from central.network.authorities import OWN_KEY, Authorities
from central.network.enrolment import Enrolment
from central.network.register import MARGIN, Register
from core.certificates import Kind, Subject, certificate_of, to_pem
from core.errors import NotPossible
from core.identity import Identity

NOW, DAY = 1_800_000_000.0, 86_400.0
PEER = Identity.generate()


def opened(data):
    enrolment, _ = Enrolment.open_or_create(data, NOW)
    return closing(enrolment)


def keys(data):
    return sorted(path.name for path in (data / "authorities").iterdir() if not path.name.startswith("."))


def issued(enrolment, now=NOW):
    with enrolment.register.changing():
        return enrolment.authorities.issue(Subject(Kind.PEER, PEER.peer_id), PEER.public_key, now, DAY)


def test_the_first_start_makes_a_network_and_the_next_ones_find_it(tmp_path):
    with closing(Enrolment.open_or_create(tmp_path, NOW)[0]) as first:
        network_id = first.authorities.network_id()
    enrolment, created = Enrolment.open_or_create(tmp_path, NOW)
    with closing(enrolment):
        assert not created
        assert enrolment.authorities.network_id() == network_id


def test_every_secret_is_its_owners_only(tmp_path):
    with opened(tmp_path) as enrolment:
        enrolment.own_material(NOW, DAY)
        enrolment.invite(NOW, uses=1, ttl=60, addresses=["a:1"], enrolment_port=2)
        enrolment.authorities.rotate(NOW)
        enrolment.own_material(NOW, DAY)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {"register.db", OWN_KEY, "invitations.key", "2.pem"} <= {path.name for path in files}
        for path in files:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE((tmp_path / "authorities").stat().st_mode) == 0o700


def test_a_successor_issues_and_the_older_key_is_destroyed(tmp_path):
    with opened(tmp_path) as enrolment:
        assert len(issued(enrolment)) == 1
        before = enrolment.trust()
        assert enrolment.authorities.rotate(NOW) == 2
        assert keys(tmp_path) == ["2.pem"]
        after = enrolment.trust()
        assert after.version > before.version
        assert after.authorities[1:] == before.authorities
        assert after.network_id == before.network_id
        chain = issued(enrolment)
        assert len(chain) == 2
        assert certificate_of(to_pem(chain[:1])).subject.label == PEER.peer_id


def test_with_another_authority_central_shows_another_key_of_its_own(tmp_path):
    with opened(tmp_path) as enrolment:
        before = enrolment.own_material(NOW, DAY)
        assert enrolment.own_material(NOW, DAY).key == before.key
        enrolment.authorities.rotate(NOW)
        assert enrolment.own_material(NOW, DAY).key != before.key


def test_a_process_that_had_the_older_key_in_memory_issues_by_the_successor(tmp_path):
    with opened(tmp_path) as serving, closing(Enrolment.open(tmp_path)) as command:
        issued(serving)
        command.authorities.rotate(NOW)
        newest = x509.load_der_x509_certificate(serving.trust().authorities[0])
        x509.load_der_x509_certificate(issued(serving)[0]).verify_directly_issued_by(newest)


@pytest.mark.parametrize("step", ["before the record", "before the older key goes"])
def test_a_crash_while_the_authority_changes_leaves_the_old_one_or_the_new_one(tmp_path, monkeypatch, step):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with opened(tmp_path) as enrolment:
        victim = (Register, "add_authority") if step == "before the record" else (Authorities, "_destroy_older")
        issued(enrolment)
        with monkeypatch.context() as patched:
            patched.setattr(*victim, die)
            with pytest.raises(Killed):
                enrolment.authorities.rotate(NOW)
    assert keys(tmp_path) == ["1.pem", "2.pem"]
    with opened(tmp_path) as enrolment:
        done = step != "before the record"
        assert len(issued(enrolment)) == (2 if done else 1)
        assert enrolment.authorities.rotate(NOW) == (3 if done else 2)
        assert keys(tmp_path) == (["3.pem"] if done else ["2.pem"])


def test_an_old_authority_counts_until_all_that_it_issued_has_expired(tmp_path):
    with opened(tmp_path) as enrolment:
        issued(enrolment)
        issued(enrolment, NOW + 100)
        enrolment.authorities.rotate(NOW)
        enrolment.register.retire(NOW + 100 + DAY + MARGIN - 1)
        assert len(enrolment.trust().authorities) == 2
        version = enrolment.register.version()
        enrolment.register.retire(NOW + 100 + DAY + MARGIN)
        assert len(enrolment.trust().authorities) == 1
        assert enrolment.register.version() > version
        version = enrolment.register.version()
        enrolment.register.retire(NOW + 1000 * DAY)
        assert enrolment.register.version() == version, "the authority that issues stays"


def test_a_chain_leads_back_over_eight_predecessors_at_most(tmp_path):
    with opened(tmp_path) as enrolment:
        for _ in range(module.MOST_LINKS + 3):
            enrolment.authorities.rotate(NOW)
        assert len(issued(enrolment)) == 1 + module.MOST_LINKS
        assert keys(tmp_path) == [f"{module.MOST_LINKS + 4}.pem"]


@pytest.mark.parametrize("harm", ["missing", "garbage", "another network's"])
def test_a_network_without_its_key_says_which_file_to_restore(tmp_path, harm):
    (tmp_path / "one").mkdir()
    opened(tmp_path / "one").thing.close()
    key = tmp_path / "one" / "authorities" / "1.pem"
    if harm == "missing":
        key.unlink()
    elif harm == "garbage":
        key.write_bytes(b"no key")
    else:
        (tmp_path / "two").mkdir()
        with opened(tmp_path / "two"):
            key.write_bytes((tmp_path / "two" / "authorities" / "1.pem").read_bytes())
    with opened(tmp_path / "one") as enrolment, pytest.raises(NotPossible, match="restore") as caught:
        issued(enrolment)
    assert str(key) in str(caught.value)


def test_a_network_that_has_lost_its_register_is_not_silently_replaced(tmp_path):
    with opened(tmp_path) as enrolment:
        enrolment.own_material(NOW, DAY)
    for path in tmp_path.glob("register.db*"):
        path.unlink()
    with pytest.raises(NotPossible, match="lost its register"):
        Enrolment.open_or_create(tmp_path, NOW)
