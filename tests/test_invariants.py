"""The promises that concern the whole program; the others are tested beside the modules that keep them."""

import ast
import asyncio
import contextlib
import hashlib
import json
from pathlib import Path

import pytest

from core import errors
from core.manifest import manifest_of
from peer.fetching.transfer import Downloader
from peer.work.downloads import Downloads
from peer.work.transfers import State, Transfers
from relevo.v1.content_pb2 import FileEntry

ROOT = Path(__file__).parent.parent
# Where clocks may be read: what a person sees is dated by the command line, and the programs hand their clocks down.
MAY_READ_CLOCKS = {"central/server.py", "central/directory.py", "peer/daemon.py"}
# Fields that open something to whoever reads them.
SECRETS = {"secret", "session_id", "join", "key"}
CLOCKS = {"time", "monotonic", "perf_counter", "now", "utcnow", "today", "time_ns", "monotonic_ns"}


def names_of(page):
    lines = (ROOT / "tests" / "data" / page).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line and not line.startswith("#")]


def tree_digest(root):
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


class NoLibrary:
    async def add_fetched(self, location, path, manifest):
        """A real one has nothing to do with where a download is written."""


async def nobody(content_id, *, directly=False):
    return []


@pytest.fixture
async def downloads():
    empty = Downloader(nobody, None, lambda _: asyncio.sleep(0), "self", lambda: 0.0)
    transfers = Transfers(lambda: 0.0)
    yield Downloads(empty, NoLibrary(), transfers)
    await transfers.close()


async def test_invariant_5_no_name_leads_a_download_outside_its_directory(downloads, tmp_path):
    inside, canary = tmp_path / "inside", tmp_path / "canary"
    inside.mkdir()
    (canary / "deep").mkdir(parents=True)
    (canary / "deep" / "file").write_text("unchanged")
    (inside / "link").symlink_to(canary)
    before = tree_digest(canary)
    # An empty content needs no holder, so that every name gets as far as the disk.
    empty = manifest_of(b"").content_id
    written = 0
    for name in names_of("hostile_names.txt") + names_of("allowed_names.txt") + ["link", "link/x", "../canary/x"]:
        with contextlib.suppress(errors.InvalidInput, UnicodeEncodeError, ValueError):
            transfer = downloads.start(FileEntry(path=name, content_id=empty), str(inside))
            await asyncio.wait([transfer.task])
            if transfer.state is State.DONE:
                written += 1
                assert Path(transfer.target).parent == inside
    assert written > 20
    assert tree_digest(canary) == before
    assert {path.name for path in tmp_path.iterdir()} == {"inside", "canary"}
    assert all(path.parent == inside for path in inside.rglob("*") if "link" not in path.parts[-2:])


def clocks_in(path):
    """Names of clocks that a module mentions: `time.monotonic`, called or not."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            owner = ast.unparse(node.value)
            if owner in {"time", "datetime", "datetime.datetime", "asyncio.get_running_loop()", "loop"}:
                yield f"{owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield "from time import"


def test_invariant_6_only_the_programs_themselves_read_clocks():
    readers = {
        str(path.relative_to(ROOT))
        for package in ("core", "central", "peer")
        for path in (ROOT / package).rglob("*.py")
        if any(clocks_in(path)) and "commands" not in path.parts
    }
    assert readers <= MAY_READ_CLOCKS
    assert "peer/daemon.py" in readers, "the search finds nothing any more"


def shown_secrets(path):
    """Fields of dataclasses in a module that hold a secret, and whether a log line that shows the object shows it."""
    for kind in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(kind, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in kind.decorator_list):
            own = any(isinstance(node, ast.FunctionDef) and node.name == "__repr__" for node in kind.body)
            for node in kind.body:
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in SECRETS:
                    hidden = own or "repr=False" in ast.unparse(node)
                    yield f"{path.relative_to(ROOT)}: {kind.name}.{ast.unparse(node.target)}", not hidden


def test_no_secret_is_shown_where_the_object_that_holds_it_is():
    found = dict(
        one
        for package in ("core", "central", "peer")
        for path in (ROOT / package).rglob("*.py")
        for one in shown_secrets(path)
    )
    assert "core/tokens.py: JoinToken.secret" in found, "the search finds nothing any more"
    assert [where for where, shown in found.items() if shown] == []
