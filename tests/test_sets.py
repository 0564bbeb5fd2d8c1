"""Whole sets of files between daemons: large and small, at many peers, under several names, over what stands there."""

import asyncio
import contextlib
import os
from collections import Counter

import pytest

from central.server import running_central
from core.errors import AlreadyExists, NotFound
from core.manifest import manifest_of
from peer.sets import set_download, set_listing, small_files
from peer.work.transfers import State
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.peer_control_pb2 import FileSelection, StartSetDownloadRequest
from tests.network import Network, eventually, noise


@pytest.fixture
async def network(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central"))
        yield Network(tmp_path, central, stack)


def asked(to, *names):
    to.mkdir(parents=True, exist_ok=True)
    selections = [
        FileSelection(beneath=name[:-1]) if name.endswith("/") else FileSelection(pattern=name) for name in names
    ]
    return StartSetDownloadRequest(selections=selections, directory=str(to))


async def fetch(peer, to, *names):
    transfer = peer.sets.start(asked(to, *names))
    await asyncio.wait_for(asyncio.shield(transfer.ended), 60)
    return transfer


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def problems(transfer):
    return {problem.path: type(problem.error) for problem in transfer.progress.problems}


async def test_a_directory_comes_whole_from_all_who_have_parts_of_it_and_keeps_its_tree(network, tmp_path):
    ana = {f"team/photos/{number % 7}/{number}.txt": b"%d" % number for number in range(300)}
    ana["team/photos/film.mov"] = noise(3_000_000)
    ben = {"team/photos/ñ/空.jpg": noise(70_000, 2), "team/photos/empty": b"", "team/photos/middle": noise(300_000, 3)}
    cho = {"team/photos/again/1.txt": b"1", "team/other": b"no", "photos/other": b"no", "Team/photos/other": b"no"}
    await network.join("ana", ana)
    await network.join("ben", ben)
    await network.join("cho", cho)
    dee = await network.join("dee")
    script = network.base / "ana" / "shared" / "team/photos/0/0.txt"
    script.chmod(0o755)
    os.utime(script, ns=(0, 1_500_000_000_250_000_000))
    await eventually(lambda: listed_executable(dee, "team/photos/0/0.txt"))
    transfer = await fetch(dee, tmp_path / "to", "team/photos/")
    assert transfer.state is State.DONE, transfer.progress.problems
    everything = {**ana, **ben, "team/photos/again/1.txt": b"1"}
    assert tree(tmp_path / "to") == {path.removeprefix("team/"): data for path, data in everything.items()}
    assert (tmp_path / "to/photos/0/0.txt").stat().st_mtime_ns == 1_500_000_000_250_000_000
    assert os.access(tmp_path / "to/photos/0/0.txt", os.X_OK)
    progress = transfer.progress
    assert (progress.found, progress.done, progress.failed) == (305, 305, 0)
    assert progress.done_bytes == progress.size == sum(map(len, everything.values()))
    given = {source.contact.name: source.bytes for source in progress.sources.values()}
    assert sum(given.values()) + progress.copied_bytes == progress.size
    assert min(given["ana"], given["ben"]) > 0
    await eventually(lambda: set(everything) <= set(dee.library.files))
    for file in list(dee.library.files.values())[:5]:
        assert dee.library.files[file.path].content_id == manifest_of(everything[file.path]).content_id


async def test_what_is_being_offered_when_a_set_ends_is_offered_all_the_same(network, tmp_path, monkeypatch):
    monkeypatch.setattr(set_download, "OFFER_SECONDS", 0.001)
    files = {f"d/{number}": noise(2000, number) for number in range(300)}
    await network.join("ana", files)
    ben = await network.join("ben")
    offer, cut_off = ben.library.add_all_fetched, []

    async def never_ends(finished):
        if not finished or cut_off:
            return await offer(finished)
        cut_off.extend(finished)
        return await asyncio.Event().wait()

    monkeypatch.setattr(ben.library, "add_all_fetched", never_ends)
    transfer = await fetch(ben, tmp_path / "to", "d/")
    assert transfer.state is State.DONE
    assert cut_off
    assert set(files) <= set(ben.library.files)


async def listed_executable(peer, path):
    response, _ = await peer.routes.list_files(pb2.ListFilesRequest(reference=path))
    return response.files and response.files[0].executable


async def test_the_same_again_fetches_nothing_and_what_is_on_this_machine_is_copied(network, tmp_path):
    files = {f"d/{number}": noise(2000, number) for number in range(40)} | {"d/large": noise(2_000_000, 99)}
    await network.join("ana", files)
    ben = await network.join("ben")
    first = await fetch(ben, tmp_path / "to", "d/")
    assert first.state is State.DONE
    again = await fetch(ben, tmp_path / "to", "d/")
    assert again.state is State.DONE
    assert again.progress.present_files == 41
    assert again.received_bytes == again.progress.copied_bytes == 0
    assert again.progress.done_bytes == again.progress.size
    elsewhere = await fetch(ben, tmp_path / "elsewhere", "d/")
    assert elsewhere.state is State.DONE
    assert elsewhere.received_bytes == 0
    assert elsewhere.progress.copied_bytes == elsewhere.progress.size
    assert tree(tmp_path / "elsewhere") == tree(tmp_path / "to") == files


async def test_what_the_library_has_seen_to_is_not_read_again_and_what_has_changed_since_is(
    network, tmp_path, monkeypatch
):
    files = {f"d/{number}": noise(2000, number) for number in range(40)}
    await network.join("ana", files)
    ben = await network.join("ben")
    (tmp_path / "link").symlink_to(tmp_path / "to")
    (tmp_path / "to").mkdir()
    assert (await fetch(ben, tmp_path / "link", "d/")).state is State.DONE
    read = []
    existing = set_download.existing_manifest
    monkeypatch.setattr(set_download, "existing_manifest", lambda *args: read.append(args[1]) or existing(*args))
    assert (await fetch(ben, tmp_path / "link", "d/")).progress.present_files == 40
    assert read == []
    (tmp_path / "to/d/7").write_bytes(noise(2000, 99))
    again = await fetch(ben, tmp_path / "to", "d/")
    assert problems(again) == {"d/7": AlreadyExists}
    assert "d/7" in read
    assert again.progress.present_files == 39


async def test_who_holds_large_files_is_looked_up_for_many_in_one_call(network, tmp_path):
    files = {f"d/{number}": noise(300_000, number) for number in range(30)}
    await network.join("ana", files)
    ben = await network.join("ben")
    one, many, asked = ben.routes.locate_file, ben.routes.locate_files, Counter()

    def counted(name, call):
        async def counts(*request, **how):
            asked[name] += 1
            return await call(*request, **how)

        return counts

    ben.routes.locate_file, ben.routes.locate_files = counted("one", one), counted("many", many)
    transfer = await fetch(ben, tmp_path / "to", "d/")
    assert transfer.state is State.DONE
    assert tree(tmp_path / "to") == files
    assert asked["many"] < 5
    assert asked["one"] < 30, "only for those that take longer than others may need to begin"


async def test_a_pattern_keeps_the_tree_below_what_it_begins_with(network, tmp_path):
    await network.join("ana", {"a/x.mov": b"1", "a/b/y.mov": b"2", "a/b/y.txt": b"3", "z.MOV": b"4"})
    ben = await network.join("ben")
    assert (await fetch(ben, tmp_path / "all", "*.mov")).state is State.DONE
    assert tree(tmp_path / "all") == {"a/x.mov": b"1", "a/b/y.mov": b"2", "z.MOV": b"4"}
    assert (await fetch(ben, tmp_path / "some", "a/**", "*.txt")).state is State.DONE
    assert tree(tmp_path / "some") == {"x.mov": b"1", "b/y.mov": b"2", "b/y.txt": b"3", "a/b/y.txt": b"3"}


async def test_two_contents_at_one_path_are_told_apart_and_the_rest_comes(network, tmp_path):
    await network.join("ana", {"d/same": b"one", "d/a": b"a"})
    await network.join("ben", {"d/same": b"another", "d/b": b"b"})
    cho = await network.join("cho")
    transfer = await fetch(cho, tmp_path / "to", "d/")
    assert transfer.state is State.FAILED
    assert isinstance(transfer.error, AlreadyExists)
    assert tree(tmp_path / "to") == {"d/a": b"a", "d/b": b"b"}
    message = str(transfer.error)
    assert "d/same is the name of 2 different files" in message
    for data in (b"one", b"another"):
        assert f"{manifest_of(data).content_id.hex()[:12]} ({len(data)} bytes, held by 1)" in message


async def test_what_stands_in_the_way_stays_and_the_rest_comes(network, tmp_path):
    files = {f"d/{name}": noise(size) for name, size in (("small", 4), ("large", 400_000), ("sub/x", 5), ("ok", 7))}
    await network.join("ana", files)
    ben = await network.join("ben")
    for name in ("small", "large", "sub"):
        (tmp_path / "to/d").mkdir(parents=True, exist_ok=True)
        (tmp_path / "to/d" / name).write_bytes(b"mine")
    transfer = await fetch(ben, tmp_path / "to", "d/")
    assert transfer.state is State.FAILED
    assert problems(transfer).keys() == {"d/small", "d/large", "d/sub/x"}
    assert "3 are missing" in str(transfer.error)
    assert tree(tmp_path / "to/d") == {"small": b"mine", "large": b"mine", "sub": b"mine", "ok": files["d/ok"]}


async def test_names_never_lead_out_of_the_directory_that_the_user_named(network, tmp_path):
    await network.join("ana", {"d/link/small": b"x", "d/link/large": noise(400_000), "d/ok": b"ok"})
    ben = await network.join("ben")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "to/d").mkdir(parents=True)
    (tmp_path / "to/d/link").symlink_to(outside)
    transfer = await fetch(ben, tmp_path / "to", "d/")
    assert problems(transfer).keys() == {"d/link/small", "d/link/large"}
    assert not list(outside.iterdir())
    assert (tmp_path / "to/d/ok").read_bytes() == b"ok"


async def test_nothing_found_is_said_for_each_selection_and_the_rest_comes(network, tmp_path):
    await network.join("ana", {"d/a": b"a"})
    ben = await network.join("ben")
    transfer = await fetch(ben, tmp_path / "to", "d/", "nothing/", "*.none")
    assert isinstance(transfer.error, NotFound)
    assert problems(transfer) == {"nothing/": NotFound, "*.none": NotFound}
    assert tree(tmp_path / "to") == {"d/a": b"a"}


async def test_the_same_set_twice_is_one_transfer_and_one_that_is_paused_goes_on(network, tmp_path, monkeypatch):
    files = {f"d/{number}": noise(3000, number) for number in range(600)}
    await network.join("ana", files)
    ben = await network.join("ben")
    writing, go_on = asyncio.Event(), asyncio.Event()
    loop, write = asyncio.get_running_loop(), small_files.write_small

    def held_up(root, batch):
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        return write(root, batch)

    monkeypatch.setattr("peer.sets.set_download.write_small", held_up)
    transfer = ben.sets.start(asked(tmp_path / "to", "d/"))
    assert ben.sets.start(asked(tmp_path / "to", "d/")) is transfer
    await asyncio.wait_for(writing.wait(), 20)
    pausing = asyncio.ensure_future(ben.transfers.pause(transfer.transfer_id))
    await asyncio.sleep(0)
    go_on.set()
    await pausing
    assert transfer.state is State.PAUSED
    there = tree(tmp_path / "to")
    assert 0 < len(there) < 600, "the batch that was being written is whole"
    assert all(files[path] == data for path, data in there.items())
    await ben.transfers.resume(transfer.transfer_id)
    await asyncio.wait_for(asyncio.shield(transfer.ended), 30)
    assert transfer.state is State.DONE
    assert transfer.progress.present_files == len(there)
    assert tree(tmp_path / "to") == files


async def test_a_set_goes_on_when_a_holder_dies_and_another_has_the_same(network, tmp_path, monkeypatch):
    files = {f"d/{number}": noise(3000, number) for number in range(500)}
    ana = await network.join("ana", files)
    await network.join("ben", files)
    cho = await network.join("cho")
    loop, write, dead = asyncio.get_running_loop(), small_files.write_small, []

    def after_a_death(root, batch):
        if not dead:
            dead.append(asyncio.run_coroutine_threadsafe(network.die(ana), loop).result(20))
        return write(root, batch)

    monkeypatch.setattr("peer.sets.set_download.write_small", after_a_death)
    transfer = await fetch(cho, tmp_path / "to", "d/")
    assert transfer.state is State.DONE, transfer.progress.problems[:3]
    assert tree(tmp_path / "to") == files


async def test_a_file_whose_size_was_told_wrong_comes_all_the_same(network, tmp_path, monkeypatch):
    files = {"d/small": noise(900), "d/smaller": noise(90), "d/large": noise(700_000)}
    ana = await network.join("ana", files)
    ben = await network.join("ben")
    sizes = {"d/small": 400_000, "d/smaller": 9, "d/large": 12}
    told = set_listing._one_of

    def lied(group, selection):
        group[0].size_bytes = sizes[group[0].path]
        return told(group, selection)

    monkeypatch.setattr(set_listing, "_one_of", lied)
    transfer = await fetch(ben, tmp_path / "to", "d/")
    assert transfer.state is State.DONE, transfer.progress.problems
    assert tree(tmp_path / "to") == files
    assert transfer.progress.size == transfer.progress.done_bytes == 700_990
    assert ana.library.files.keys() == files.keys()
