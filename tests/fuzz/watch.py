"""The alarm: what is logged as an error, or left to the event loop, is a defect that no caller was told of."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.engine import Broken

# What a process may grow by, in bytes, from the first look on.
MOST_GROWTH = 256 << 20


class Alarm(logging.Handler):
    """Collects errors and tracebacks of the whole process."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._raised: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Notes a record that tells of a defect."""
        if record.levelno >= logging.ERROR or record.exc_info:
            form = logging.Formatter("%(name)s: %(message)s")
            self._raised.append(form.format(record))

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Notes what nobody awaited."""
        error = context.get("exception")
        self._raised.append(f"event loop: {context.get('message')}: {error!r}")

    def check(self) -> None:
        """Raises Broken when anything was noted, once."""
        raised, self._raised = self._raised, []
        if raised:
            raise Broken("\n".join(raised))


@contextmanager
def alarmed() -> Iterator[Alarm]:
    """Sets the alarm for the running loop."""
    alarm = Alarm()
    loop, root = asyncio.get_running_loop(), logging.getLogger()
    before = loop.get_exception_handler()
    root.addHandler(alarm)
    loop.set_exception_handler(alarm.unhandled)
    try:
        yield alarm
    finally:
        gc.collect()  # tasks tell of their errors when they go
        loop.set_exception_handler(before)
        root.removeHandler(alarm)


class Memory:
    """Looks at how much this process has grown."""

    def __init__(self) -> None:
        self._first = 0

    def check(self) -> None:
        """Raises Broken when it has grown by more than 256 MiB since the first look."""
        try:
            now = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
        except OSError:  # not Linux
            return
        self._first = self._first or now
        if now - self._first > MOST_GROWTH:
            raise Broken(f"the process has grown by {(now - self._first) >> 20} MiB")
