"""Which lines of the project have run: what tells an input that reaches something new from one more of the same."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_ROOT = Path(__file__).parents[2]
_WATCHED = tuple(str(_ROOT / part) + "/" for part in ("core", "central", "peer"))


class Lines:
    """The lines that have run while it watches; `reached` grows when there is a new one."""

    def __init__(self) -> None:
        self.reached: set[tuple[CodeType, int]] = set()
        self._open: dict[CodeType, set[int]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches this thread (from Python 3.12: every thread) inside of the block."""
        if sys.version_info >= (3, 12):
            with self._monitoring():
                yield
            return
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    @contextmanager
    def _monitoring(self) -> Iterator[None]:
        """Costs next to nothing: a line that has been seen is not told again."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        tool = monitoring.COVERAGE_ID
        events = monitoring.events

        def line(code: CodeType, number: int) -> Any:
            if code.co_filename.startswith(_WATCHED):
                self.reached.add((code, number))
            return monitoring.DISABLE

        monitoring.use_tool_id(tool, "relevo fuzz")
        monitoring.register_callback(tool, events.LINE, line)
        monitoring.set_events(tool, events.LINE)
        monitoring.restart_events()
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, events.LINE, None)
            monitoring.free_tool_id(tool)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        """Traces a function until all of its lines have been seen, and no other code at all."""
        code = frame.f_code
        left = self._open.get(code)
        if left is None:
            watched = code.co_filename.startswith(_WATCHED)
            left = {number for _, _, number in code.co_lines() if number} if watched else set()
            self._open[code] = left
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            code, number = frame.f_code, frame.f_lineno
            self.reached.add((code, number))
            self._open[code].discard(number)
        return self._line
