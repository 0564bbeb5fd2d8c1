"""What `pip install` gives: built here as pip builds it, from the files under version control and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("central", "peer", "core")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    return [path for path in run("git", "ls-files", "-z", cwd=ROOT).split("\0") if path and (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def tree(tracked, tmp_path_factory) -> Path:
    """A fresh clone, without what lies about in the working directory."""
    copy = tmp_path_factory.mktemp("tree")
    for path in tracked:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path)
    return copy


def built(tree: Path, target: str) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", tree / "dist", cwd=tree)
    return next((tree / "dist").glob("*.whl" if target == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tree) -> Path:
    return built(tree, "wheel")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_the_programs_whole_and_the_stubs(wheel, tracked):
    expected = {path for path in tracked if path.split("/")[0] in PACKAGES}
    assert expected <= names(wheel)
    for proto in (ROOT / "protos" / "relevo" / "v1").glob("*.proto"):
        for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
            assert f"relevo/v1/{proto.stem}{ending}" in names(wheel)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names(wheel)


def test_the_wheel_has_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, "relevo"}
    assert not [name for name in names(wheel) if "test" in name or name.endswith((".pyc", ".proto"))]


def test_the_wheel_names_its_commands_and_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        commands = archive.read(f"{info}/entry_points.txt").decode()
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert "relevo = peer.cli:main" in commands
    assert "relevo-central = central.__main__:main" in commands
    assert metadata["Name"] == "relevo"
    assert metadata["Requires-Python"] == ">=3.11"
    needs = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert {need.split(">")[0].split("<")[0] for need in needs} >= {"grpcio", "protobuf", "click", "blake3"}
    assert not [need for need in needs if "grpcio-tools" in need]


def test_the_programs_run_from_the_wheel_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "import central.__main__, peer.cli, core.rpc\n"
        "from relevo.v1 import central_directory_pb2_grpc, peer_relay_pb2_grpc, peer_control_pb2_grpc\n"
        "print(*(m.__file__ for m in (central.__main__, peer.cli, core.rpc, peer_relay_pb2_grpc)), sep='\\n')\n"
    )
    found = run(sys.executable, "-P", "-c", program, cwd=tmp_path).splitlines()
    assert len(found) == 4
    assert all(path.startswith(str(tmp_path)) for path in found)


def test_the_source_archive_builds_the_same_wheel(tree, wheel, tmp_path):
    with tarfile.open(built(tree, "sdist")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11 has it from 3.11.4 on
        archive.extractall(tmp_path)
    unpacked = next(tmp_path.iterdir())
    assert names(built(unpacked, "wheel")) == names(wheel)
    for needed in ("Makefile", "buf.yaml", "bench/demo.py", "tests/test_packaging.py", "protos/protoc.args"):
        assert (unpacked / needed).is_file()
