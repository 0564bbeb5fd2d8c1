"""The session: it logs in, beats, and comes back by itself."""

import asyncio
import contextlib
import threading
from dataclasses import replace

import pytest

from core import errors
from core.identity import Identity
from core.rpc import Server
from core.signing import check_signed
from core.times import to_duration
from peer.directory import session as module
from peer.directory.logins import LOGIN_METHOD, Introduction
from peer.directory.session import Session
from peer.links.channels import Channels
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import LeaseTerms, Neighbours, PeerInfo

TERMS = LeaseTerms(beat_interval=to_duration(0.01), lease=to_duration(7), grace=to_duration(2.5))


class Central(CentralDirectoryServicer):
    """Grants sessions and answers beats as the test scripts it."""

    def __init__(self):
        self.time = 1_000_000.0
        self.logins = []
        self.logouts = []
        self.beats = []
        self.streams = 0
        self.login_error = None
        # What answers each beat until the next login, as a session that has ended stays so: a beat that is on its way
        # as its stream ends can keep gRPC's client from reading with what the stream ended.
        self.beat_error = None
        self.forgets = False
        self.neighbours = Neighbours()
        self.directives = []
        self.catalogue_version = 0
        self.trust = None
        self.end_stream = asyncio.Event()
        self.refuses_streams = None  # an error for each stream that is opened
        self._older = (asyncio.Event(), asyncio.Event())  # told to end, has ended
        self._older[1].set()
        self.second_login = asyncio.Event()
        self.beaten = asyncio.Condition()

    async def Login(self, request, context):
        check_signed(request.signed, request.public_key, LOGIN_METHOD, self.time)
        self.logins.append(pb2.LoginDetails.FromString(request.signed.payload))
        if len(self.logins) > 1:
            self.second_login.set()
        if self.login_error:
            raise self.login_error
        self.beat_error = None
        return pb2.LoginResponse(session_id=f"{len(self.logins):032x}", terms=TERMS, neighbours=self.neighbours)

    async def Logout(self, request, context):
        self.logouts.append(request.session_id)
        return pb2.LogoutResponse()

    async def Heartbeat(self, request_iterator, context):
        async with self.beaten:
            self.streams += 1
            self.beaten.notify_all()
        if self.refuses_streams:
            raise self.refuses_streams
        told, ended = asyncio.Event(), asyncio.Event()
        try:
            async for answer in self._beats(request_iterator, told, ended):
                yield answer
        finally:
            ended.set()

    async def _beats(self, request_iterator, told, ended):
        async for beat in request_iterator:
            if told.is_set():
                return
            if self._older[0] is not told:
                # As central does: the first beat on a newer stream ends the older one in order; here before its answer.
                older, self._older = self._older, (told, ended)
                older[0].set()
                await older[1].wait()
            if self.beat_error:
                raise self.beat_error
            if self.forgets:
                raise errors.SessionUnknown("never heard of it")
            if self.end_stream.is_set():
                self.end_stream.clear()
                return
            yield pb2.HeartbeatResponse(
                sequence=beat.sequence,
                terms=TERMS,
                neighbours=self.neighbours,
                directives=self.directives,
                catalogue_version=self.catalogue_version,
                trust=self.trust,
            )
            async with self.beaten:
                self.beats.append(beat)
                self.beaten.notify_all()

    async def next_beats(self, count=1):
        wanted = len(self.beats) + count
        async with asyncio.timeout(10), self.beaten:
            await self.beaten.wait_for(lambda: len(self.beats) >= wanted)


class Stage:
    def __init__(self):
        self.central = Central()
        self.channels = Channels()
        self.wall = 1_000_000.0
        self.monotonic = 50.0

    async def open(self, port=0):
        self.server = Server()
        add_CentralDirectoryServicer_to_server(self.central, self.server.server)
        self.port = self.server.listen(f"127.0.0.1:{port}")
        await self.server.start()

    def session(self, *more, addresses=lambda _: ("192.0.2.1:5",)):
        introduction = Introduction("ana", addresses, lambda: 77)
        return Session(
            Identity.generate(),
            self.channels,
            (f"127.0.0.1:{self.port}", *more),
            introduction,
            clock=lambda: self.monotonic,
            wall=lambda: self.wall,
        )


@pytest.fixture
async def stage():
    stage = Stage()
    await stage.open()
    yield stage
    await stage.channels.close()
    await stage.server.stop(0)


@contextlib.asynccontextmanager
async def running(session):
    task = asyncio.create_task(session.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_session_logs_in_beats_and_tells_what_central_says(stage):
    heard = []
    stage.central.neighbours = Neighbours(primary=PeerInfo(peer_id="p"))
    stage.central.directives = [pb2.Directive(store=pb2.StoreDirective(placement_id="x"))]
    session = stage.session()
    session.listeners.logged_in = lambda central, version: heard.append(("login", central, version))
    session.listeners.directives = heard.append
    session.listeners.neighbours = lambda found: heard.append(found.primary.peer_id)
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        await stage.central.next_beats(2)
    assert heard[0] == ("login", f"127.0.0.1:{stage.port}", 0)
    assert "p" in heard
    assert list(stage.central.directives) in heard
    assert stage.central.logins[0].name == "ana"
    assert stage.central.logins[0].addresses == ["192.0.2.1:5"]
    assert [beat.sequence for beat in stage.central.beats[:2]] == [1, 2]
    assert stage.central.beats[0].free_bytes == 77


async def test_a_broken_stream_is_opened_again_under_the_same_session(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        login = await session.wait_live()
        stage.central.end_stream.set()
        await stage.central.next_beats(3)
        while stage.central.streams < 2:
            await stage.central.next_beats()
        assert (await session.wait_live()).session_id == login.session_id
    assert len(stage.central.logins) == 1


async def test_central_is_tried_every_half_second_whatever_the_channels_backoff(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(60):
        await session.wait_live()
        await stage.server.stop(0)
        tried = 0

        async def refuse(_, writer):
            nonlocal tried
            tried += 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        refusing = await asyncio.start_server(refuse, "127.0.0.1", stage.port)
        began = session._broken
        while session._broken < began + 14:  # noqa: ASYNC110 - a stream that breaks tells nobody
            await asyncio.sleep(0.05)
        refusing.close()
        await refusing.wait_closed()
        assert tried >= 8, "a channel's own backoff lets 5 through"


async def test_what_has_changed_of_a_peers_introduction_is_told_by_another_login(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        first = await session.wait_live()
        session._logins._introduction = replace(session._logins._introduction, addresses=lambda _: ())
        session.introduce_again()
        while (login := await session.wait_live()) is first:
            await stage.central.next_beats()
    assert login.session_id != first.session_id
    assert [list(login.addresses) for login in stage.central.logins] == [["192.0.2.1:5"], []]
    assert login.addresses == ()


async def test_a_central_that_restarts_finds_the_same_session_again(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(20):
        await session.wait_live()
        await stage.server.stop(0)
        await stage.open(stage.port)
        await stage.central.next_beats(2)
        await session.wait_live()
    assert len(stage.central.logins) == 1


async def test_an_unknown_session_logs_in_anew_by_itself(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        stage.central.beat_error = errors.SessionUnknown("expired")
        while len(stage.central.logins) < 2:
            await stage.central.next_beats()
        assert (await session.wait_live()).session_id == f"{2:032x}"


class Moves:
    """Notes whether a session was ever not live."""

    def __init__(self, session):
        self.lost = []
        real = session._set_live

        def set_live(*, live, problem=""):
            if not live:
                self.lost.append(problem)
            real(live=live, problem=problem)

        session._set_live = set_live


async def test_a_heartbeat_moves_to_a_new_connection_without_being_missed(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        login = await session.wait_live()
        moves = Moves(session)
        for streams in (2, 3):
            old = stage.channels._centrals[login.central]
            stage.channels.renew()
            session.move()
            while stage.central.streams < streams:
                await stage.central.next_beats()
            await stage.central.next_beats(3)
            assert stage.channels._centrals[login.central] is not old
        assert await session.wait_live() is login
    assert moves.lost == []
    assert len(stage.central.logins) == 1


async def test_a_heartbeat_that_cannot_move_yet_stays_where_it_is(stage, monkeypatch):
    monkeypatch.setattr("peer.directory.heartbeat.MOVE_AGAIN", 0.01)
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        moves = Moves(session)
        stage.central.refuses_streams = errors.Unreachable("starting")
        session.move()
        while stage.central.streams < 3:
            await stage.central.next_beats()
        assert session.live
        stage.central.refuses_streams = None
        beats = len(stage.central.beats)
        while 1 not in [beat.sequence for beat in stage.central.beats[beats:]]:  # the first on another stream
            await stage.central.next_beats()
    assert moves.lost == []


async def test_a_session_that_is_lost_while_its_heartbeat_moves_logs_in_anew(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        stage.central.refuses_streams = errors.SessionUnknown("forgotten")
        session.move()
        await stage.central.second_login.wait()
        stage.central.refuses_streams = None
        assert (await session.wait_live()).session_id == f"{2:032x}"


class ScriptedGuard:
    """Says what a test wants, and notes what it was asked."""

    def __init__(self, *answers, does=lambda: None):
        self.answers = list(answers)
        self.does = does
        self.asked = []
        self.waits = 0

    async def ready(self):
        self.waits += 1

    async def explain(self, error, failures):
        self.asked.append((type(error), failures))
        self.does()
        return self.answers.pop(0) if self.answers else error


async def test_a_refusal_that_the_guard_finds_is_the_problem_and_is_tried_again_slowly(stage, monkeypatch):
    pauses, paused = [], asyncio.Event()

    def pause(error, failures):
        pauses.append((type(error), failures))
        paused.set()
        return 3600.0

    monkeypatch.setattr(module, "login_pause", pause)
    session = stage.session()
    session.guard = ScriptedGuard(None, errors.Revoked("the operator has revoked this peer"))
    session._centrals = ("127.0.0.1:1",)
    async with running(session), asyncio.timeout(10):
        await paused.wait()
        assert session.problem == "the operator has revoked this peer"
    assert session.guard.asked == [(errors.Unreachable, 1), (errors.Unreachable, 2)]
    assert pauses == [(errors.Revoked, 2)]
    assert session.guard.waits == 2


async def test_a_refusal_found_while_the_heartbeat_is_broken_ends_the_session(stage, monkeypatch):
    paused = asyncio.Event()
    monkeypatch.setattr(module, "login_pause", lambda *_: paused.set() or 3600.0)
    session = stage.session()
    session.guard = ScriptedGuard(errors.Unreachable("away"), errors.Revoked("revoked"), errors.Revoked("revoked"))
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        stage.central.refuses_streams = errors.Unreachable("away")
        stage.central.end_stream.set()
        await paused.wait()
        assert (session.login, session.problem) == (None, "revoked")
    assert session.guard.asked == [(errors.Unreachable, 1), (errors.Unreachable, 2), (errors.Revoked, 1)]


async def test_a_certificate_that_expires_under_an_open_heartbeat_ends_no_session(stage):
    def renew():
        stage.central.beat_error = None

    session = stage.session()
    session.guard = ScriptedGuard(None, does=renew)
    async with running(session), asyncio.timeout(10):
        login = await session.wait_live()
        stage.central.beat_error = errors.CertificateExpired("not valid at this time")
        while stage.central.streams < 2:
            await stage.central.next_beats()
        assert await session.wait_live() is login
    assert session.guard.asked == [(errors.CertificateExpired, 1)]


async def test_trust_goes_up_by_its_version_and_comes_down_whole(stage, enrolment_bench):
    heard = []
    session = stage.session()
    session._introduction = replace(session._introduction, trust_version=lambda: 41)
    session.listeners.trust = heard.append
    stage.central.trust = enrolment_bench.trust.to_message()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        await stage.central.next_beats()
        stage.central.trust.revoked_peer_ids.append("rubbish")
        heard.clear()
        await stage.central.next_beats(2)
        assert session.live  # what is not understood harms nothing
    assert stage.central.beats[0].trust_version == 41
    assert all(found == enrolment_bench.trust for found in heard)


async def test_a_superseded_session_stops_and_does_not_fight(stage):
    session = stage.session()
    async with running(session) as task, asyncio.timeout(10):
        await session.wait_live()
        stage.central.beat_error = errors.SessionSuperseded("logged in elsewhere")
        with pytest.raises(errors.SessionSuperseded):
            await task
    assert not session.live
    assert len(stage.central.logins) == 1


async def test_a_wrong_clock_is_mended_by_centrals(stage):
    stage.wall = stage.central.time - 90_000
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        assert session.now == pytest.approx(stage.central.time, abs=1)


async def test_a_step_of_the_wall_clock_after_the_login_changes_nothing(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
        stage.wall += 3600
        stage.monotonic += 5
        assert session.now == pytest.approx(stage.central.time + 5, abs=1)


async def test_a_dead_central_is_passed_over_for_the_next(stage):
    session = stage.session()
    session._centrals = ("127.0.0.1:1", *session._centrals)
    async with running(session), asyncio.timeout(15):
        login = await session.wait_live()
    assert login.central == f"127.0.0.1:{stage.port}"


async def test_logging_out_names_the_session_once(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        login = await session.wait_live()
    assert await session.log_out()
    assert not await session.log_out()
    assert stage.central.logouts == [login.session_id]
    assert not session.live


async def test_a_logout_without_central_is_not_confirmed_and_does_not_hang(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await session.wait_live()
    await stage.server.stop(0)
    async with asyncio.timeout(5):
        assert not await session.log_out()


async def test_a_refusal_is_told_and_tried_again_slowly(stage, monkeypatch):
    monkeypatch.setattr("peer.links.backoff.REFUSED_BACKOFF", 0.01)
    stage.central.login_error = errors.InvalidInput("name", "a peer's name has 1 to 64 characters")
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        await stage.central.second_login.wait()
        assert "1 to 64 characters" in session.problem
        stage.central.login_error = None
        await session.wait_live()


async def test_a_stream_that_is_cancelled_on_its_way_is_opened_again_under_the_same_session(stage):
    session = stage.session()
    async with running(session), asyncio.timeout(10):
        login = await session.wait_live()
        stage.central.beat_error = errors.Cancelled("a proxy gave up")
        async with stage.central.beaten:
            await stage.central.beaten.wait_for(lambda: stage.central.streams == 2)
        stage.central.beat_error = None
        assert (await session.wait_live()).session_id == login.session_id
    assert len(stage.central.logins) == 1


async def test_a_central_that_forgets_each_session_at_once_is_not_stormed_with_logins(stage, monkeypatch):
    failures, tried_slowly = [], asyncio.Event()

    def pause(error, count):
        failures.append(count)
        tried_slowly.set()
        return 3600.0

    monkeypatch.setattr("peer.directory.session.login_pause", pause)
    stage.central.forgets = True
    async with running(stage.session()), asyncio.timeout(10):
        await tried_slowly.wait()
    assert len(stage.central.logins) == 2
    assert failures == [2]


async def test_a_slow_look_up_of_the_own_addresses_holds_up_nothing_else(stage):
    asked, found = threading.Event(), threading.Event()

    def addresses(central):
        asked.set()
        assert found.wait(10)
        return ("192.0.2.1:5",)

    session = stage.session(addresses=addresses)
    async with running(session), asyncio.timeout(10):
        await asyncio.to_thread(asked.wait)
        found.set()
        assert (await session.wait_live()).addresses == ("192.0.2.1:5",)
