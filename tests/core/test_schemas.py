"""Schemas: databases of every older version are brought up to date whole or not at all, newer ones are not touched."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from central.network import register_schema
from central.store import sqlite_schema
from core.errors import NotPossible
from core.schemas import Schema
from peer.library import index
from peer.work import journal

OLDEST = Path(__file__).parents[1] / "data" / "schemas"
ALL = {
    "central": sqlite_schema.SCHEMA,
    "register": register_schema.SCHEMA,
    "index": index._SCHEMA,
    "journal": journal._SCHEMA,
}
FIRST = "CREATE TABLE one (a TEXT PRIMARY KEY); CREATE TABLE two (a TEXT NOT NULL REFERENCES one);"
SECOND = """
CREATE TABLE one_anew (a TEXT PRIMARY KEY, b TEXT NOT NULL DEFAULT ';--');
INSERT INTO one_anew (a) SELECT a FROM one;
DROP TABLE one;
ALTER TABLE one_anew RENAME TO one;
"""
THIRD = "ALTER TABLE two ADD COLUMN c INTEGER; INSERT INTO two SELECT a, 3 FROM one WHERE a = 'x'"
NEWEST = """
CREATE TABLE one (a TEXT PRIMARY KEY, b TEXT NOT NULL DEFAULT ';--');
CREATE TABLE two (a TEXT NOT NULL REFERENCES one, c INTEGER);
"""
SCHEMA = Schema("relevo", NEWEST, (SECOND, THIRD + ";"), 77)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


@pytest.fixture
def db(path):
    with closing(opened(path)) as found:
        yield found


def opened(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def of_the_first_version(db):
    db.executescript(FIRST + "INSERT INTO one VALUES ('x'); INSERT INTO two VALUES ('x'); PRAGMA user_version = 1;")


def shape(db):
    """Returns what a database is made of, but for the order of columns, defaults, and what SQLite keeps for itself."""
    found = {}
    for kind, name, table in db.execute("SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'"):
        if kind == "table":
            columns = db.execute(f"PRAGMA table_xinfo({name})").fetchall()
            strict = db.execute("SELECT strict, wr FROM pragma_table_list WHERE name = ?", (name,)).fetchall()
            found[name] = {tuple(column[at] for at in (1, 2, 3, 5)) for column in columns}, strict
            unique = [row[1] for row in db.execute(f"PRAGMA index_list({name})") if row[2]]
            found[name, "unique"] = {tuple(db.execute(f"PRAGMA index_xinfo({each})")) for each in unique}
        else:
            found[table, name] = tuple(row[2] for row in db.execute(f"PRAGMA index_xinfo({name})"))
    return found


def pragma(db, name):
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_tables_are_made_where_nothing_is_and_stay_afterwards(db, path):
    assert SCHEMA.bring_up(db, path) == 0
    db.execute("INSERT INTO one (a) VALUES ('x')")
    assert (pragma(db, "user_version"), pragma(db, "application_id")) == (3, 77)
    assert SCHEMA.bring_up(db, path) == 3
    assert db.execute("SELECT a, b FROM one").fetchall() == [("x", ";--")]
    SCHEMA.check(db, path)


def test_an_older_version_goes_through_all_steps_with_what_it_holds(db, path):
    of_the_first_version(db)
    assert SCHEMA.bring_up(db, path) == 1
    assert db.execute("SELECT a, c FROM two").fetchall() == [("x", None), ("x", 3)]
    assert db.execute("SELECT a, b FROM one").fetchall() == [("x", ";--")]
    assert pragma(db, "foreign_keys") == 1
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO two VALUES ('unknown', 1)")


@pytest.mark.parametrize(
    "last", ["INSERT INTO nowhere VALUES (1);", "INSERT INTO two (a) VALUES ('gone');", "DELETE FROM one;"]
)
def test_a_step_that_fails_leaves_the_database_as_it_was(db, path, last):
    of_the_first_version(db)
    before = shape(db)
    with pytest.raises(sqlite3.Error):
        Schema("relevo", NEWEST, (SECOND, THIRD + ";", last)).bring_up(db, path)
    assert (shape(db), pragma(db, "user_version"), pragma(db, "foreign_keys")) == (before, 1, 1)
    assert db.execute("SELECT * FROM one").fetchall() == [("x",)]
    assert not db.in_transaction


def test_a_newer_version_is_refused_and_not_touched(db, path):
    SCHEMA.bring_up(db, path)
    db.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    for use in (SCHEMA.bring_up, SCHEMA.check):
        with pytest.raises(NotPossible, match=r"a\.db was written by a newer relevo \(schema 9, this one knows 3\)"):
            use(db, path)
    assert path.read_bytes() == before


def test_whoever_may_not_change_it_is_told_what_does(db, path):
    of_the_first_version(db)
    with pytest.raises(NotPossible, match=r"written by an older relevo .* start relevo of this version once"):
        SCHEMA.check(db, path)
    assert pragma(db, "user_version") == 1


def test_two_that_bring_it_up_at_once_do_it_once(db, path):
    of_the_first_version(db)

    class Late(sqlite3.Connection):
        """Another process does it between this one's look and its turn."""

        def execute(self, sql, *values):
            if sql == "BEGIN IMMEDIATE":
                SCHEMA.bring_up(db, path)
            return super().execute(sql, *values)

    with closing(sqlite3.connect(path, isolation_level=None, factory=Late)) as late:
        SCHEMA.bring_up(late, path)
        assert late.execute("SELECT count(*) FROM two").fetchone() == (2,)


@pytest.mark.parametrize("name", ALL)
def test_the_oldest_database_becomes_what_a_new_one_is(db, path, tmp_path, name):
    db.executescript((OLDEST / f"{name}-1.sql").read_text("utf-8"))
    assert ALL[name].bring_up(db, path) == 1
    with closing(opened(tmp_path / "new.db")) as new:
        assert ALL[name].bring_up(new, path) == 0
        assert shape(db) == shape(new)
        assert pragma(db, "application_id") == pragma(new, "application_id")
    assert pragma(db, "integrity_check") == "ok"
