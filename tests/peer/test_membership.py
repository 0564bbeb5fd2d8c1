"""What a home holds of its network, and how it changes."""

import asyncio
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Corrupt, InvalidInput, NotPossible
from core.identity import Identity
from core.trust import Trust
from peer.directory.central_time import CentralTime
from peer.links.credentials import Credentials
from peer.membership.joining import joined
from peer.membership.membership import Membership, answered, load, save
from peer.settings import ServeSettings, recall

ROOT = Path(__file__).parents[2]
ANA = Identity.generate()
NOW = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture
def member(enrolment_bench):
    return enrolment_bench.membership(ANA, now=NOW)


def test_a_home_keeps_a_membership_for_its_user_alone(member, tmp_path):
    assert load(tmp_path, ANA.peer_id) is None
    save(tmp_path, member)
    assert load(tmp_path, ANA.peer_id) == member
    assert stat.S_IMODE((tmp_path / "network").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "network").iterdir()] == [0o600]


def test_a_certificate_is_renewed_at_two_thirds_of_what_it_counts_after_it_was_made(member):
    assert (member.issued, member.expires, member.life) == (NOW, NOW + 24 * HOUR, 24 * HOUR)
    assert member.renew_time() == pytest.approx(NOW + 16 * HOUR)
    assert not member.expired(NOW + 24 * HOUR - 1)
    assert member.expired(NOW + 24 * HOUR)


@pytest.mark.parametrize("damage", [b"", b"\xff", b"rubbish", None])
def test_a_file_that_is_no_membership_of_this_peer_says_what_to_do(member, tmp_path, damage):
    save(tmp_path, member)
    file = tmp_path / "network" / "membership"
    if damage is not None:
        file.write_bytes(damage)
    whose = ANA if damage is not None else Identity.generate()
    with pytest.raises(NotPossible, match="join again with a token"):
        load(tmp_path, whose.peer_id)


def test_a_membership_that_contradicts_itself_is_none(enrolment_bench, other_enrolment_bench, member):
    message = member.to_message()
    foreign = other_enrolment_bench.membership(ANA)
    for change in (
        {"network_id": foreign.network_id},
        {"network_id": ""},
        {"certificates": ()},
        {"certificates": (b"rubbish",)},
        {"trust": foreign.trust.to_message()},
        {"trust": Trust().to_message()},
        {"enrolment_port": 0},
        {"enrolment_port": 1 << 16},
    ):
        fields = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
        with pytest.raises(InvalidInput):
            Membership.from_message(type(message)(**{**fields, **change}), ANA.peer_id)
    with pytest.raises(Corrupt, match="another network"):
        answered(foreign.to_message(), ANA.peer_id, member.network_id)
    with pytest.raises(Corrupt, match="this peer"):
        answered(message, Identity.generate().peer_id, member.network_id)


@given(versions=st.lists(st.integers(0, 9), max_size=12))
def test_an_older_trust_never_replaces_a_newer_one_that_a_heartbeat_told(versions):
    authority = _authority()
    held = Membership(authority.network_id, (), Trust(3, (authority.certificate,)), 1, 0.0, 1.0)
    for version in versions:
        before = held.trust.version
        held = held.hearing(Trust(version, (authority.certificate,), frozenset({str(version)})))
        assert held.trust.version == max(before, version)
    assert held.trust.version == max([3, *versions])


def _authority(made=[]):  # noqa: B006 - made once, since keys take time
    from core.certificates import Authority

    if not made:
        made.append(Authority.create(NOW, HOUR))
    return made[0]


def test_another_networks_trust_is_not_heard(member, other_enrolment_bench):
    assert member.hearing(replace(other_enrolment_bench.trust, version=99)) is member


def test_the_answer_to_a_renewal_counts_although_its_trust_is_older(enrolment_bench, member):
    ahead = replace(member, trust=replace(member.trust, version=7))  # central was restored from a backup
    answer = enrolment_bench.membership(ANA)
    assert ahead.renewed(answer, asked=ahead) == answer


def test_what_a_heartbeat_told_while_a_renewal_was_under_way_is_kept(enrolment_bench, member):
    answer = enrolment_bench.membership(ANA)
    told = member.hearing(replace(member.trust, version=2, revoked=frozenset({"b" * 52})))
    found = told.renewed(answer, asked=member)
    assert (found.certificates, found.trust) == (answer.certificates, told.trust)


def test_a_renewal_that_leaves_out_who_is_revoked_lets_nobody_back_in(enrolment_bench, member):
    told = member.hearing(replace(member.trust, version=2, revoked=frozenset({"b" * 52})))
    answer = enrolment_bench.membership(ANA)
    found = told.renewed(replace(answer, trust=replace(answer.trust, version=0, revoked=frozenset())), asked=told)
    assert (found.certificates, found.trust.revoked) == (answer.certificates, told.trust.revoked)
    assert found.hearing(told.trust).trust == told.trust  # the next heartbeat tells everything


@pytest.mark.parametrize(("told", "kept"), [(7499, 7499), (0, 7401), (1 << 16, 7401), (7401, 7401)])
def test_where_certificates_are_renewed_is_what_central_said_last_if_it_is_a_port(member, told, kept):
    before = replace(member, enrolment_port=7401)
    assert before.at_port(told) == replace(member, enrolment_port=kept)
    assert (before.at_port(told) is before) == (kept == 7401)


def test_a_membership_knows_whether_its_authority_still_issues(enrolment_bench, member):
    assert member.of_issuing_authority()
    enrolment_bench.rotate()
    changed = member.hearing(enrolment_bench.trust)
    assert not changed.of_issuing_authority()
    assert changed.spread() == 600.0
    assert enrolment_bench.membership(ANA).of_issuing_authority()


async def test_trust_that_is_heard_counts_at_once_and_survives_a_restart(enrolment_bench, member, tmp_path):
    credentials, changes = Credentials(ANA, tmp_path, member), []
    credentials.on_change = lambda: changes.append(credentials.material())
    enrolment_bench.revoke("b" * 52)
    credentials.hear(enrolment_bench.trust)
    assert credentials.trust().revoked == {"b" * 52}
    assert changes == []  # open connections are as good as before
    enrolment_bench.rotate()
    credentials.hear(enrolment_bench.trust)
    assert [material.authorities.count(b"BEGIN") for material in changes] == [2]
    await credentials.close()
    assert load(tmp_path, ANA.peer_id).trust == enrolment_bench.trust


async def test_a_home_that_cannot_be_written_changes_nothing_but_the_log(enrolment_bench, member, tmp_path, caplog):
    (tmp_path / "network").touch()
    credentials = Credentials(ANA, tmp_path, member)
    enrolment_bench.revoke("b" * 52)
    credentials.hear(enrolment_bench.trust)
    await credentials.close()
    assert credentials.trust().revoked
    assert "cannot keep the membership" in caplog.text


# A daemon is killed while it joins, before its first, second, … file gets into place.
JOINS_AND_IS_KILLED = """
import asyncio, os, signal, sys, time
from pathlib import Path
from core.identity import Identity
from peer.directory.central_time import CentralTime
from peer.membership.joining import joined
from peer.settings import ServeSettings

home, token, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def count(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
identity = Identity.load_or_create(home / "key.pem")
settings = ServeSettings(home=home, shared=home, centrals=(), name="ana", join=token)
asyncio.run(joined(settings, identity, CentralTime(time.monotonic, time.time)))
"""


async def test_a_kill_between_any_two_files_leaves_a_home_that_starts(enrolment_bench, tmp_path):
    token = enrolment_bench.token(f"127.0.0.1:{enrolment_bench.port}").to_text()

    async def killed(after):
        home = tmp_path / str(after)
        home.mkdir()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", JOINS_AND_IS_KILLED, str(home), token, str(after)),
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"},
        )
        return home, await process.wait()

    ended = await asyncio.gather(*map(killed, range(4)))
    assert [code for _, code in ended] == [-signal.SIGKILL] * 3 + [0]
    members = 0
    for home, _ in ended:
        identity = Identity.load_or_create(home / "key.pem")
        centrals = recall(home).centrals
        settings = ServeSettings(home=home, shared=home, centrals=centrals, name="ana")
        time = CentralTime(lambda: 0.0, enrolment_bench.wall)
        if load(home, identity.peer_id):
            members += 1
            assert (await joined(settings, identity, time)).settings.centrals == centrals != ()
        # The same token does it again, whatever there is.
        again = await joined(replace(settings, join=token), identity, time)
        assert again.membership.network_id == enrolment_bench.network_id
        assert load(home, identity.peer_id) is not None
    assert members == 1
