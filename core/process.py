"""The process around either program: its memory, its open files, its event loop."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

from core.limits import Limits, open_files
from core.rpc import tune_allocator

_new_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # it does not exist for every system
    _new_loop = None

# Objects that are made before garbage is looked for, and so on: Python's own numbers (700, 10, 10) took 13 % of the
# processor time of a peer in a swarm.
_GARBAGE = (10_000, 20, 50)


def run(main: Coroutine[Any, Any, None], limits: Limits) -> None:
    """Runs a program, whose server has `limits`, until `main` ends, on uvloop where there is one.

    Raises what `main` raises.
    """
    tune_allocator()
    open_files(limits.connections)
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main)
