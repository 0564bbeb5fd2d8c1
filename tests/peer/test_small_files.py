"""Small files written together: whole and durable or not at all, beneath the root, over nothing that stands there."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AlreadyExists, NotPossible
from core.manifest import manifest_of
from peer.disk import kernel, rooted
from peer.disk.rooted import Stamp
from peer.sets.small_files import SmallFile, write_small

TIME = 1_600_000_000.25


def small(path, data=b"data", **fields):
    manifest = manifest_of(data)
    return SmallFile(path, data, manifest, manifest.content_id, **fields)


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(params=["nameless", "alone"])
def way(request, monkeypatch):
    """Both ways: files without names and one sync, and where there are none, each file by itself."""
    if request.param == "alone":
        monkeypatch.setattr(rooted, "_NAMELESS", 0)
    return request.param


def test_files_get_their_names_bytes_times_and_modes(tmp_path, way):
    umask = os.umask(0o022)
    try:
        files = [
            small("a", b"a", modify_time=TIME, executable=True),
            small("deep/er/b", bytes(200_000)),
            small("deep/empty", b""),
        ]
        stamps = write_small(tmp_path, files)
    finally:
        os.umask(umask)
    assert tree(tmp_path) == {"a": b"a", "deep/er/b": bytes(200_000), "deep/empty": b""}
    assert stamps == [Stamp.of((tmp_path / file.path).stat()) for file in files]
    assert (tmp_path / "a").stat().st_mtime == TIME
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "deep/er/b").stat().st_mode) == 0o644


def test_nothing_is_overwritten_the_same_bytes_are_as_good_and_the_rest_goes_on(tmp_path, way):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "same").write_bytes(b"same")
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"no directory")
    said = write_small(
        tmp_path,
        [
            small("mine", b"ours"),
            small("same", b"same"),
            small("dir", b"x"),
            small("file/x"),
            small("new"),
            small("new"),
        ],
    )
    assert [type(one) for one in said] == [AlreadyExists, Stamp, AlreadyExists, NotPossible, Stamp, Stamp]
    assert "mine is there already with other bytes" in str(said[0])
    assert tree(tmp_path) == {"mine": b"mine", "same": b"same", "file": b"no directory", "new": b"data"}


def test_no_link_leads_outside(tmp_path, way):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(outside / "new")
    said = write_small(root, [small("link/x"), small("dangling"), small("link"), small("ok")])
    assert [type(one) for one in said] == [NotPossible, AlreadyExists, AlreadyExists, Stamp]
    assert "a symbolic link stands in the way" in str(said[0]) or "not a directory" in str(said[0])
    assert not list(outside.iterdir())


def test_names_that_a_system_cannot_hold_are_told_and_the_rest_goes_on(tmp_path, way):
    said = write_small(tmp_path, [small("x" * 300), small("ok")])
    assert [type(one) for one in said] == [NotPossible, Stamp]
    assert "so long a name" in str(said[0])


def test_one_sync_makes_the_bytes_of_a_batch_durable_before_the_first_name_and_one_the_names(tmp_path, monkeypatch):
    happened = []
    monkeypatch.setattr(kernel, "syncfs", lambda _: happened.append("sync") or 0)
    name = rooted.name_nameless
    monkeypatch.setattr(rooted, "name_nameless", lambda *args: happened.append("name") or name(*args))
    write_small(tmp_path, [small(f"d{number}/f") for number in range(5)])
    assert happened == ["sync", *["name"] * 5, "sync"]


def test_where_the_system_has_no_sync_of_a_file_system_each_file_and_directory_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(kernel, "syncfs", lambda _: errno.ENOSYS)
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(stat.S_IFMT(os.fstat(one).st_mode)) or fsync(one))
    write_small(tmp_path, [small("d/one"), small("d/two"), small("e/three")])
    assert synced == [stat.S_IFREG] * 3 + [stat.S_IFDIR] * 2


@pytest.mark.parametrize("problem", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_ends_it_and_gives_no_name_to_what_may_not_be_there(tmp_path, monkeypatch, problem):
    monkeypatch.setattr(kernel, "syncfs", lambda _: problem)
    with pytest.raises(NotPossible, match="disk"):
        write_small(tmp_path, [small("one"), small("two")])
    assert tree(tmp_path) == {}


def test_no_descriptor_is_left_open(tmp_path, way):
    write_small(tmp_path, [small(f"d{number % 3}/f{number}") for number in range(20)] + [small("d1"), small("x" * 300)])
    # What other tests have left to be closed says nothing of this.
    targets = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if os.path.lexists(one)]  # noqa: PTH115
    assert not [target for target in targets if target.startswith(str(tmp_path))]


WRITER = """
    import os
    import signal
    import sys
    from pathlib import Path
    from core.manifest import manifest_of
    from peer.disk import rooted
    from peer.sets.small_files import SmallFile, write_small
    if sys.argv[2] == "alone":
        rooted._NAMELESS = 0
    left = int(sys.argv[3])
    def dying(write):
        def half(descriptor, data, *where):
            global left
            left -= 1
            if left == 0:
                write(descriptor, data[: len(data) // 2], *where)
                os.kill(os.getpid(), signal.SIGKILL)
            return write(descriptor, data, *where)
        return half
    os.write, os.pwrite = dying(os.write), dying(os.pwrite)
    number = 0
    while True:
        files = []
        for _ in range(20):
            data = f"{number} ".encode() * 500
            manifest = manifest_of(data)
            files.append(SmallFile(f"d{number % 3}/{number}", data, manifest, manifest.content_id))
            number += 1
        write_small(Path(sys.argv[1]), files)
        print(number, flush=True)
"""


def test_kill_9_at_any_time_leaves_no_half_file_under_a_final_name_and_all_that_was_acknowledged(tmp_path, way):
    """At some time after the first files; and when half of the 31st is written, by its writer itself."""
    for attempt, pause in enumerate((0.0, 0.004, 0.011, 0.023, 0.05, None)):
        root = tmp_path / str(attempt)
        root.mkdir()
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(root), way, "0" if pause is not None else "31"]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        try:
            acknowledged = int(writer.stdout.readline())
            if pause is None:
                writer.wait(20)
            else:
                time.sleep(pause)
        finally:
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
            writer.stdout.close()
            writer.wait(20)
        acknowledged = int(rest.split()[-1]) if rest.split() else acknowledged
        found = tree(root)
        named = {int(path.rpartition("/")[2]): data for path, data in found.items() if "/." not in path}
        assert named.keys() >= set(range(acknowledged))
        assert all(data == f"{number} ".encode() * 500 for number, data in named.items())
        left = [path for path in found if "/." in path]
        assert len(left) <= (way == "alone"), "without names nothing is left at all"


PART = st.sampled_from(["a", "b", "A", "ñ", "空", ".h"])
PATH = st.lists(PART, min_size=1, max_size=3).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(PATH, st.binary(max_size=40)), max_size=8), st.lists(st.tuples(PATH, st.binary(max_size=5))))
def test_whatever_stands_there_and_whatever_comes_each_file_is_the_first_that_came_to_its_place(
    tmp_path_factory, files, before
):
    root = tmp_path_factory.mktemp("root")
    for path, data in before:
        with contextlib.suppress(OSError):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if not (root / path).exists():
                (root / path).write_bytes(data)
    expected = tree(root)
    said = write_small(root, [small(path, data) for path, data in files])
    for (path, data), one in zip(files, said, strict=True):
        if isinstance(one, Stamp):
            assert expected.setdefault(path, data) == data
        else:
            assert isinstance(one, AlreadyExists | NotPossible)
    assert tree(root) == expected
