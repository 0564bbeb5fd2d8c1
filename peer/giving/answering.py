"""Answers what other peers ask of what is held here, whichever way the question has come."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from core.content import MAX_BLOCK, MOST_IN_A_ROW
from core.errors import InvalidInput, NotPossible, RelevoError
from core.times import from_duration
from peer.fetching.block_answers import encoded
from peer.fetching.block_sets import run
from peer.giving.serving import Serving, Wanted
from relevo.v1 import peer_relay_pb2 as pb2

# Longest that an ask waits for a block to come, in seconds.
LONGEST_PATIENCE = 60.0


class Call(Protocol):
    """A question that waits for its answer."""

    @property
    def who(self) -> str:
        """Whose share of what can be given it takes."""
        ...

    @property
    def remaining(self) -> float:
        """Seconds until nobody waits for the answer any more."""
        ...

    async def chosen(self, index: int, *, tell: bool) -> None:
        """Takes note of which block is going to be given; when `tell`, the asker hears of it, and asks nobody else."""
        ...

    def when_ended(self, then: Callable[[bool], None]) -> None:
        """Has `then` called when the call has ended: with whether what was answered has left in whole."""
        ...


class Answering:
    """The answers of one peer; errors are raised, and told to the asker by whoever carries the answers.

    Attributes:
        serving: what there is to give, and who is given how much of it.
    """

    def __init__(self, serving: Serving, prove: Callable[[bytes], bytes] = lambda _: b"") -> None:
        """`prove` signs a nonce with this peer's key, which proves that it lives; by default nothing is proved."""
        self.serving = serving
        self._prove = prove

    def probe(self, request: pb2.ProbeRequest) -> pb2.ProbeResponse:
        """Answers PeerRelay.Probe; raises its errors."""
        return pb2.ProbeResponse(signature=self._prove(request.nonce))

    async def manifest(self, who: str, request: pb2.GetManifestRequest) -> pb2.GetManifestResponse:
        """Answers PeerRelay.GetManifest; raises its errors."""
        page = await self.serving.page(request.content_id, request.page_index)
        await self.serving.sending.other(who, len(page.page_digests) + len(page.block_digests))
        return pb2.GetManifestResponse(
            size_bytes=page.size,
            block_size_bytes=page.block_size,
            page_digests=page.page_digests,
            block_digests=page.block_digests,
        )

    async def block(self, call: Call, request: pb2.GetBlockRequest) -> bytes:
        """Answers PeerRelay.GetBlock with the bytes of a GetBlockResponse; raises its errors."""
        patience = from_duration(request.patience)
        if not 0.0 <= patience <= LONGEST_PATIENCE:
            raise InvalidInput("patience", f"a caller waits {LONGEST_PATIENCE:g} s at most")
        gift = await self.serving.choose(call.who, request.content_id, _wanted(request), patience)
        if gift is None:
            return encoded(pb2.GetBlockResponse(), b"")
        sent = False
        call.when_ended(lambda arrived: self.serving.left(gift.ask, arrived=sent and arrived))
        await call.chosen(gift.index, tell=not request.unannounced)
        share = await self.serving.sending.share(call.who, request.most_bytes, call.remaining)
        call.when_ended(lambda _: share.end())
        found = await self.serving.read(request.content_id, gift)
        if gift.count > 1 and len(found) > share.size:  # a limit has come meanwhile: a single block is sent in pieces
            found = await self.serving.read(request.content_id, replace(gift, count=1))
        data = share.piece(found, request.offset_bytes)
        sent = True
        return encoded(pb2.GetBlockResponse(index=gift.index, first_hand=gift.first_hand), data)

    async def contents(self, call: Call, request: pb2.GetContentsRequest) -> pb2.GetContentsResponse:
        """Answers PeerRelay.GetContents; raises its errors. It has a slot until the call ends."""
        who = call.who
        self.serving.take_slot(who)
        call.when_ended(lambda _: self.serving.give_back(who))
        share = await self.serving.sending.share(who, request.most_bytes or MAX_BLOCK, call.remaining)
        call.when_ended(lambda _: share.end())
        found = await self.serving.contents(request.content_ids, share.size)
        share.sent(sum(len(one) for one in found if isinstance(one, bytes)))
        return pb2.GetContentsResponse(contents=map(_given, found))


def _wanted(request: pb2.GetBlockRequest) -> Wanted:
    most = 1 if request.offset_bytes else min(request.block_count or 1, MOST_IN_A_ROW)
    room = min(request.most_bytes or MAX_BLOCK, MAX_BLOCK)
    match request.WhichOneof("wanted"):
        case "index":
            bitmap = run(0, most).to_bytes(MOST_IN_A_ROW // 8, "little")
            return Wanted(request.index, bitmap, only=True, most=most, room=room)
        case "lacking":
            lacking = request.lacking
            return Wanted(lacking.first, lacking.bitmap, first_hand=request.first_hand, most=most, room=room)
    raise InvalidInput("wanted", "a request names a block, or the set that its caller lacks")


def _given(found: bytes | RelevoError) -> pb2.GivenContent:
    if isinstance(found, bytes):
        return pb2.GivenContent(data=found)
    large = isinstance(found, NotPossible)
    return pb2.GivenContent(problem=pb2.CONTENT_PROBLEM_TOO_LARGE if large else pb2.CONTENT_PROBLEM_NOT_HELD)
