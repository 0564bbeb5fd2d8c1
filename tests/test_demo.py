"""`make demo` works, and leaves nothing behind even when it is killed."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, ROOT / "bench" / "demo.py"]


@pytest.fixture
def base():
    """A directory of this test, by which its processes are known; short, since paths of Unix sockets are."""
    with tempfile.TemporaryDirectory(prefix="relevo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture
def environment(base):
    return {**os.environ, "TMPDIR": str(base), "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", "PYTHONUNBUFFERED": "1"}


def processes(base: Path) -> list[str]:
    """Command lines that name `base`; Linux only."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(base) in line:
            found.append(line)
    return found


def test_the_demo_ends_with_ok_and_leaves_nothing_behind(environment, base):
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "demo ok"
    assert done.stderr == ""
    assert "killed ben with SIGKILL" in done.stdout
    [copies] = re.findall(r"ana sent (\d+\.\d\d) copies for 5 downloads; same bytes everywhere", done.stdout)
    assert 0 < float(copies) <= 2
    assert len(done.stdout.splitlines()) < 60
    assert not list(base.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(environment, base, number):
    with subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        for line in demo.stdout:
            if "ana" in line and "ready after" in line:
                break
        assert processes(base)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), errors
    deadline = time.monotonic() + 30
    while processes(base) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes(base)
    if number != signal.SIGKILL:
        assert not list(base.iterdir())
