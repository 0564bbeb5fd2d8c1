"""The work that takes time: how it ends, how it is stopped, what is remembered of it."""

import asyncio

import pytest

from core import errors
from peer.contacts import Contact
from peer.transfers import REMEMBERED, Kind, State, Transfers

NOW = 1_000.0


@pytest.fixture
async def transfers():
    transfers = Transfers(lambda: NOW)
    yield transfers
    await transfers.close()


async def nothing(transfer):
    pass


async def for_ever(transfer):
    transfer.state = State.RUNNING
    await asyncio.Event().wait()


async def begun(transfers, **fields):
    """Returns a transfer that runs and does not end."""
    started = asyncio.Event()

    async def work(transfer):
        started.set()
        await for_ever(transfer)

    transfer = transfers.start(Kind.DOWNLOAD, work, **fields)
    await started.wait()
    return transfer


async def test_work_waits_runs_and_is_done(transfers):
    go_on = asyncio.Event()

    async def work(transfer):
        transfer.state = State.RUNNING
        await go_on.wait()

    transfer = transfers.start(Kind.UPLOAD, work, path="a", target="/t", size=5, content_id=b"c", placement_id="p")
    assert (transfer.state, transfer.running, transfer.end_time) == (State.WAITING, True, None)
    assert transfers.get(transfer.transfer_id) is transfer
    go_on.set()
    await asyncio.wait([transfer.task])
    assert (transfer.state, transfer.running, transfer.end_time, transfer.error) == (State.DONE, False, NOW, None)
    assert (transfer.path, transfer.target, transfer.progress.size) == ("a", "/t", 5)
    assert (transfer.content_id, transfer.placement_id) == (b"c", "p")


async def test_an_error_is_kept_for_the_user_and_raised_nowhere(transfers):
    error = errors.NotFound("nobody holds it")

    async def work(transfer):
        raise error

    transfer = transfers.start(Kind.DOWNLOAD, work)
    await transfer.task
    assert (transfer.state, transfer.error, transfer.end_time) == (State.FAILED, error, NOW)


async def test_a_defect_is_logged_and_its_text_stays_in_the_log(transfers, caplog):
    async def work(transfer):
        raise ZeroDivisionError("secret")

    transfer = transfers.start(Kind.DOWNLOAD, work)
    await transfer.task
    assert transfer.state is State.FAILED
    assert isinstance(transfer.error, errors.Defect)
    assert "secret" not in str(transfer.error)
    assert "secret" in caplog.text


async def test_cancelling_returns_when_the_work_has_stopped_and_may_be_repeated(transfers):
    cleaned_up = asyncio.Event()
    started = asyncio.Event()

    async def work(transfer):
        started.set()
        try:
            await for_ever(transfer)
        finally:
            await asyncio.sleep(0)
            cleaned_up.set()

    transfer = transfers.start(Kind.DOWNLOAD, work)
    await started.wait()
    for _ in range(2):
        assert await transfers.cancel(transfer.transfer_id) is transfer
        assert cleaned_up.is_set()
        assert (transfer.state, transfer.end_time) == (State.CANCELLED, NOW)


async def test_what_is_cancelled_before_it_begins_ends_all_the_same(transfers):
    transfer = transfers.start(Kind.DOWNLOAD, for_ever)
    await transfers.cancel(transfer.transfer_id)
    assert (transfer.state, transfer.running, transfer.end_time) == (State.CANCELLED, False, NOW)
    assert list(transfers.running()) == []


async def test_cancelling_what_has_ended_changes_nothing(transfers):
    transfer = transfers.start(Kind.DOWNLOAD, nothing)
    await transfer.task
    await transfers.cancel(transfer.transfer_id)
    assert transfer.state is State.DONE


async def test_an_unknown_transfer_is_not_found(transfers):
    with pytest.raises(errors.NotFound, match="relevo transfers"):
        transfers.get("0" * 16)
    with pytest.raises(errors.NotFound):
        await transfers.cancel("0" * 16)


async def test_closing_stops_everything_that_runs(transfers):
    ended = transfers.start(Kind.DOWNLOAD, nothing)
    await ended.task
    running = [await begun(transfers) for _ in range(3)]
    await transfers.close()
    assert {transfer.state for transfer in running} == {State.CANCELLED}
    assert ended.state is State.DONE


async def test_the_latest_come_first_and_the_oldest_that_ended_are_forgotten_but_their_bytes(transfers):
    kept = await begun(transfers, path="runs on")
    oldest = transfers.start(Kind.DOWNLOAD, nothing)
    oldest.progress.source(Contact("p", "ana", ())).bytes = 7
    await oldest.task
    for _ in range(REMEMBERED - 1):
        await transfers.start(Kind.DOWNLOAD, nothing).task
    found = transfers.latest_first()
    assert len(found) == REMEMBERED
    assert found[-1] is kept
    assert oldest not in found
    with pytest.raises(errors.NotFound):
        transfers.get(oldest.transfer_id)
    assert transfers.received_bytes == 7
