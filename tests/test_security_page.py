"""What docs/security.md says is so: its roles are the rules, its limits the code's, its tests exist."""

import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest

from core.access import RULES, Role
from tests.defences.table import DEFENCES, OF_GRPC

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
ROLES = [Role.PEER, Role.ADMIN, Role.OWNER, Role.STRANGER]
UNITS = {"": 1, "s": 1, "h": 3600, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def rows(header):
    """Cells of the table that begins with `header`."""
    lines = PAGE.partition(header)[2].splitlines()[2:]
    table = lines[: next(index for index, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def roles_row(method):
    service, name = method.strip("/").rsplit("/", 1)
    told = f"`{service.removeprefix('relevo.v1.')}.{name}`"
    return [told, *("yes" if role in RULES[method] else "" for role in ROLES)]


def test_the_roles_are_the_rules():
    assert rows("| RPC | peer | operator | owner | stranger |") == [roles_row(method) for method in RULES]


LIMITS = rows("| limit | value | in | because |")


def in_code(place):
    """The value at `module.NAME`, `module.Class.field`, `module.TABLE[key]`, or the size of a cache."""
    path, _, key = place.strip("`").partition("[")
    module, _, name = path.rpartition(".")
    try:
        owner = import_module(module)
    except ModuleNotFoundError:
        module, _, kind = module.rpartition(".")
        owner = getattr(import_module(module), kind)
    if is_dataclass(owner):
        return {field.name: field.default for field in fields(owner)}[name]
    value = getattr(owner, name)
    if key:
        key = key.rstrip("]")
        return dict(value)[key] / (1000 if key.endswith("_ms") else 1)
    return value.cache_info().maxsize if hasattr(value, "cache_info") else value


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit[0])
def test_a_limit_is_what_the_code_has(limit):
    _, told, place, reason = limit
    number, _, unit = told.partition(" ")
    assert in_code(place) == float(number.replace(",", "")) * UNITS[unit]
    assert reason


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    assert named - there == set()
    assert len(named) > 30


def test_every_threat_is_answered_by_promises_that_there_are():
    answers = rows("| threat | who does what | promises |")
    assert [int(threat) for threat, _, _ in answers] == [*range(1, 38)]
    promises = {row[0] for row in rows("| # | promise | test |")}
    answering = {number for _, _, numbers in answers for number in numbers.split(", ")}
    assert answering <= promises
    assert promises - answering == {"32", "33", "31"}


def test_every_test_that_is_named_has_a_defence_without_which_it_fails():
    named = {name for _, _, tests in rows("| # | promise | test |") for name in re.findall(r"`(test_\w+)`", tests)}
    assert named == OF_GRPC | {name for defence in DEFENCES for name in defence.tests}


@pytest.mark.parametrize("piece", [piece for one in DEFENCES for piece in one.pieces], ids=lambda one: one.file)
def test_a_defence_stands_where_the_table_says(piece):
    assert (ROOT / piece.file).read_text("utf-8").count(piece.code) == 1, "tests/defences/table.py tells of other code"
    assert piece.without != piece.code


def test_promises_are_numbered_one_after_the_other():
    assert [int(row[0]) for row in rows("| # | promise | test |")] == list(
        range(1, len(rows("| # | promise | test |")) + 1)
    )
