"""Reports of holders that fail: the liar at once, who lacks something only while central goes on naming it."""

import asyncio

import pytest

from core import errors
from core.rpc import Server
from peer.directory import reporting
from peer.directory.reporting import MOST_WAITING, Reporter
from peer.directory.routes import Routes
from peer.fetching.holders import Holders
from peer.links.channels import Channels
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import Holder, PeerInfo

CONTENT = b"c" * 32


class Central(CentralDirectoryServicer):
    """Names holders and hears reports."""

    def __init__(self):
        self.named = {"ben"}
        self.reports = []
        self.looks = asyncio.Queue()
        self.heard = asyncio.Queue()
        self.error = None

    async def LocateFile(self, request, context):
        self.looks.put_nowait(request.content_id)
        if not self.named:
            raise errors.NotFound("nobody")
        names = sorted(self.named)
        at = names.index(request.page_token) if request.page_token else 0
        more = names[at + 1] if at + 1 < len(names) else ""
        return pb2.LocateFileResponse(holders=[Holder(peer=PeerInfo(peer_id=names[at]))], next_page_token=more)

    async def ReportHolder(self, request, context):
        self.reports.append(request)
        self.heard.put_nowait(request.holder_peer_id)
        if self.error:
            raise self.error
        return pb2.ReportHolderResponse()


class Session:
    """A session that is there, or not."""

    peer_id = "me"

    class login:  # noqa: N801 - as the attribute is called
        session_id = "5" * 32


class Stage:
    def __init__(self):
        self.central = Central()
        self.channels = Channels()
        self.server = Server()
        self.session = Session()

    async def start(self, confirm_after=0.0):
        add_CentralDirectoryServicer_to_server(self.central, self.server.server)
        port = self.server.listen("127.0.0.1:0")
        self.session.central_stub = lambda _: self.channels.central(f"127.0.0.1:{port}")
        await self.server.start()
        loop = asyncio.get_running_loop()
        routes = Routes(self.channels, f"127.0.0.1:{port}", (), loop.time)
        self.reporter = Reporter(Holders(routes), self.session, loop.time, confirm_after)
        self.running = asyncio.create_task(self.reporter.run())

    async def next(self, queue):
        async with asyncio.timeout(10):
            return await queue.get()

    async def stop(self):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.channels.close()
        await self.server.stop(0)


@pytest.fixture
async def stage(monkeypatch):
    monkeypatch.setattr(reporting, "PAUSE", 0.0)
    stage = Stage()
    await stage.start()
    yield stage
    await stage.stop()


async def test_a_liar_is_reported_at_once_and_central_hears_who_says_so(stage):
    stage.central.named = set()
    stage.reporter.accuse("ben", CONTENT, True)
    await stage.next(stage.central.heard)
    (report,) = stage.central.reports
    assert (report.peer_id, report.session_id) == ("me", "5" * 32)
    assert (report.holder_peer_id, report.content_id, report.fault) == ("ben", CONTENT, pb2.HOLDER_FAULT_WRONG_BYTES)
    assert stage.central.looks.empty()


async def test_a_holder_that_lacks_what_central_still_names_it_for_is_reported(stage):
    stage.central.named = {"ana", "ben", "cho"}  # a page each
    stage.reporter.accuse("ben", CONTENT, False)
    assert await stage.next(stage.central.heard) == "ben"
    assert stage.central.reports[0].fault == pb2.HOLDER_FAULT_LACKS_CONTENT


@pytest.mark.parametrize("named", [set(), {"ana", "cho"}])
async def test_a_holder_that_has_withdrawn_the_content_meanwhile_is_honest(stage, named):
    stage.central.named = named
    stage.reporter.accuse("ben", CONTENT, False)
    await stage.next(stage.central.looks)
    stage.reporter.accuse("liar", CONTENT, True)
    assert await stage.next(stage.central.heard) == "liar", "reports are made in turn"


async def test_a_holder_has_time_to_withdraw_before_central_is_asked(monkeypatch):
    stage = Stage()
    await stage.start(confirm_after=60.0)
    stage.reporter.accuse("ben", CONTENT, False)
    stage.reporter.accuse("liar", CONTENT, True)
    assert await stage.next(stage.central.heard) == "liar", "who lied is not waited for"
    assert stage.central.looks.empty()
    await stage.stop()


async def test_a_holder_is_reported_once_for_each_content(stage):
    for _ in range(3):
        stage.reporter.accuse("ben", CONTENT, True)
    stage.reporter.accuse("ben", b"d" * 32, True)
    stage.reporter.accuse("cho", CONTENT, True)
    heard = [await stage.next(stage.central.heard) for _ in range(3)]
    assert sorted(heard) == ["ben", "ben", "cho"]
    assert len(stage.central.reports) == 3


def test_a_holder_that_fails_again_once_central_has_forgotten_is_reported_again():
    clock = [0.0]
    reporter = Reporter(None, Session(), lambda: clock[0])
    waiting = []
    for seconds in (0.0, 3599.0, 3600.0, 3601.0):
        clock[0] = seconds
        reporter.accuse("ben", CONTENT, True)
        waiting.append(len(reporter._waiting))
    assert waiting == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "error", [errors.OverQuota("enough", 60.0), errors.SessionUnknown("no"), errors.Unreachable("")]
)
async def test_a_report_that_fails_is_silent_and_keeps_no_other_back(stage, error, caplog):
    stage.central.error = error
    stage.reporter.accuse("ben", CONTENT, True)
    await stage.next(stage.central.heard)
    stage.central.error = None
    stage.reporter.accuse("cho", CONTENT, True)
    assert await stage.next(stage.central.heard) == "cho"
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_without_a_session_nobody_is_reported(stage):
    session, stage.session.login = stage.session.login, None
    stage.reporter.accuse("ben", CONTENT, True)
    async with asyncio.timeout(5):
        while stage.reporter._waiting:  # noqa: ASYNC110 - nothing else tells that it was passed over
            await asyncio.sleep(0)
    stage.session.login = session
    stage.reporter.accuse("cho", CONTENT, True)
    assert await stage.next(stage.central.heard) == "cho"


async def test_a_flood_of_failures_takes_a_bounded_place():
    loop = asyncio.get_running_loop()
    reporter = Reporter(None, Session(), loop.time)
    for number in range(20 * MOST_WAITING):
        reporter.accuse(f"holder {number}", CONTENT, False)
    assert len(reporter._waiting) == MOST_WAITING
    assert len(reporter._told) <= reporting._REMEMBERED


async def test_reports_are_made_one_after_the_other_with_a_pause_between(monkeypatch):
    monkeypatch.setattr(reporting, "PAUSE", 0.1)
    stage = Stage()
    await stage.start()
    began = asyncio.get_running_loop().time()
    for number in range(4):
        stage.reporter.accuse(f"holder {number}", CONTENT, True)
    for _ in range(4):
        await stage.next(stage.central.heard)
    assert asyncio.get_running_loop().time() - began >= 0.3
    await stage.stop()
