"""Names never decide paths outside a root."""

import errno
import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AlreadyExists, InvalidInput, NotPossible
from peer.disk import beneath, kernel, rooted


@pytest.fixture(params=["by the kernel", "by walking"], autouse=True)
def way(request, monkeypatch):
    """Both ways to open beneath a directory; every test here holds for each."""
    if request.param == "by walking":
        monkeypatch.setattr(beneath, "kernel_opens_beneath", lambda: False)
    elif not beneath.kernel_opens_beneath():
        pytest.skip("this kernel has no openat2, or keeps it from this process")
    return request.param


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


def test_a_socket_is_not_opened(root, monkeypatch):
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(NotPossible):
            rooted.open_file(root, "socket")


def test_a_link_of_proc_leads_nowhere(root):
    """RESOLVE_NO_MAGICLINKS and the walk alike: /proc/self/fd/N is a way to anything that is open."""
    canary = os.open(root.parent / "canary", os.O_RDONLY)
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            os.close(rooted.open_file(Path("/proc"), f"self/fd/{canary}/secret"))
        assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
        with pytest.raises(OSError):  # noqa: PT011
            os.close(rooted.open_file(Path("/proc"), f"{os.getpid()}/fd/{canary}/secret"))
    finally:
        os.close(canary)


def test_the_descriptor_of_an_opened_file_is_closed_on_exec(root):
    for function, name in ((rooted.open_file, "sub/niño 空.txt"), (rooted.create_file, "sub/new")):
        descriptor = function(root, name)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_path_too_long_for_one_call_is_walked(root):
    deep = "/".join(["d" * 200] * 21)
    rooted.make_directories(root, deep)
    os.close(rooted.create_file(root, f"{deep}/f"))
    assert rooted.status(root, f"{deep}/f").st_size == 0
    assert len(deep) > 4096


def test_a_directory_lists_what_it_holds_and_follows_nothing(root):
    (root / "sub" / "link").symlink_to(root.parent / "canary")
    found = rooted.entries(root, "sub")
    assert set(found) == {"niño 空.txt", "link"}
    assert found["niño 空.txt"].st_size == 6
    assert found["link"].st_ino == (root / "sub" / "link").lstat().st_ino
    with pytest.raises(OSError):  # noqa: PT011
        rooted.entries(root, "sub/link")


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


@pytest.mark.parametrize("renames", [True, False], ids=["it renames", "it cannot even rename without replacing"])
def test_a_file_system_without_hard_links_gives_names_without_replacing_too(root, monkeypatch, renames):
    def no_link(*_args, **_keywords):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    if not renames:
        monkeypatch.setattr(kernel, "rename_new", lambda *_: errno.EINVAL)
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


@pytest.mark.parametrize("way", ["by the kernel"], indirect=True)
def test_what_the_kernel_asks_to_try_again_is_tried_again_and_then_walked(root, monkeypatch):
    real, answers, asked = kernel.openat2, [], []

    def answer(*arguments):
        asked.append(arguments)
        return (-1, answers.pop()) if answers else real(*arguments)

    monkeypatch.setattr(kernel, "openat2", answer)
    for script in ([errno.EINTR] * 40, [errno.EAGAIN] * 3, [errno.EAGAIN] * 100):
        answers[:] = script
        asked.clear()
        assert _read(root, "sub/niño 空.txt") == b"inside"
        assert len(asked) <= 41
    assert answers  # the walk took over before the kernel had given in


@pytest.mark.parametrize("problem", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("way", ["by the kernel"], indirect=True)
def test_a_kernel_that_refuses_is_asked_once_and_the_walk_does_it(root, monkeypatch, problem):
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        return -1, problem

    monkeypatch.setattr(kernel, "openat2", refuse)
    beneath.kernel_opens_beneath.cache_clear()
    try:
        assert _read(root, "sub/niño 空.txt") == b"inside"
        assert _read(root, "sub/niño 空.txt") == b"inside"
        assert len(asked) == 1
    finally:
        beneath.kernel_opens_beneath.cache_clear()


def test_signals_do_not_disturb(root):
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        while len(heard) < 20:
            assert _read(root, "sub/niño 空.txt") == b"inside"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
