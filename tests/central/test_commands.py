"""The commands beside `serve`, as an operator runs them: with and without a central that serves."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from central.__main__ import cli
from central.commands.members import chosen
from central.network.enrolment import Enrolment
from central.network.register import Member
from central.parameters import span, spelt
from core.errors import NotFound
from core.failures import Choose
from core.identity import Identity
from core.tokens import JoinToken

GRPCURL = Path(sys.executable).with_name("grpcurl")
NOW = 1_800_000_000.0
ONE, TWO = f"abcd{'e' * 48}", f"abcf{'e' * 48}"


def run(*arguments, data=None):
    named = ["--data", str(data)] if data else []
    return CliRunner().invoke(cli, [*arguments[:1], *named, *arguments[1:]], prog_name="relevo-central")


def error_of(result):
    (line,) = result.stderr.splitlines()
    assert line.startswith("relevo-central: ")
    assert not result.stdout
    return line


@pytest.fixture
def data(tmp_path):
    """A data directory in which central has served on 127.0.0.1:7400."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(Enrolment.open_or_create(data, NOW)[0]) as enrolment:
        enrolment.note_address("127.0.0.1:7400", 7401)
    return data


def joined(data, *names):
    identities = [Identity.generate() for _ in names]
    with closing(Enrolment.open(data)) as enrolment, enrolment.register.changing():
        for number, (identity, name) in enumerate(zip(identities, names, strict=True)):
            enrolment.register.add_member(identity.peer_id, name, NOW + number)
            enrolment.register.certified(identity.peer_id, NOW + 86_400)
    return [identity.peer_id for identity in identities]


@pytest.mark.parametrize("command", [["invite"], ["peers"], ["revoke", "x"], ["rotate-ca"], ["admin-cert"]])
def test_a_directory_without_a_network_is_told_what_to_do_and_stays_as_it_was(tmp_path, command):
    result = run(*command, data=tmp_path)
    assert result.exit_code == 7
    assert "relevo-central serve" in error_of(result)
    assert not [*tmp_path.iterdir()]


def test_invite_prints_the_token_alone_and_says_beside_what_it_is_good_for(data):
    result = run("invite", data=data)
    token = JoinToken.from_text(result.stdout)
    assert result.stdout == f"{token.to_text()}\n"
    assert (token.addresses, token.enrolment_port) == (("127.0.0.1:7400",), 7401)
    assert "one peer" in result.stderr
    assert token.to_text() not in result.stderr


def test_invite_takes_uses_a_span_and_addresses(data):
    options = ("--uses", "3", "--ttl", "30m", "--address", "central.example:7400", "--address", "[2001:db8::1]:7400")
    result = run("invite", *options, data=data)
    token = JoinToken.from_text(result.stdout)
    assert token.addresses == ("central.example:7400", "[2001:db8::1]:7400")
    with closing(Enrolment.open(data)) as enrolment, enrolment.register.changing():
        assert enrolment.register.invitation(token.invitation_id).uses_left == 3


def test_invite_names_peers_through_which_to_join(data):
    via = ("ana.example:7500", f"{'a' * 52}@[2001:db8::2]:7500")
    result = run("invite", "--via", via[0], "--via", via[1], data=data)
    assert JoinToken.from_text(result.stdout).via == via
    assert f"or through {via[0]}, {via[1]}." in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--address", "nonsense"],
        ["--via", "nonsense"],
        ["--via", "x@host:1"],
        ["--via", "host:0"],
        ["--address", "host:0"],
        ["--address", "host:1"] * 17,
        ["--uses", "0"],
        ["--ttl", "soon"],
        ["--ttl", "0"],
        ["--ttl", "366d"],
    ],
)
def test_invite_refuses_what_makes_no_token(data, options):
    result = run("invite", *options, data=data)
    assert result.exit_code == 2
    assert options[0] in error_of(result)


def test_peers_lists_who_joined_as_a_table_and_as_json(data):
    first, second = joined(data, "ana", "b\x1b[2Jen")
    run("revoke", "ana", data=data)
    head, *rows = run("peers", data=data).stdout.splitlines()
    assert head.split() == ["ID", "NAME", "JOINED", "CERTIFICATE", "UNTIL", "STATE"]
    assert [row.split()[0] for row in rows] == [first[:8], second[:8]]
    assert [row.split()[-1] for row in rows] == ["revoked", "away"]
    assert "\x1b" not in "".join(rows)
    document = json.loads(run("peers", "--json", data=data).stdout)
    assert [peer["peer_id"] for peer in document["peers"]] == [first, second]
    assert document["peers"][0]["state"] == "revoked"
    assert document["peers"][1] == {
        "peer_id": second,
        "name": "b\x1b[2Jen",
        "join_time": "2027-01-15T08:00:01Z",
        "certificate_end": "2027-01-16T08:00:00Z",
        "revoke_time": None,
        "state": "away",
    }


def members(*pairs):
    return [Member(peer_id, name, NOW, NOW) for peer_id, name in pairs]


@pytest.mark.parametrize(("wanted", "found"), [("ana", ONE), (TWO, TWO), ("abcd", ONE), ("abcf", TWO), ("abcfe", TWO)])
def test_a_peer_is_meant_by_name_id_or_prefix(wanted, found):
    assert chosen(members((ONE, "ana"), (TWO, "abcdef")), wanted).peer_id == found


@pytest.mark.parametrize("wanted", ["abc", "nobody", "", f"{ONE}x"])
def test_who_is_not_there_or_named_too_shortly_is_not_found(wanted):
    with pytest.raises(NotFound):
        chosen(members((ONE, "ana"), (TWO, "ben")), wanted)


def test_what_means_several_lists_them():
    with pytest.raises(Choose) as caught:
        chosen(members((ONE, "ana"), (TWO, "ana")), "ana")
    assert caught.value.candidates == [f"{ONE}  ana", f"{TWO}  ana"]
    with pytest.raises(Choose):
        chosen(members((ONE, "ana"), (ONE.replace("e", "g"), "ben")), "abcd")


def test_nobody_is_revoked_for_being_called_like_the_beginning_of_anothers_id():
    with pytest.raises(Choose):
        chosen(members((ONE, "ana"), (TWO, ONE[:4])), ONE[:4])


def test_who_is_revoked_already_stands_in_nobodys_way():
    revoked = Member(ONE, "ana", NOW, NOW, revoked=NOW)
    assert chosen([revoked, *members((TWO, "ana"))], "ana").peer_id == TWO
    assert chosen([revoked], "ana") is revoked


def test_an_ambiguous_peer_is_not_revoked(data):
    joined(data, "ana", "ana")
    result = run("revoke", "ana", data=data)
    assert result.exit_code == 7
    assert len(result.stderr.splitlines()) == 3
    assert "revoked" not in run("peers", data=data).stdout


def test_rotate_ca_has_another_authority_issue(data):
    assert "authority 2" in run("rotate-ca", data=data).stderr
    with closing(Enrolment.open(data)) as enrolment:
        assert len(enrolment.trust().authorities) == 2


def test_admin_cert_writes_three_private_files_and_replaces_none(data, tmp_path):
    target = tmp_path / "with blank"
    result = run("admin-cert", "--label", "ops", "--to", str(target), data=data)
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["grpcurl", "grpcurl"]
    files = {path.name: path for path in target.iterdir()}
    assert set(files) == {"ca.pem", "ops.pem", "ops-key.pem"}
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    before = {name: path.read_bytes() for name, path in files.items()}
    again = run("admin-cert", "--label", "ops", "--to", str(target), data=data)
    assert again.exit_code == 7
    assert "ops-key.pem is there already" in error_of(again)
    run("rotate-ca", data=data)
    other = run("admin-cert", "--label", "two", "--to", str(target), data=data)
    assert "ca.pem is there already" in error_of(other)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


@pytest.mark.parametrize("label", ["", "A", "a.b", "a/b", "ü", "x" * 64])
def test_admin_cert_refuses_a_label_that_is_no_name(data, tmp_path, label):
    result = run("admin-cert", "--label", label, "--to", str(tmp_path / "to"), data=data)
    assert result.exit_code == 2
    assert "label" in error_of(result)
    assert not (tmp_path / "to").exists()


async def test_what_admin_cert_prints_works_while_central_serves_and_an_operator_changes_nothing(secure, tmp_path):
    import asyncio

    await secure.logged_in(name="ana")
    printed = (await asyncio.to_thread(run, "admin-cert", "--to", str(tmp_path / "to"), data=secure.data)).stdout
    listing, calling = printed.splitlines()

    async def grpcurl(line, expected=0):
        shell = line.replace("grpcurl", str(GRPCURL), 1)
        done = await asyncio.to_thread(subprocess.run, shell, shell=True, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) == (expected == 0), done.stderr
        return done.stdout if expected == 0 else done.stderr

    assert "relevo.v1.CentralDirectory" in (await grpcurl(listing)).split()
    (peer,) = json.loads(await grpcurl(calling))["peers"]
    assert peer["peer"]["name"] == "ana"
    refused = await grpcurl(calling.replace("ListPeers", "Logout"), expected=1)
    assert "PermissionDenied" in refused


async def test_commands_beside_a_running_central_let_peers_in_and_put_them_out(secure_network, fails_with):
    import asyncio

    from core.errors import Revoked

    network = await secure_network(sweep_interval=0.05)
    token = JoinToken.from_text((await asyncio.to_thread(run, "invite", data=network.data)).stdout)
    assert token.addresses == (network.central.address,)
    peer = network.stranger(name="ana")
    await peer.enroll(token)
    await peer.login()
    beats = await peer.live()
    listed = await asyncio.to_thread(run, "peers", data=network.data)
    assert listed.stdout.splitlines()[1].split()[-1] == "live"
    revoked = await asyncio.to_thread(run, "revoke", peer.id[:4], data=network.data)
    assert revoked.exit_code == 0
    with fails_with(Revoked):
        await beats.ended()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800.0), ("1h", 3600.0), ("7d", 604_800.0), ("90", 90.0), ("90s", 90.0)]
)
def test_a_span_is_read_in_its_unit(text, seconds):
    assert span(1, 10**9)(text) == seconds
    assert span(1, 10**9)(spelt(seconds)) == seconds


@pytest.mark.parametrize("value", ["nan", "-1", "1w", "1.5h", "", "1001", "1001.0", "0"])
def test_what_is_no_span_or_beyond_the_range_is_refused(value):
    with pytest.raises(click.BadParameter):
        span(1, 1000)(value)
    assert span(1, 1000)("999") == 999.0


@pytest.mark.parametrize("command", ["invite", "peers", "revoke", "rotate-ca", "admin-cert", "backup"])
def test_every_command_describes_itself_and_takes_the_data_directory(command):
    text = run(command, "--help").stdout
    assert "--data DIR" in text


def test_commands_read_relevo_data(data):
    result = CliRunner(env={"RELEVO_DATA": str(data)}).invoke(cli, ["invite"], prog_name="relevo-central")
    assert JoinToken.from_text(result.stdout)
