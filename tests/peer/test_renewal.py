"""Renewing in time, and finding out why central is silent."""

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from core import errors
from core.identity import Identity
from peer.directory.central_time import CentralTime
from peer.links.credentials import Credentials
from peer.membership.enrolling import Enrolling
from peer.membership.renewal import Pace, Renewal

AWAY = errors.Unreachable("central at 127.0.0.1:7400 does not answer")
PACE = Pace(first=(1.0, 1.0), again=30.0, longest=100.0, look=0.005)


class Stage:
    """A member of a network whose clocks a test moves."""

    def __init__(self, network, home):
        self.network = network
        self.time = time.time()
        network.wall = lambda: self.time
        self.monotonic = 0.0
        self.ana = Identity.generate()
        self.credentials = Credentials(self.ana, home, network.membership(self.ana))
        self.centrals = ("127.0.0.1:7400",)

    def renewal(self, **settings):
        clock = CentralTime(lambda: self.time, lambda: self.time)
        return Renewal(
            self.credentials,
            Enrolling(self.ana, clock),
            lambda: self.centrals,
            clock=lambda: self.monotonic,
            **{"pace": PACE, "time": clock, **settings},
        )

    async def asks(self, renewal, failures=3, error=AWAY):
        """Returns what the guard makes of a failure, and whether it asked central."""
        before = len(self.network.asked)
        found = await renewal.explain(error, failures)
        return found, len(self.network.asked) > before


@pytest.fixture
async def stage(enrolment_bench, tmp_path):
    stage = Stage(enrolment_bench, tmp_path)
    yield stage
    await stage.credentials.close()


async def until(condition):
    """Waits for what a moved clock brings about; the certificate is looked at every 5 ms."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)


async def running(renewal):
    task = asyncio.create_task(renewal.run())
    await asyncio.sleep(0)
    return task


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# What silence means


async def test_silence_is_looked_into_after_three_failures_and_a_pause(stage):
    renewal = stage.renewal()
    assert await stage.asks(renewal, failures=1) == (AWAY, False)
    assert await stage.asks(renewal, failures=3) == (AWAY, False)
    stage.monotonic = 1.0
    assert await stage.asks(renewal, failures=2) == (AWAY, False)
    found, asked = await stage.asks(renewal, failures=3)
    assert (found, asked) == (None, True)  # a fresh certificate has come: try at once


async def test_central_that_is_away_is_just_away(stage):
    await stage.network.close()
    renewal = stage.renewal()
    await renewal.explain(AWAY, 1)
    stage.monotonic = 5.0
    assert await renewal.explain(AWAY, 3) is AWAY


async def test_a_peer_whose_certificate_has_expired_meanwhile_is_told_what_else_may_be_wrong(stage):
    await stage.network.close()
    renewal = stage.renewal()
    await renewal.explain(AWAY, 1)
    stage.monotonic = 5.0
    stage.time += 2 * 86_400
    found = await renewal.explain(AWAY, 3)
    assert isinstance(found, errors.Unreachable)
    assert str(found).startswith(
        "this peer's certificate has expired, and is renewed as soon as central can be asked: "
    )
    assert "relevo serve DIR --join TOKEN" in str(found)
    assert await renewal.explain(AWAY, 4) is found


async def test_a_clock_that_jumps_is_told_once_and_once_more_when_it_is_right(stage, caplog):
    wall = [1e9]
    clock = CentralTime(lambda: 0.0, lambda: wall[0])
    renewal = stage.renewal(time=clock)
    renewal.due = 2e9
    wall[0] += 7200
    renewal._look_at_clock()
    wall[0] -= 7200  # it had slept, and has logged in again
    renewal._look_at_clock()
    renewal._look_at_clock()
    assert not caplog.records
    task = await running(renewal)
    wall[0] += 7200
    await until(lambda: caplog.records)
    wall[0] -= 7200
    await until(lambda: len(caplog.records) > 1)
    await asyncio.sleep(0.05)  # ten more looks
    await ended(task)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("this machine's clock is 2 h ahead of central's: set it")
    assert said[1:] == ["this machine's clock has been set"]


async def test_a_revoked_peer_is_told_in_one_line_and_asks_ever_more_slowly(stage):
    stage.network.revoke(stage.ana.peer_id)
    renewal, asked = stage.renewal(), []
    await renewal.explain(AWAY, 1)
    for second in range(1, 400):
        stage.monotonic = float(second)
        found, did = await stage.asks(renewal)
        asked += [second] if did else []
        assert isinstance(found, errors.Revoked)
        assert str(found).startswith("the operator has revoked this peer; to come back, ask the operator for a token")
        assert "\n" not in str(found)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == 1
    assert 30 <= pauses[0] <= 39
    assert 60 <= pauses[1] <= 76
    assert all(100 <= pause <= 126 for pause in pauses[2:])
    assert len(pauses) >= 3


async def test_a_peer_that_central_does_not_know_is_told_to_join_again(stage):
    stage.network.members.clear()
    renewal = stage.renewal()
    await renewal.explain(AWAY, 1)
    stage.monotonic = 1.0
    found = await renewal.explain(AWAY, 3)
    assert isinstance(found, errors.NotEnrolled)
    assert "relevo serve DIR --join TOKEN" in str(found)
    # That is what it says when the session begins to count anew, and until central says otherwise.
    assert await renewal.explain(found, 1) is found
    assert await renewal.explain(AWAY, 2) is found
    stage.network.members.add(stage.ana.peer_id)
    stage.monotonic = 5.0
    assert await renewal.explain(AWAY, 3) is None


async def test_a_peer_that_central_does_not_know_joins_again_with_the_token_that_it_has(stage):
    stage.network.members.clear()
    token = stage.network.token("127.0.0.1:7400")
    renewal = stage.renewal(token=token, name="ana")
    await renewal.explain(AWAY, 1)
    stage.monotonic = 1.0
    assert await renewal.explain(AWAY, 3) is None
    assert stage.network.asked == ["Renew", "Enroll"]


async def test_somebody_else_at_centrals_address_is_named(stage, other_enrolment_bench):
    stage.network.members.clear()
    renewal = stage.renewal()
    stage.credentials.membership = replace(stage.credentials.membership, enrolment_port=other_enrolment_bench.port)
    await renewal.explain(AWAY, 1)
    stage.monotonic = 1.0
    found = await renewal.explain(AWAY, 3)
    assert isinstance(found, errors.WrongIdentity)
    assert f"whoever answers at 127.0.0.1:{other_enrolment_bench.port} is not central of this network" in str(found)


async def test_a_busy_enrolment_is_left_alone_for_as_long_as_it_says(stage):
    renewal = stage.renewal()
    await renewal.explain(AWAY, 1)
    stage.monotonic = 1.0
    stage.network.error = errors.Busy("later", 500.0)
    assert await stage.asks(renewal) == (AWAY, True)
    stage.network.error = None
    stage.monotonic = 500.0
    assert await stage.asks(renewal) == (AWAY, False)
    stage.monotonic = 502.0
    assert await stage.asks(renewal) == (None, True)


async def test_an_expired_certificate_at_a_call_is_renewed_at_once(stage):
    expired = errors.CertificateExpired("the certificate is not valid at this time; renew it")
    renewal = stage.renewal()
    assert await stage.asks(renewal, 1, expired) == (None, True)
    # Where the fresh one is not taken either, it is not asked for in a storm.
    assert await stage.asks(renewal, 2, expired) == (expired, False)


async def test_a_refusal_at_a_call_is_told_as_one_that_was_asked_for(stage):
    found, asked = await stage.asks(stage.renewal(), 1, errors.Revoked("this peer has been revoked"))
    assert not asked
    assert "the operator has revoked this peer" in str(found)


async def test_what_has_nothing_to_do_with_certificates_is_left_as_it_is(stage):
    renewal, error = stage.renewal(), errors.InvalidInput("name", "too long")
    stage.monotonic = 1e6
    assert await stage.asks(renewal, 1, error) == (error, False)
    assert await stage.asks(renewal, 9, error) == (error, False)


# When to renew


async def test_a_peer_that_was_off_for_a_week_renews_before_it_logs_in(stage):
    renewal = stage.renewal()
    await renewal.ready()
    assert stage.network.asked == []
    stage.time += 7 * 86_400
    assert stage.credentials.membership.expired(stage.time)
    await renewal.ready()
    assert stage.network.asked == ["Renew"]
    assert not stage.credentials.membership.expired(stage.time)


async def test_a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_before(stage):
    renewal = stage.renewal()
    due, task = renewal.due, await running(renewal)
    hours = (due - stage.time) / 3600
    assert 16 <= hours < 16.2
    stage.time = due - 1
    await asyncio.sleep(0.05)  # ten looks
    assert stage.network.asked == []
    before, stage.time = stage.credentials.membership, due + 1
    await until(lambda: stage.credentials.membership is not before)
    assert stage.network.asked == ["Renew"]
    await ended(task)


async def test_a_renewal_is_tried_again_until_central_is_back(stage, caplog):
    stage.network.error = errors.Unreachable("starting")
    renewal = stage.renewal()
    task = await running(renewal)
    for _ in range(3):
        asked, stage.time = len(stage.network.asked), renewal.due + 1
        await until(lambda asked=asked: len(stage.network.asked) > asked)
        await until(lambda: renewal.due > stage.time)
        assert renewal.due - stage.time <= 60.0
    stage.network.error, stage.time = None, renewal.due + 1
    before = stage.credentials.membership
    await until(lambda: stage.credentials.membership is not before)
    assert "the certificate is not renewed" in caplog.text
    await ended(task)


async def test_a_new_authority_is_followed_soon_but_not_by_all_at_once(stage):
    renewals = [stage.renewal() for _ in range(20)]
    stage.network.rotate()
    stage.credentials.hear(stage.network.trust)
    for renewal in renewals:
        renewal.replan()
    waits = sorted(renewal.due - stage.time for renewal in renewals)
    assert waits[0] >= 0
    assert waits[-1] <= 600
    assert waits[-1] - waits[0] > 60
    renewal = renewals[0]
    task = await running(renewal)
    stage.time = renewal.due + 1
    await until(lambda: stage.credentials.membership.of_issuing_authority())  # noqa: PLW0108 - another each time
    await until(lambda: renewal.due > stage.time + 3600)
    await ended(task)


async def test_two_who_need_a_fresh_certificate_at_once_ask_once(stage):
    renewal = stage.renewal()
    stage.time += 7 * 86_400
    await asyncio.gather(renewal.ready(), renewal.ready())
    assert stage.network.asked == ["Renew"]
