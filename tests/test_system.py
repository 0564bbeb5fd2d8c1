"""One central and five peers in one process, over real sockets and real files: every flow, and the invariants."""

import asyncio
import contextlib
import itertools
import os
import stat

import pytest

from central.server import running_central
from core import errors
from core.manifest import manifest_of
from peer.daemon import running_peer
from peer.membership.membership import load
from peer.work.transfers import State
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_KEPT, PLACEMENT_STATE_PENDING, FileEntry
from relevo.v1.peer_control_pb2 import RouteKind
from tests.network import CENTRAL_HOST, MIB, Network, eventually, fetch, files, noise


@pytest.fixture
async def network(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central"))
        yield Network(tmp_path, central, stack)


async def test_what_the_programs_keep_for_themselves_nobody_else_may_read(network, tmp_path):
    """Under the umask that machines come with."""
    before = os.umask(0o022)
    try:
        await network.join("ana", {"a.txt": b"a"})
    finally:
        os.umask(before)
    kept = [path for own in ("ana/home", "central") for path in (tmp_path / own).rglob("*") if path.is_file()]
    assert {"index.db", "index.db-wal", "central.db", "central.db-wal", "register.db", "key.pem"} <= {
        path.name for path in kept
    }
    assert {str(path): stat.S_IMODE(path.stat().st_mode) for path in kept} == {str(path): 0o600 for path in kept}
    for own in ("ana/home", "central"):
        assert stat.S_IMODE((tmp_path / own).stat().st_mode) == 0o700


async def test_five_peers_publish_find_fetch_place_and_leave(network, tmp_path):
    big = noise(6 * MIB + 17)
    names = ["ana", "ben", "cho", "dee", "eva"]
    own = {"ana": {"año nuevo.txt": b"uno"}, "ben": {"空の写真.jpg": noise(70_000, 2)}, "cho": {"empty": b""}}
    shares = {name: own.get(name, {}) for name in names}
    shares["dee"] = {"video.mkv": big}
    shares["eva"] = {"copies/the same video.mkv": big}
    peers = {name: await network.join(name, shares[name]) for name in names}

    for name in ("dee", "eva"):
        peers[name].serving.sending.limiter.change(2 * MIB)  # so that both are asked before all has come

    everything = sorted(path for share in shares.values() for path in share)
    for peer in peers.values():
        assert await files(peer) == everything
    assert await files(peers["ana"], "空の") == ["空の写真.jpg"]
    assert await files(peers["ana"], "ÑO") == ["año nuevo.txt"]

    transfer = await fetch(peers["ana"], "video.mkv", tmp_path / "out")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "out/video.mkv").read_bytes() == big
    givers = {source.contact.name for source in transfer.progress.sources.values() if source.bytes}
    assert givers == {"dee", "eva"}

    async def through_the_primary():
        await files(peers["ana"])
        return peers["ana"].routes.last.way.kind == RouteKind.ROUTE_KIND_PRIMARY

    await eventually(through_the_primary)
    source = tmp_path / "report.pdf"
    source.write_bytes(noise(300_000, 3))
    upload = peers["ben"].uploads.start(source, 2)
    await upload.task
    assert upload.state is State.DONE, upload.error

    async def kept():
        request = pb2.GetPlacementRequest(placement_id=upload.placement_id)
        placement = (await peers["ben"].channels.central(network.central.address).GetPlacement(request)).placement
        return placement if placement.state == PLACEMENT_STATE_KEPT else None

    placement = await eventually(kept)
    storing = {copy.peer.name for copy in placement.copies}
    assert len(storing) == 2
    assert "ben" not in storing

    await network.leave("ben")
    reader = next(peers[name] for name in names if name != "ben" and name not in storing)
    transfer = await fetch(reader, "report.pdf", tmp_path / "after")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "after/report.pdf").read_bytes() == source.read_bytes()
    assert "空の写真.jpg" not in await files(reader)


async def test_a_new_file_is_listed_and_a_removed_one_withdrawn_by_themselves(network):
    ana, ben = await network.join("ana"), await network.join("ben")
    path = ana.library.shared / "sub" / "new.txt"
    path.parent.mkdir()
    path.write_bytes(b"new")

    async def listed():
        return "sub/new.txt" in await files(ben)

    async def gone():
        return "sub/new.txt" not in await files(ben)

    await eventually(listed, 20)  # everything is looked at anew once a minute
    path.unlink()
    await eventually(gone, 20)


async def test_new_bytes_at_a_path_supersede_the_old_ones(network):
    ana = await network.join("ana", {"notes.txt": b"old"})
    (ana.library.shared / "notes.txt").write_bytes(b"newer")

    async def superseded():
        response, _ = await ana.routes.list_files(pb2.ListFilesRequest())
        return [bytes(file.content_id) for file in response.files] == [manifest_of(b"newer").content_id]

    await eventually(superseded)


async def test_what_was_fetched_is_served_to_others_after_its_first_holder_left(network, tmp_path):
    data = noise(500_000)
    await network.join("ana", {"a.bin": data})
    ben = await network.join("ben")
    assert (await fetch(ben, "a.bin", tmp_path / "ben-out")).state is State.DONE
    await ben.publisher.published("a.bin", manifest_of(data).content_id, 10)
    await network.leave("ana")
    cho = await network.join("cho")
    transfer = await fetch(cho, "a.bin", tmp_path / "cho-out")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "cho-out/a.bin").read_bytes() == data


async def test_local_content_is_copied_and_not_fetched(network, tmp_path):
    data = noise(200_000)
    await network.join("ana", {"theirs.bin": data})
    ben = await network.join("ben", {"mine.bin": data})
    transfer = await fetch(ben, "theirs.bin", tmp_path / "out")
    assert transfer.state is State.DONE
    assert transfer.progress.copied_bytes == len(data)
    assert not any(source.bytes for source in transfer.progress.sources.values())
    assert (tmp_path / "out/theirs.bin").read_bytes() == data


async def test_mtime_and_executable_bit_travel(network, tmp_path):
    ana = await network.join("ana")
    tool = ana.library.shared / "tool.sh"
    tool.write_bytes(b"#!/bin/sh\n")
    tool.chmod(0o755)
    os.utime(tool, (1_500_000_000, 1_500_000_000))
    ben = await network.join("ben")

    async def listed():
        response, _ = await ben.routes.list_files(pb2.ListFilesRequest(reference="tool.sh"))
        return [file for file in response.files if file.executable]

    await eventually(listed)
    await fetch(ben, "tool.sh", tmp_path / "out")
    stat = (tmp_path / "out/tool.sh").stat()
    assert stat.st_mtime == 1_500_000_000
    assert stat.st_mode & 0o111


async def test_a_dead_peer_is_withdrawn_by_itself_and_its_user_gets_another_neighbour(network):
    ana = await network.join("ana")
    ben = await network.join("ben", {"ben.txt": b"b"})
    cho = await network.join("cho")
    assert cho.routes.neighbours.primary.name == "ben"
    await network.die(ben)

    async def withdrawn():
        return "ben.txt" not in await files(cho)

    await eventually(withdrawn, 12)
    await eventually(lambda: cho.routes.neighbours.primary.name == "ana")
    await eventually(lambda: ana.routes.neighbours.primary.name == "cho")


async def test_invariant_3_everyone_has_a_live_neighbour_other_than_itself_and_from_three_a_backup(network):
    peers = []
    for count, name in enumerate(["ana", "ben", "cho", "dee"], 1):
        peers.append(await network.join(name))
        ids = {peer.identity.peer_id for peer in peers}

        def sound(count=count, ids=ids):
            for peer in peers:
                primary = peer.routes.neighbours.primary.peer_id
                backup = peer.routes.neighbours.backup.peer_id
                if count >= 2 and (primary not in ids or primary == peer.identity.peer_id):
                    return False
                if count >= 3 and (backup not in ids or backup in {primary, peer.identity.peer_id}):
                    return False
            return True

        await eventually(sound)


async def test_invariant_1_a_liar_never_reaches_a_users_file(network, tmp_path):
    data = noise(3 * MIB)
    liar = await network.join("liar", {"film.mkv": data})
    await network.join("honest", {"film.mkv": data})
    true_block = liar.library.read_run

    async def lying(*wanted):
        block = bytearray(await true_block(*wanted))
        block[len(block) // 2] ^= 1
        return bytes(block)

    liar.library.read_run = lying
    cho = await network.join("cho")
    transfer = await fetch(cho, "film.mkv", tmp_path / "out")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "out/film.mkv").read_bytes() == data
    given = {source.contact.name: source for source in transfer.progress.sources.values()}
    assert given["honest"].bytes == len(data)
    assert "liar" not in given or (given["liar"].bytes == 0 and given["liar"].dropped_reason)


async def test_a_liar_who_lists_a_file_first_with_another_size_keeps_nobody_from_it(network, tmp_path):
    data = noise(200_000)
    liar = await network.join("liar")
    lie = FileEntry(path="film.mkv", content_id=manifest_of(data).content_id, size_bytes=5)
    login = liar.session.login
    await liar.channels.central(login.central).PublishFiles(
        pb2.PublishFilesRequest(
            peer_id=liar.session.peer_id, session_id=login.session_id, request_id="0" * 32, added=[lie]
        )
    )
    await network.join("honest", {"film.mkv": data})
    cho = await network.join("cho")
    transfer = await fetch(cho, "film.mkv", tmp_path / "out")
    assert transfer.state is State.DONE, transfer.error
    assert (tmp_path / "out/film.mkv").read_bytes() == data
    assert transfer.progress.size == len(data)


async def test_invariant_5_nothing_is_overwritten(network, tmp_path):
    await network.join("ana", {"a.txt": b"theirs"})
    ben = await network.join("ben")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_bytes(b"mine")
    transfer = await fetch(ben, "a.txt", tmp_path / "out")
    assert isinstance(transfer.error, errors.AlreadyExists)
    assert (tmp_path / "out/a.txt").read_bytes() == b"mine"
    (tmp_path / "out/a.txt").write_bytes(b"theirs")
    assert (await fetch(ben, "a.txt", tmp_path / "out")).state is State.DONE


async def test_a_placement_with_too_few_peers_waits_and_is_kept_when_one_joins(network, tmp_path):
    ana = await network.join("ana")
    source = tmp_path / "data.bin"
    source.write_bytes(noise(100_000))
    upload = ana.uploads.start(source, 1)
    await upload.task
    assert upload.state is State.DONE, upload.error
    request = pb2.GetPlacementRequest(placement_id=upload.placement_id)
    central = ana.channels.central(network.central.address)
    placement = (await central.GetPlacement(request)).placement
    assert (placement.state, placement.live_copies) == (PLACEMENT_STATE_PENDING, 0)
    ben = await network.join("ben")

    async def kept():
        return (await central.GetPlacement(request)).placement.state == PLACEMENT_STATE_KEPT

    await eventually(kept)
    assert upload.content_id in ben.library.stored


async def test_a_storing_peer_without_room_declines_and_another_is_chosen(network, tmp_path):
    ana = await network.join("ana")
    full = await network.join("full", store_quota=1000)
    roomy = await network.join("roomy")
    source = tmp_path / "data.bin"
    source.write_bytes(noise(100_000))
    upload = ana.uploads.start(source, 1)
    await upload.task
    await eventually(lambda: upload.content_id in roomy.library.stored)
    assert not full.library.stored


async def test_put_refuses_to_replace_another_file_of_that_name(network, tmp_path):
    ana = await network.join("ana", {"a.txt": b"old"})
    source = tmp_path / "a.txt"
    source.write_bytes(b"new")
    upload = ana.uploads.start(source, 0)
    await upload.task
    assert isinstance(upload.error, errors.AlreadyExists)
    assert (ana.library.shared / "a.txt").read_bytes() == b"old"


async def test_a_home_belongs_to_one_daemon(network):
    ana = await network.join("ana")
    with pytest.raises(errors.NotPossible, match="another daemon"):
        async with running_peer(ana.settings):
            pytest.fail("two daemons ran in one home")


async def test_a_copied_home_supersedes_the_older_daemon_which_stops_and_says_so(network, tmp_path):
    ana = await network.join("ana")
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    (copy / "key.pem").write_bytes((ana.settings.home / "key.pem").read_bytes())
    await network.join("ana-again", home=copy)
    async with asyncio.timeout(10):
        with pytest.raises(errors.SessionSuperseded):
            await asyncio.shield(ana.stopped)


async def test_central_restarts_and_peers_go_on_without_login_or_publishing(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        central = await first.enter_async_context(running_central(tmp_path / "central", f"{CENTRAL_HOST}:0"))
        network = Network(tmp_path, central, stack)
        # Nobody carries calls: else whoever comes back a moment later than the other logs in anew by way of that one.
        ana = await network.join("ana", {"a.txt": b"a"}, carried=0)
        ben = await network.join("ben", carried=0)
        sessions = [peer.session.login.session_id for peer in (ana, ben)]
        version = ana.publisher._published.version
        await first.aclose()
        await eventually(lambda: not ana.session.live and not ben.session.live)
        again = running_central(tmp_path / "central", central.address, enrolment_port=central.enrolment_port)
        await stack.enter_async_context(again)
        await eventually(lambda: ana.session.live and ben.session.live)
        assert await files(ben) == ["a.txt"]
        assert [peer.session.login.session_id for peer in (ana, ben)] == sessions
        assert ana.publisher._published.version == version


async def test_a_peer_that_restarts_publishes_only_what_has_changed_meanwhile(network):
    ana = await network.join("ana", {"a.txt": b"a", "b.txt": b"b"})
    version = ana.publisher._published.version

    async def noted():
        return (await ana.library.record.load()).version == version

    await eventually(noted)
    await network.leave("ana")
    again = await network.join("ana")
    assert again.publisher._published.version == version
    await network.leave("ana")
    (again.library.shared / "b.txt").unlink()
    third = await network.join("ana", {"c.txt": b"c"})

    async def listed():
        return sorted(await files(third)) == ["a.txt", "c.txt"]

    await eventually(listed)
    assert third.publisher._published.version == version + 2  # one batch that removes, one that adds


async def test_a_central_that_lost_its_store_is_published_to_anew(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        central = await first.enter_async_context(running_central(tmp_path / "central", f"{CENTRAL_HOST}:0"))
        network = Network(tmp_path, central, stack)
        ana = await network.join("ana", {"a.txt": b"a"})
        await first.aclose()
        await eventually(lambda: not ana.session.live)
        for file in (tmp_path / "central").glob("central.db*"):  # the network's keys and members are still there
            file.unlink()
        again = running_central(tmp_path / "central", central.address, enrolment_port=central.enrolment_port)
        await stack.enter_async_context(again)
        await eventually(lambda: ana.session.live)

        async def listed():
            return await files(ana) == ["a.txt"]

        await eventually(listed)


async def test_a_peer_alone_renews_where_a_central_lets_peers_join_that_has_another_port_for_it_now(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        central = await first.enter_async_context(running_central(tmp_path / "central", f"{CENTRAL_HOST}:0"))
        ana = await Network(tmp_path, central, stack).join("ana")
        before = ana.credentials.membership
        await first.aclose()
        restarted = running_central(tmp_path / "central", central.address, enrolment_port=0)
        again = await stack.enter_async_context(restarted)
        assert again.enrolment_port != before.enrolment_port
        await eventually(lambda: ana.credentials.membership.enrolment_port == again.enrolment_port)
        await ana.renewal._renew(ana.credentials.membership)
        assert ana.credentials.membership.certificates != before.certificates
        await ana.credentials.close()
        assert load(tmp_path / "ana" / "home", ana.identity.peer_id) == ana.credentials.membership


async def test_blocks_are_served_while_central_is_gone(tmp_path):
    data = noise(24 * MIB)
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        central = await first.enter_async_context(running_central(tmp_path / "central", f"{CENTRAL_HOST}:0"))
        network = Network(tmp_path, central, stack)
        ana = await network.join("ana", {"a.bin": data})
        ben = await network.join("ben")
        true_block, asked = ana.library.read_run, itertools.count()
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*wanted):
            if next(asked) >= 2:
                started.set()
                await go_on.wait()
            return await true_block(*wanted)

        ana.library.read_run = slow
        running = asyncio.create_task(fetch(ben, "a.bin", tmp_path / "out"))
        await started.wait()
        await first.aclose()
        go_on.set()
        transfer = await running
        assert transfer.state is State.DONE, transfer.error
        assert (tmp_path / "out/a.bin").read_bytes() == data
