"""A look sees what may be offered, and says why the rest is not; the tree follows, look by look."""

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.names import normal, path_problem
from peer.disk.rooted import Stamp
from peer.library import selection
from peer.library.ignore import IgnoreRules
from peer.library.scan import Found, Scanner, Sight
from peer.library.tree import Tree
from tests.examples import examples

NO_RULES = IgnoreRules()


def _write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def _paths(sight):
    return {found.path for found in sight.found}


def test_everything_beneath_is_seen_and_empty_directories_are_not(tmp_path):
    _write(tmp_path, "a", "d/b", "d/e/c")
    (tmp_path / "empty").mkdir()
    sight = Scanner(tmp_path).look({""}, NO_RULES)
    assert _paths(sight) == {"a", "d/b", "d/e/c"}
    assert sight.directories == {"d", "d/e", "empty"}


def test_a_look_at_some_paths_sees_only_these_and_what_is_beneath(tmp_path):
    _write(tmp_path, "a", "b", "d/b", "d/e/c", ".git/x", "n.part/x")
    scanner = Scanner(tmp_path)
    assert _paths(scanner.look({"a", "d/e"}, NO_RULES)) == {"a", "d/e/c"}
    assert _paths(scanner.look({"absent", "a/below", ".git/x", ".git"}, NO_RULES)) == set()
    beneath = scanner.look({"n.part/x"}, NO_RULES)
    assert beneath.found == []
    assert beneath.skipped == {"n.part": selection.UNFINISHED}


def test_a_look_beneath_an_ignored_or_excluded_directory_sees_nothing(tmp_path):
    _write(tmp_path, "build/x", "home/key", "src/x")
    scanner = Scanner(tmp_path, [tmp_path / "home", tmp_path.parent])
    rules = IgnoreRules(["build/"])
    for scopes in ({""}, {"build/x", "home/key", "home", "build", "src/x"}):
        assert _paths(scanner.look(scopes, rules)) == {"src/x"}


@pytest.fixture
def unprivileged():
    """Root may read everything, so that a test of permissions gives it up for a while."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        yield root
        os.seteuid(os.getuid())


def test_what_may_not_be_read_is_skipped_with_the_reason(unprivileged):
    _write(unprivileged, "closed/x", "open/y")
    (unprivileged / "closed").chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        sight = Scanner(unprivileged).look({""}, NO_RULES)
    finally:
        os.seteuid(os.getuid())
        (unprivileged / "closed").chmod(0o755)
    assert _paths(sight) == {"open/y"}
    assert sight.skipped == {"closed": "it cannot be read: Permission denied"}


def test_a_root_that_is_not_there_is_a_problem_and_not_an_empty_directory(tmp_path):
    sight = Scanner(tmp_path / "absent").look({"x"}, NO_RULES)
    assert "No such file" in sight.problem
    assert not sight.found


def test_a_path_that_is_too_long_is_skipped_and_not_walked_for_ever(tmp_path):
    part = "d" * 200
    current = os.open(tmp_path, os.O_RDONLY)
    for _ in range(22):
        os.mkdir(part, dir_fd=current)
        deeper = os.open(part, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = deeper
    os.close(current)
    sight = Scanner(tmp_path).look({""}, NO_RULES)
    assert any("longer than 4096 bytes" in reason for reason in sight.skipped.values())
    # pytest could not remove what is deeper than a path may be long
    for depth in range(22, 0, -1):
        parent = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth - 1):
            deeper = os.open(part, os.O_RDONLY, dir_fd=parent)
            os.close(parent)
            parent = deeper
        os.rmdir(part, dir_fd=parent)
        os.close(parent)


@given(st.text(st.characters(codec=None), min_size=1, max_size=12))
def test_a_name_is_offered_only_if_the_network_takes_it(name):
    refusal = selection.name_refusal(f"dir/{name}".replace("\0", "?"))
    if refusal is None:
        assert path_problem(normal(f"dir/{name}".replace("\0", "?"))) == ""
    else:
        refusal.encode()


@pytest.mark.parametrize("name", ["plain", "with space", "ño", "空の", "a" * 255, "CON", "a:b", "-rf", "part", "~x"])
def test_names_of_every_script_and_system_are_offered(name):
    assert selection.name_refusal(f"dir/{name}") is None


@pytest.mark.parametrize("name", ["a\\b", "a\x7fb", "a\x85b", "a" * 256, "ñ" * 128, "\udcff", "tab\t"])
def test_names_that_break_a_rule_are_refused_with_a_reason(name):
    assert selection.name_refusal(f"dir/{name}")


def test_devices_links_and_impossible_sizes_are_refused():
    assert selection.kind_refusal(0o100644, 1 << 47) is None
    assert selection.kind_refusal(0o100644, (1 << 47) + 1) == selection.TOO_LARGE
    assert selection.kind_refusal(0o120777, 1) == selection.LINK
    for mode in (0o010644, 0o020644, 0o060644, 0o140755):
        assert selection.kind_refusal(mode, 0) == selection.SPECIAL


@given(st.sets(st.lists(st.sampled_from("abc"), max_size=4).map("/".join), max_size=12), st.integers(1, 4))
def test_scopes_are_merged_without_losing_one(scopes, crowd):
    merged = selection.outermost(scopes, crowd)
    for scope in scopes:
        assert any(not cover or scope == cover or scope.startswith(cover + "/") for cover in merged)
    for scope in merged:
        assert not any(cover != scope and (not cover or scope.startswith(cover + "/")) for cover in merged)


# The tree: however the looks are cut, it ends where one look at everything would.

COMPOSED, DECOMPOSED = "ñ", unicodedata.normalize("NFD", "ñ")
NAMES = ["a", "d/a", "d/e/a", COMPOSED, DECOMPOSED, f"d/{COMPOSED}", f"d/{DECOMPOSED}"]
STATES = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=7)


def _sight(state, scopes):
    """What a look would see of `state`: disk name to version."""
    sight = Sight()
    for disk, version in state.items():
        if any(not scope or disk == scope or disk.startswith(scope + "/") for scope in scopes):
            sight.found.append(Found(normal(disk), disk, Stamp(version, version, version), False))
        parts = disk.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            if any(not scope or above == scope or above.startswith(scope + "/") for scope in scopes):
                sight.directories.add(above)
    return sight


def _apply(tree, state, scopes):
    changes = tree.compare(scopes, _sight(state, scopes))
    tree.apply(changes)
    return changes


@settings(max_examples=examples(150))
@given(st.lists(STATES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_partial_looks_lead_where_a_whole_look_leads(states, random):
    tree = Tree()
    state = {}
    for target in states:
        changed = sorted(name for name in NAMES if state.get(name) != target.get(name))
        random.shuffle(changed)
        while changed:
            count = random.randint(1, len(changed))
            some, changed = set(changed[:count]), changed[count:]
            for name in some:
                state.pop(name, None)
                if name in target:
                    state[name] = target[name]
            again = _apply(tree, state, selection.outermost(some)).again
            while again:
                again = _apply(tree, state, again).again
    whole = Tree()
    _apply(whole, state, {""})
    assert tree.found == whole.found
    assert tree.skipped == whole.skipped
    assert set(tree.found) == {normal(name) for name in state}
    assert len(tree.skipped) == len(state) - len(tree.found)


def test_a_directory_that_is_gone_takes_everything_beneath_with_it():
    tree = Tree()
    _apply(tree, {"d/a": 1, "d/e/a": 1, "a": 1}, {""})
    changes = _apply(tree, {"a": 1}, {"d"})
    assert sorted(changes.gone) == ["d/a", "d/e/a"]
    assert set(tree.found) == {"a"}


def test_comparing_changes_nothing():
    tree = Tree()
    _apply(tree, {"a": 1}, {""})
    tree.compare({""}, _sight({"b": 1}, {""}))
    assert set(tree.found) == {"a"}
