"""The schemas of SQLite databases: which version a file has, and the steps that bring an older one up to date."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import NotPossible
from core.private_files import keep_private

# How long a connection waits for another one that writes, in seconds.
BUSY_SECONDS = 5.0


def connected(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """Returns a connection in autocommit mode to a database that only its owner may read, which is made if need be.

    Any one thread at a time may use it; the caller closes it. `prepare` brings it up or checks it, and sets what it is
    to be like.

    Raises:
        NotPossible: it cannot be opened or used; and what `prepare` raises.
    """
    try:
        keep_private(path)
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise NotPossible(f"cannot open {path} ({error}); check the directory's permissions") from error
    try:
        prepare(db)
    except sqlite3.Error as error:
        db.close()
        raise NotPossible(
            f"cannot use {path} ({error}); see that the disk is neither full nor read-only, "
            "and restore the file from a backup otherwise"
        ) from error
    except NotPossible:
        db.close()
        raise
    return db


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database is made of. SQLite keeps the version in the file, as its `user_version`.

    Attributes:
        program: what writes it, as users know it.
        tables: SQL that makes the newest version where nothing is.
        steps: SQL that makes the next of each older version, the first version's first. What is left afterwards must be
            what `tables` makes, but for the order of columns and defaults. Foreign keys are checked at the end only.
        application: SQLite's application id, by which kinds of databases are told apart; 0 for none.
    """

    program: str
    tables: str
    steps: tuple[str, ...] = ()
    application: int = 0

    @property
    def version(self) -> int:
        """The newest version; the first is 1."""
        return len(self.steps) + 1

    def bring_up(self, db: sqlite3.Connection, path: Path) -> int:
        """Brings a database to the newest version, in one transaction, and returns the version that it had, 0 for none.

        Whoever calls has the database for itself, or at least for this version: a program that uses an older one
        beside it would not find what it knows.

        Args:
            db: in autocommit mode.
            path: what to call it.

        Raises:
            NotPossible: a newer version has written it; it stays as it is.
            sqlite3.Error: it cannot be read or written, or is damaged; it stays as it is.
        """
        if self._of(db, path) == self.version:
            return self.version
        (enforced,) = db.execute("PRAGMA foreign_keys").fetchone()
        db.execute("PRAGMA foreign_keys = OFF")  # a table that is made anew is away for a moment
        try:
            db.execute("BEGIN IMMEDIATE")
            found = self._of(db, path)  # somebody else may have been faster
            for script in self.steps[found - 1 :] if found else (self.tables,):
                for statement in _statements(script):
                    db.execute(statement)
            if db.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.IntegrityError("rows refer to rows that are not there")
            db.execute(f"PRAGMA application_id = {self.application}")
            db.execute(f"PRAGMA user_version = {self.version}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.execute(f"PRAGMA foreign_keys = {enforced}")
        return found

    def check(self, db: sqlite3.Connection, path: Path) -> None:
        """Checks that a database has the newest version, for whoever may not change what others are using.

        Raises:
            NotPossible: a newer version has written it, or an older one.
            sqlite3.Error: it cannot be read.
        """
        found = self._of(db, path)
        if found < self.version:
            raise NotPossible(
                f"{path} was written by an older {self.program} (schema {found}, this one has {self.version}); "
                f"start {self.program} of this version once, which brings it up to date"
            )

    def _of(self, db: sqlite3.Connection, path: Path) -> int:
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found > self.version:
            raise NotPossible(
                f"{path} was written by a newer {self.program} (schema {found}, this one knows {self.version}); "
                "upgrade, or restore a backup from before"
            )
        return found


def _statements(script: str) -> Iterator[str]:
    """Yields the statements of a script one by one: `executescript` would commit what is under way."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
