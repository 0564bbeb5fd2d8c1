"""Names never decide paths outside a root."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AlreadyExists, InvalidInput, NotPossible
from peer import rooted


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "root"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "niño 空.txt").write_bytes(b"inside")
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret").write_bytes(b"outside")
    return inside


def _read(root, relative):
    descriptor = rooted.open_file(root, relative)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_a_file_in_a_subdirectory_is_read(root):
    assert _read(root, "sub/niño 空.txt") == b"inside"
    assert rooted.status(root, "sub/niño 空.txt").st_size == 6
    assert rooted.status(root, "").st_ino == root.stat().st_ino


@pytest.mark.parametrize(
    "name",
    ["../canary/secret", "sub/../../canary/secret", "/etc/passwd", "sub//x", ".", "..", "./sub", "sub/", "a\0b", ""],
)
def test_a_path_that_does_not_stay_beneath_is_refused_everywhere(root, name):
    for function in (rooted.open_file, rooted.create_file, rooted.remove):
        with pytest.raises(InvalidInput):
            function(root, name)
    with pytest.raises(InvalidInput):
        rooted.move_into_place(root, "sub/niño 空.txt", name)
    if name:
        for function in (rooted.status, rooted.open_directory, rooted.make_directories):
            with pytest.raises(InvalidInput):
                function(root, name)
    assert (root.parent / "canary" / "secret").read_bytes() == b"outside"


@given(st.lists(st.sampled_from(["..", ".", "", "sub", "a", "/", "\0", "..."]), min_size=1, max_size=5))
def test_no_mixture_of_parts_walks_upwards(parts):
    relative = "/".join(parts)
    try:
        checked = rooted.parts_of(relative)
    except InvalidInput:
        return
    assert not {"", ".", ".."} & set(checked)


def test_a_link_is_not_followed_at_the_end_or_on_the_way(root):
    (root / "file").symlink_to(root.parent / "canary" / "secret")
    (root / "folder").symlink_to(root.parent / "canary")
    for name in ("file", "folder/secret"):
        with pytest.raises(OSError):  # noqa: PT011 - ELOOP or ENOTDIR, by platform
            rooted.open_file(root, name)
    with pytest.raises(OSError):  # noqa: PT011
        os.close(rooted.create_file(root, "folder/new"))
    with pytest.raises(FileExistsError):
        os.close(rooted.create_file(root, "file"))
    with pytest.raises(OSError):  # noqa: PT011
        rooted.make_directories(root, "folder/deep")
    assert [each.name for each in (root.parent / "canary").iterdir()] == ["secret"]


def test_what_is_not_a_regular_file_is_not_opened_and_does_not_block(root):
    os.mkfifo(root / "pipe")
    for name in ("pipe", "sub"):
        with pytest.raises(NotPossible):
            rooted.open_file(root, name)


def test_creating_never_replaces(root):
    with pytest.raises(FileExistsError):
        rooted.create_file(root, "sub/niño 空.txt")
    assert (root / "sub" / "niño 空.txt").read_bytes() == b"inside"


def test_moving_into_place_never_replaces(root):
    os.close(rooted.create_file(root, "new"))
    with pytest.raises(AlreadyExists):
        rooted.move_into_place(root, "new", "sub/niño 空.txt")
    assert (root / "sub" / "niño 空.txt").read_bytes() == b"inside"
    assert (root / "new").exists()
    rooted.move_into_place(root, "new", "sub/new")
    assert not (root / "new").exists()
    assert (root / "sub" / "new").exists()


def test_a_file_system_without_hard_links_gives_names_without_replacing_too(root, monkeypatch):
    def no_link(*_args, **_keywords):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    (root / "new").write_bytes(b"new")
    with pytest.raises(AlreadyExists):
        rooted.move_into_place(root, "new", "sub/niño 空.txt")
    assert (root / "sub" / "niño 空.txt").read_bytes() == b"inside"
    rooted.move_into_place(root, "new", "sub/new")
    assert (root / "sub" / "new").read_bytes() == b"new"
    assert not (root / "new").exists()


def test_directories_are_made_where_missing_and_removing_twice_is_fine(root):
    rooted.make_directories(root, "sub/a/b")
    rooted.make_directories(root, "sub/a/b")
    os.close(rooted.create_file(root, "sub/a/b/c"))
    rooted.remove(root, "sub/a/b/c")
    rooted.remove(root, "sub/a/b/c")
    assert list((root / "sub/a/b").iterdir()) == []
    with pytest.raises(OSError):  # noqa: PT011 - a file stands there
        rooted.make_directories(root, "sub/niño 空.txt/x")


def test_a_directory_swapped_for_a_link_while_opening_never_leads_outside(root):
    """A racer swaps `swap` between a directory and a link to the canary; no read ever sees the canary's bytes."""
    canary, real, swap = root.parent / "canary", root / "real", root / "swap"
    real.mkdir()
    (real / "secret").write_bytes(b"inside")
    swap.mkdir()
    link = root / "link"
    stop = threading.Event()

    def race():
        while not stop.is_set():
            link.symlink_to(canary)
            swap.rename(root / "aside") if not swap.is_symlink() else swap.unlink()
            link.rename(swap)
            swap.unlink()
            (root / "aside").rename(swap)

    (swap / "secret").write_bytes(b"inside")
    racer = threading.Thread(target=race)
    racer.start()
    seen = set()
    try:
        for _ in range(10_000):
            try:
                seen.add(_read(root, "swap/secret"))
            except OSError:
                continue
    finally:
        stop.set()
        racer.join()
    assert seen == {b"inside"}


def test_every_descriptor_is_closed_again(root):
    def lowest_free():
        descriptor = os.open(root, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    for name in ("sub/absent", "absent/x", "sub/niño 空.txt/x"):
        with pytest.raises(OSError):  # noqa: PT011
            rooted.open_file(root, name)
    with pytest.raises(NotPossible):
        rooted.open_file(root, "sub")
    _read(root, "sub/niño 空.txt")
    assert lowest_free() == before
