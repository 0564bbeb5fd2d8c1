"""Lists and searches of the catalogue in SQLite. Every function runs inside a transaction of its caller."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from central.catalogue.search import Reference, TextSearch, compile_reference, compile_text, position
from central.store.store import FileQuery, FoundFile, Order, Page
from core.names import folded

# Up to so many files that have the grams are fetched and sorted. When there are more, walking the index of the order
# finds a page of them sooner.
GATHERED = 3_000

_KEYS = {Order.NEWEST_FIRST: "age, path, content_id, size", Order.BY_NAME: "folded, path, content_id, size"}
_INDEXES = {Order.NEWEST_FIRST: "files_by_age", Order.BY_NAME: "files_by_folded"}

_VISIBLE = """(
  EXISTS (SELECT 1 FROM entries CROSS JOIN live USING (library) WHERE file_id = files.id)
  OR EXISTS (
    SELECT 1 FROM placements CROSS JOIN stored USING (content_id) CROSS JOIN live USING (library)
    WHERE file_id = files.id AND successor IS NULL
  )
)"""
# Materialized, so that the details are looked up for the files of the page only. Without a live publisher there are
# none, and the placement tells them.
_DETAILS = """
SELECT path, content_id, size,
  coalesce(
    (SELECT max(modify_time) FROM entries CROSS JOIN live USING (library) WHERE file_id = page.id),
    (SELECT max(modify_time) FROM placements WHERE file_id = page.id)),
  coalesce(
    (SELECT max(executable) FROM entries CROSS JOIN live USING (library) WHERE file_id = page.id),
    (SELECT max(executable) FROM placements WHERE file_id = page.id)),
  (SELECT count(*) FROM (
    SELECT library FROM files CROSS JOIN entries ON file_id = files.id WHERE files.content_id = page.content_id
    UNION SELECT library FROM stored WHERE stored.content_id = page.content_id
  ) CROSS JOIN live USING (library)),
  age,
  (SELECT coalesce(max(wanted), 0) FROM placements WHERE placements.content_id = page.content_id),
  (SELECT count(*) FROM stored CROSS JOIN live USING (library)
   WHERE stored.content_id = page.content_id AND NOT EXISTS (
     SELECT 1 FROM dropping WHERE dropping.content_id = page.content_id AND dropping.peer_id = live.peer_id
   ))
FROM page ORDER BY
"""


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which rows of `files`: a query for their ids (empty: all), a condition (empty: none), and their values."""

    ids: str = ""
    condition: str = ""
    values: dict[str, object] = field(default_factory=dict)


def list_files(db: sqlite3.Connection, query: FileQuery) -> Page[FoundFile]:
    """Returns a page of files.

    Raises:
        InvalidInput: the text, the reference or the key cannot be searched for.
    """
    after = position(query)
    if query.reference:
        selection = _first_with_any(db, compile_reference(query.reference))
    elif query.directory:
        selection = _beneath(query)
    else:
        selection = _by_text(db, compile_text(query.text))
    if selection is None:
        return Page()
    values = {**selection.values, "limit": query.limit + 1}
    conditions = [selection.condition] if selection.condition else []
    keys = _KEYS[query.order]
    if after is not None:
        conditions.append(f"({keys}) > (:after_first, :after_path, :after_content, :after_size)")
        first = after[0] if isinstance(after[0], str) else -after[0]
        values |= {"after_first": first, "after_path": after[1], "after_content": after[2], "after_size": after[3]}
    where = " AND ".join([*conditions, _VISIBLE])
    source = _source(selection, f"INDEXED BY {_INDEXES[query.order]}")
    page = f"SELECT id, path, folded, content_id, size, age {source} WHERE {where} ORDER BY {keys} LIMIT :limit"
    rows = db.execute(f"WITH page AS MATERIALIZED ({page}) {_DETAILS} {keys}", values).fetchall()
    files = tuple(
        FoundFile(path, content_id, size, modified, bool(executable), holders, -age, wanted, live)
        for path, content_id, size, modified, executable, holders, age, wanted, live in rows[: query.limit]
    )
    return Page(files, _key(files[-1], query.order) if len(rows) > query.limit else None)


def _source(selection: _Selection, index: str) -> str:
    """Returns the FROM clause. CROSS JOIN fixes the order of look-up: the planner knows no sizes."""
    if selection.ids:
        return f"FROM ({selection.ids}) AS hits CROSS JOIN files ON files.id = hits.hit"
    return f"FROM files {index}"


def _key(file: FoundFile, order: Order) -> tuple[str | float, ...]:
    first = folded(file.path) if order is Order.BY_NAME else file.publish_time
    return first, file.path, file.content_id.hex(), file.size


def _by_text(db: sqlite3.Connection, search: TextSearch) -> _Selection:
    if search.glob:
        condition = f"{'folded_name' if search.name_only else 'folded'} GLOB :text"
    elif search.needle:
        condition = "instr(folded, :text) > 0"
    else:
        return _Selection()
    values: dict[str, object] = {"text": search.glob or search.needle}
    if search.grams:
        grams = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in search.grams)
        match = "SELECT rowid AS hit FROM grams WHERE grams MATCH :grams"
        values["grams"] = grams
        probe = f"{match} LIMIT {GATHERED + 1}"
        if len(db.execute(probe, values).fetchall()) <= GATHERED:
            return _Selection(match, condition, values)
    return _Selection(condition=condition, values=values)


def _beneath(query: FileQuery) -> _Selection:
    """Selects by the index of names, in whose order the files of a directory stand side by side."""
    beneath = f"{query.directory}/"
    low = folded(beneath)
    values: dict[str, object] = {"low": low, "high": f"{low[:-1]}0", "beneath": beneath, "length": len(beneath)}
    exact = "substr(path, 1, :length) = :beneath"
    if query.order is not Order.BY_NAME:
        return _Selection("SELECT id AS hit FROM files WHERE folded >= :low AND folded < :high", exact, values)
    # A further page begins at its key, behind `low`: with both, the index might be walked from the directory's first.
    begin = "folded >= :low AND " if query.after is None else ""
    return _Selection(condition=f"{begin}folded < :high AND {exact}", values=values)


def _first_with_any(db: sqlite3.Connection, reference: Reference) -> _Selection | None:
    """Returns the first way to understand a reference that finds a visible file, or None."""
    for selection in _understandings(reference):
        query = f"SELECT 1 {_source(selection, '')} WHERE {_VISIBLE} LIMIT 1"
        if db.execute(query, selection.values).fetchone() is not None:
            return selection
    return None


def _understandings(reference: Reference) -> Iterator[_Selection]:
    yield _Selection(
        "SELECT id AS hit FROM files WHERE folded = :folded AND path = :path",
        values={"folded": folded(reference.path), "path": reference.path},
    )
    if reference.name:
        ending = f"/{reference.name}"
        yield _Selection(
            "SELECT id AS hit FROM files WHERE folded_name = :name AND substr(path, -:length) = :ending",
            values={"name": folded(reference.name), "length": len(ending), "ending": ending},
        )
    if reference.ids is not None:
        yield _Selection(
            "SELECT id AS hit FROM files WHERE content_id BETWEEN :low AND :high",
            values={"low": reference.ids[0], "high": reference.ids[1]},
        )
