"""The work that takes time: how it ends, how it is stopped, what is remembered of it."""

import asyncio

import pytest
from google.protobuf.empty_pb2 import Empty
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core import errors
from peer.links.contacts import Contact
from peer.work import transfers as transfers_module
from peer.work.transfers import REMEMBERED, Kind, Order, State, Transfers
from peer.work.turns import Priority
from tests.examples import examples

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


# Downloads: turns, pauses, priorities, tries


class Works:
    """Work of downloads, each by its path, that a test begins and ends."""

    def __init__(self):
        self.running = []
        self.begun = []
        self.results = {}
        self.changed = asyncio.Event()

    async def __call__(self, transfer):
        transfer.state = State.RUNNING
        self.running.append(transfer.path)
        self.begun.append(transfer.path)
        self.changed.set()
        try:
            result = self.results.setdefault(transfer.path, asyncio.get_running_loop().create_future())
            await asyncio.shield(result)
        finally:
            self.running.remove(transfer.path)
            self.changed.set()
            self.results.pop(transfer.path, None)

    async def until(self, *paths):
        async with asyncio.timeout(5):
            while sorted(self.running) != sorted(paths):
                self.changed.clear()
                await self.changed.wait()
        for _ in range(5):  # what has stopped is noted
            await asyncio.sleep(0)

    def end(self, path, error=None):
        if error:
            self.results[path].set_exception(error)
        else:
            self.results[path].set_result(None)


class Kept:
    """A keeper that remembers in memory what it was told, and can fail."""

    def __init__(self):
        self.log = []
        self.failure = None

    async def keep(self, transfer):
        if self.failure:
            raise self.failure
        self.log.append((transfer.path, transfer.paused, transfer.priority))

    def ended(self, transfer):
        self.log.append((transfer.path, transfer.state))

    async def settled(self):
        self.log.append("settled")


@pytest.fixture
def works():
    return Works()


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
async def two(kept):
    """Transfers of which two downloads run at once."""
    transfers = Transfers(lambda: NOW, at_once=2, keeper=kept)
    yield transfers
    await transfers.close()


def download(transfers, works, path, **order):
    order = Order(**{"request": Empty(), **order})
    return transfers.start(Kind.DOWNLOAD, works, path=path, target=path, order=order)


async def test_only_so_many_downloads_run_and_the_others_follow_in_their_order(two, works):
    a, b, c, d = (download(two, works, path) for path in "abcd")
    await works.until("a", "b")
    assert (c.state, d.state) == (State.WAITING, State.WAITING)
    assert "its turn" in c.waiting_reason
    works.end("a")
    await works.until("b", "c")
    assert (a.state, c.waiting_reason, d.state) == (State.DONE, "", State.WAITING)
    assert b.state is State.RUNNING


async def test_other_kinds_do_not_wait_for_downloads(two, works):
    for path in "abc":
        download(two, works, path)
    two.start(Kind.UPLOAD, works, path="u")
    await works.until("a", "b", "u")


async def test_an_urgent_download_takes_a_place_and_gives_it_back(two, works):
    a, b = download(two, works, "a"), download(two, works, "b", priority=Priority.LOW)
    await works.until("a", "b")
    b.progress.source(Contact("p", "ana", ())).bytes = 7
    b.progress.done_bytes = 7
    urgent = download(two, works, "urgent", priority=Priority.HIGH)
    await works.until("a", "urgent")
    assert b.state is State.WAITING
    works.end("urgent")
    await works.until("a", "b")
    assert (b.progress.done_bytes, b.received_bytes) == (0, 7), "it goes on with what is on disk, and its past is kept"
    assert (urgent.state, a.state) == (State.DONE, State.RUNNING)


async def test_a_place_is_free_when_the_work_that_had_it_has_stopped(two, works):
    stopping, stopped = asyncio.Event(), asyncio.Event()

    async def slow_to_stop(transfer):
        try:
            await for_ever(transfer)
        finally:
            stopping.set()
            await stopped.wait()

    download(two, works, "a")
    slow = two.start(Kind.DOWNLOAD, slow_to_stop, path="slow")
    await works.until("a")
    await two.prioritise(slow.transfer_id, Priority.LOW)
    urgent = download(two, works, "urgent")
    await stopping.wait()
    await works.until("a")
    assert (slow.active, urgent.active) == (True, False)
    stopped.set()
    await works.until("a", "urgent")


async def test_a_priority_can_be_changed_and_is_kept(two, works, kept):
    a, _, c = (download(two, works, path) for path in "abc")
    await works.until("a", "b")
    assert await two.prioritise(c.transfer_id, Priority.HIGH) is c
    assert c.allowance.weight == Priority.HIGH.weight
    await two.prioritise(a.transfer_id, Priority.LOW)
    await works.until("b", "c")
    assert kept.log == [("c", False, Priority.HIGH), ("a", False, Priority.LOW)]


async def test_a_paused_download_gives_its_place_away_and_goes_on_when_resumed(two, works, kept):
    a, b, c = (download(two, works, path) for path in "abc")
    await works.until("a", "b")
    for _ in range(2):
        assert await two.pause(a.transfer_id) is a
        assert (a.state, a.running, a.waiting_reason) == (State.PAUSED, True, "")
    await works.until("b", "c")
    await two.resume(a.transfer_id)
    assert a.state is State.WAITING
    works.end("b")
    await works.until("a", "c")
    assert b.state is State.DONE
    assert kept.log[:3] == [("a", True, Priority.NORMAL)] * 2 + [("a", False, Priority.NORMAL)]
    assert c.state is State.RUNNING


async def test_what_waits_can_be_paused_and_what_is_paused_can_be_cancelled(two, works, kept):
    _, _, c = (download(two, works, path) for path in "abc")
    await two.pause(c.transfer_id)
    assert c.state is State.PAUSED
    await two.cancel(c.transfer_id)
    assert (c.state, c.end_time, c.ended.done()) == (State.CANCELLED, NOW, True)
    assert kept.log[-2:] == [("c", State.CANCELLED), "settled"]
    await works.until("a", "b")


async def test_a_resume_right_after_a_pause_begins_once(two, works):
    a = download(two, works, "a")
    await works.until("a")
    pausing = asyncio.ensure_future(two.pause(a.transfer_id))
    await asyncio.sleep(0)
    await two.resume(a.transfer_id)
    await pausing
    await works.until("a")
    assert works.begun == ["a", "a"]
    assert a.state is State.RUNNING


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_only_downloads_that_have_not_ended_can_be_paused(two, works, action):
    upload = two.start(Kind.UPLOAD, works, path="u")
    with pytest.raises(errors.NotPossible, match="no download"):
        await getattr(two, action)(upload.transfer_id)
    over = two.start(Kind.DOWNLOAD, nothing)
    await over.ended
    with pytest.raises(errors.NotPossible, match="has ended"):
        await getattr(two, action)(over.transfer_id)
    with pytest.raises(errors.NotPossible, match="has ended"):
        await two.prioritise(over.transfer_id, Priority.LOW)


@pytest.fixture
def restless(monkeypatch):
    monkeypatch.setattr(transfers_module, "FIRST_REST", 0.1)
    monkeypatch.setattr(transfers_module, "LONGEST_REST", 0.1)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("error", [errors.NotFound, errors.Unreachable, errors.Busy, errors.NotPossible])
async def test_a_detached_download_waits_for_what_may_pass_and_tries_again(two, works, error):
    a = download(two, works, "a", detached=True)
    for tries in range(1, 4):
        await works.until("a")
        works.end("a", error("nobody is there"))
        await works.until()
        assert (a.state, a.waiting_reason, a.error, a.tries) == (State.WAITING, "nobody is there", None, tries)
    await works.until("a")
    works.end("a")
    await a.ended
    assert a.state is State.DONE


async def test_a_download_that_rests_gives_its_place_away_and_can_be_told_to_try_at_once(two, works):
    a, *_ = (download(two, works, path, detached=True) for path in "abc")
    await works.until("a", "b")
    works.end("a", errors.Unreachable("away"))
    await works.until("b", "c")
    works.end("b")
    await works.until("c")
    await two.resume(a.transfer_id)
    await works.until("a", "c")
    works.end("a", errors.Unreachable("away"))
    await works.until("c")
    two.try_again()
    await works.until("a", "c")


async def test_pauses_grow_while_nothing_comes_and_start_small_again_when_something_did(two, works):
    a = download(two, works, "a", detached=True)
    pauses = []
    for got in (0, 0, 0, 5, 5):
        await works.until("a")
        a.progress.source(Contact("p", "ana", ())).bytes = got
        works.end("a", errors.Unreachable("away"))
        await works.until()
        await asyncio.sleep(0)
        pauses.append(a.rest.when() - asyncio.get_running_loop().time())
        two.try_again()
    limits = [(0.7, 1), (1.4, 2), (2.9, 4), (0.7, 1), (1.4, 2)]
    assert all(least < pause <= most for pause, (least, most) in zip(pauses, limits, strict=True)), pauses


async def test_tries_that_take_long_and_bring_nothing_are_made_seldom(two, works):
    a = download(two, works, "a", detached=True)
    for least in (0, 670):
        await works.until("a")
        a.began -= 100  # as if it had taken so long
        works.end("a", errors.NotFound("one file is missing"))
        await works.until()
        pause = a.rest.when() - asyncio.get_running_loop().time()
        assert least < pause < 1000
        two.try_again()


@pytest.mark.parametrize("error", [errors.AlreadyExists("there"), errors.Revoked("no"), ZeroDivisionError()])
async def test_a_detached_download_fails_for_what_does_not_pass(two, works, error):
    a = download(two, works, "a", detached=True)
    await works.until("a")
    works.end("a", error)
    await a.ended
    assert a.state is State.FAILED


async def test_somebody_who_waits_hears_at_once_that_nobody_is_there(two, works):
    a = download(two, works, "a")
    await works.until("a")
    works.end("a", errors.Unreachable("away"))
    await a.ended
    assert a.state is State.FAILED


async def test_an_order_for_the_same_resumes_it_and_can_detach_it(two, works):
    a = download(two, works, "a")
    await works.until("a")
    await two.pause(a.transfer_id)
    two.join(a, Order())
    await works.until("a")
    assert not a.detached
    two.join(a, Order(detached=True))
    two.join(a, Order())
    assert a.detached


async def test_what_cannot_be_kept_is_not_accepted(two, works, kept):
    a = download(two, works, "a")
    await two.kept(a)
    kept.failure = errors.NotPossible("the disk is full")
    with pytest.raises(errors.NotPossible):
        await two.kept(a)
    assert a.running, "it had been accepted before"
    b = download(two, works, "b")
    with pytest.raises(errors.NotPossible):
        await two.kept(b)
    assert b.state is State.CANCELLED


async def test_a_daemon_that_stops_tells_the_keeper_of_no_end(two, works, kept):
    downloads = [download(two, works, path, detached=True) for path in "abc"]
    await works.until("a", "b")
    works.end("b", errors.Unreachable("away"))
    await works.until("a", "c")
    await two.close()
    assert kept.log == []
    assert not works.running
    assert downloads[1].rest is None


async def test_too_many_downloads_are_refused(two, works, monkeypatch):
    monkeypatch.setattr(transfers_module, "MOST", 2)
    for path in "ab":
        download(two, works, path)
    with pytest.raises(errors.Busy, match="2 downloads wait already"):
        download(two, works, "c")
    assert download(two, works, "restored", transfer_id="1" * 16).running, "what had been accepted stays so"


class Happenings(RuleBasedStateMachine):
    """Downloads to which anything happens: the right ones run, never too many, and every one ends in the end."""

    def __init__(self):
        super().__init__()
        self.started = 0
        self.loop = asyncio.new_event_loop()
        self.works = self.loop.run_until_complete(self.make())

    async def make(self):
        self.transfers = Transfers(lambda: NOW, at_once=2)
        return Works()

    def teardown(self):
        self.loop.run_until_complete(self.transfers.close())
        self.loop.close()

    def go(self, work=None):
        async def settle():
            if work is not None:
                await work
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(settle())

    async def begin(self, priority, detached):
        self.started += 1
        download(self.transfers, self.works, str(self.started), priority=priority, detached=detached)

    def pick(self, data):
        return data.draw(st.sampled_from([one.transfer_id for one in self.transfers.running()]))

    @rule(priority=st.sampled_from(Priority), detached=st.booleans())
    def starts(self, priority, detached):
        self.go(self.begin(priority, detached))

    @precondition(lambda self: list(self.transfers.running()))
    @rule(data=st.data(), action=st.sampled_from(["pause", "resume", "cancel"]))
    def is_steered(self, data, action):
        self.go(getattr(self.transfers, action)(self.pick(data)))

    @precondition(lambda self: list(self.transfers.running()))
    @rule(data=st.data(), priority=st.sampled_from(Priority))
    def is_ranked(self, data, priority):
        self.go(self.transfers.prioritise(self.pick(data), priority))

    @precondition(lambda self: self.works.running)
    @rule(data=st.data(), error=st.sampled_from([None, errors.Unreachable("away"), errors.AlreadyExists("there")]))
    def ends(self, data, error):
        self.works.end(data.draw(st.sampled_from(sorted(self.works.running))), error)
        self.go()

    @rule()
    def network_is_back(self):
        async def try_again():
            self.transfers.try_again()

        self.go(try_again())

    @invariant()
    def those_run_that_are_to(self):
        downloads = list(self.transfers.running())
        running = [one for one in downloads if one.active]
        assert {one.path for one in running} == set(self.works.running)
        ready = [one for one in downloads if one.ready]
        assert len(running) == min(2, len(ready))
        least = min((one.priority for one in running), default=Priority.LOW)
        assert all(one.active or one.priority <= least for one in ready)
        for one in downloads:
            assert (one.state is State.PAUSED) == one.paused
            assert (one.state is State.RUNNING) == one.active
            assert bool(one.waiting_reason) == (one.state is State.WAITING)


TestHappenings = Happenings.TestCase
TestHappenings.settings = settings(deadline=None, max_examples=examples(60), stateful_step_count=30)
