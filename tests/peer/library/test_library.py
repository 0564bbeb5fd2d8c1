"""The library offers what is there, under the names and ids that it has, and nothing else."""

import asyncio
import errno
import os
import shutil
import threading
import time
import unicodedata

import pytest

from core.content import MAX_SMALL
from core.errors import AlreadyExists, Busy, Corrupt, InvalidInput, NotFound, NotPossible
from core.manifest import manifest_of
from peer.disk import reflink, rooted
from peer.disk.rooted import Stamp
from peer.library import copies
from peer.library.copies import Finished


def _id(data):
    return manifest_of(data).content_id


async def _bytes_of(library, content_id):
    manifest = await library.manifest(content_id)
    blocks = [await library.read_run(content_id, index) for index in range(manifest.layout.block_count)]
    return b"".join(blocks)


async def test_every_file_is_offered_by_its_path_and_read_by_its_content(library_bench):
    big = os.urandom(3 * 1024 * 1024 + 5)
    for name, data in {"a.txt": b"a", "árbol/ño ñu.txt": b"n", "空の/空.bin": big, "empty": b""}.items():
        library_bench.write(name, data)
    library = await library_bench.open()
    assert {path: file.content_id for path, file in library.files.items()} == {
        "a.txt": _id(b"a"),
        "árbol/ño ñu.txt": _id(b"n"),
        "空の/空.bin": _id(big),
        "empty": _id(b""),
    }
    assert await _bytes_of(library, _id(big)) == big
    assert await _bytes_of(library, _id(b"")) == b""
    assert (await library.manifest(_id(big))).block_digests == manifest_of(big).block_digests
    assert library.unhashed_count == 0
    assert not library.skipped


async def test_mtime_and_executable_bit_are_told_and_a_new_bit_needs_no_hashing(library_bench):
    library_bench.write("run.sh", b"#!/bin/sh\n")
    os.utime(library_bench.shared / "run.sh", ns=(0, 1_500_000_000_250_000_000))
    library = await library_bench.open()
    assert library.files["run.sh"].modify_time == 1_500_000_000.25
    assert not library.files["run.sh"].executable
    (library_bench.shared / "run.sh").chmod(0o755)
    await library_bench.until(library, lambda: library.files["run.sh"].executable)
    assert library_bench.hashed == ["run.sh"]


async def test_a_restart_reads_no_file(library_bench):
    for number in range(50):
        library_bench.write(f"d{number % 3}/f{number}", b"%d" % number)
    first = await library_bench.open()
    before = dict(first.files)
    assert len(library_bench.hashed) == 50
    await library_bench.close(first)
    second = await library_bench.open()
    assert dict(second.files) == before
    assert len(library_bench.hashed) == 50
    assert await _bytes_of(second, before["d0/f0"].content_id) == b"0"


async def test_after_the_first_look_what_was_hashed_before_is_offered(library_bench):
    for number in range(20):
        library_bench.write(f"f{number}", b"%d" % number)
    await library_bench.close(await library_bench.open())
    library_bench.write("new", b"new")
    library = await library_bench.open(scanned=False, rest=60.0)
    await asyncio.wait_for(library.wait_looked(), 20)
    assert set(library.files) == {f"f{number}" for number in range(20)}


async def test_a_look_at_one_file_is_not_the_first_look(library_bench, monkeypatch):
    library_bench.write("a", b"a")
    library_bench.write("b", b"b")
    library = await library_bench.open(scanned=False, rest=60.0)
    library._directory.looked.clear()
    library._directory._first = None
    await library._directory.look({"a"})
    assert not library._directory.looked.is_set()
    assert not library._directory.scanned.is_set()
    await library._directory.look({""})
    assert library._directory.looked.is_set()


async def test_a_file_that_changed_while_nobody_looked_is_hashed_again(library_bench):
    library_bench.write("a", b"old")
    library_bench.write("b", b"b")
    await library_bench.close(await library_bench.open())
    library_bench.write("a", b"newer")
    (library_bench.shared / "b").unlink()
    library = await library_bench.open()
    assert {path: file.content_id for path, file in library.files.items()} == {"a": _id(b"newer")}
    assert library_bench.hashed.count("a") == 2


async def test_new_changed_moved_and_removed_files_are_followed(library_bench):
    library_bench.write("stays", b"stays")
    library = await library_bench.open()
    library_bench.write("new/deep/er", b"1")
    await library_bench.until(library, lambda: "new/deep/er" in library.files)
    library_bench.write("new/deep/er", b"22")
    await library_bench.until(
        library, lambda: "new/deep/er" in library.files and library.files["new/deep/er"].content_id == _id(b"22")
    )
    (library_bench.shared / "new").rename(library_bench.shared / "moved")
    await library_bench.until(library, lambda: set(library.files) == {"stays", "moved/deep/er"})
    (library_bench.shared / "moved").rename(library_bench.base / "outside")
    await library_bench.until(library, lambda: set(library.files) == {"stays"})
    (library_bench.base / "outside").rename(library_bench.shared / "back")
    await library_bench.until(library, lambda: set(library.files) == {"stays", "back/deep/er"})
    (library_bench.shared / "stays").unlink()
    shutil.rmtree(library_bench.shared / "back")
    await library_bench.until(library, lambda: not library.files)
    with pytest.raises(NotFound):
        await library.read_run(_id(b"22"), 0)


async def test_changes_are_told_once_however_many_there_were(library_bench):
    for number in range(20):
        library_bench.write(f"f{number}", b"%d" % number)
    library = await library_bench.open()
    await asyncio.wait_for(library.changed(), 20)
    waiting = asyncio.ensure_future(library.changed())
    await library.rescan()
    assert not waiting.done()
    library_bench.write("another", b"x")
    await asyncio.wait_for(waiting, 20)


async def test_a_file_that_grows_is_offered_when_it_rests_and_only_as_a_whole(library_bench):
    library = await library_bench.open(rest=0.3)
    began = time.monotonic()
    library_bench.clock = lambda: began  # however long the writes take, the file does not rest between them
    data = os.urandom(400_000)
    seen = set()
    with (library_bench.shared / "growing").open("wb", buffering=0) as file:
        for start in range(0, len(data), 50_000):
            file.write(data[start : start + 50_000])
            await library.rescan()
            seen |= {entry.content_id for entry in library.files.values()}
    assert library.unhashed_count == 1
    library_bench.clock = time.monotonic
    await library_bench.until(library, lambda: "growing" in library.files)
    assert seen <= {_id(data)}
    assert library.files["growing"].content_id == _id(data)


async def test_a_file_that_never_rests_does_not_hold_up_the_first_scan(library_bench):
    library_bench.write("busy", b"0")
    library_bench.write("calm", b"calm")
    library = await library_bench.open(scanned=False, rest=0.2)
    finished = asyncio.ensure_future(library.wait_scanned())
    async with asyncio.timeout(20):
        while not finished.done():
            with (library_bench.shared / "busy").open("ab") as file:
                file.write(b"more")
            await library.rescan()
    assert set(library.files) <= {"calm", "busy"}
    assert "calm" in library.files


@pytest.mark.parametrize("name", [b"latin-\xe9", b"back\\slash", b"tab\there", b"esc\x1b[31m", b"new\nline"])
async def test_names_that_cannot_travel_are_skipped_with_a_printable_reason(library_bench, name):
    library_bench.write(name, b"x")
    library_bench.write("good", b"good")
    library = await library_bench.open()
    assert set(library.files) == {"good"}
    ((shown, reason),) = library.skipped.items()
    assert shown.isprintable()
    assert reason.startswith("its name")
    shown.encode()


async def test_hidden_files_are_silent_and_unfinished_ones_are_not(library_bench):
    for name in (
        ".hidden",
        ".git/config",
        ".relevo-123",
        "film.mkv.part",
        "x.crdownload",
        "note~",
        ".~lock.a#",
        "dir.tmp/x",
    ):
        library_bench.write(name, b"x")
    library = await library_bench.open()
    assert not library.files
    assert set(library.skipped) == {"film.mkv.part", "x.crdownload", "note~", "dir.tmp"}


async def test_links_and_special_files_are_never_followed(library_bench):
    canary = library_bench.base / "canary"
    library_bench.write("secret", b"secret", canary)
    (library_bench.shared / "file").symlink_to(canary / "secret")
    (library_bench.shared / "folder").symlink_to(canary)
    (library_bench.shared / "dangling").symlink_to("nowhere")
    os.mkfifo(library_bench.shared / "pipe")
    library = await library_bench.open()
    assert not library.files
    assert set(library.skipped) == {"file", "folder", "dangling", "pipe"}
    library_bench.write("late", b"late", canary)
    library_bench.write("mark", b"mark")
    await library_bench.until(library, lambda: "mark" in library.files)
    assert set(library.files) == {"mark"}
    assert (canary / "secret").read_bytes() == b"secret"


async def test_a_directory_that_is_replaced_by_a_link_gives_nothing_away(library_bench):
    canary = library_bench.base / "canary"
    library_bench.write("f", b"canary!", canary)
    library_bench.write("d/f", b"inside!")
    library = await library_bench.open()
    content_id = library.files["d/f"].content_id
    assert await library.read_run(content_id, 0) == b"inside!"
    (library_bench.shared / "d").rename(library_bench.base / "away")
    (library_bench.shared / "d").symlink_to(canary)
    await library_bench.until(library, lambda: not library.files)
    assert await library.find_local(content_id) is None
    with pytest.raises(NotFound):
        await library.manifest(_id(b"canary!"))


async def test_a_name_in_another_unicode_form_is_offered_in_nfc_and_read_where_it_is(library_bench):
    decomposed = unicodedata.normalize("NFD", "canción/ñandú.txt")
    library_bench.write(decomposed, b"song")
    library = await library_bench.open()
    assert set(library.files) == {"canción/ñandú.txt"}
    assert await library.read_run(_id(b"song"), 0) == b"song"
    located = await library.find_local(_id(b"song"))
    assert located.read_bytes() == b"song"


async def test_of_two_names_that_become_one_the_second_is_skipped_until_the_first_is_gone(library_bench):
    composed, decomposed = "ñ.txt", unicodedata.normalize("NFD", "ñ.txt")
    library_bench.write(decomposed, b"decomposed")
    library_bench.write(composed, b"composed")
    library = await library_bench.open()
    assert library.files["ñ.txt"].content_id == _id(b"composed")
    assert set(library.skipped) == {decomposed}
    (library_bench.shared / composed).unlink()
    await library_bench.until(
        library, lambda: "ñ.txt" in library.files and library.files["ñ.txt"].content_id == _id(b"decomposed")
    )
    assert not library.skipped


async def test_relevoignore_keeps_out_and_lets_in_when_it_changes(library_bench):
    library_bench.write(".relevoignore", b"*.log\nbuild/\n!keep.log\n")
    for name in ("a.log", "keep.log", "build/x", "src/x"):
        library_bench.write(name, name.encode())
    library = await library_bench.open()
    assert set(library.files) == {"keep.log", "src/x"}
    assert not library.skipped
    library_bench.write(".relevoignore", b"src\n")
    await library_bench.until(library, lambda: set(library.files) == {"a.log", "keep.log", "build/x"})
    (library_bench.shared / ".relevoignore").unlink()
    await library_bench.until(library, lambda: len(library.files) == 4)


async def test_a_home_inside_the_shared_directory_is_not_shared(library_bench):
    library_bench.home = library_bench.shared / "home"
    library_bench.home.mkdir()
    library_bench.write("home/key.pem", b"private")
    library_bench.write("homely", b"x")
    library = await library_bench.open()
    await library.rescan()
    assert set(library.files) == {"homely"}
    with pytest.raises(NotPossible):
        await library.share(library_bench.home / "key.pem")


async def test_the_home_itself_cannot_be_shared(library_bench):
    library_bench.shared = library_bench.home
    with pytest.raises(NotPossible, match="home"):
        await library_bench.open()


async def test_a_shared_directory_that_goes_away_is_withdrawn_and_comes_back_unread(library_bench):
    library_bench.write("d/a", b"a")
    library = await library_bench.open()
    library_bench.shared.rename(library_bench.base / "unmounted")
    await library_bench.until(library, lambda: not library.files)
    assert "." in library.skipped
    (library_bench.base / "unmounted").rename(library_bench.shared)
    await library_bench.until(library, lambda: "d/a" in library.files)
    assert library_bench.hashed == ["d/a"]
    library_bench.write("later", b"later")
    await library_bench.until(library, lambda: "later" in library.files)


async def test_a_shared_directory_that_is_missing_at_the_start_is_waited_for(library_bench):
    library_bench.shared.rmdir()
    library = await library_bench.open()
    assert not library.files
    library_bench.write("a", b"a")
    await library_bench.until(library, lambda: "a" in library.files)


async def test_a_name_that_breaks_the_watcher_does_not_stop_the_library(library_bench):
    library = await library_bench.open()
    library_bench.write(b"\xff\xfe", b"x")
    library_bench.write("good", b"good")
    await library_bench.until(library, lambda: "good" in library.files)
    await library_bench.until_skipped(library, "\\udcff\\udcfe")
    library_bench.write("after", b"after")
    await library_bench.until(library, lambda: "after" in library.files)


async def test_a_changed_file_is_not_served_but_withdrawn_and_hashed_again(library_bench):
    library_bench.write("f", b"before")
    library = await library_bench.open()
    await library_bench.close(library)
    library = await library_bench.open(tick=30, rescan=1000)
    library._directory._watch.stop()
    (library_bench.shared / "f").write_bytes(b"after!")
    with pytest.raises(Corrupt):
        await library.read_run(_id(b"before"), 0)
    with pytest.raises(NotFound):
        await library.read_run(_id(b"before"), 0)
    await library_bench.until(library, lambda: "f" in library.files)
    assert library.files["f"].content_id == _id(b"after!")


async def test_a_change_that_puts_size_and_mtime_back_is_noticed_when_the_file_is_next_opened(library_bench):
    library_bench.write("f", b"before")
    library = await library_bench.open(tick=30, rescan=1000)
    library._directory._watch.stop()
    status = (library_bench.shared / "f").stat()
    (library_bench.shared / "f").write_bytes(b"after!")
    os.utime(library_bench.shared / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Corrupt):
        await library.read_run(_id(b"before"), 0)
    await library_bench.until(library, lambda: "f" in library.files)
    assert library.files["f"].content_id == _id(b"after!")


async def test_one_content_at_several_places_is_read_from_whichever_is_left(library_bench):
    data = os.urandom(200_000)
    for name in ("one", "two", "three"):
        library_bench.write(name, data)
    library = await library_bench.open(tick=30, rescan=1000)
    library._directory._watch.stop()
    block = await library.read_run(_id(data), 1)
    (library_bench.shared / "one").write_bytes(b"changed")
    (library_bench.shared / "two").unlink()
    (library_bench.shared / "three").touch()
    (library_bench.shared / "four").write_bytes(data)
    await library.add_fetched(library_bench.shared / "four", "elsewhere/ignored", manifest_of(data))
    assert await library.read_run(_id(data), 1) == block == data[65536:131072]
    assert await library.find_local(_id(data)) == library_bench.shared / "four"
    with pytest.raises(IndexError):
        await library.read_run(_id(data), 4)


async def test_small_files_are_read_whole_and_what_cannot_be_is_told_apart(library_bench):
    large = bytes(MAX_SMALL + 1)
    for name, data in {"a": b"a", "b": b"b" * 600, "empty": b"", "large": large}.items():
        library_bench.write(name, data)
    library = await library_bench.open()
    asked = [_id(b"a"), _id(b"not here"), _id(large), _id(b""), _id(b"b" * 600)]
    read = await library.read_small(asked, 1000)
    assert [read[0], read[3], read[4]] == [b"a", b"", b"b" * 600]
    assert [type(read[1]), type(read[2])] == [NotFound, NotPossible]
    assert len(await library.read_small(asked, 600)) == 4, "with one more it would be too much"
    assert await library.read_small(asked[::-1], 1) == [b"b" * 600], "the first is read whatever there is room for"


async def test_a_small_file_that_changed_is_withdrawn_and_read_where_else_it_is(library_bench):
    library_bench.write("one", b"same")
    library_bench.write("two", b"same")
    library_bench.write("alone", b"mine")
    library_bench.write("grown", b"log")
    library = await library_bench.open()
    stamp = (library_bench.shared / "one").stat()
    (library_bench.shared / "one").write_bytes(b"diff")
    os.utime(library_bench.shared / "one", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (library_bench.shared / "alone").write_bytes(b"other")
    with (library_bench.shared / "grown").open("ab") as log:
        log.write(b" and more")
    read = await library.read_small([_id(b"mine"), _id(b"same"), _id(b"mine"), _id(b"log")], 1000)
    assert read[1] == b"same"
    assert {type(read[at]) for at in (0, 2, 3)} == {NotFound}
    await library_bench.until(library, lambda: library.files.get("one") and library.files["one"].size == 4)
    await library_bench.until(library, lambda: _id(b"diff") in {file.content_id for file in library.files.values()})


@pytest.mark.parametrize("scopes", [{"one"}, {"", "one"}], ids=["the file", "everything"])
async def test_a_file_that_changed_and_looks_as_before_is_hashed_again_whatever_is_looked_at_next(
    library_bench, scopes
):
    library_bench.write("one", b"same")
    library = await library_bench.open()
    directory = library._directory
    await directory.close()  # so that nobody else looks
    place = library._holdings.place(_id(b"same"))
    await directory.doubt(place, changed=True)
    await directory.look(scopes)
    assert "one" not in library.files
    assert directory.unhashed_count == 1


async def test_running_out_of_descriptors_withdraws_no_small_file(library_bench, monkeypatch):
    library_bench.write("a", b"a")
    library = await library_bench.open()

    def none_left(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(rooted, "open_file", none_left)
    with pytest.raises(Busy):
        await library.read_small([_id(b"a")], 10)
    monkeypatch.undo()
    assert await library.read_small([_id(b"a")], 10) == [b"a"]


async def test_a_file_that_vanished_cannot_be_read_once_its_descriptor_is_closed(library_bench):
    library_bench.write("f", b"f")
    library = await library_bench.open(tick=30, rescan=1000)
    library._directory._watch.stop()
    (library_bench.shared / "f").unlink()
    with pytest.raises(Corrupt):
        await library.read_run(_id(b"f"), 0)
    assert not library.files


async def test_a_download_in_the_shared_directory_is_offered_without_hashing(library_bench):
    library = await library_bench.open()
    data = os.urandom(100_000)
    library_bench.write("in/here.bin", data)
    await library.add_fetched(library_bench.shared / "in" / "here.bin", "there.bin", manifest_of(data))
    assert library.files["in/here.bin"].content_id == _id(data)
    assert await _bytes_of(library, _id(data)) == data
    await library.rescan()
    await library_bench.close(library)
    again = await library_bench.open()
    assert set(again.files) == {"in/here.bin"}
    assert library_bench.hashed == []


async def test_many_downloads_are_offered_in_one_go_wherever_they_are_and_what_is_gone_is_left_out(
    library_bench, monkeypatch
):
    library = await library_bench.open()
    finished = []
    for number in range(30):
        data = b"%d" % number
        location = (library_bench.shared if number % 2 else library_bench.base / "out") / f"d{number % 3}" / str(number)
        location.parent.mkdir(parents=True, exist_ok=True)
        location.write_bytes(data)
        finished.append(Finished(location, f"team/{number}", manifest_of(data)))
    finished[4].location.unlink()
    finished[6].location.write_bytes(b"changed since")
    commits = []
    transaction = library._index._transaction
    monkeypatch.setattr(library._index, "_transaction", lambda **how: commits.append(how) or transaction(**how))
    await library.add_all_fetched(finished)
    assert len(commits) == 2, "one for those in the shared directory, one for the others"
    expected = {f"d{number % 3}/{number}": number for number in range(1, 30, 2)}
    expected |= {f"team/{number}": number for number in range(0, 30, 2) if number not in {4, 6}}
    assert {path: file.content_id for path, file in library.files.items()} == {
        path: _id(b"%d" % number) for path, number in expected.items()
    }
    assert library_bench.hashed == []
    commits.clear()
    await library.add_all_fetched([one for one in finished[::2] if one.location.exists()][3:])
    assert commits == [], "what is offered already costs nothing"
    await library_bench.close(library)
    again = await library_bench.open()
    assert again.files.keys() == expected.keys()
    assert library_bench.hashed == []


async def test_a_download_elsewhere_is_offered_until_it_is_changed(library_bench):
    library = await library_bench.open()
    data = b"elsewhere"
    library_bench.write("got.bin", data, library_bench.base / "downloads")
    location = library_bench.base / "downloads" / "got.bin"
    await library.add_fetched(location, "team/got.bin", manifest_of(data))
    assert library.files["team/got.bin"].content_id == _id(data)
    assert await library.find_local(_id(data)) == location
    await library_bench.close(library)

    library = await library_bench.open()
    assert await library.read_run(_id(data), 0) == data
    location.rename(location.with_name("moved"))
    await library.rescan()
    assert not library.files
    location.with_name("moved").rename(location)
    await library_bench.close(library)
    assert not (await library_bench.open()).files


async def test_all_downloads_elsewhere_are_looked_at_in_one_trip_to_a_thread(library_bench, monkeypatch):
    monkeypatch.setattr("peer.library.library._CHECK_SECONDS", 3600.0)  # so that nobody else looks
    library = await library_bench.open()
    for number in range(3):
        library_bench.write(f"got {number}", bytes([number]), root=library_bench.base)
        await library.add_fetched(library_bench.base / f"got {number}", f"got {number}", manifest_of(bytes([number])))
    trips = []

    async def counted(function, *arguments):
        trips.append(function.__module__)
        return function(*arguments)

    monkeypatch.setattr("peer.library.copies.asyncio.to_thread", counted)
    await library._copies.check_fetched()
    monkeypatch.undo()
    assert len([module for module in trips if module in {"peer.library.copies", "peer.disk.rooted"}]) == 1
    assert len(library.files) == 3


async def test_a_download_elsewhere_that_was_changed_is_withdrawn_for_good(library_bench):
    library = await library_bench.open()
    library_bench.write("got", b"as fetched", library_bench.base)
    await library.add_fetched(library_bench.base / "got", "got", manifest_of(b"as fetched"))
    assert set(library.files) == {"got"}
    library_bench.write("got", b"edited", library_bench.base)
    await library.rescan()
    assert not library.files
    await library_bench.close(library)
    assert not (await library_bench.open()).files


async def test_a_download_on_a_disk_that_is_away_is_offered_again_when_it_is_back(library_bench):
    library = await library_bench.open()
    disk = library_bench.base / "disk"
    library_bench.write("got", b"got", disk)
    await library.add_fetched(disk / "got", "got", manifest_of(b"got"))
    disk.rename(library_bench.base / "away")
    await library.rescan()
    assert not library.files
    (library_bench.base / "away").rename(disk)
    await library.rescan()
    assert set(library.files) == {"got"}


async def test_a_download_elsewhere_stands_back_behind_another_file_of_its_path(library_bench):
    library_bench.write("name", b"shared")
    library = await library_bench.open()
    library_bench.write("got", b"fetched", library_bench.base / "downloads")
    location = library_bench.base / "downloads" / "got"
    await library.add_fetched(location, "name", manifest_of(b"fetched"))
    assert library.files["name"].content_id == _id(b"shared")
    assert "name" in library.skipped[str(location)]
    assert await library.read_run(_id(b"fetched"), 0) == b"fetched"
    (library_bench.shared / "name").unlink()
    await library_bench.until(library, lambda: library.files["name"].content_id == _id(b"fetched"))
    assert not library.skipped


async def test_a_download_that_is_not_as_it_is_said_to_be_is_refused(library_bench):
    library = await library_bench.open()
    library_bench.write("short", b"short", library_bench.base / "downloads")
    location = library_bench.base / "downloads" / "short"
    with pytest.raises(Corrupt):
        await library.add_fetched(location, "short", manifest_of(b"longer than that"))
    with pytest.raises(NotFound):
        await library.add_fetched(location.with_name("absent"), "short", manifest_of(b"short"))
    with pytest.raises(InvalidInput):
        await library.add_fetched(location, "../short", manifest_of(b"short"))
    assert not library.files


def _store(library, data):
    path = library.store_path(_id(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def test_a_stored_copy_is_kept_across_restarts_and_not_published_by_name(library_bench):
    library = await library_bench.open()
    data = os.urandom(100_000)
    _store(library, data)
    await library.add_stored(manifest_of(data))
    assert library.stored == {_id(data): len(data)}
    assert not library.files
    await library_bench.close(library)
    library = await library_bench.open()
    assert library.stored == {_id(data): len(data)}
    assert await _bytes_of(library, _id(data)) == data
    assert library_bench.hashed == []
    await library.drop_stored(_id(data))
    await library.drop_stored(_id(data))
    assert not library.store_path(_id(data)).exists()
    assert not library.stored
    with pytest.raises(NotFound):
        await library.read_run(_id(data), 0)
    await library_bench.close(library)
    assert not (await library_bench.open()).stored


async def test_stored_copies_are_found_again_without_an_index_and_damaged_ones_removed(library_bench, caplog):
    library = await library_bench.open()
    for data in (b"good", b"damaged"):
        _store(library, data)
        await library.add_stored(manifest_of(data))
    damaged = library.store_path(_id(b"damaged"))
    unfinished = damaged.with_name(damaged.name + ".part")
    await library_bench.close(library)
    (library_bench.home / "index.db").write_bytes(b"this is no database, whatever it is called" * 100)
    damaged.write_bytes(b"rotten")
    unfinished.write_bytes(b"unfinished")
    library = await library_bench.open()
    await library_bench.until(library, lambda: library.stored == {_id(b"good"): 4})
    await library_bench.close(library)
    assert not damaged.exists()
    assert unfinished.exists()
    assert "set aside" in caplog.text
    assert (library_bench.home / "index.db.damaged").exists()


async def test_a_stored_copy_that_rots_is_withdrawn_and_removed(library_bench):
    library = await library_bench.open()
    _store(library, b"sound")
    await library.add_stored(manifest_of(b"sound"))
    await asyncio.wait_for(library.changed(), 20)
    library.store_path(_id(b"sound")).write_bytes(b"wrong")
    with pytest.raises(Corrupt):
        await library.read_run(_id(b"sound"), 0)
    assert not library.stored


async def test_a_stored_copy_that_is_not_there_is_not_acknowledged(library_bench):
    library = await library_bench.open()
    with pytest.raises(NotFound):
        await library.add_stored(manifest_of(b"never fetched"))
    _store(library, b"short")
    library.store_path(_id(b"short")).write_bytes(b"sho")
    with pytest.raises(Corrupt):
        await library.add_stored(manifest_of(b"short"))
    assert not library.stored


async def test_sharing_a_file_inside_offers_it_at_once(library_bench):
    library = await library_bench.open(rest=30)
    library_bench.write("d/f", b"inside")
    file = await library.share(library_bench.shared / "d" / "f")
    assert (file.path, file.content_id, file.size) == ("d/f", _id(b"inside"), 6)
    assert library.files["d/f"] == file
    assert await library.share(library_bench.shared / "d" / "f") == file
    assert library_bench.hashed == ["d/f"]


async def test_sharing_a_file_outside_copies_it_in_with_mtime_and_executable_bit(library_bench):
    library = await library_bench.open()
    data = os.urandom(2_000_000)
    library_bench.write("año 空.sh", data, library_bench.base / "elsewhere")
    source = library_bench.base / "elsewhere" / "año 空.sh"
    source.chmod(0o750)
    os.utime(source, (1_500_000_000, 1_500_000_000))
    file = await library.share(source)
    assert (file.path, file.content_id, file.modify_time) == ("año 空.sh", _id(data), 1_500_000_000)
    assert file.executable
    assert library.files["año 空.sh"] == file
    assert (library_bench.shared / "año 空.sh").read_bytes() == data
    assert await library.share(source) == file
    assert [path.name for path in library_bench.shared.iterdir()] == ["año 空.sh"]


async def test_sharing_never_replaces_another_file_and_copies_nothing_in_vain(library_bench, monkeypatch):
    monkeypatch.setattr(reflink, "copy_file", lambda *_args: pytest.fail("there was no need to copy"))
    library_bench.write("same-size", b"aaaa")
    library_bench.write("other-size", b"aaaa")
    library_bench.write("folder/x", b"x")
    (library_bench.shared / "link").symlink_to("nowhere")
    library = await library_bench.open()
    for name in ("same-size", "other-size", "folder", "link"):
        data = b"bb" if name == "other-size" else b"bbbb"
        library_bench.write(name, data, library_bench.base / "elsewhere")
        with pytest.raises(AlreadyExists):
            await library.share(library_bench.base / "elsewhere" / name)
    assert (library_bench.shared / "same-size").read_bytes() == b"aaaa"
    assert (library_bench.shared / "other-size").read_bytes() == b"aaaa"
    assert not list(library_bench.shared.glob(".relevo*"))


async def test_what_cannot_be_shared_is_refused_with_a_reason(library_bench):
    library_bench.write(".relevoignore", b"*.log\n")
    library = await library_bench.open()
    elsewhere = library_bench.base / "elsewhere"
    for name in (".hidden", "x.part", "y.log", "back\\slash"):
        library_bench.write(name, b"x", elsewhere)
        library_bench.write(name, b"x")
        for directory in (elsewhere, library_bench.shared):
            with pytest.raises(NotPossible, match="cannot be shared"):
                await library.share(directory / name)
    (elsewhere / "link").symlink_to(elsewhere / "y.log")
    for path in (elsewhere, elsewhere / "link"):
        with pytest.raises(NotPossible):
            await library.share(path)
    with pytest.raises(NotFound):
        await library.share(elsewhere / "absent")
    assert not library.files


async def test_what_a_crash_left_of_a_put_is_removed_at_the_next_start(library_bench):
    library = await library_bench.open()
    name = library._putter._prefix + "0011223344556677"
    await library_bench.close(library)
    library_bench.write(name, b"half")
    library_bench.write(".relevo-put-of-another-peer", b"half")
    await library_bench.open()
    assert [path.name for path in library_bench.shared.iterdir()] == [".relevo-put-of-another-peer"]


async def test_a_put_that_is_cancelled_leaves_nothing_behind(library_bench, monkeypatch):
    library = await library_bench.open()
    library_bench.write("big", bytes(64 << 20), library_bench.base / "elsewhere")
    started, asked = threading.Event(), threading.Event()

    def slow_copy(source, target, size, stopped):
        started.set()
        while not stopped():
            asked.wait(0.01)
        return 0

    monkeypatch.setattr(reflink, "copy_file", slow_copy)
    putting = asyncio.ensure_future(library.share(library_bench.base / "elsewhere" / "big"))
    await asyncio.to_thread(started.wait, 20)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    async with asyncio.timeout(20):
        while list(library_bench.shared.iterdir()):
            await library.rescan()
    assert not library.files


async def test_running_out_of_descriptors_withdraws_nothing(library_bench, monkeypatch):
    library_bench.write("f", b"f")
    library = await library_bench.open()

    def no_more(*_args):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(library._reader, "read", no_more)
        with pytest.raises(Busy):
            await library.read_run(_id(b"f"), 0)
    assert await library.read_run(_id(b"f"), 0) == b"f"


async def test_a_disk_that_is_full_for_the_index_is_named_and_the_file_comes_later(library_bench):
    library = await library_bench.open()
    database = library._index._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    library_bench.write("big", os.urandom(8 << 20))
    await library_bench.until_skipped(library, "big")
    assert "disk full" in library.skipped["big"]
    assert not library.files
    database.execute("PRAGMA max_page_count = 1000000")
    async with asyncio.timeout(20):
        while "big" not in library.files:
            await library.rescan()
    assert not library.skipped


async def test_closing_does_not_wait_for_what_is_left_to_hash(library_bench):
    for number in range(500):
        library_bench.write(f"f{number}", os.urandom(1000))
    library = await library_bench.open(scanned=False, rest=0)
    async with asyncio.timeout(20):
        await library.changed()
        await library_bench.close(library)
    assert library_bench.hashed


async def test_ten_thousand_files_in_one_directory_are_offered_and_remembered(library_bench):
    for number in range(10_000):
        library_bench.write(f"f{number}", b"%d" % number)
    library = await library_bench.open()
    assert len(library.files) == 10_000
    await library_bench.close(library)
    library = await library_bench.open()
    assert len(library.files) == len(library_bench.hashed) == 10_000


async def test_what_is_offered_at_a_location_is_told_with_how_it_looks(library_bench):
    library_bench.write("in/ñ", b"in")
    out = library_bench.base / "out"
    out.write_bytes(b"out")
    library = await library_bench.open()
    await library.add_fetched(out, "out", manifest_of(b"out"))
    inside = library_bench.shared / "in" / "ñ"
    assert library.offered(inside) == (Stamp.of(inside.stat()), _id(b"in"))
    assert library.offered(out) == (Stamp.of(out.stat()), _id(b"out"))
    assert library.offered(library_bench.base / "other") is None
    assert library.offered(library_bench.shared / "other") is None


async def test_thousands_of_downloads_elsewhere_are_looked_at_in_lots(library_bench, monkeypatch):
    monkeypatch.setattr(copies, "_LOOK_AT", 3)
    monkeypatch.setattr("peer.library.library._CHECK_SECONDS", 3600.0)  # so that nobody else looks
    library = await library_bench.open()
    finished = []
    for number in range(8):
        location = library_bench.base / f"got {number}"
        location.write_bytes(bytes([number]))
        finished.append(Finished(location, f"got {number}", manifest_of(bytes([number]))))
    await library.add_all_fetched(finished)
    lots = []
    looks = copies._looks
    monkeypatch.setattr(copies, "_looks", lambda some: lots.append(len(some)) or looks(some))
    finished[0].location.unlink()
    finished[5].location.write_bytes(b"changed")
    await library.rescan()
    assert lots[:3] == [3, 3, 2]
    assert library.files.keys() == {f"got {number}" for number in (1, 2, 3, 4, 6, 7)}
