"""Programs whose time of day is what a trial says: a preloaded library adds seconds to it, and to nothing else.

It stands between a program and libc's clock_gettime, gettimeofday and time. The monotonic clock, and what the kernel
itself counts by the time of day, stay as they are: so this is less than setting the clock of the machine, which a trial
may not do. Needs gcc, and Linux.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.programs import Failed

_DIRECTORY = "FAULTS_CLOCKS"
_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long none;
static volatile long long *ahead = &none;

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    const char *directory = getenv("FAULTS_CLOCKS");
    if (directory == NULL)
        return;
    snprintf(path, sizeof path, "%s/%d", directory, getpid());
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof none) != 0)
        return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        ahead = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*libc)(clockid_t, struct timespec *);
    if (libc == NULL)
        libc = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = libc(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found) != 0)
        return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now != NULL)
        *now = found.tv_sec;
    return found.tv_sec;
}
"""
_TELL = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"


def missing() -> str:
    """Returns why the time of day cannot be changed for a program here; empty when it can."""
    if sys.platform != "linux":
        return "the time of day of one program is changed on Linux only"
    return "" if shutil.which("gcc") else "gcc is missing (Debian: apt install gcc)"


class Clocks:
    """The times of day of programs that were started while it is there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def set(self, pid: int, ahead: int) -> None:
        """Has a program's time of day be so many seconds ahead of the machine's from now on."""
        with (self._directory / str(pid)).open("r+b") as file:  # one that is cut short kills whoever has it mapped
            file.write(ahead.to_bytes(8, sys.byteorder, signed=True))


@contextlib.contextmanager
def shimmed() -> Iterator[Clocks]:
    """Gives programs that are started while the context is open a time of day that can be changed.

    Raises:
        Failed: it has no effect here.
    """
    with tempfile.TemporaryDirectory(prefix="relevo-clocks-") as base:
        library, source = Path(base) / "clocks.so", Path(base) / "clocks.c"
        source.write_text(_SOURCE, "ascii")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        directory = Path(base) / "ahead"
        directory.mkdir()
        before = {name: os.environ.get(name) for name in ("LD_PRELOAD", _DIRECTORY)}
        os.environ.update({"LD_PRELOAD": str(library), _DIRECTORY: str(directory)})
        try:
            clocks = Clocks(directory)
            _check(clocks)
            yield clocks
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _check(clocks: Clocks) -> None:
    """Has a program tell what time it is before and after."""
    with subprocess.Popen(
        [sys.executable, "-c", _TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as told:
        if told.stdin is None or told.stdout is None:
            raise Failed("the program is not connected")
        for ahead in (0, 3600, -3600):
            if ahead:  # its first answer says that it has begun
                clocks.set(told.pid, ahead)
            print(file=told.stdin, flush=True)
            now, monotonic = map(float, told.stdout.readline().split())
            if abs(now - time.time() - ahead) > 60 or abs(monotonic - time.monotonic()) > 60:
                raise Failed("preloading a library does not change a program's time of day here")
        told.stdin.close()
