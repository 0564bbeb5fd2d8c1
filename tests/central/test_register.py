"""The register: what is committed stays, whoever dies, and two processes at once see one state."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from central.network.enrolment import Enrolment
from central.network.register import Invitation, Register
from central.network.register_schema import FILE_NAME
from core.errors import NotFound, NotPossible, Unreachable

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0


@pytest.fixture
def register(tmp_path):
    with closing(Register.open(tmp_path)) as found:
        yield found


def add(register, peer_id="p", name="ana"):
    with register.changing():
        register.add_member(peer_id, name, NOW)


def test_what_fails_half_way_leaves_nothing(register):
    def add_and_fail():
        with register.changing():
            register.add_member("p", "ana", NOW)
            raise NotFound("no")

    with pytest.raises(NotFound):
        add_and_fail()
    assert register.members() == []
    add(register)
    assert len(register.members()) == 1


def test_every_revocation_is_a_new_version_and_stays(register):
    add(register)
    before = register.version()
    with register.changing():
        register.revoke("p", NOW)
        register.revoke("p", NOW + 5)
    assert register.version() > before
    (member,) = register.members()
    assert member.revoked == NOW
    with pytest.raises(NotFound), register.changing():
        register.revoke("q", NOW)


def test_the_end_of_the_latest_certificate_counts_and_never_goes_back(register):
    add(register)
    with register.changing():
        register.certified("p", NOW + 10)
        register.certified("p", NOW + 5)
    assert register.members()[0].certificate_end == NOW + 10


def test_invitations_that_are_long_over_are_forgotten(register):
    with register.changing():
        register.add_invitation(b"1", Invitation(b"h", NOW, 1), NOW)
        register.add_invitation(b"2", Invitation(b"h", NOW, 1), NOW + 86_000)
        assert register.invitation(b"1")
        register.add_invitation(b"3", Invitation(b"h", NOW, 1), NOW + 86_401)
        assert register.invitation(b"1") is None


def test_no_secret_stands_in_the_register(tmp_path):
    with closing(Enrolment.open_or_create(tmp_path, NOW)[0]) as enrolment:
        token = enrolment.invite(NOW, uses=1, ttl=60, addresses=["a:1"], enrolment_port=2)
        kept = b"".join(path.read_bytes() for path in tmp_path.glob(f"{FILE_NAME}*"))
        assert token.invitation_id in kept
        assert token.secret not in kept


def test_another_process_sees_what_is_committed_at_once(register, tmp_path):
    with closing(Register.open(tmp_path)) as other:
        add(register)
        assert len(other.members()) == 1
        with other.changing():
            other.revoke("p", NOW)
        assert register.ever_revoked() == ["p"]


def test_who_has_to_wait_too_long_for_another_process_is_told_to_try_again(register, tmp_path, monkeypatch):
    monkeypatch.setattr("core.schemas.BUSY_SECONDS", 0.01)
    with (
        closing(Register.open(tmp_path)) as other,
        register.changing(),
        pytest.raises(Unreachable, match="try again"),
        other.changing(),
    ):
        pass


def test_a_register_of_a_newer_version_or_of_another_kind_is_refused(tmp_path):
    (tmp_path / "newer").mkdir()
    with closing(sqlite3.connect(tmp_path / "newer" / FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NotPossible, match="newer"):
        Register.open(tmp_path / "newer")
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 100)
    with pytest.raises(NotPossible, match="backup"):
        Register.open(tmp_path)


KEEP_JOINING = """
import sys
from pathlib import Path
from central.network.register import Register
register = Register.open(Path(sys.argv[1]))
for number in range(1_000_000):
    with register.changing():
        register.use(b"id")
        register.add_member(f"peer{number}", "x", 1.0)
    print(f"peer{number}", flush=True)
"""


@pytest.mark.parametrize("wait", [1, 7, 40])
def test_whoever_was_told_that_it_joined_has_joined_after_kill_9_and_nobody_joined_for_nothing(tmp_path, wait):
    with closing(Register.open(tmp_path)) as register:
        with register.changing():
            register.add_invitation(b"id", Invitation(b"h", NOW + 60, 1_000_000), NOW)
        command = [sys.executable, "-c", KEEP_JOINING, str(tmp_path)]
        paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}
        with subprocess.Popen(command, env=os.environ | paths, stdout=subprocess.PIPE, text=True) as process:
            told = [next(process.stdout).strip() for _ in range(wait)]
            process.kill()
            told += [line.strip() for line in process.stdout]
        joined = {member.peer_id for member in register.members()}
        assert set(told) <= joined
        assert len(joined) <= len(told) + 1
        with register.changing():
            left = register.invitation(b"id").uses_left
        assert left == 1_000_000 - len(joined), "a use is gone for each member, and for nobody else"
