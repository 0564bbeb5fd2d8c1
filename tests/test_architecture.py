"""docs/architecture.md says what the code does: its derived parts are what the code gives."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def derive():
    spec = importlib.util.spec_from_file_location("derive", DOCS / "derive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(derive):
    page = (DOCS / "architecture.md").read_text("utf-8")
    return {mark[2]: mark[0].split("\n", 1)[1].rsplit("\n", 1)[0] for mark in derive.MARK.finditer(page)}


def test_the_module_table_and_the_states_are_those_of_the_code(derive, written):
    assert written["modules"] == derive.modules(), "run docs/derive.py"
    assert written["states"] == derive.states(), "run docs/derive.py"


async def test_every_arrow_of_the_flows_is_a_call_that_really_happens(derive, written):
    for name, calls in (await derive.record()).items():
        drawn = {line.strip() for line in written[f"flow_{name}"].splitlines() if "->>" in line}
        assert drawn, f"{name} shows nothing"
        assert drawn <= {f"{caller}->>{called}: {rpc}" for caller, called, rpc in calls}, f"{name}: run docs/derive.py"
