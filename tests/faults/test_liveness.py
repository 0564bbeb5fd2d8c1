"""A few of the trials, once each and with nothing that a slow machine would miss."""

import pytest

from tests.faults import clocks
from tests.faults.liveness import NO_CARRIERS, kept
from tests.faults.network import Gate, network


async def test_a_peer_that_only_central_does_not_reach_is_kept_and_is_plainly_live_afterwards():
    async with network(options=NO_CARRIERS) as net, Gate(net.central.address) as gate:
        await net.start_peers(["ana"], via=gate.address)
        before = await net.logins()
        gate.shut()
        gate.cut()
        await kept(net, ["ana"], 8.0)  # a lease is 7 s
        gate.open()
        gate.cut()
        await net.until_live(["ana"])
        assert await net.logins() == before


@pytest.mark.skipif(bool(clocks.missing()), reason=clocks.missing() or "it can be changed")
def test_the_time_of_day_of_a_program_is_what_a_trial_says():
    with clocks.shimmed():
        pass  # it looks whether it has an effect
