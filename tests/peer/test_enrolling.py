"""Asking central for membership, over a channel that shows no certificate."""

import logging
import time

import pytest

from core import errors
from core.identity import Identity
from core.rpc import Server
from peer.directory.central_time import CentralTime
from peer.membership.enrolling import Enrolling
from peer.membership.joining import HOW_TO_JOIN, joined
from peer.settings import ServeSettings, recall

NOBODY = "127.0.0.2:1"


@pytest.fixture
def ana():
    return Identity.generate()


@pytest.fixture
def enrolling(ana):
    return Enrolling(ana, CentralTime(time.monotonic, time.time))


async def test_a_token_makes_a_member_and_its_addresses_are_tried_in_order(enrolment_bench, enrolling, ana):
    found = await enrolling.enroll(enrolment_bench.token(NOBODY, "127.0.0.1:7400"), "ana")
    assert found.network_id == enrolment_bench.network_id
    assert found.trust == enrolment_bench.trust
    assert enrolment_bench.members == {ana.peer_id}
    assert enrolment_bench.asked == ["Enroll"]


async def test_a_member_renews_however_long_ago_its_certificate_expired(enrolment_bench, enrolling, ana):
    old = enrolment_bench.membership(ana, now=time.time() - 8 * 86_400)
    assert old.expired(time.time())
    fresh = await enrolling.renew(old, ("127.0.0.1:7400",))
    assert fresh.expires == pytest.approx(time.time() + 86_400, abs=5)


async def test_a_token_of_before_the_change_of_the_authority_still_counts(enrolment_bench, enrolling):
    token = enrolment_bench.token("127.0.0.1:1")
    enrolment_bench.rotate()
    found = await enrolling.enroll(token, "ana")
    assert found.of_issuing_authority()
    assert len(found.trust.authorities) == 2


async def test_a_wrong_clock_is_mended_by_centrals(enrolment_bench, ana):
    clock = CentralTime(lambda: 7.0, lambda: time.time() - 5_000)
    await Enrolling(ana, clock).enroll(enrolment_bench.token(), "ana")
    assert clock.now == pytest.approx(time.time(), abs=5)
    assert enrolment_bench.asked == ["Enroll", "Enroll"]


@pytest.mark.parametrize("told", ["", "soon", "nan", "inf"])
def test_a_time_that_is_none_leaves_the_own_clock(told):
    clock = CentralTime(lambda: 7.0, lambda: 100.0)
    assert "has been set" in clock.correct(errors.ClockSkew("", {"central_time": told}))
    assert (clock.now, clock.off) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("central", "off", "words"),
    [(3700.0, -3600.0, "1 h behind central's: set it"), (10.0, 120.0, "2 min ahead of central's")],
)
def test_which_way_a_clock_is_wrong_is_said_and_what_to_do(central, off, words):
    clock = CentralTime(lambda: 7.0, lambda: 100.0)
    assert words in clock.correct(errors.ClockSkew("", {"central_time": str(central)}))
    assert (clock.now, clock.off) == (central, off)


def test_a_clock_that_jumps_while_nobody_says_anything_is_off_by_as_much():
    wall = [100.0]
    clock = CentralTime(lambda: 7.0, lambda: wall[0])
    wall[0] = 129.0
    assert clock.off == 0.0, "that is not much"
    wall[0] = 7300.0
    assert (clock.now, clock.off) == (100.0, 7200.0)
    clock.trust_own_clock()
    assert (clock.now, clock.off) == (7300.0, 0.0)


async def test_a_token_that_does_not_count_says_what_to_do(enrolment_bench, enrolling):
    with pytest.raises(errors.Refused, match="ask the operator for another") as caught:
        await enrolling.enroll(enrolment_bench.token(secret=b"x" * 16), "ana")
    assert caught.value.exit_code == 7


async def test_a_revoked_key_does_not_get_in_by_a_token(enrolment_bench, enrolling, ana):
    enrolment_bench.revoke(ana.peer_id)
    with pytest.raises(errors.Revoked):
        await enrolling.enroll(enrolment_bench.token(), "ana")


async def test_whoever_has_another_authority_is_not_central(enrolment_bench, other_enrolment_bench, enrolling):
    token = enrolment_bench.token("127.0.0.1:1", NOBODY, enrolment_port=other_enrolment_bench.port)
    with pytest.raises(errors.WrongIdentity, match=f"127.0.0.1:{other_enrolment_bench.port} is not central of this"):
        await enrolling.enroll(token, "ana")
    assert other_enrolment_bench.asked == []


async def test_a_port_without_tls_is_not_trusted_with_the_secret(enrolment_bench, enrolling):
    server = Server()
    port = server.listen("127.0.0.1:0")
    await server.start()
    with pytest.raises(errors.Unreachable):
        await enrolling.enroll(enrolment_bench.token(enrolment_port=port), "ana")
    await server.stop(0)


async def test_central_that_is_away_is_named(enrolment_bench, enrolling):
    await enrolment_bench.close()
    with pytest.raises(errors.Unreachable, match=f"central at 127.0.0.1:{enrolment_bench.port} does not answer"):
        await enrolling.enroll(enrolment_bench.token(), "ana")


# What a home and a token make of each other


@pytest.fixture
def join(enrolment_bench, ana, tmp_path):
    async def join(token=None, *centrals, **options):
        text = token.to_text() if token else ""
        settings = ServeSettings(home=tmp_path, shared=tmp_path, centrals=centrals, name="ana", join=text, **options)
        return await joined(settings, ana, CentralTime(time.monotonic, time.time))

    return join


async def test_without_membership_and_token_the_user_is_told_how_to_join(join):
    with pytest.raises(errors.NotPossible) as caught:
        await join(None, "127.0.0.1:1")
    assert str(caught.value) == HOW_TO_JOIN
    assert "relevo serve DIR --join TOKEN" in HOW_TO_JOIN


async def test_a_damaged_token_is_told_and_nothing_is_sent(enrolment_bench, ana, tmp_path):
    text = enrolment_bench.token().to_text()
    settings = ServeSettings(home=tmp_path, shared=tmp_path, centrals=(), join=text[:-9])
    with pytest.raises(errors.InvalidInput, match="copy it again"):
        await joined(settings, ana, CentralTime(time.monotonic, time.time))
    assert enrolment_bench.asked == []


async def test_a_home_that_has_joined_needs_no_token(enrolment_bench, join, tmp_path):
    first = await join(enrolment_bench.token("127.0.0.1:7400"))
    assert first.settings.centrals == recall(tmp_path).centrals == ("127.0.0.1:7400",)
    again = await join(None, *recall(tmp_path).centrals)
    assert again.membership == first.membership
    assert enrolment_bench.asked == ["Enroll"]


async def test_a_token_names_peers_through_which_to_go_on_and_the_user_other_ones(enrolment_bench, join):
    first = await join(enrolment_bench.token("127.0.0.1:7400", via=("127.0.0.2:7500",)))
    assert first.settings.via == ("127.0.0.2:7500",)
    again = await join(enrolment_bench.token("127.0.0.1:7400", via=("127.0.0.3:7500",)), via=("127.0.0.4:7500",))
    assert again.settings.via == ("127.0.0.4:7500",)


async def test_a_token_of_the_network_that_the_peer_is_in_is_not_used(enrolment_bench, join, caplog):
    caplog.set_level(logging.INFO)
    await join(enrolment_bench.token("127.0.0.1:7400"))
    again = await join(enrolment_bench.token("127.0.0.9:1", enrolment_port=4321))
    assert enrolment_bench.asked == ["Enroll"]
    assert "the token is not needed" in caplog.text
    assert again.settings.centrals == ("127.0.0.1:7400",)  # as the home remembers
    assert again.membership.enrolment_port == 4321  # the operator may have moved it


async def test_a_token_of_another_network_ends_no_membership(enrolment_bench, other_enrolment_bench, join, tmp_path):
    await join(enrolment_bench.token("127.0.0.1:7400"))
    with pytest.raises(errors.NotPossible, match="another network's: use another home"):
        await join(other_enrolment_bench.token("127.0.0.1:7500"))
    assert other_enrolment_bench.asked == []
    assert recall(tmp_path).centrals == ("127.0.0.1:7400",)


async def test_addresses_that_the_user_names_beat_those_of_the_token(enrolment_bench, join):
    found = await join(enrolment_bench.token(NOBODY), "127.0.0.1:7400")
    assert found.settings.centrals == ("127.0.0.1:7400",)


async def test_no_secret_gets_into_the_log(enrolment_bench, join, caplog):
    caplog.set_level(logging.DEBUG)
    token = enrolment_bench.token()
    await join(token)
    await join(token)
    with pytest.raises(errors.Refused):
        await Enrolling(Identity.generate(), CentralTime(time.monotonic, time.time)).enroll(
            enrolment_bench.token(secret=b"y" * 16), "ben"
        )
    assert caplog.records
    for hidden in (token.to_text(), token.secret.hex(), repr(token.secret), "y" * 16):
        assert hidden not in caplog.text
