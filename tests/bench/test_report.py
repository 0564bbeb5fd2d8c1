"""docs/benchmarks.md: what it lists can be measured again, and only what was measured changes."""

import sys
from pathlib import Path

import pytest

from bench.report import machine, measured, names

PAGE = """# Figures

<!-- measured: python -m bench.one --rounds 3 -->
old
<!-- end -->

What one says.

<!-- measured: python -m bench.two -->
<!-- end -->
"""


def test_what_is_measured_replaces_what_stood_there_and_nothing_else():
    ran = []

    def run(command):
        ran.append(command)
        return "| new |\n"

    after = measured(PAGE, lambda name: name == "one", run, "here and now")
    assert ran == [[sys.executable, "-m", "bench.one", "--rounds", "3"]]
    assert "old" not in after
    for part in ("```\npython -m bench.one --rounds 3\n```", "here and now", "| new |", "What one says."):
        assert part in after
    assert after.endswith(PAGE[PAGE.index("What one says.") :])
    assert measured(after, lambda name: name == "one", run, "here and now") == after


def test_the_machine_is_named_by_what_the_figures_depend_on():
    assert "cores" in machine()
    assert "grpcio" in machine()


@pytest.mark.parametrize("name", ["tls", "transfer", "relayed", "small_files", "library", "limits", "swarm"])
def test_everything_that_the_page_lists_is_there_to_be_run(name):
    root = Path(__file__).parents[2]
    assert name in names((root / "docs" / "benchmarks.md").read_text("utf-8"))
    assert (root / "bench" / f"{name}.py").exists()
