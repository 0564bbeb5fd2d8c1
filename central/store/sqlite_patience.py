"""How long SQLite may be at one search: some patterns cost minutes in a large catalogue, and no thread can be stopped.

A progress handler would be asked between rows, and take Python's lock each time; an interrupt costs nothing until it
comes.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import InvalidInput

# A search is interrupted at this look; the next is as many times sooner as that.
_LOOKS = 4


class Patience:
    """Bounds searches that run in other threads."""

    def __init__(self, seconds: float) -> None:
        """A search ends after `seconds`, or a quarter more."""
        self._interval = seconds / _LOOKS
        self._looks: dict[sqlite3.Connection, int] = {}
        # Held while interrupting, so that no interrupt meets what a connection does next.
        self._lock = threading.Lock()

    @contextmanager
    def bounding(self, db: sqlite3.Connection) -> Iterator[None]:
        """Bounds what is done with `db` inside.

        Raises:
            InvalidInput: it has taken too long.
        """
        with self._lock:
            self._looks[db] = 0
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            text = "this search takes too long; name more of what you look for, with fewer wildcards"
            raise InvalidInput("query", text) from error
        finally:
            with self._lock:
                del self._looks[db]

    async def watch(self) -> None:
        """Interrupts what has run for too long, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self._look()

    def _look(self) -> None:
        with self._lock:
            for db, looks in self._looks.items():
                self._looks[db] = looks + 1
                if looks >= _LOOKS:
                    db.interrupt()
