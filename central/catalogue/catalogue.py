"""Use cases of the catalogue: publishing, searching, locating."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from central import encode
from central.catalogue.reports import Reports
from central.copies.placements import Placements
from central.decode import Caller, file_query, file_token
from central.mutations import Mutations
from central.quotas import Quotas
from central.sessions.roster import Roster
from central.sessions.sessions import Sessions
from central.store.store import Batch, FoundFile, FoundHolder, Order, Page, PeerRecord, Receipt, Store
from core.errors import NotFound
from core.names import folded
from core.pages import decode_token, encode_token
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import Holder

# Holders of each content that are named when many are looked up: enough to share the work and to lose some.
HOLDERS_EACH = 8
# Peers that are fetching a content that are named at once: more than one of them asks.
PARTIAL_HOLDERS = 50
# A library that starts over begins at a version that no earlier one has had, also not at a central that was lost: a
# peer that finds the version that it remembers need not publish anything.
FIRST_VERSIONS = 1 << 52


class Catalogue:
    """Which live peer holds which file.

    Args:
        first_version: draws the version of a library that starts over.
    """

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        mutations: Mutations,
        sessions: Sessions,
        placements: Placements,
        reports: Reports,
        quotas: Quotas,
        wall: Callable[[], float],
        random: Random,
        first_version: Callable[[], int] = lambda: secrets.randbelow(FIRST_VERSIONS) + 1,
    ) -> None:
        self._store = store
        self._roster = roster
        self._mutations = mutations
        self._sessions = sessions
        self._placements = placements
        self._reports = reports
        self._quotas = quotas
        self._wall = wall
        self._random = random
        self._first_version = first_version

    async def publish(self, caller: Caller, read: Callable[[], Batch]) -> bytes:
        """Applies changes of a peer's library and returns the serialized PublishFilesResponse.

        They are read when it is their turn: that takes a while for a large batch, and many may wait.

        Raises:
            Busy: too many changes of this peer wait.
            InvalidInput: one breaks a rule.
            SessionUnknown, SessionMismatch, SessionSuperseded: as `Sessions.require`.
            VersionConflict: the changes build on another version than central's.
            OverQuota: the peer would publish more than one may, and more than before.
        """
        await self._sessions.check_owner(caller.peer_id, caller.session_id)
        return await self._mutations.run(caller.peer_id, caller.request_id, lambda: self._publish(caller, read))

    async def _publish(self, caller: Caller, read: Callable[[], Batch]) -> bytes:
        await self._sessions.require(caller.peer_id, caller.session_id)
        batch = replace(read(), first_version=self._first_version())
        answer = pb2.PublishFilesResponse(catalogue_version=batch.version).SerializeToString()
        receipt = Receipt(caller.peer_id, caller.request_id, answer, self._wall())
        async with self._placements.publishing(caller.peer_id, batch):
            outcome = await self._store.publish(caller.peer_id, batch, receipt, self._quotas)
            self._roster.update(caller.peer_id, catalogue_version=batch.version)
        self._placements.published(outcome)
        return answer

    async def list_files(self, request: pb2.ListFilesRequest) -> pb2.ListFilesResponse:
        """Returns a page of files.

        Raises:
            InvalidInput: a field breaks its rule, or cannot be searched for.
        """
        query = file_query(request)
        found = await self._store.list_files(query)
        files = encode.fitting(found.items, encode.catalogue_file)
        key = found.next if len(files) == len(found.items) else _file_key(found.items[len(files) - 1], query.order)
        return pb2.ListFilesResponse(files=files, next_page_token=file_token(request, key) if key else "")

    async def locate(self, content_id: bytes, page_token: str, limit: int) -> pb2.LocateFileResponse:
        """Returns a page of holders: doubted ones last, else by peer id; on the first, some partial ones too.

        Raises:
            NotFound: no live peer holds the content, not even a part of it.
            InvalidInput: the token is not of this list.
        """
        key = decode_token(page_token, str)
        fetching = [] if key else self._fetching(content_id)
        try:
            size, found = await self._store.locate(content_id, str(key[0]) if key else "", limit)
        except NotFound:
            if not fetching:
                raise
            size, found = 0, Page((), None)
        known = {one.peer_id for one in found.items}
        partial = [peer for peer in fetching if peer.peer_id not in known]
        partial = partial[: max(limit - len(found.items), limit // 2)]
        complete = found.items[: limit - len(partial)]

        def described(one: PeerRecord | FoundHolder) -> Holder:
            doubted = self._reports.doubted(one.peer_id)
            return encode.holder(one, self._roster, doubted=doubted, complete=isinstance(one, FoundHolder))

        everybody: tuple[PeerRecord | FoundHolder, ...] = (*complete, *partial)
        holders = encode.fitting(everybody, described)
        told = min(len(holders), len(complete))
        more = found.next is not None or told < len(found.items)
        token = encode_token(complete[told - 1].peer_id) if more and told else ""
        holders.sort(key=lambda holder: (holder.doubted, not holder.complete))
        return pb2.LocateFileResponse(size_bytes=size, holders=holders, next_page_token=token)

    def _fetching(self, content_id: bytes) -> list[PeerRecord]:
        """Returns some of the live peers that are fetching a content."""
        some = self._roster.fetching.some(content_id, PARTIAL_HOLDERS, self._random)
        return [peer for peer_id in some if (peer := self._roster.get(peer_id)) is not None]

    async def locate_many(self, content_ids: Sequence[bytes]) -> pb2.LocateFilesResponse:
        """Returns a few holders of each content."""
        found = await self._store.locate_many(content_ids, HOLDERS_EACH)
        return encode.located_files(found, self._roster, self._reports.doubted)


def _file_key(last: FoundFile, order: Order) -> tuple[str | float, ...]:
    """Returns the key of a file, as `FileQuery.after` has it."""
    first = folded(last.path) if order is Order.BY_NAME else last.publish_time
    return (first, last.path, last.content_id.hex(), last.size)
