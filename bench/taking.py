"""The taking side of other programs: each fetches one file, and its process says what that took.

The work ends when the file has been verified, as far as its program does that, and is on the disk: Relevo syncs what it
downloads, so the others' files are synced as well.
"""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from bench.measured import Side, peak


def synced(path: Path) -> None:
    """Makes a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tell(work: Callable[[], int | None]) -> None:
    """Does `work` and prints what it took; it may return the peak of memory when that is another process's."""
    before, began = _cpu(), time.monotonic()
    most = work()
    seconds, cpu = time.monotonic() - began, _cpu() - before
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": most or peak(os.getpid())}))


def told(output: str) -> tuple[float, Side]:
    """Returns the seconds and the side that `tell` printed."""
    found = json.loads(output)
    return found["seconds"], Side(found["cpu"], found["peak"])


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(found.ru_utime + found.ru_stime for found in map(resource.getrusage, kinds))
