"""The watcher reports what changed, and everything when it is not sure."""

import queue
import threading
import time

import pytest

from peer.library.watch import RootWatch, Watcher


@pytest.fixture
def reports():
    return queue.Queue()


@pytest.fixture
def watcher(tmp_path, reports):
    watcher = Watcher(tmp_path, reports.put)
    yield watcher
    watcher.stop()


def _next(reports, wanted):
    """Waits until a path was reported."""
    seen = set()
    while wanted not in seen:
        seen |= reports.get(timeout=20)
    return seen


def test_once_it_works_it_asks_for_a_whole_look_and_then_names_changes(tmp_path, watcher, reports):
    watcher.start()
    assert reports.get(timeout=20) == {""}
    assert watcher.working
    (tmp_path / "niño").mkdir()
    _next(reports, "niño")
    (tmp_path / "niño" / "空").write_bytes(b"x")
    _next(reports, "niño/空")
    (tmp_path / "niño" / "空").unlink()
    _next(reports, "niño/空")


def test_a_name_that_watchfiles_cannot_hold_ends_in_a_whole_look_and_it_goes_on(tmp_path, watcher, reports):
    watcher.start()
    assert reports.get(timeout=20) == {""}
    with open(bytes(tmp_path) + b"/\xff\xfe", "wb"):  # noqa: PTH123
        pass
    _next(reports, "")
    (tmp_path / "after").write_bytes(b"x")
    _next(reports, "after")


def test_a_garbled_name_stands_for_its_directory_and_the_root_for_everything(tmp_path, watcher):
    watcher.start()
    root = str(tmp_path)
    assert watcher.scopes_of([f"{root}/a/b\ufffd/c", f"{root}/d", root]) == {"a", "d", ""}
    assert watcher.scopes_of([f"{root}/\ufffd"]) == {""}


def test_a_root_that_goes_away_and_comes_back_is_watched_anew(tmp_path, reports):
    root = tmp_path / "root"
    watch = RootWatch(root, reports.put)
    try:
        assert not watch.check()
        root.mkdir()
        assert watch.check()
        assert not watch.check()
        assert reports.get(timeout=20) == {""}
        root.rename(tmp_path / "away")
        assert watch.check()
        assert not watch.working
        (tmp_path / "away").rename(root)
        assert watch.check()
        while not watch.working:  # what is reported may still be of the one before
            time.sleep(0.01)
        _next(reports, "")
        (root / "f").write_bytes(b"x")
        _next(reports, "f")
    finally:
        watch.stop()


def test_what_cannot_be_watched_is_not_said_to_work(tmp_path, reports):
    watcher = Watcher(tmp_path / "absent", reports.put)
    watcher.start()
    watcher.stop()
    assert not watcher.working
    assert reports.empty()


def test_a_look_that_comes_after_the_end_watches_nothing(tmp_path, reports):
    watch = RootWatch(tmp_path, reports.put)
    watch.stop()
    assert not watch.check()
    assert not [thread for thread in threading.enumerate() if thread.name == "relevo-watch"]


def test_what_is_in_progress_is_not_looked_at_and_what_it_becomes_is(tmp_path, watcher, reports):
    watcher.start()
    assert reports.get(timeout=20) == {""}
    partial = tmp_path / ".relevo-0123.part"
    partial.write_bytes(b"x")
    (tmp_path / "other").write_bytes(b"x")
    seen = _next(reports, "other")
    partial.rename(tmp_path / "whole")
    seen |= _next(reports, "whole")
    assert partial.name not in seen
