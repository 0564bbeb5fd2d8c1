"""Python's garbage collector, when very many objects are made that stay.

Each time that there are a quarter more of them, it looks through all of them for cycles, of which they have none: with
100,000 files at a restart that took a third of the time. Young objects go on being collected.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_RARELY = 1_000
_lock = threading.Lock()
_inside = 0
_before = gc.get_threshold()


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Has the collector look at everything a hundred times more rarely while the context is open, anywhere."""
    global _inside, _before  # noqa: PLW0603 - there is one collector
    with _lock:
        if not _inside:
            _before = gc.get_threshold()
            gc.set_threshold(_before[0], _before[1], _RARELY)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.set_threshold(*_before)
