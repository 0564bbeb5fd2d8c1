"""Two names that one file system takes for the same are refused, not merged, and nothing is overwritten.

On real file systems that fold names: tmpfs where the kernel can (Linux 6.13 with CONFIG_UNICODE), and a small one of
our own over /dev/fuse, which differs from tmpfs in that it can also list other forms and lack hard links.
"""

import asyncio
import ctypes
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from core.content import Layout
from core.errors import AlreadyExists
from core.manifest import manifest_of
from peer.disk import rooted
from peer.disk.listed import as_listed, listed_name, listed_path
from peer.fetching.partial import Partial
from peer.fetching.targets import existing_manifest
from peer.library import Library, LibrarySettings

_SERVER = Path(__file__).with_name("folding_fs.py")
_DETACH = 2
_CASEFOLD_FLAG, _GET_FLAGS, _SET_FLAGS = 0x40000000, 0x80086601, 0x40086602


def names_in(directory):
    return [path.name for path in directory.iterdir()]


def _libc():
    return ctypes.CDLL(None, use_errno=True)


def _unmount(directory):
    _libc().umount2(os.fsencode(directory), _DETACH)


def _need_root():
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root on Linux may mount a file system that folds names")


@pytest.fixture(params=["fuse", "fuse nfd", "fuse nolinks"])
def folding(request, tmp_path):
    """A directory in which `Foo` leads to `foo`."""
    _need_root()
    if not Path("/dev/fuse").exists():
        pytest.skip("/dev/fuse is missing")
    directory = tmp_path / "mounted"
    directory.mkdir()
    command = [sys.executable, str(_SERVER), str(directory), *request.param.split()[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        if server.stdout.readline() != "ready\n":
            pytest.skip(f"FUSE cannot be mounted here: {server.stderr.read().strip()}")
        yield directory
        _unmount(directory)
        server.kill()


@pytest.fixture
def folding_tmpfs(tmp_path):
    """A directory of the kernel's own that folds case."""
    _need_root()
    import fcntl

    directory = tmp_path / "tmpfs"
    directory.mkdir()
    if _libc().mount(b"relevo-test", os.fsencode(directory), b"tmpfs", 0, b"casefold"):
        pytest.skip(f"this kernel's tmpfs folds no case: {os.strerror(ctypes.get_errno())}")
    try:
        folds = directory / "folds"
        folds.mkdir()
        descriptor = os.open(folds, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SET_FLAGS, _CASEFOLD_FLAG.to_bytes(8, "little"))
        finally:
            os.close(descriptor)
        yield folds
    finally:
        _unmount(directory)


def refuses_a_download_of_a_name_that_folds(directory):
    data = b"wanted bytes"
    manifest = manifest_of(data)
    (directory / "foo.txt").write_bytes(data)
    assert existing_manifest(directory, "foo.txt", len(data)) == manifest
    for name in ("Foo.txt", "foo.TXT"):
        with pytest.raises(AlreadyExists, match=r"foo\.txt stands there, and this file system takes"):
            existing_manifest(directory, name, len(data))
    partial = Partial(directory, manifest.content_id, Layout(len(data)))
    partial.open()
    assert partial.write(manifest, 0, data)
    with pytest.raises(AlreadyExists):
        partial.finish("FOO.txt", None, executable=False)
    partial.finish("other.txt", None, executable=False)
    partial.close()
    assert sorted(names_in(directory)) == ["foo.txt", "other.txt"]
    assert (directory / "foo.txt").read_bytes() == data
    assert listed_path(directory, "FOO.TXT") == "foo.txt"


def test_a_download_is_neither_already_there_nor_overwrites_under_a_name_that_folds(folding):
    refuses_a_download_of_a_name_that_folds(folding)


def test_tmpfs_folds_and_nothing_is_merged(folding_tmpfs):
    refuses_a_download_of_a_name_that_folds(folding_tmpfs)


@pytest.mark.parametrize("standing", ["Straße.txt", "ÉTÉ.txt", "Σίγμα", "ＡＢＣ"])
def test_names_that_fold_beyond_ascii_are_told_apart_too(folding, standing):
    data = b"wanted bytes"
    (folding / standing).write_bytes(b"theirs")
    wanted = standing.casefold()
    assert wanted != standing
    with pytest.raises(AlreadyExists, match="takes"):
        existing_manifest(folding, wanted, len(data))
    assert (folding / standing).read_bytes() == b"theirs"


def test_the_same_name_in_another_normal_form_is_the_same_name(folding):
    """Catalogue names are NFC, and HFS+ lists NFD: there such a file is what was meant, judged by its bytes."""
    data = b"bytes"
    (folding / unicodedata.normalize("NFD", "niño.txt")).write_bytes(data)
    assert existing_manifest(folding, "niño.txt", len(data)) == manifest_of(data)
    with pytest.raises(AlreadyExists, match="with other bytes"):
        existing_manifest(folding, "niño.txt", len(data) + 1)


def test_two_files_that_fold_together_into_one_directory_give_one_file_and_one_refusal(folding):
    for data, name in ((b"first", "Report.pdf"), (b"second", "report.PDF")):
        manifest = manifest_of(data)
        partial = Partial(folding, manifest.content_id, Layout(len(data)))
        partial.open()
        partial.write(manifest, 0, data)
        if data == b"first":
            partial.finish(name, None, executable=False)
        else:
            with pytest.raises(AlreadyExists):
                partial.finish(name, None, executable=False)
            partial.discard()
        partial.close()
    assert names_in(folding) == ["Report.pdf"]
    assert (folding / "Report.pdf").read_bytes() == b"first"


def test_directories_on_the_way_are_named_as_they_are_listed(folding):
    (folding / "Music" / "Live").mkdir(parents=True)
    (folding / "Music" / "Live" / "Song").write_bytes(b"la")
    assert listed_path(folding, "music/LIVE/song") == "Music/Live/Song"
    assert as_listed(folding, "music/absent") == "music/absent"


def test_where_names_are_told_apart_every_name_is_as_it_was_given(tmp_path):
    for name in ("foo", "FOO", "123", "niño", unicodedata.normalize("NFD", "niño"), "空の"):
        (tmp_path / name).write_bytes(b"")
    os.link(tmp_path / "foo", tmp_path / "Foo")
    for name in names_in(tmp_path):
        assert listed_name(tmp_path, name) == name
    with pytest.raises(FileNotFoundError):
        listed_name(tmp_path, "absent")


@pytest.fixture
async def library(folding, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    opened = Library(folding, home, time.monotonic, settings=LibrarySettings(rest=0.05, tick=0.1))
    yield opened
    await opened.close()


async def test_put_of_a_name_that_folds_onto_a_shared_file_is_refused_even_with_the_same_bytes(
    folding, library, tmp_path
):
    (folding / "Song.flac").write_bytes(b"la la")
    await library.start()
    async with asyncio.timeout(20):
        await library.wait_scanned()
    source = tmp_path / "song.FLAC"
    for data in (b"la la", b"other"):
        source.write_bytes(data)
        with pytest.raises(AlreadyExists, match="same name"):
            await library.share(source)
    assert names_in(folding) == ["Song.flac"]
    assert (folding / "Song.flac").read_bytes() == b"la la"
    shared = await library.share(folding / "SONG.flac")
    assert shared.path == "Song.flac"
    assert set(library.files) == {"Song.flac"}


async def test_a_look_at_a_path_in_another_case_offers_the_file_under_its_own_name_only(folding, library):
    (folding / "Dir").mkdir()
    (folding / "Dir" / "Niño.txt").write_bytes(b"la la")
    await library.start()
    async with asyncio.timeout(20):
        await library.wait_scanned()
        assert set(library.files) == {"Dir/Niño.txt"}
        assert await library._directory.find("dir/NIÑO.txt") is None
        found = await library._directory.find("Dir/Niño.txt")
    assert found is not None
    assert set(library.files) == {"Dir/Niño.txt"}
    assert not library.skipped


def test_moving_into_place_replaces_nothing_under_a_folded_name(folding):
    (folding / "keep").write_bytes(b"keep")
    (folding / "new").write_bytes(b"new")
    with pytest.raises(AlreadyExists):
        rooted.move_into_place(folding, "new", "KEEP")
    assert (folding / "keep").read_bytes() == b"keep"
    assert (folding / "new").read_bytes() == b"new"
