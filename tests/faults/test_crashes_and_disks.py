"""A few rounds of the trials of crashes and disks; `make faults` does hundreds."""

import pytest

from tests.faults import crashes, disks


def test_nothing_that_central_acknowledged_under_writes_is_gone_after_kill_9():
    assert crashes.central_under_writes(3, least=1.0) == [0.0, 0.0, 0.0]


@pytest.mark.skipif(bool(disks.no_compiler()), reason=disks.no_compiler() or "there is one")
def test_a_central_whose_sync_fails_refuses_stays_and_goes_on():
    assert disks.central_whose_sync_fails(1) == [0.0]
