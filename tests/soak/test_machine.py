"""Central and its peers do what the small model says, whatever happens in whatever order.

500 steps; RELEVO_SOAK=full (`make soak`) takes 10,000, other ones at every run.
"""

import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.soak.machine import CAME_TO, TAKEN, Relevo

log = logging.getLogger("relevo.soak")
FULL = os.environ.get("RELEVO_SOAK") == "full"
STEPS = 10_000 if FULL else 500
RULES = 17


@pytest.mark.timeout(3600)
def test_whatever_happens_central_answers_what_the_model_says():
    TAKEN.clear()
    CAME_TO.clear()
    runs = settings(
        max_examples=10,
        stateful_step_count=50,
        deadline=None,
        derandomize=not FULL,
        print_blob=True,
        phases=[Phase.generate],  # a run is short, and each try to shorten it starts central
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    while TAKEN.total() < STEPS:
        before = TAKEN.total()
        run_state_machine_as_test(Relevo, settings=runs)
        if not FULL:
            assert TAKEN.total() - before >= STEPS, "the same steps would come again"
    said = ", ".join(f"{name} {count}" for name, count in sorted((TAKEN + CAME_TO).items()))
    log.info("%d steps: %s", TAKEN.total(), said)
    few = 0 if FULL else 2  # which ones 500 steps take is chance, though the same at every run of the same code
    assert len(TAKEN) >= RULES - few, f"not every rule was taken: {said}"
    assert len(+CAME_TO) >= 4 - few, f"files were not placed and stored, given up and dropped: {said}"
