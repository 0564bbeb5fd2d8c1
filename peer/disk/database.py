"""SQLite databases of the peer's home: brought up to date when they are undamaged and of its kind, else begun anew."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from core.errors import NotPossible
from core.private_files import keep_private
from core.schemas import Schema

log = logging.getLogger("relevo.home")
_ASIDE = ".damaged"
# SQLite's name for a database without a file.
IN_MEMORY = Path(":memory:")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Store")


class Store(Protocol):
    """Whatever keeps things in a database at `path`."""

    path: Path


def told(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Turns errors of SQLite in a method of a store into NotPossible, one sentence for the user."""

    def call(self: S, /, *args: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(self, *args, **keywords)
        except sqlite3.Error as error:
            raise NotPossible(f"{self.path} cannot be used ({error}); is the disk full or failing?") from error

    call.__doc__ = function.__doc__
    return call


def open_database(path: Path, schema: Schema) -> sqlite3.Connection:
    """Opens or makes a database, in WAL mode and without implicit transactions; any thread may use it, one at a time.

    One that an older version has written is brought up to date. One that is damaged, or of another kind, is set aside
    as `….damaged` and begun anew.

    Raises:
        NotPossible: a newer version has written it, or it cannot be opened for a reason other than damage.
    """
    try:
        return _open(path, schema)
    except (OSError, sqlite3.OperationalError) as error:  # locked, no space, no permission: not a damaged file
        raise NotPossible(f"{path} cannot be opened ({error})") from error
    except sqlite3.DatabaseError as error:
        log.warning("%s is set aside and begun anew: %s", path, error)
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).replace(path.with_name(path.name + _ASIDE + end))
        return _open(path, schema)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Makes what is done within it durable together, or not at all."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _open(path: Path, schema: Schema) -> sqlite3.Connection:
    if path != IN_MEMORY:
        keep_private(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        problem = _problem(database, schema)
        if problem:
            raise sqlite3.DatabaseError(problem)  # noqa: TRY301 - closed below like all others
        schema.bring_up(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def _problem(database: sqlite3.Connection, schema: Schema) -> str:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != schema.application:
        return "it is not a database of this kind"
    (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    return "" if answer == "ok" else str(answer)
