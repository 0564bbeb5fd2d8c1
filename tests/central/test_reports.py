"""Reports of holders: several different peers have to say it, and whoever accuses everybody changes nothing."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.catalogue.reputation import MEMORY, MOST_HOLDERS, REPORTERS, Reputation
from central.quotas import Quotas
from core import errors
from core.identity import Identity
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import PLACEMENT_STATE_PENDING

CONTENT = b"c" * 32
LACKS, WRONG = pb2.HOLDER_FAULT_LACKS_CONTENT, pb2.HOLDER_FAULT_WRONG_BYTES


async def report(reporter, holder, fault=LACKS, **changed):
    fields = {
        "peer_id": reporter.id,
        "session_id": reporter.session_id,
        "holder_peer_id": holder.id,
        "content_id": CONTENT,
        "fault": fault,
    }
    await reporter.stub.ReportHolder(pb2.ReportHolderRequest(**{**fields, **changed}))


async def doubted(peer):
    holders = (await peer.stub.LocateFile(pb2.LocateFileRequest(content_id=CONTENT))).holders
    return {holder.peer.peer_id for holder in holders if holder.doubted}, [holder.peer.peer_id for holder in holders]


async def several(network, count):
    return [await network.logged_in() for _ in range(count)]


async def holding(network, count):
    peers = await several(network, count)
    for peer in peers:
        await peer.publish({"a.txt": CONTENT})
    return peers


async def test_three_different_reporters_have_a_holder_named_last_and_as_doubted(network):
    holders, reporters = await holding(network, 3), await several(network, REPORTERS)
    accused = min(holders, key=lambda peer: peer.id)  # it would be named first
    for reporter in reporters:
        assert await doubted(reporter) == (set(), sorted(peer.id for peer in holders))
        await report(reporter, accused, WRONG if reporter is reporters[0] else LACKS)
    found, order = await doubted(reporters[0])
    assert found == {accused.id}
    assert order[-1] == accused.id
    assert sorted(order) == sorted(peer.id for peer in holders)


async def test_what_was_reported_is_forgotten_within_the_hour(network):
    (holder,), reporters = await holding(network, 1), await several(network, REPORTERS)
    streams = [await peer.live() for peer in (holder, *reporters)]
    for reporter in reporters:
        await report(reporter, holder)
    assert (await doubted(holder))[0] == {holder.id}
    network.clock.advance(MEMORY)
    assert (await doubted(holder))[0] == set()
    for stream in streams:
        stream.call.cancel()


async def test_one_accuser_with_a_hundred_accusations_has_nobody_doubted(network):
    holders, accuser = await holding(network, 10), await network.logged_in()
    for _ in range(10):
        for holder in holders:
            await report(accuser, holder)
    await accuser.login()  # another session is no other reporter
    for holder in holders:
        await report(accuser, holder, WRONG)
    assert await doubted(accuser) == (set(), sorted(peer.id for peer in holders))


async def test_a_peer_cannot_report_itself_into_being_left_alone(network):
    (holder,), others = await holding(network, 1), await several(network, REPORTERS - 1)
    for peer in (holder, *others):
        await report(peer, holder)
    assert (await doubted(holder))[0] == set()


async def test_a_doubted_peer_is_not_chosen_to_store_copies(network):
    (author,) = await holding(network, 1)
    storing, accused, *reporters = await several(network, 2 + REPORTERS)
    for peer in (storing, accused):
        await peer.live()
    for reporter in reporters:
        await report(reporter, accused)
    for replicas in (1, 2, 1, 2):
        placement = await author.place(CONTENT, replicas=replicas)
        assert [copy.peer.peer_id for copy in placement.copies] == [storing.id]
        assert placement.state == PLACEMENT_STATE_PENDING


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"fault": pb2.HOLDER_FAULT_UNSPECIFIED}, errors.InvalidInput),
        ({"content_id": b"short"}, errors.InvalidInput),
        ({"holder_peer_id": "ben"}, errors.InvalidInput),
        ({"session_id": "0" * 32}, errors.SessionUnknown),
        ({"peer_id": Identity.generate().peer_id}, errors.SessionMismatch),
    ],
)
async def test_a_report_without_a_session_or_a_fault_does_not_count(network, fails_with, changed, kind):
    (holder,), reporters = await holding(network, 1), await several(network, REPORTERS)
    for reporter in reporters:
        with fails_with(kind):
            await report(reporter, holder, **changed)
    assert (await doubted(holder))[0] == set()


NAMES = st.sampled_from("abcdef")


@given(st.lists(st.tuples(NAMES, NAMES, st.floats(0, MEMORY / 2)), max_size=80), st.floats(0, MEMORY))
def test_a_holder_is_doubted_exactly_while_three_others_have_accused_it_within_the_hour(accusations, later):
    reputation, latest, now = Reputation(Quotas()), defaultdict(dict), 0.0
    for holder, reporter, pause in accusations:
        now += pause
        reputation.accuse(holder, reporter, now)
        if holder != reporter:
            latest[holder][reporter] = now
        for one in "abcdef":
            recent = [name for name, time in latest[one].items() if now - time < MEMORY]
            assert reputation.doubted(one, now) == (len(recent) >= REPORTERS)
    now += later
    for one in "abcdef":
        assert reputation.doubted(one, now) == (sum(now - time < MEMORY for time in latest[one].values()) >= REPORTERS)


@given(st.integers(0, 5), st.lists(st.integers(0, 99), min_size=1, max_size=100))
def test_fewer_reporters_than_it_takes_have_nobody_doubted_however_often_they_accuse(seed, holders):
    reputation = Reputation(Quotas())
    for number, holder in enumerate(holders):
        for reporter in range(REPORTERS - 1):
            reputation.accuse(f"holder {holder}", f"reporter {reporter}", seed + number)
    assert not any(reputation.doubted(f"holder {holder}", seed + len(holders)) for holder in range(100))


def test_reports_take_a_bounded_place_and_a_flood_of_them_is_the_reporters_own_affair():
    quotas = Quotas(reports=100)
    reputation = Reputation(quotas)
    for reporter in range(REPORTERS):
        reputation.accuse("liar", f"honest {reporter}", 0.0)
    refused = 0
    for number in range(10 * MOST_HOLDERS):
        try:
            reputation.accuse(f"invented {number}", "flooder", 1.0)
        except errors.OverQuota:
            refused += 1
    assert refused == 10 * MOST_HOLDERS - quotas.reports
    assert len(reputation._accusations) == 1 + quotas.reports
    assert reputation.doubted("liar", 2.0)
    for reporter in range(2 * MOST_HOLDERS // quotas.reports):
        for number in range(quotas.reports):
            reputation.accuse(f"{reporter} {number}", f"colluder {reporter}", 2.0)
    assert len(reputation._accusations) == MOST_HOLDERS
