"""Use cases of sessions: login, logout, expiry, and who is there."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence

from central import encode
from central.copies.placements import Placements
from central.decode import Caller, Newcomer
from central.mutations import Mutations
from central.sessions.neighbours import Changes
from central.sessions.roster import Roster
from central.store.store import PeerRecord, Receipt, SessionEnd, Store
from core.errors import NotPossible, RelevoError, Revoked, SessionMismatch, SessionSuperseded, SessionUnknown
from core.pages import decode_token, encode_token
from core.signing import session_name
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Neighbours as NeighboursMessage

log = logging.getLogger("relevo.central")
PROTOCOL_VERSIONS = range(1, 2)
_UNKNOWN = "central does not know this session, or it has expired; log in anew"


class Sessions:
    """What begins and ends sessions. Logins, logouts and expiries are decided one after the other."""

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        mutations: Mutations,
        placements: Placements,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._roster = roster
        self._mutations = mutations
        self._placements = placements
        self._clock = clock
        self._wall = wall
        self._order = asyncio.Lock()

    async def check_owner(self, peer_id: str, session_id: str) -> None:
        """Checks that a session is or was this peer's.

        Raises:
            SessionUnknown: there never was such a session.
            SessionMismatch: it is another peer's.
        """
        owner = self._roster.owner(session_id)
        if owner is None:
            ended = await self._store.session_end(session_id)
            if ended is None:
                raise SessionUnknown(_UNKNOWN)
            owner = ended[0]
        if owner != peer_id:
            raise SessionMismatch("this session belongs to another peer; use your own")

    async def require(self, peer_id: str, session_id: str) -> None:
        """Checks that a session is live and this peer's.

        Raises:
            SessionUnknown: it is unknown, has expired, or was logged out.
            SessionMismatch: it is another peer's.
            SessionSuperseded: a newer login replaced it.
        """
        await self.check_owner(peer_id, session_id)
        if self._roster.owner(session_id) == peer_id:
            return
        ended = await self._store.session_end(session_id)
        if ended is not None and ended[1] is SessionEnd.SUPERSEDED:
            raise _superseded()
        raise SessionUnknown(_UNKNOWN)

    def is_live(self, peer_id: str) -> bool:
        """Tells whether a peer is logged in."""
        return peer_id in self._roster

    def named(self, peer_id: str, name: str) -> str:
        """Returns the id of a peer's live session that goes by `name` (core.signing.session_name).

        Raises:
            SessionUnknown: the peer is not logged in.
            SessionSuperseded: it is by another session than that.
        """
        peer = self._roster.get(peer_id)
        if peer is None:
            raise SessionUnknown(_UNKNOWN)
        if session_name(peer.session_id) != name:
            raise _superseded()
        return peer.session_id

    async def login(self, newcomer: Newcomer) -> bytes:
        """Opens a session and returns the serialized LoginResponse.

        Raises:
            NotPossible: no protocol version in common.
        """
        lowest, highest = PROTOCOL_VERSIONS[0], PROTOCOL_VERSIONS[-1]
        if newcomer.min_version > highest or newcomer.max_version < lowest:
            raise NotPossible(
                f"central speaks protocol versions {lowest} to {highest}, this peer "
                f"{newcomer.min_version} to {newcomer.max_version}; update the older program"
            )
        return await self._mutations.run(newcomer.peer_id, newcomer.request_id, lambda: self._login(newcomer))

    async def _login(self, newcomer: Newcomer) -> bytes:
        async with self._order:
            version = await self._store.catalogue_version(newcomer.peer_id)
            before = self._roster.get(newcomer.peer_id)
            joined = self._roster.next_joined()
            changes = self._roster.neighbours.join(newcomer.peer_id, joined, bool(newcomer.addresses))
            peer = self._record(newcomer, joined, version)
            answer = self._login_answer(newcomer, peer)
            receipt = Receipt(newcomer.peer_id, newcomer.request_id, answer, self._wall())
            try:
                await self._store.login(peer, receipt)
            except BaseException:
                self._undo_join(newcomer.peer_id, before)
                raise
            superseded = self._roster.add(peer, self._clock())
            if superseded:
                superseded.end(_superseded())
            self._placements.upkeep.came(peer.peer_id)
            log.info("peer %s (%s) logged in, %d live", peer.name, peer.peer_id, len(self._roster))
            # The peer's own users are told too: its name or addresses may be new.
            await self._record_neighbours(changes, self._roster.neighbours.users(peer.peer_id))
            return answer

    def _record(self, newcomer: Newcomer, joined: int, version: int) -> PeerRecord:
        assignment = self._roster.neighbours.of(newcomer.peer_id)
        return PeerRecord(
            peer_id=newcomer.peer_id,
            public_key=newcomer.public_key,
            name=newcomer.name,
            addresses=newcomer.addresses,
            session_id=secrets.token_hex(16),
            joined=joined,
            login_time=self._wall(),
            free_bytes=newcomer.free_bytes,
            primary=assignment.primary,
            backup=assignment.backup,
            catalogue_version=version,
        )

    def _login_answer(self, newcomer: Newcomer, peer: PeerRecord) -> bytes:
        count = len(self._roster) + (peer.peer_id not in self._roster)
        pair = (self._roster.get(peer.primary), self._roster.get(peer.backup))
        return pb2.LoginResponse(
            session_id=peer.session_id,
            terms=encode.lease_terms(self._roster.leases.terms(count)),
            neighbours=encode.neighbours(pair),
            observed_address=newcomer.observed,
            protocol_version=min(newcomer.max_version, PROTOCOL_VERSIONS[-1]),
            catalogue_version=peer.catalogue_version,
        ).SerializeToString()

    def _undo_join(self, peer_id: str, before: PeerRecord | None) -> None:
        if before is None:
            self._roster.neighbours.leave(peer_id)
        else:
            self._roster.neighbours.join(peer_id, before.joined, bool(before.addresses))

    async def logout(self, caller: Caller) -> bytes:
        """Ends a session and returns the serialized LogoutResponse.

        Raises:
            SessionUnknown, SessionMismatch, SessionSuperseded: as `require`.
        """
        await self.check_owner(caller.peer_id, caller.session_id)
        return await self._mutations.run(caller.peer_id, caller.request_id, lambda: self._logout(caller))

    async def _logout(self, caller: Caller) -> bytes:
        async with self._order:
            await self.require(caller.peer_id, caller.session_id)
            answer = pb2.LogoutResponse().SerializeToString()
            receipt = Receipt(caller.peer_id, caller.request_id, answer, self._wall())
            await self._store.end_sessions([caller.session_id], SessionEnd.LOGOUT, self._wall(), receipt)
            await self._withdraw([caller.peer_id], "logged out", SessionUnknown(_UNKNOWN))
            return answer

    async def expire(self) -> None:
        """Withdraws every peer whose lease is over."""
        async with self._order:
            sessions = self._roster.leases.sweep(self._clock())
            if not sessions:
                return
            peers = [self._roster.by_session(session).peer_id for session in sessions]
            await self._store.end_sessions(sessions, SessionEnd.EXPIRED, self._wall(), None)
            await self._withdraw(peers, "fell silent", SessionUnknown(_UNKNOWN))

    async def end_revoked(self, revoked: Collection[str]) -> None:
        """Withdraws every live peer that is revoked."""
        async with self._order:
            ended = [peer for peer in self._roster if peer.peer_id in revoked]
            if not ended:
                return
            sessions = [peer.session_id for peer in ended]
            await self._store.end_sessions(sessions, SessionEnd.REVOKED, self._wall(), None)
            await self._withdraw([peer.peer_id for peer in ended], "was revoked", Revoked())

    async def _withdraw(self, peer_ids: Sequence[str], how: str, error: RelevoError) -> None:
        """Takes peers whose sessions have ended out of memory, and tells those who used them.

        Whoever was revoked does not come back with its copies.
        """
        changes: Changes = {}
        for peer_id in peer_ids:
            log.info("peer %s %s", peer_id, how)
            changed, stream = self._roster.remove(peer_id)
            changes.update(changed)
            self._placements.upkeep.lost(peer_id, for_good=isinstance(error, Revoked))
            if stream:
                stream.end(error)
        await self._record_neighbours(changes, ())

    async def _record_neighbours(self, changes: Changes, others: Iterable[str]) -> None:
        """Tells peers of their new neighbours and records them. A crash in between is mended at the next start."""
        live = {peer_id: assignment for peer_id, assignment in changes.items() if peer_id in self._roster}
        self._roster.poke({**live, **dict.fromkeys(others)})
        if live:
            await self._store.set_neighbours([(peer_id, a.primary, a.backup) for peer_id, a in live.items()])

    def neighbours(self, peer_id: str) -> NeighboursMessage:
        """Returns a live peer's neighbours.

        Raises:
            NotFound: the peer is not logged in.
        """
        return encode.neighbours(self._roster.neighbours_of(peer_id))

    async def list_peers(self, page_token: str, limit: int) -> pb2.ListPeersResponse:
        """Returns a page of live peers, the most recently joined first.

        Raises:
            InvalidInput: the token is not of this list.
        """
        key = decode_token(page_token, int)
        recorded = sorted(await self._store.live_peers(), key=lambda peer: -peer.joined)
        listed = [
            (peer, live)
            for peer in recorded
            if (key is None or peer.joined < int(key[0])) and (live := self._roster.get(peer.peer_id))
        ]
        page = encode.fitting(listed[:limit], lambda pair: encode.peer_listing(*pair, self._roster))
        more = len(listed) > len(page)
        return pb2.ListPeersResponse(
            peers=page, next_page_token=encode_token(listed[len(page) - 1][0].joined) if more else ""
        )


def _superseded() -> SessionSuperseded:
    return SessionSuperseded("a newer login of the same peer replaced this session; run one daemon for each home")
