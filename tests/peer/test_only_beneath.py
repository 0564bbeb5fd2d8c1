"""Shared, stored and fetched files are touched by one module only: a lint over the syntax trees of peer/."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "peer"


def _words(text):
    return frozenset(text.split())


# What opens, names, changes or asks about a file by a path.
OS_CALLS = _words(
    """open stat lstat access rename renames replace link symlink unlink remove rmdir removedirs mkdir makedirs mkfifo
    mknod listdir scandir walk fwalk readlink chmod chown lchown utime truncate statvfs"""
)
PATH_CALLS = _words(
    """exists is_dir is_file is_symlink is_fifo is_socket lstat iterdir glob rglob walk read_text read_bytes write_text
    write_bytes open touch mkdir rmdir unlink rename replace chmod lchmod symlink_to hardlink_to link_to readlink
    samefile stat"""
)
# The whole module is not about shared, stored or fetched files.
MODULES = {
    "settings.py": "the home, which is this peer's alone, under fixed names",
    "daemon.py": "the control socket in the home",
    "commands": "the command line: the user's own process, on paths that the user typed",
    "disk/database.py": "the databases in the home, under fixed names",
    "work/keeping.py": "one of these",
    "library/index.py": "one of these",
    "directory/last_neighbours.py": "a file in the home, under a fixed name",
    "membership/membership.py": "the certificate and key in the home, under fixed names",
    "disk/kernel.py": "system calls by descriptor",
    "disk/beneath.py": "the module that opens beneath a root",
    "disk/rooted.py": "the module that opens beneath a root",
}
# Calls of other modules: (module, function, call) to the reason why they may.
ALLOWED = {
    (
        "work/downloads.py",
        "check_directory",
        "is_dir",
    ): "the directory that the local user named, which is the root itself",
    ("work/downloads.py", "check_directory", "os.statvfs"): "the root itself, which the local user named",
    ("work/downloads.py", "check_directory", "os.access"): "the root itself, which the local user named",
    ("library/scan.py", "Scanner._walk", "os.scandir"): "on a descriptor that was opened beneath the root",
    ("library/scan.py", "Scanner._walk", "stat"): "of an entry of that descriptor, links not followed",
    ("library/scan.py", "Scanner.look", "stat"): "the root itself",
    ("library/copies.py", "Copies._check", "is_dir"): "whether a download's directory is away; nothing is opened",
    ("library/watch.py", "Watcher._run", "is_dir"): "the root itself",
    ("library/watch.py", "RootWatch.check", "stat"): "the root itself",
    ("disk/listed.py", "_leads_to", "os.stat"): "beneath a descriptor, one part, links not followed",
    ("disk/listed.py", "listed_name", "os.stat"): "beneath a descriptor, one part, links not followed",
    ("disk/listed.py", "_listed", "os.scandir"): "on a descriptor that was opened beneath the root",
    ("fetching/partial.py", "Partial._check_room", "os.statvfs"): "the root itself: how much room there is",
    ("fetching/partial.py", "Partial.finish", "os.utime"): "of an open file",
    ("library/sharing.py", "_copy", "os.utime"): "of an open file",
    ("sets/small_files.py", "_Batch._write", "os.utime"): "of an open file",
    ("sets/small_files.py", "_Batch._finish_alone", "open"): "of a file in progress, which opens beneath the root",
    ("work/storing.py", "Storing.free_bytes", "shutil.disk_usage"): "the home: how much room there is",
    ("fetching/targets.py", "existing_manifest", "is_dir"): "the root itself: whether it is there",
    ("fetching/transfer.py", "Downloader._copy", "stat"): "a size to begin with; the bytes are opened beneath the root",
    ("fetching/transfer.py", "_room", "os.statvfs"): "the root itself: how much room there is",
}


class Finder(ast.NodeVisitor):
    """Finds calls that reach files, each with the function that it stands in."""

    def __init__(self):
        self.found = set()
        self._scope = []

    def visit(self, node):
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if inner:
            self._scope.append(node.name)
        super().visit(node)
        if inner:
            self._scope.pop()

    def visit_Call(self, node):
        for value in (node.func, *node.args):  # asyncio.to_thread(path.stat) is a call too
            call = _call(value)
            if call:
                self.found.add((".".join(self._scope), call))
        self.generic_visit(node)


def _call(function):
    match function:
        case ast.Name(id="open"):
            return "open"
        case ast.Attribute(value=ast.Name(id="os"), attr=attr) if attr in OS_CALLS:
            return f"os.{attr}"
        case ast.Attribute(value=ast.Name(id="shutil"), attr=attr):
            return f"shutil.{attr}"
        case ast.Attribute(value=ast.Name(id="os" | "rooted" | "partial" | "self"), attr=_):
            return None
        case ast.Attribute(value=value, attr=attr) if attr in PATH_CALLS:
            # Methods of objects that are no paths.
            return None if ast.unparse(value).endswith(("_index", "_opened", "webbrowser")) else attr
    return None


def calls(text):
    finder = Finder()
    finder.visit(ast.parse(text))
    return finder.found


def found():
    everything = {}
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if module not in MODULES and module.partition("/")[0] not in MODULES:
            for scope, call in calls(path.read_text("utf-8")):
                everything[module, scope, call] = path
    return everything


def test_nothing_else_in_peer_reaches_files_by_a_path():
    loose = found().keys() - ALLOWED.keys()
    assert not loose, "use peer.disk.rooted, or allow the call here with a reason"


def test_every_exception_is_still_needed():
    assert not ALLOWED.keys() - found().keys()


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "os.open(path, 0)",
        "os.rename(a, b)",
        "path.read_bytes()",
        "(root / name).stat()",
        "await asyncio.to_thread(path.unlink)",
        "shutil.rmtree(path)",
    ],
)
def test_the_lint_sees(line):
    assert calls(f"async def f():\n    {line}")


def test_the_lint_passes_what_goes_by_the_module():
    assert not calls("def f():\n    rooted.open_file(root, name)\n    os.close(3)")
