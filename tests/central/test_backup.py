"""Backups: made while central serves, whole or not at all, and a central that is restored from one goes on."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing

import pytest
from click.testing import CliRunner

from central.__main__ import cli
from central.backup import LEAP, back_up
from central.network import register_schema
from central.network.enrolment import Enrolment
from central.store import sqlite_schema
from core.errors import AlreadyExists, NotPossible
from relevo.v1 import central_directory_pb2 as pb2

NOW = 1_800_000_000.0


@pytest.fixture
def data(tmp_path):
    """A data directory in which central has served."""
    data = tmp_path / "data"
    handle = sqlite_schema.lock(data)
    sqlite_schema.connect(data, reader=False).close()
    with closing(Enrolment.open_or_create(data, NOW)[0]) as network:
        network.own_material(NOW, 86_400.0)
        network.note_address("127.0.0.1:7400", 7401)
        network.invite(NOW, uses=1, ttl=60, addresses=["127.0.0.1:7400"], enrolment_port=7401)
        with network.register.changing():
            network.register.add_member("a" * 52, "ana", NOW)
            network.register.add_member("b" * 52, "bea", NOW)
            network.register.revoke("b" * 52, NOW)
    yield data
    os.close(handle)


def restored(backup, directory):
    """Does what the manual says."""
    command = f"mkdir -m 700 '{directory}' && tar -xpf '{backup}' -C '{directory}'"
    subprocess.run(["sh", "-c", command], check=True, timeout=20)
    return directory


def test_a_backup_holds_all_that_a_central_is_for_its_owner_only(data, tmp_path):
    result = CliRunner().invoke(cli, ["backup", "--data", str(data), str(tmp_path / "b.tar")])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "keep it where only you can read it" in result.stderr
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "b.tar") as tar:
        modes = {member.name: member.mode for member in tar}
    everything = {"central.db", "register.db", "authorities/1.pem", "central-key.pem", "invitations.key"}
    assert modes == dict.fromkeys(everything, 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


def test_who_belongs_to_the_network_is_restored_and_told_as_something_newer(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    again = restored(tmp_path / "b.tar", tmp_path / "again")
    with closing(Enrolment.open(data)) as before, closing(Enrolment.open_or_create(again, NOW)[0]) as after:
        assert after.register.members() == before.register.members()
        assert after.register.ever_revoked() == ["b" * 52]
        assert after.register.version() == before.register.version() + LEAP
        assert after.authorities.network_id() == before.authorities.network_id()
        assert after.register.address() == ("127.0.0.1:7400", 7401)
        for path in before.key_files():
            assert (again / path.relative_to(data)).read_bytes() == path.read_bytes()


def test_only_the_key_that_issues_is_in_a_backup(data, tmp_path):
    with closing(Enrolment.open(data)) as network:
        network.authorities.rotate(NOW)
        (data / "authorities" / "1.pem").write_bytes(b"left behind by a crash")
    back_up(data, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert [name for name in tar.getnames() if name.startswith("authorities")] == ["authorities/2.pem"]
    again = restored(tmp_path / "b.tar", tmp_path / "again")
    with closing(Enrolment.open_or_create(again, NOW)[0]) as network:
        assert network.own_material(NOW, 86_400.0).chain


def test_what_stands_there_is_never_replaced(data, tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "data"):
        with pytest.raises(AlreadyExists, match="is there already"):
            back_up(data, tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "link"]


def test_a_directory_without_a_central_has_none_to_back_up(tmp_path):
    with pytest.raises(NotPossible, match="no central in"):
        back_up(tmp_path / "none", tmp_path / "b.tar")
    assert [*tmp_path.iterdir()] == []


def test_a_damaged_database_makes_no_backup(data, tmp_path):
    with closing(sqlite3.connect(data / "central.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE rotten (a)")
        db.executemany("INSERT INTO rotten VALUES (?)", [(bytes(3000),)] * 50)
        page = db.execute("PRAGMA page_size").fetchone()[0]
        at = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'rotten'").fetchone()[0]
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (data / "central.db").open("r+b") as file:
        file.seek((at - 1) * page)
        file.write(b"\xff" * page)
    with pytest.raises(NotPossible, match=r"damaged|cannot copy"):
        back_up(data, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_network_without_its_key_makes_no_backup(data, tmp_path):
    (data / "authorities" / "1.pem").unlink()
    with pytest.raises(NotPossible, match=r"1\.pem cannot be used"):
        back_up(data, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_place_that_cannot_be_written_is_said(data, tmp_path):
    with pytest.raises(NotPossible, match=r"cannot write .*No such file"):
        back_up(data, tmp_path / "missing" / "b.tar")


async def test_a_plaintext_central_has_one_database(network, tmp_path):
    await network.logged_in()
    await asyncio.to_thread(back_up, network.data, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["central.db"]


async def test_a_restored_central_serves_the_same_network_to_the_same_members(secure, tmp_path):
    ana, bea = await secure.logged_in(name="ana"), await secure.logged_in(name="bea")
    await ana.publish({"before.txt": b"1" * 32})
    told = (await (await bea.live()).beat(trust_version=0)).trust.version
    for number in range(3):  # the members hear of more changes after the backup than before
        if number == 1:
            await asyncio.to_thread(back_up, secure.data, tmp_path / "b.tar")
        cho = await secure.member(name=f"cho{number}")
        secure.beside(lambda enrolment, who=cho.id: enrolment.revoke(who, NOW))
        await secure.look()
    beats = await bea.live()
    heard = (await beats.beat(trust_version=told)).trust.version
    await ana.publish({"after.txt": b"2" * 32})
    await secure.stop_central()
    shutil.rmtree(secure.data)

    again = type(secure)(restored(tmp_path / "b.tar", tmp_path / "again"))
    again.clock = secure.clock
    await again.start()
    try:
        for peer in (ana, bea):
            peer.network = again
            peer.channel = peer.connect()
        answer = await ana.login()
        files = (await bea.stub.ListFiles(pb2.ListFilesRequest())).files
        assert [file.path for file in files] == ["before.txt"]
        assert answer.catalogue_version != 0
        await bea.login()
        again.beside(lambda enrolment: enrolment.revoke(ana.id, NOW))
        await again.look()
        beats = await bea.live()
        trust = (await beats.beat(trust_version=heard)).trust
        assert trust.version > heard, "members go by the highest version"
        assert ana.id in trust.revoked_peer_ids
    finally:
        await again.stop()


async def test_a_backup_that_is_made_while_peers_publish_has_all_that_was_acknowledged(secure, tmp_path):
    """Each batch names its number twice, in two files: a backup has both or neither."""
    peers = [await secure.logged_in() for _ in range(3)]
    acknowledged = {peer.id: 0 for peer in peers}
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def keep_publishing(peer):
        while not stopped.is_set():
            number = acknowledged[peer.id]
            names = [f"{peer.name}/{number}/{half}" for half in "ab"]
            await peer.publish(dict.fromkeys(names, bytes(32)))
            acknowledged[peer.id] += 1
            if min(acknowledged.values()) == 5:
                begun.set()

    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(keep_publishing(peer))
        async with asyncio.timeout(60):
            for name in ("one.tar", "two.tar"):
                await begun.wait()
                before = dict(acknowledged)
                await asyncio.to_thread(back_up, secure.data, tmp_path / name)
        stopped.set()

    with closing(sqlite3.connect(restored(tmp_path / "two.tar", tmp_path / "again") / "central.db")) as db:
        paths = {path for (path,) in db.execute("SELECT path FROM entries")}
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    for peer in peers:
        assert {f"{peer.name}/{number}/a" for number in range(before[peer.id])} <= paths
    assert all(path[:-1] + {"a": "b", "b": "a"}[path[-1]] in paths for path in paths)


def test_a_backup_of_another_version_is_refused(data, tmp_path):
    with closing(sqlite3.connect(data / register_schema.FILE_NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NotPossible, match="newer relevo-central"):
        back_up(data, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
