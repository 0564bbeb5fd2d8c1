import asyncio

import pytest

from core.access import ENROLMENT, OWN_SOCKET, PLAINTEXT, RULES, Caller, Certificates, Role, admit, caller
from core.certificates import Authority, Kind, Subject, to_pem
from core.errors import CertificateExpired, Refused, Revoked, Unauthenticated
from core.identity import Identity
from core.trust import Trust

NOW, DAY = 1_800_000_000.0, 86_400.0
AUTHORITY = Authority.create(NOW, 365 * DAY)
ANA, BEN = Identity.generate(), Identity.generate()
LOGIN, GET_BLOCK = "/relevo.v1.CentralDirectory/Login", "/relevo.v1.PeerRelay/GetBlock"


class Connection:
    """What gRPC's context tells of the connection of a call."""

    def __init__(self, *shown):
        self._shown = [*shown]

    def auth_context(self):
        return {"x509_pem_cert": self._shown} if self._shown else {}


def shown(kind, label, identity=ANA):
    return Connection(to_pem([AUTHORITY.issue(Subject(kind, label), identity.public_key, NOW, DAY)]))


def ways(now=NOW, revoked=()):
    return Certificates(lambda: Trust(1, (AUTHORITY.certificate,), frozenset(revoked)), lambda: now)


ANA_CALLS = shown(Kind.PEER, ANA.peer_id)


def test_a_peers_certificate_says_which_peer_calls():
    assert ways().caller(ANA_CALLS) == Caller(Role.PEER, ANA.peer_id)


def test_an_operators_certificate_makes_an_operator_who_is_no_peer():
    operator = ways().caller(shown(Kind.ADMIN, "ana"))
    assert operator == Caller(Role.ADMIN)
    for peer_id in ("", ANA.peer_id):
        with pytest.raises(Refused):
            operator.check_is(peer_id)


def test_centrals_own_certificate_is_for_serving_only():
    with pytest.raises(Refused, match="serving"):
        ways().caller(shown(Kind.CENTRAL, AUTHORITY.network_id))


@pytest.mark.parametrize("connection", [Connection(), Connection(b""), Connection(b"rubbish")])
def test_a_connection_without_a_certificate_is_nobody(connection):
    with pytest.raises(Unauthenticated):
        ways().caller(connection)


@pytest.mark.parametrize("now", [NOW - 7_201.0, NOW + DAY, NOW + 8 * DAY])
def test_a_certificate_counts_from_two_hours_before_its_issue_to_its_end(now):
    ways(NOW - 7_200.0).caller(ANA_CALLS)
    ways(NOW + DAY - 1).caller(ANA_CALLS)
    with pytest.raises(CertificateExpired, match="renew"):
        ways(now).caller(ANA_CALLS)


def test_revocation_counts_from_the_moment_when_it_is_known():
    revoked = set()
    way = Certificates(lambda: Trust(1, (AUTHORITY.certificate,), frozenset(revoked)), lambda: NOW)
    way.caller(ANA_CALLS)
    revoked.add(ANA.peer_id)
    with pytest.raises(Revoked):
        way.caller(ANA_CALLS)
    assert way.caller(shown(Kind.PEER, BEN.peer_id, BEN)).peer_id == BEN.peer_id


def test_a_certificate_speaks_for_its_own_peer_only():
    ana = Caller(Role.PEER, ANA.peer_id)
    ana.check_is(ANA.peer_id)
    for other in (BEN.peer_id, "", ANA.peer_id.upper()):
        with pytest.raises(Refused, match="own peer"):
            ana.check_is(other)


def test_in_plaintext_everybody_is_believed_and_a_stranger_or_an_owner_is_no_peer():
    Caller(Role.PLAINTEXT).check_is(ANA.peer_id)
    for role in (Role.STRANGER, Role.OWNER):
        with pytest.raises(Refused):
            Caller(role).check_is("")


@pytest.mark.parametrize("way_in", [PLAINTEXT, OWN_SOCKET, ENROLMENT, ways()], ids=["plain", "socket", "enrol", "tls"])
@pytest.mark.parametrize("method", ["", "/", "/relevo.v1.CentralDirectory/Nothing", LOGIN + "/", LOGIN.lower(), "*"])
def test_what_has_no_rule_is_refused_for_everybody(way_in, method):
    with pytest.raises(Refused):
        admit(way_in, method, ANA_CALLS)


def test_every_rule_lets_somebody_in_and_nobody_is_let_in_everywhere():
    assert all(RULES.values())
    for role in Role:
        assert any(role not in roles for roles in RULES.values())
        assert any(role in roles for roles in RULES.values())


async def test_calls_at_the_same_time_each_know_their_own_caller():
    def call(connection):
        admit(ways(), LOGIN, connection)
        return caller()

    async def answered(connection):
        found = call(connection)
        await asyncio.sleep(0)
        assert caller() == found
        return found.peer_id

    ben_calls = shown(Kind.PEER, BEN.peer_id, BEN)
    found = await asyncio.gather(*(asyncio.create_task(answered(each)) for each in (ANA_CALLS, ben_calls) * 5))
    assert found == [ANA.peer_id, BEN.peer_id] * 5
    with pytest.raises(LookupError):
        caller()
