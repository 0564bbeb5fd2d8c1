"""Hostile answers: a central, a neighbour and a holder that lie to a real peer, which goes on all the same."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from core.errors import RelevoError
from core.life import NONCE_BYTES
from core.rpc import CONTROL_MESSAGE, open_channel
from core.times import to_duration
from peer.daemon import running_peer
from peer.directory.carried_heartbeat import CarriedHeartbeat
from peer.fetching.manifest_fetch import ManifestTimes
from peer.fetching.pieces import unlimited
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.transfer import FetchRequest
from peer.links.contacts import Contact
from peer.relays.carrying import DirectCarrier
from peer.sets.gatherer import Gatherer, GatherSettings
from peer.settings import ServeSettings, control_address
from relevo.v1 import central_directory_pb2 as central
from relevo.v1 import peer_control_pb2 as control
from relevo.v1.content_pb2 import Neighbours
from relevo.v1.peer_control_pb2_grpc import PeerControlStub
from tests.fuzz.engine import Broken, Target
from tests.fuzz.identities import MALLORY
from tests.fuzz.liar import CENTRAL, CONTENT, MANIFEST, PATH, RELAY, Liar, Lie, lookup_request
from tests.fuzz.messages import services, spoil, valid
from tests.fuzz.mutations import mutated
from tests.fuzz.watch import Memory, alarmed

_STATUS = " status"
_PATIENCE = 20.0
# After a lie of these the peer has to beat before it counts as in order.
_SESSION = {f"{CENTRAL}/Login", f"{CENTRAL}/Heartbeat"}
# Central does without beats for so long, in seconds.
_LEASE = 0.08
# Answers without anything in them that is read.
_EMPTY = {"Logout", "ReportHolder", "ReportProbe", "Deliver", "Invite"}
# What a peer waits for between two tries, made short: here every answer is a lie.
_SHORT = {
    "peer.links.backoff.FIRST_BACKOFF": 0.01,
    "peer.links.backoff.LAST_BACKOFF": 0.02,
    "peer.links.backoff.REFUSED_BACKOFF": 0.02,
    "peer.directory.publishing.RETRY_PAUSE": 0.01,
    "peer.work.storing.RETRY_PAUSE": 0.2,
    "peer.directory.session.REOPEN": (0.01,),
    "peer.directory.routes.PATIENCE": 0.1,
    "core.status.LONGEST_RETRY": 0.02,
}


class AnswerTarget(Target):
    """One answer. An input is a line with `service/method`, then the bytes that are answered.

    After `status` in that line the bytes are a code and the details of an error.
    """

    name = "answers"

    def __init__(self) -> None:
        self._version = 1 << 40  # which central never told
        self._kinds = {
            f"{service}/{method.name}": method.output_type
            for service in (CENTRAL, RELAY)
            for method in services()[service].methods
            if method.name not in _EMPTY
        }

    async def __aenter__(self) -> "AnswerTarget":
        self._stack = AsyncExitStack()
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="relevo-fuzz-"))
        self._stack.callback(shutil.rmtree, self._base)
        for name, value in _SHORT.items():
            self._stack.enter_context(mock.patch(name, value))
        self._alarm = self._stack.enter_context(alarmed())
        self._memory = Memory()
        self._liar = Liar()
        await self._liar.start()
        self._stack.push_async_callback(self._liar.stop)
        (self._base / "shared").mkdir()
        (self._base / "shared" / "own.txt").write_bytes(b"mine")
        self._settings = ServeSettings(
            home=self._base / "home",
            shared=self._base / "shared",
            centrals=(f"127.0.0.1:{self._liar.port}",),
            name="ana",
            listen="127.0.0.1:0",
            insecure=True,
        )
        self._peer = await self._stack.enter_async_context(running_peer(self._settings))
        downloader = self._peer.downloader
        times = ManifestTimes(timeout=2.0, patience=0.05)
        downloader._settings = replace(downloader._settings, manifest=times, first_retry=0.01, patience=0.02)
        channel = open_channel(control_address(self._settings.home), CONTROL_MESSAGE)
        self._stack.push_async_callback(channel.close)
        self._control: Any = PeerControlStub(channel)
        async with asyncio.timeout(_PATIENCE):
            await self._liar.beats()

    async def __aexit__(self, *_: object) -> None:
        self._liar.lies.clear()
        await self._stack.aclose()

    def seeds(self) -> Sequence[bytes]:
        values = {
            "content_id": MANIFEST.content_id,
            "size_bytes": len(CONTENT),
            "path": PATH,
            "addresses": f"127.0.0.1:{self._liar.port}",
            "authorities": b"x",
        }
        whole = [_input(name, valid(kind, values).SerializeToString()) for name, kind in self._kinds.items()]
        honest = [_input(name, self._liar.truth(name, b"")) for name in self._kinds]
        return [*whole, *honest, *(_input(name + _STATUS, b"\x05") for name in self._kinds)]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        name, _, body = data.partition(b"\n")
        kind = self._kinds.get(name.decode("ascii", "replace"))
        if kind is not None and random.random() < 0.6:
            message = GetMessageClass(kind)()
            with suppress(DecodeError):
                message.ParseFromString(body)
            for _ in range(random.choice((1, 1, 2, 4))):
                spoil(message, random)
            return name + b"\n" + message.SerializeToString()
        return name + b"\n" + mutated(body, other.partition(b"\n")[2], random)

    async def run(self, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        text = head.decode("ascii", "replace")
        name = text.removesuffix(_STATUS)
        if name not in self._kinds:
            return
        through = Neighbours(primary=self._liar.myself) if name.startswith(RELAY) else Neighbours()
        self._peer.routes.neighbours = through
        self._peer.routes._resting.clear()
        self._liar.lies[name] = Lie(body, status=text.endswith(_STATUS))
        try:
            async with asyncio.timeout(_PATIENCE):
                with suppress(RelevoError, _Refused):
                    await self._triggers()[name.partition("/")[2]]()
                self._liar.lies.clear()
                await self._recovered(beating=name in _SESSION)
        except TimeoutError as error:
            raise Broken("the peer does not come back after a lie") from error
        finally:
            self._liar.lies.clear()

    def _triggers(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """What makes the peer ask, by RPC."""
        control_calls = self._control
        return {
            "Login": self._log_in_anew,
            "Heartbeat": self._beat,
            "PublishFiles": self._publish,
            "ListFiles": lambda: self._ask(control_calls.ListFiles, control.PeerControlListFilesRequest()),
            "ListPeers": lambda: self._ask(control_calls.ListPeers, control.PeerControlListPeersRequest()),
            "GetNeighbours": lambda: self._ask(control_calls.GetNeighbours, control.PeerControlGetNeighboursRequest()),
            "GetPlacement": lambda: self._ask(control_calls.GetPlacement, control.PeerControlGetPlacementRequest()),
            "PlaceFile": lambda: self._peer.routes.place_file(lookup_request()),
            "EndPlacement": lambda: self._peer.uploads.give_up(MANIFEST.content_id),
            "LocateFile": self._fetch,
            "GetManifest": self._fetch,
            "GetBlock": self._fetch,
            "LocateFiles": self._gather,
            "GetContents": self._gather,
            "Probe": self._probe,
            "Beat": self._beat_once,
            "Carry": self._carry,
            "DialBack": self._dial_back,
            "Attach": self._attach,
        }

    async def _beat_once(self) -> None:
        """Beats without a stream, as a peer whose calls are carried."""
        stub = self._peer.routes.central_stub()
        heartbeat = CarriedHeartbeat(
            stub, lambda number: central.HeartbeatRequest(sequence=number), lambda: 0.0, self._peer.session._tell
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEASE):
                await asyncio.shield(heartbeat.ended)
        await heartbeat.stop()

    async def _carry(self) -> None:
        """Has a call carried by the liar, and carries one to it."""
        detour = self._peer.session.detour
        if detour is None:
            raise Broken("the peer knows no way through others")
        self._peer.last_neighbours.contacts = [Contact.from_info(self._liar.myself)]
        with suppress(RelevoError):
            await detour.central.stub().ListFiles(central.ListFilesRequest())
        await DirectCarrier(self._peer.routes).carry(central.CarryRequest())

    async def _dial_back(self) -> None:
        self._peer.experiment.neighbours = (Contact.from_info(self._liar.myself),)
        await self._peer.experiment._found()

    async def _attach(self) -> None:
        """Has the peer obey whatever comes down a stream to a relay."""
        dial = partial(self._peer.routes.dialler.peer, f"127.0.0.1:{self._liar.port}", MALLORY.peer_id)
        await self._peer.attaching._made().serve(dial)

    async def _beat(self) -> None:
        def told() -> bool:
            return f"{CENTRAL}/Heartbeat" not in self._liar.lies

        with suppress(TimeoutError):
            async with asyncio.timeout(_LEASE):
                await self._liar.until(told)
        await self._poke(self._liar.forget, told)  # when an earlier lie has told it to beat more rarely

    async def _log_in_anew(self) -> None:
        name = f"{CENTRAL}/Login"
        before = self._liar.asked[name]
        await self._poke(self._liar.forget, lambda: self._liar.asked[name] > before)

    async def _publish(self) -> None:
        def news() -> None:
            self._version += 1
            self._peer.publisher.logged_in(self._version)

        name = f"{CENTRAL}/PublishFiles"
        before = self._liar.asked[name]
        await self._poke(news, lambda: self._liar.asked[name] > before)

    async def _poke(self, poke: Callable[[], None], done: Callable[[], bool]) -> None:
        """Pokes the peer until it has asked: it may not hear the first, being busy with what came before."""
        while not done():
            poke()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEASE):
                    await self._liar.until(done)

    async def _ask(self, call: Any, request: Any) -> None:
        try:
            await call(request, timeout=_PATIENCE)
        except grpc.RpcError as error:
            status: Any = error
            if status.code() in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise Broken(f"the daemon answered {status.code().name}: {status.details()}") from error
            raise _Refused from error

    async def _fetch(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self._base))
        request = FetchRequest(MANIFEST.content_id, len(CONTENT), folder, PATH)
        try:
            fetched = await self._peer.downloader.fetch(request, Progress(len(CONTENT)))
            if fetched.location.read_bytes() != CONTENT:
                raise Broken("bytes that do not match the content reached a user's file")
        finally:
            await asyncio.to_thread(shutil.rmtree, folder)

    async def _gather(self) -> None:
        gatherer = Gatherer(
            self._peer.sets.find_many,
            Reach(self._peer.routes.dialler),
            self._peer.identity.peer_id,
            time.monotonic,
            accuse=lambda *_: None,
            allowance=unlimited(),
            settings=GatherSettings(timeout=2.0, refresh=0.02, patience=0.05),
        )
        running = asyncio.ensure_future(gatherer.run())
        try:
            (future,) = gatherer.want({MANIFEST.content_id: len(CONTENT)}).values()
            if (await future).data != CONTENT:
                raise Broken("bytes that do not match the content were taken")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _probe(self) -> None:
        suspect = self._liar.myself
        nonce = os.urandom(NONCE_BYTES)  # one that it has not seen yet
        probe = central.ProbeDirective(suspect=suspect, nonce=nonce, patience=to_duration(_PATIENCE))
        self._peer.prober.obey([central.Directive(probe=probe)])
        while under_way := tuple(self._peer.prober._under_way):
            await asyncio.gather(*under_way)

    async def _recovered(self, *, beating: bool) -> None:
        """Waits until the peer is in order again, and looks at what it noticed meanwhile."""
        beats = asyncio.ensure_future(self._liar.beats(1 if beating else 0))
        both = [beats, self._peer.stopped]
        while not (await asyncio.wait(both, timeout=_LEASE, return_when=asyncio.FIRST_COMPLETED))[0]:
            self._liar.forget()  # as central does when beats do not come, for it was told to beat more rarely
        if self._peer.stopped.done():
            beats.cancel()
            self._peer.stopped.result()
            raise Broken("a lie has stopped the peer")
        await self._peer.session.wait_live()
        await self._control.GetStatus(control.GetStatusRequest(), timeout=_PATIENCE)
        for transfer in list(self._peer.transfers.running()):
            await self._peer.transfers.cancel(transfer.transfer_id)
        self._alarm.check()

    async def check(self) -> None:
        self._alarm.check()
        self._memory.check()


class _Refused(Exception):
    """The daemon told its user what is wrong."""


def _input(name: str, body: bytes) -> bytes:
    return name.encode() + b"\n" + body
