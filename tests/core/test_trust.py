import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.certificates import Authority, Kind, Subject
from core.errors import InvalidInput
from core.identity import Identity
from core.trust import Trust
from relevo.v1.content_pb2 import Trust as TrustMessage

NOW, DAY = 1_800_000_000.0, 86_400.0
FIRST = Authority.create(NOW, DAY)
SECOND = Authority.create(NOW, DAY, FIRST)
FOREIGN = Authority.create(NOW, DAY)
ME = Identity.generate()
PEER_IDS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=52, max_size=52)


@given(st.integers(0, 2**64 - 1), st.sampled_from([(FIRST,), (SECOND, FIRST)]), st.frozensets(PEER_IDS, max_size=5))
def test_trust_survives_the_journey_with_the_order_of_its_authorities(version, authorities, revoked):
    trust = Trust(version, tuple(one.certificate for one in authorities), revoked)
    carried = TrustMessage.FromString(trust.to_message().SerializeToString())
    assert Trust.from_message(carried) == trust
    assert trust.network_id == FIRST.network_id


def test_the_same_trust_is_the_same_message():
    revoked = frozenset(Identity.generate().peer_id for _ in range(5))
    texts = {
        Trust(1, (FIRST.certificate,), frozenset(order)).to_message().SerializeToString()
        for order in (sorted(revoked), sorted(revoked, reverse=True))
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "message",
    [
        TrustMessage(version=1),
        TrustMessage(authorities=[b""]),
        TrustMessage(authorities=[FIRST.certificate, FOREIGN.certificate]),
        TrustMessage(authorities=[FIRST.issue(Subject(Kind.PEER, ME.peer_id), ME.public_key, NOW, DAY)]),
        TrustMessage(authorities=[FIRST.vouch_for(SECOND, NOW, DAY)]),
        TrustMessage(authorities=[FIRST.certificate], revoked_peer_ids=["everybody"]),
        TrustMessage(authorities=[FIRST.certificate], revoked_peer_ids=[ME.peer_id, ""]),
    ],
)
def test_trust_in_no_authority_in_several_networks_or_against_nobody_is_refused(message):
    with pytest.raises(InvalidInput):
        Trust.from_message(message)
