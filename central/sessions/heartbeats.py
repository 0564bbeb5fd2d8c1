"""Heartbeat streams: beats up; answers, and what changed, down.

A stream has a reader and a writer, with an outbox of bounded size between them. A client that stops reading fills its
own outbox, after which its beats are not read either: its lease runs out, and nobody else notices.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

from central import decode, encode
from central.decode import Beat
from central.directory import Directory
from core.access import caller
from core.errors import InvalidInput, Unreachable
from core.trust import Trust
from relevo.v1 import central_directory_pb2 as pb2

_MAX_OWED = 16
# How long an answer under way may take, in seconds, once the stream has ended.
_LAST_WRITE = 0.5


class HeartbeatStream:
    """The outbox of one stream: answers that are owed, whether something changed, and how the stream ends.

    Attributes:
        beat: the latest; None before the first.
        number: what the leases call this stream.
        ended: resolved when the stream ends in order, else has the error.
    """

    def __init__(self) -> None:
        self.beat: Beat | None = None
        self.number = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owed: deque[int] = deque()
        self._changed = False
        self._finished = False
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def owe(self, sequence: int) -> None:
        """Has a beat answered; waits while too many answers are owed already."""
        await self._room.wait()
        self._owed.append(sequence)
        if len(self._owed) >= _MAX_OWED:
            self._room.clear()
        self._due.set()

    def poke(self) -> None:
        """Has the peer told the latest state, unasked; several changes are told as one."""
        self._changed = True
        self._due.set()

    def finish(self) -> None:
        """Ends the stream once all that is owed is answered."""
        self._finished = True
        self._due.set()

    def end(self, error: Exception | None) -> None:
        """Ends the stream now, with an error or in order."""
        if self.ended.done():
            return
        self._due.set()
        if error:
            self.ended.set_exception(error)
            self.ended.exception()  # a stream that is torn down meanwhile has nobody to raise it
        else:
            self.ended.set_result(None)

    async def next(self) -> int | None:
        """Waits for something to say: the number of the beat to answer, 0 for a change, None at the end.

        Any answer carries the latest state, so a change that came before it is told by it.
        """
        while not (self._owed or self._changed or self._finished or self.ended.done()):
            self._due.clear()
            await self._due.wait()
        if self.ended.done() or not (self._owed or self._changed):
            return None
        self._changed = False
        sequence = self._owed.popleft() if self._owed else 0
        self._room.set()
        return sequence


class Heartbeats:
    """Serves heartbeat streams.

    Attributes:
        enrolment_port: where members renew their certificates, which they are told; 0 without TLS.
    """

    def __init__(self, directory: Directory, trust: Callable[[], Trust | None]) -> None:
        """Composes them: beats renew what is in `directory`; `trust` tells members whom to trust, None without TLS."""
        self._directory = directory
        self._trust = trust
        self._roster = directory.roster
        self._placements = directory.placements
        self._suspects = directory.suspects
        self._streams: set[HeartbeatStream] = set()
        self._stopping = False
        self.enrolment_port = 0

    def stop(self) -> None:
        """Ends all streams politely; new ones are refused."""
        self._stopping = True
        for stream in self._streams:
            stream.end(_stopping())

    async def serve(
        self, requests: AsyncIterator[pb2.HeartbeatRequest], context: Any
    ) -> AsyncIterator[pb2.HeartbeatResponse]:
        """Serves one stream until it breaks, the client closes it, or its session ends.

        Answers are written here rather than yielded: a write that waits for a client which does not read can be given
        up when the session ends, a yield cannot.

        Raises:
            InvalidInput: no first beat within the lease, a field breaks its rule, or the stream changes its session.
            Refused: a beat names another peer than the certificate does.
            SessionUnknown, SessionMismatch, SessionSuperseded: as `Sessions.require`, at any time.
            Unreachable: central is stopping.
        """
        # The status of a stream that ends cannot be sent while its headers are still under way with a first answer.
        await context.send_initial_metadata(())
        stream = HeartbeatStream()
        self._streams.add(stream)
        if self._stopping:
            stream.end(_stopping())
        reader = asyncio.create_task(self._until_ended(stream, self._read(requests, stream)))
        writer = asyncio.create_task(self._until_ended(stream, self._write(stream, context)))
        try:
            await asyncio.wait({stream.ended})
            await asyncio.wait({writer}, timeout=_LAST_WRITE)
        finally:
            self._streams.discard(stream)
            self._closed(stream)
            reader.cancel()
            writer.cancel()
            await asyncio.wait({reader, writer})
        stream.ended.result()
        never: tuple[pb2.HeartbeatResponse, ...] = ()
        for response in never:
            yield response

    async def _until_ended(self, stream: HeartbeatStream, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - `serve` raises it, and the interceptor answers it
            stream.end(error)

    async def _read(self, requests: AsyncIterator[pb2.HeartbeatRequest], stream: HeartbeatStream) -> None:
        first = await self._first(requests)
        caller().check_is(first.peer_id)
        await self._opened(first, stream)
        async for request in requests:
            beat = decode.beat(request)
            caller().check_is(beat.peer_id)
            await self._beat(stream, beat)
        stream.finish()

    async def _first(self, requests: AsyncIterator[pb2.HeartbeatRequest]) -> Beat:
        """Waits for the first beat, which names the session."""
        patience = self._roster.leases.current_terms().lease
        try:
            async with asyncio.timeout(patience):
                return decode.beat(await anext(requests))
        except TimeoutError as error:
            raise InvalidInput("peer_id", f"no beat came within {patience:g} s of opening the stream") from error
        except StopAsyncIteration as error:
            raise InvalidInput("peer_id", "the stream was closed before its first beat") from error

    async def _opened(self, first: Beat, stream: HeartbeatStream) -> None:
        await self._directory.sessions.require(first.peer_id, first.session_id)
        stream.number = self._roster.leases.open(first.session_id, self._directory.clock())
        older = self._roster.listen(first.peer_id, stream)
        if older:
            older.end(None)
        self._placements.joined()
        await self._beat(stream, first)

    async def _beat(self, stream: HeartbeatStream, beat: Beat) -> None:
        last = stream.beat or replace(beat, sequence=0)
        if (beat.peer_id, beat.session_id) != (last.peer_id, last.session_id):
            raise InvalidInput("session_id", "a stream carries one session only; open another stream")
        if beat.sequence <= last.sequence:
            raise InvalidInput("sequence", f"beat {beat.sequence} came after beat {last.sequence}; count upwards")
        self.renew(beat, stream.number)
        stream.beat = beat
        await stream.owe(beat.sequence)

    async def _write(self, stream: HeartbeatStream, context: Any) -> None:
        while (sequence := await stream.next()) is not None:
            if stream.beat:
                await context.write(self.answer(stream.beat, sequence))
        stream.end(None)

    def renew(self, beat: Beat, stream: int) -> None:
        """Renews the lease of a session by a beat that counts, and notes what it says of the peer.

        Raises:
            SessionUnknown: there is no such lease.
        """
        if self._roster.leases.beat(beat.session_id, stream, self._directory.clock()):
            self._placements.joined()
        self._roster.update(beat.peer_id, free_bytes=beat.free_bytes)
        self._roster.beaten(beat.peer_id, caller().carrier)
        self._roster.fetching.update(beat.peer_id, beat.fetching)

    def answer(self, beat: Beat, sequence: int) -> pb2.HeartbeatResponse:
        """Returns what a peer is told after `beat`: in answer to the beat of that number, or unasked when it is 0."""
        peer = self._roster.require(beat.peer_id)
        trust = self._trust()
        news = trust if trust and trust.version != beat.trust_version else None
        directives = self._directives(beat.peer_id)
        return encode.heartbeat(peer, sequence, self._roster, directives, news, enrolment_port=self.enrolment_port)

    def _directives(self, peer_id: str) -> Iterator[pb2.Directive]:
        yield from map(encode.directive, self._placements.directives(peer_id))
        for probe, suspect in self._suspects.asked_of(peer_id):
            yield encode.probe(suspect, probe.nonce, self._suspects.patience)

    def _closed(self, stream: HeartbeatStream) -> None:
        """Makes the session suspect, unless it has ended or has a newer stream."""
        if stream.beat:
            self._roster.unlisten(stream.beat.peer_id, stream)
            self._roster.leases.broken(stream.beat.session_id, stream.number, self._directory.clock())


def _stopping() -> Unreachable:
    return Unreachable("central is stopping; beat again when it is back")
