"""What a restart makes of downloads: begun again as they stood, shown as they ended, and nothing lost on the way."""

import asyncio

import pytest

from core import errors
from peer.sets.set_progress import SetProgress
from peer.work.journal import Accepted, Journal
from peer.work.keeping import Keeping
from peer.work.orders import Way, order_of
from peer.work.transfers import Kind, State, Transfers
from peer.work.turns import Priority
from relevo.v1.peer_control_pb2 import DownloadOptions, StartDownloadRequest, StartSetDownloadRequest

NOW = 1_700_000_000.5
KIND = StartDownloadRequest.DESCRIPTOR.full_name


class Daemon:
    """One run of a daemon, as far as its downloads go; their work never ends by itself."""

    def __init__(self, home):
        self.journal = Journal(home / "journal.db")
        self.keeping = Keeping(self.journal)
        self.transfers = Transfers(lambda: NOW, keeper=self.keeping)
        self.orders = []
        self.failure = None

    async def start(self):
        ways = {
            KIND: Way(StartDownloadRequest, self.begin),
            StartSetDownloadRequest.DESCRIPTOR.full_name: Way(StartSetDownloadRequest, self.begin_set),
        }
        await self.keeping.restore(self.transfers, ways)
        return self

    async def stop(self):
        await self.transfers.close()
        await self.keeping.close()

    def begin(self, request, order):
        self.orders.append(order)
        if self.failure:
            raise self.failure
        return self.transfers.start(Kind.DOWNLOAD, for_ever, path=request.file.path, size=100, order=order)

    def begin_set(self, request, order):
        return self.transfers.start(Kind.DOWNLOAD, for_ever, path="set", progress=SetProgress(), order=order)

    async def accept(self, path, **options):
        request = StartDownloadRequest(options=DownloadOptions(**options))
        request.file.path = path
        transfer = self.begin(request, order_of(request, request.options))
        await self.transfers.kept(transfer)
        return transfer

    def found(self):
        return {transfer.path: transfer for transfer in self.transfers.latest_first()}


async def for_ever(transfer):
    transfer.state = State.RUNNING
    await asyncio.Event().wait()


@pytest.fixture
async def daemons(tmp_path):
    """Starts a daemon on the home; the one before is stopped."""
    running = []

    async def start():
        while running:
            await running.pop().stop()
        running.append(Daemon(tmp_path))
        return await running[0].start()

    yield start
    for daemon in running:
        await daemon.stop()


async def test_an_accepted_download_is_begun_again_as_it_stood(daemons):
    daemon = await daemons()
    first = await daemon.accept("a", rate_limit_bytes_per_second=5000, limit_group="g")
    await daemon.transfers.prioritise(first.transfer_id, Priority.HIGH)
    await daemon.accept("b")
    daemon = await daemons()
    assert [order.request.file.path for order in daemon.orders] == ["a", "b"]
    again = daemon.found()["a"]
    assert (again.transfer_id, again.start_time, again.priority) == (first.transfer_id, NOW, Priority.HIGH)
    assert (again.allowance.own.rate, again.detached, again.paused) == (5000, True, False)


async def test_what_is_paused_stays_so_and_tells_what_it_has(daemons):
    daemon = await daemons()
    paused = await daemon.accept("a")
    paused.progress.done_bytes = 42
    await daemon.transfers.pause(paused.transfer_id)
    request = StartSetDownloadRequest(directory="/x")
    many = daemon.begin_set(request, order_of(request, request.options))
    await daemon.transfers.kept(many)
    many.progress.size, many.progress.done_bytes, many.progress.found, many.progress.done = 200, 50, 9, 3
    await daemon.transfers.pause(many.transfer_id)
    daemon = await daemons()
    found = daemon.found()
    assert {transfer.state for transfer in found.values()} == {State.PAUSED}
    assert (found["a"].progress.size, found["a"].progress.done_bytes) == (100, 42)
    assert isinstance(found["set"].progress, SetProgress)
    assert (found["set"].progress.size, found["set"].progress.done_bytes, found["set"].progress.done) == (200, 50, 3)
    await daemon.transfers.resume(paused.transfer_id)
    daemon = await daemons()
    assert daemon.found()["a"].state is not State.PAUSED


async def test_what_has_ended_is_shown_and_not_begun_again(daemons):
    daemon = await daemons()
    cancelled = await daemon.accept("cancelled")
    await daemon.transfers.cancel(cancelled.transfer_id)

    async def fails(transfer):
        raise errors.AlreadyExists("other bytes stand there")

    request = StartDownloadRequest()
    daemon.transfers.start(
        Kind.DOWNLOAD, fails, path="failed", size=7, target="/t", order=order_of(request, request.options)
    )
    failed = daemon.found()["failed"]
    await daemon.transfers.kept(failed)
    await failed.ended
    for _ in range(2):
        daemon = await daemons()
        assert daemon.orders == []
        found = daemon.found()
        assert (found["cancelled"].state, found["failed"].state) == (State.CANCELLED, State.FAILED)
        assert type(found["failed"].error) is errors.AlreadyExists
        assert str(found["failed"].error) == "other bytes stand there"
        assert (found["failed"].target, found["failed"].progress.size) == ("/t", 7)
        assert (found["failed"].start_time, found["failed"].end_time) == (NOW, NOW)
        assert daemon.transfers.received_bytes == 0
        with pytest.raises(errors.NotPossible, match="has ended"):
            await daemon.transfers.resume(failed.transfer_id)
        assert await daemon.transfers.cancel(failed.transfer_id) is found["failed"]


async def test_what_is_of_no_request_is_not_kept(daemons):
    daemon = await daemons()
    upload = daemon.transfers.start(Kind.UPLOAD, for_ever, path="u")
    await daemon.transfers.kept(upload)
    await daemon.transfers.cancel(upload.transfer_id)
    daemon = await daemons()
    assert daemon.found() == {}


async def test_what_cannot_be_read_or_begun_keeps_nothing_from_the_rest(daemons, caplog):
    daemon = await daemons()
    for number, (kind, request, stood) in enumerate(
        [("relevo.v9.Newer", b"", b""), (KIND, b"\xff", b""), (KIND, b"", b"\xff"), (KIND, b"", b"")]
    ):
        daemon.journal.accept(Accepted(f"{number:016x}", kind, request, stood))
    daemon.journal.end("f" * 16, b"\xff")
    good = await daemon.accept("good")
    daemon = await daemons()
    assert list(daemon.found()) == ["good"]
    assert daemon.found()["good"].transfer_id == good.transfer_id
    assert caplog.text.count("does not go on") == 4


async def test_a_download_that_can_not_be_begun_is_told_in_the_log(tmp_path, caplog):
    daemon = await Daemon(tmp_path).start()
    await daemon.accept("a")
    await daemon.stop()
    daemon = Daemon(tmp_path)
    daemon.failure = errors.InvalidInput("file.path", "no longer allowed")
    await daemon.start()
    assert "no longer allowed" in caplog.text
    await daemon.stop()
