"""What a demonstration or a benchmark shares: the machines' directories, this repository's files, random bytes."""

import filecmp
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.programs import ROOT, Failed, Program

MIB = 1 << 20


@dataclass
class Peer:
    """One machine of the demonstration."""

    name: str
    base: Path
    program: Program | None = None

    @property
    def home(self) -> Path:
        """Where its daemon keeps what is its own."""
        return self.base / "home"

    @property
    def shared(self) -> Path:
        """The directory that it shares."""
        return self.base / "shared"

    @property
    def fetched(self) -> Path:
        """Where it puts what it downloads."""
        return self.base / "fetched"

    def paths(self) -> set[str]:
        """Returns the catalogue paths of the files in its shared directory."""
        found = (path for path in self.shared.rglob("*") if path.is_file())
        return {path.relative_to(self.shared).as_posix() for path in found}


def own_files() -> list[str]:
    """Returns the paths of this repository's files, without hidden ones, which no peer shares."""
    try:
        output = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        found = {path for path in os.fsdecode(output).split("\0") if path and (ROOT / path).is_file()}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive, or a machine without git
        tops = ("protos", "central", "peer", "core", "tests", "bench", "docs")
        paths = [path for top in tops for path in (ROOT / top).rglob("*")] + list(ROOT.iterdir())
        found = {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}
    return sorted(path for path in found if not any(part.startswith((".", "__pycache__")) for part in path.split("/")))


def share_out(peers: Sequence[Peer]) -> int:
    """Splits this repository's own files between the peers, and returns how many there are."""
    files = own_files()
    for at, path in enumerate(files):
        target = peers[at % len(peers)].shared / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
    return len(files)


def random_name(length: int) -> str:
    """Returns what the random file of `length` bytes is called."""
    return f"random-{length // MIB}MiB.bin"


def write_random(length: int, *peers: Peer) -> None:
    """Writes the same random bytes into the directories of `peers`; whole at once, as far as their daemons can see."""
    name = random_name(length)
    hidden = [peer.shared / f".{name}" for peer in peers]
    with hidden[0].open("wb") as file:
        for _ in range(length // MIB):
            file.write(os.urandom(MIB))
    for other in hidden[1:]:
        shutil.copyfile(hidden[0], other)
    for whole in hidden:
        whole.rename(whole.with_name(name))


def same(first: Path, second: Path) -> None:
    """Compares two files byte by byte.

    Raises:
        Failed: they differ.
    """
    if not filecmp.cmp(first, second, shallow=False):
        raise Failed(f"{first} and {second} differ")


def seconds(moment: str) -> float:
    """Returns a time of a JSON document as seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


def listed(names: Sequence[str]) -> str:
    """Returns `ana, ben and carla`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
