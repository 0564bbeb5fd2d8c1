"""Beats without a stream: how peers stay whose calls are carried by others.

A carried beat can be held back, repeated and overtaken. So each has to have the nonce of central's last answer to its
session: what was sent before that answer changes nothing, whenever it comes and however often.
"""

import secrets

from central.decode import Beat
from central.directory import Directory
from central.sessions.heartbeats import Heartbeats
from core.access import caller
from relevo.v1 import central_directory_pb2 as pb2

_NONCE_BYTES = 16
# Nonces of peers that have left are forgotten when there are so many more than live peers.
_LEFT = 100
# No stream has this number: that of an older stream, should it break, is not the one in use.
_NO_STREAM = 0


class SingleBeats:
    """Answers beats that come one by one. A restart of central forgets the nonces, and the next beat learns another."""

    def __init__(self, directory: Directory, heartbeats: Heartbeats) -> None:
        self._sessions = directory.sessions
        self._roster = directory.roster
        self._heartbeats = heartbeats
        self._awaited: dict[str, tuple[str, bytes]] = {}  # by peer: its session, and the nonce of the next beat

    async def answer(self, beat: Beat, nonce: bytes) -> pb2.BeatResponse:
        """Takes a beat.

        Raises:
            Refused: it is not the caller's.
            SessionUnknown, SessionMismatch, SessionSuperseded: as `Sessions.require`.
        """
        caller().check_is(beat.peer_id)
        await self._sessions.require(beat.peer_id, beat.session_id)
        counts = bool(nonce) and self._awaited.get(beat.peer_id) == (beat.session_id, nonce)
        if counts:
            self._heartbeats.renew(beat, _NO_STREAM)
        if counts or self._awaited.get(beat.peer_id, ("",))[0] != beat.session_id:
            self._expect(beat)
        answer = self._heartbeats.answer(beat, beat.sequence if counts else 0)
        return pb2.BeatResponse(answer=answer, nonce=self._awaited[beat.peer_id][1])

    def _expect(self, beat: Beat) -> None:
        if len(self._awaited) > len(self._roster) + _LEFT:
            self._awaited = {peer_id: of for peer_id, of in self._awaited.items() if peer_id in self._roster}
        self._awaited[beat.peer_id] = (beat.session_id, secrets.token_bytes(_NONCE_BYTES))
