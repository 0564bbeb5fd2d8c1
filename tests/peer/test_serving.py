"""PeerRelay over a real channel, every RPC good and bad."""

import asyncio
import random
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from core import errors
from core.content import MAX_SMALL
from core.manifest import checked_root, manifest_of
from core.rpc import Server
from core.status import from_rpc_error
from peer.fetching.reaching import BLOCK_KEY
from peer.giving.sending import Sending
from peer.giving.serving import MOST_BITMAP, MOST_CONTENTS, Serving, Wanted
from peer.giving.unfinished import Unfinished
from peer.links.limiter import Limiter
from peer.relay_servicer import LONGEST_WAIT, RelayServicer
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub, add_PeerRelayServicer_to_server

BLOCK = 64 * 1024
DATA = random.Random(3).randbytes(10 * BLOCK + 5)
MANIFEST = manifest_of(DATA)
ID = MANIFEST.content_id
EMPTY_ID = manifest_of(b"").content_id
SMALL = [random.Random(number).randbytes(MAX_SMALL) for number in range(6)]
SMALL_IDS = [manifest_of(data).content_id for data in SMALL]
LAST = 10


class Shelf:
    """Two contents, and some small ones; reading can be held up, or fail."""

    def __init__(self):
        self.contents = {ID: DATA, EMPTY_ID: b"", **dict(zip(SMALL_IDS, SMALL, strict=True))}
        self.gate = None
        self.reading = asyncio.Event()
        self.failure = None

    async def manifest(self, content_id):
        if content_id not in self.contents:
            raise errors.NotFound("this peer does not hold that content")
        return manifest_of(self.contents[content_id])

    async def read_small(self, content_ids, room):
        said = []
        for content_id in content_ids:
            data = self.contents.get(content_id)
            if data is not None and len(data) <= MAX_SMALL:
                if said and len(data) > room:
                    break
                room -= len(data)
            self.reading.set()
            if self.gate:
                await self.gate.wait()
            if data is None:
                data = errors.NotFound("not held")
            said.append(errors.NotPossible("large") if isinstance(data, bytes) and len(data) > MAX_SMALL else data)
        return said

    async def read_run(self, content_id, index, count=1):
        layout = (await self.manifest(content_id)).layout
        length, offset = layout.run_length(index, count), layout.block_offset(index)
        self.reading.set()
        if self.gate:
            await self.gate.wait()
        if self.failure:
            raise self.failure
        return self.contents[content_id][offset : offset + length]


class Echo:
    """A carrier that answers with what identifies the question, or an error."""

    def __init__(self):
        self.failure = None
        self.gate = None
        self.asked = []

    def _note(self, request, answer):
        self.asked.append(request)
        if self.failure:
            raise self.failure
        return answer

    async def list_files(self, request):
        answer = self._note(request, central_pb2.ListFilesResponse(next_page_token="list"))
        if self.gate:
            await self.gate.wait()
        return answer

    async def locate_file(self, request):
        return self._note(request, central_pb2.LocateFileResponse(next_page_token="locate"))

    async def locate_files(self, request):
        return self._note(request, central_pb2.LocateFilesResponse())

    async def place_file(self, request):
        return self._note(request, central_pb2.PlaceFileResponse())

    async def get_neighbours(self, request):
        return self._note(request, central_pb2.GetNeighboursResponse())


class Relay:
    """A server, its parts and a stub."""

    def __init__(self):
        self.shelf, self.carrier = Shelf(), Echo()
        self.upload = Limiter(lambda: 0.0)
        self.now = 0.0
        self.unfinished = Unfinished()
        sending = Sending(self.upload)
        self.serving = Serving(
            self.shelf,
            lambda: self.now,
            self.unfinished,
            slots=4,
            slots_each=3,
            retry_after=0.5,
            sending=sending,
        )
        self.server = Server()
        self.channels = []

    async def start(self):
        servicer = RelayServicer(self.serving, self.carrier, carried=4, carried_each=3)
        add_PeerRelayServicer_to_server(servicer, self.server.server)
        self.port = self.server.listen("127.0.0.1:0")
        await self.server.start()
        self.stub = self.connect()

    def connect(self):
        """A stub of another caller: in plaintext each connection is one."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options))
        return PeerRelayStub(self.channels[-1])

    async def stop(self):
        for channel in self.channels:
            await channel.close()
        await self.server.stop(0)

    async def block(self, **fields):
        return await self.stub.GetBlock(pb2.GetBlockRequest(**{"content_id": ID} | fields), timeout=5)

    async def page(self, **fields):
        return await self.stub.GetManifest(pb2.GetManifestRequest(**{"content_id": ID} | fields), timeout=5)

    async def refused(self, call):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - grpc's own class, mapped in the next line
            await call
        return from_rpc_error(caught.value)


@pytest.fixture
async def relay():
    relay = Relay()
    await relay.start()
    yield relay
    await relay.stop()


def lacking(*indexes, first=0):
    bits = sum(1 << (index - first) for index in indexes)
    return pb2.BlockSet(first=first, bitmap=bits.to_bytes((bits.bit_length() + 7) // 8, "little"))


async def test_a_manifest_proves_itself(relay):
    answer = await relay.page()
    root = checked_root(ID, answer.size_bytes, answer.block_size_bytes, answer.page_digests)
    root.check_page(0, answer.block_digests)
    assert answer.block_digests == MANIFEST.block_digests


async def test_an_empty_content_has_an_empty_page(relay):
    answer = await relay.page(content_id=EMPTY_ID)
    assert (answer.size_bytes, answer.page_digests, answer.block_digests) == (0, b"", b"")
    assert checked_root(EMPTY_ID, 0, answer.block_size_bytes, b"")


@pytest.mark.parametrize("index", [0, 4, LAST])
async def test_a_wanted_block_is_given(relay, index):
    answer = await relay.block(index=index)
    assert answer.index == index
    assert MANIFEST.verifies(index, answer.data)
    assert relay.serving.sending.sent_bytes == len(answer.data)


async def test_out_of_a_set_each_block_is_given_once_before_any_twice(relay):
    everything = lacking(*range(LAST + 1))
    given = [(await relay.block(lacking=everything)).index for _ in range(11)]
    await all_given_back(relay)
    relay.now += 10  # what left a moment ago may just not have been known to whoever asks
    given += [(await relay.block(lacking=everything)).index for _ in range(11)]
    assert sorted(given[:11]) == sorted(given[11:]) == list(range(11))
    await all_given_back(relay)
    relay.now += 10
    assert (await relay.block(lacking=lacking(6, first=6))).index == 6
    answer = await relay.block(lacking=lacking(9, 10, first=3))
    assert answer.index in {9, 10}
    assert MANIFEST.verifies(answer.index, answer.data)


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"index": LAST + 1}, errors.InvalidInput, "index"),
        ({"index": 2**32 - 1}, errors.InvalidInput, "index"),
        ({"index": 0, "content_id": EMPTY_ID}, errors.InvalidInput, "index"),
        ({"index": 0, "content_id": b""}, errors.InvalidInput, "content_id"),
        ({"index": 0, "content_id": ID + b"x"}, errors.InvalidInput, "content_id"),
        ({"index": 0, "content_id": bytes(32)}, errors.NotFound, None),
        ({}, errors.InvalidInput, "wanted"),
        ({"lacking": pb2.BlockSet(bitmap=bytes(MOST_BITMAP + 1))}, errors.InvalidInput, "lacking.bitmap"),
        ({"lacking": pb2.BlockSet(bitmap=b"\xff" * MOST_BITMAP)}, errors.InvalidInput, "lacking"),
        ({"lacking": pb2.BlockSet(first=2**32 - 1, bitmap=b"\x01")}, errors.InvalidInput, "lacking"),
        ({"lacking": pb2.BlockSet(first=LAST, bitmap=b"\x02")}, errors.InvalidInput, "lacking"),
        ({"lacking": pb2.BlockSet(first=0, bitmap=b"\xff\xff")}, errors.InvalidInput, "lacking"),
        ({"lacking": lacking(0), "content_id": bytes(32)}, errors.NotFound, None),
        ({"lacking": lacking(0), "content_id": b"short"}, errors.InvalidInput, "content_id"),
        ({"lacking": lacking(0), "content_id": EMPTY_ID}, errors.InvalidInput, "lacking"),
        ({"index": 0, "patience": Duration(seconds=61)}, errors.InvalidInput, "patience"),
        ({"index": 0, "patience": Duration(seconds=-1)}, errors.InvalidInput, "patience"),
    ],
)
async def test_a_bad_request_for_a_block_is_refused_by_rule(relay, fields, kind, field):
    error = await relay.refused(relay.block(**fields))
    assert type(error) is kind
    assert getattr(error, "field", None) == field
    assert relay.serving.sending.sent_bytes == 0


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"page_index": 1}, errors.InvalidInput),
        ({"page_index": 2**32 - 1}, errors.InvalidInput),
        ({"page_index": 1, "content_id": EMPTY_ID}, errors.InvalidInput),
        ({"content_id": b"short"}, errors.InvalidInput),
        ({"content_id": bytes(32)}, errors.NotFound),
    ],
)
async def test_a_bad_request_for_a_page_is_refused_by_rule(relay, fields, kind):
    assert type(await relay.refused(relay.page(**fields))) is kind


async def test_a_file_that_has_changed_is_data_loss(relay):
    relay.shelf.failure = errors.Corrupt("the file has changed")
    assert type(await relay.refused(relay.block(index=0))) is errors.Corrupt
    assert type(await relay.refused(relay.block(lacking=lacking(1)))) is errors.Corrupt
    relay.shelf.failure = None
    assert (await relay.block(index=0)).index == 0, "failures give their slots back"


async def all_reading(relay, number):
    """Waits until so many blocks are being read."""
    async with asyncio.timeout(5):
        while relay.serving._slots.free != 4 - number:
            relay.shelf.reading.clear()
            await relay.shelf.reading.wait()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the server hears of it when it does
            await asyncio.sleep(0.001)


async def all_given_back(relay):
    await until(lambda: relay.serving._slots.free == 4)


async def test_beyond_its_share_a_caller_is_told_when_to_come_back_and_others_are_served(relay):
    relay.shelf.gate = asyncio.Event()
    running = [asyncio.ensure_future(relay.block(index=index)) for index in range(3)]
    await all_reading(relay, 3)
    error = await relay.refused(relay.block(index=3))
    assert (type(error), error.retry_after) == (errors.Busy, 0.5)
    assert (await relay.page()).size_bytes == len(DATA), "manifests need no slot"
    request = pb2.GetBlockRequest(content_id=ID, index=3)
    other = asyncio.ensure_future(relay.connect().GetBlock(request, timeout=5))
    await all_reading(relay, 4)
    error = await relay.refused(relay.connect().GetBlock(request, timeout=5))
    assert (type(error), error.retry_after) == (errors.Busy, 0.5), "there are four in all"
    relay.shelf.gate.set()
    assert sorted([(await call).index for call in [*running, other]]) == [0, 1, 2, 3]
    await all_given_back(relay)
    assert (await relay.block(index=3)).index == 3


@pytest.mark.parametrize("timeout", [None, LONGEST_WAIT + 10])
async def test_a_call_for_a_block_without_a_deadline_is_told_to_set_one(relay, timeout):
    error = await relay.refused(relay.stub.GetBlock(pb2.GetBlockRequest(content_id=ID, index=0), timeout=timeout))
    assert type(error) is errors.InvalidInput
    assert "a deadline, of 130 s at most" in str(error)
    answer = await relay.stub.GetBlock(pb2.GetBlockRequest(content_id=ID, index=0), timeout=121)
    assert answer.index == 0, "the longest that a download gives a holder"


async def test_a_block_is_given_in_the_pieces_that_are_asked_for(relay):
    whole = (await relay.block(index=2)).data
    pieces = [(await relay.block(index=2, offset_bytes=at, most_bytes=10_000)).data for at in range(0, BLOCK, 10_000)]
    assert b"".join(pieces) == whole
    assert (await relay.block(index=2, offset_bytes=BLOCK - 3)).data == whole[-3:]
    assert (await relay.block(index=2, most_bytes=2**32 - 1)).data == whole
    assert relay.serving.sending.sent_bytes == 3 * BLOCK + 3
    error = await relay.refused(relay.block(index=2, offset_bytes=BLOCK))
    assert (type(error), error.field) == (errors.InvalidInput, "offset_bytes")


async def test_a_limited_upload_gives_pieces_to_those_who_take_them_and_whole_blocks_to_others(relay):
    relay.upload.change(100 * 1024)
    piece = await relay.block(index=0, most_bytes=BLOCK)
    assert len(piece.data) == 10 * 1024
    relay.upload.give_back(len(piece.data))
    assert len((await relay.block(index=0)).data) == BLOCK


async def test_what_is_not_sent_costs_nothing(relay):
    relay.upload.change(100 * 1024)
    for _ in range(5):  # time stands still here: what had cost anything would keep the next one waiting
        error = await relay.refused(relay.block(content_id=bytes(32), index=0, most_bytes=BLOCK))
        assert type(error) is errors.NotFound
    assert len((await relay.block(index=0, offset_bytes=BLOCK - 1, most_bytes=BLOCK)).data) == 1
    assert relay.upload._limit._level == -1


async def test_who_could_not_be_given_anything_in_time_is_told_when_to_come_back(relay):
    relay.upload.change(8 * 1024)
    await relay.block(index=0)
    error = await relay.refused(relay.block(index=1, most_bytes=BLOCK))
    assert type(error) is errors.Busy
    assert error.retry_after == BLOCK / (8 * 1024)
    relay.upload.change(0)
    assert (await relay.block(index=1)).index == 1


async def test_pages_of_manifests_count_too(relay):
    relay.upload.change(1024)
    await relay.page()
    assert relay.upload._limit.wait("ana", 0, 0.0) > 0


async def test_a_caller_that_goes_away_gives_its_slot_back(relay):
    relay.shelf.gate = asyncio.Event()
    running = asyncio.ensure_future(relay.block(index=0))
    await all_reading(relay, 1)
    running.cancel()
    await all_given_back(relay)


async def test_small_contents_are_given_whole_in_their_order_and_what_is_not_is_told_apart(relay):
    request = pb2.GetContentsRequest(content_ids=[SMALL_IDS[1], bytes(32), ID, EMPTY_ID, SMALL_IDS[0]])
    given = (await relay.stub.GetContents(request, timeout=5)).contents
    assert [one.WhichOneof("outcome") for one in given] == ["data", "problem", "problem", "data", "data"]
    assert [given[0].data, given[3].data, given[4].data] == [SMALL[1], b"", SMALL[0]]
    assert [given[1].problem, given[2].problem] == [pb2.CONTENT_PROBLEM_NOT_HELD, pb2.CONTENT_PROBLEM_TOO_LARGE]
    assert relay.serving.sending.sent_bytes == 2 * MAX_SMALL


async def test_an_answer_with_contents_ends_at_a_mebibyte_or_at_what_its_caller_takes_but_has_one(relay):
    for most, count in ((0, 4), (2 * MAX_SMALL, 2), (2 * MAX_SMALL - 1, 1), (1, 1)):
        request = pb2.GetContentsRequest(content_ids=SMALL_IDS, most_bytes=most)
        assert [one.data for one in (await relay.stub.GetContents(request, timeout=5)).contents] == SMALL[:count]


@pytest.mark.parametrize("ids", [[], [ID] * (MOST_CONTENTS + 1), [b"short"], [ID, b"x" * 33]])
async def test_a_request_for_contents_names_some_and_not_too_many(relay, ids):
    error = await relay.refused(relay.stub.GetContents(pb2.GetContentsRequest(content_ids=ids), timeout=5))
    assert type(error) is errors.InvalidInput
    await all_given_back(relay)


@pytest.mark.parametrize("timeout", [None, LONGEST_WAIT + 10])
async def test_a_call_for_contents_has_a_deadline_like_one_for_a_block(relay, timeout):
    request = pb2.GetContentsRequest(content_ids=SMALL_IDS)
    error = await relay.refused(relay.stub.GetContents(request, timeout=timeout))
    assert "a deadline, of 130 s at most" in str(error)


async def test_a_call_for_contents_takes_a_slot_like_one_for_a_block(relay):
    relay.shelf.gate = asyncio.Event()
    request = pb2.GetContentsRequest(content_ids=SMALL_IDS)
    calls = [asyncio.ensure_future(relay.stub.GetContents(request, timeout=20)) for _ in range(3)]
    await all_reading(relay, 3)
    assert type(await relay.refused(relay.stub.GetContents(request, timeout=5))) is errors.Busy
    assert type(await relay.refused(relay.block(index=0))) is errors.Busy
    relay.shelf.gate.set()
    await asyncio.gather(*calls)
    await all_given_back(relay)


async def test_a_limited_upload_gives_few_contents_at_once_and_owes_for_one_that_is_larger(relay):
    relay.upload.change(10 * MAX_SMALL)
    request = pb2.GetContentsRequest(content_ids=[EMPTY_ID, *SMALL_IDS])
    assert len((await relay.stub.GetContents(request, timeout=5)).contents) == 2
    relay.upload.give_back(MAX_SMALL)
    relay.upload.change(MAX_SMALL)
    assert len((await relay.stub.GetContents(pb2.GetContentsRequest(content_ids=SMALL_IDS), timeout=5)).contents) == 1
    assert relay.upload._limit._level < -MAX_SMALL / 2


CARRIED = [
    ("ListFiles", pb2.PeerRelayListFilesRequest(request=central_pb2.ListFilesRequest(page_size=7))),
    ("LocateFile", pb2.PeerRelayLocateFileRequest(request=central_pb2.LocateFileRequest(content_id=ID))),
    ("LocateFiles", pb2.PeerRelayLocateFilesRequest(request=central_pb2.LocateFilesRequest(content_ids=[ID]))),
    ("PlaceFile", pb2.PeerRelayPlaceFileRequest(request=central_pb2.PlaceFileRequest())),
    ("GetNeighbours", pb2.PeerRelayGetNeighboursRequest(request=central_pb2.GetNeighboursRequest())),
]


@pytest.mark.parametrize(("name", "request_"), CARRIED, ids=[name for name, _ in CARRIED])
async def test_directory_calls_are_carried_there_and_back_with_their_errors(relay, name, request_):
    call = getattr(relay.stub, name)
    answer = await call(request_, timeout=5)
    assert answer.HasField("response")
    assert relay.carrier.asked == [request_.request]
    for failure in (
        errors.NotFound("no"),
        errors.InvalidInput("f", "no"),
        errors.Unreachable("no"),
        errors.Refused("no"),
    ):
        relay.carrier.failure = failure
        error = await relay.refused(call(request_, timeout=5))
        assert type(error) is type(failure)


@pytest.fixture
def fetching(relay, tmp_path):
    """The relay fetches a content too: a function that adds a block of it."""
    file = (tmp_path / "partial").open("w+b")
    relay.callers = []
    del relay.shelf.contents[ID]
    assert relay.unfinished.begin(MANIFEST, file.fileno(), 0, relay.callers.append)

    def add(index, *, first_hand=True):
        file.seek(index * BLOCK)
        file.write(DATA[index * BLOCK :][:BLOCK])
        file.flush()
        relay.unfinished.add(ID, index, first_hand=first_hand)

    yield add
    relay.unfinished.close()
    file.close()


async def test_a_content_that_is_being_fetched_is_given_from_its_first_block_on(relay, fetching):
    assert (await relay.page()).block_digests == MANIFEST.block_digests
    error = await relay.refused(relay.block(lacking=lacking(*range(11))))
    assert type(error) is errors.NotFound
    fetching(4)
    answer = await relay.block(lacking=lacking(*range(11)))
    assert (answer.index, MANIFEST.verifies(4, answer.data)) == (4, True)
    assert type(await relay.refused(relay.block(index=5))) is errors.NotFound
    assert len(relay.callers) == 3, "the one that fetches hears of others"
    relay.unfinished.end(ID, whole=False)
    assert type(await relay.refused(relay.block(index=4))) is errors.NotFound


async def test_an_ask_waits_until_a_block_comes_that_its_caller_lacks(relay, fetching):
    fetching(0)
    call = relay.stub.GetBlock(
        pb2.GetBlockRequest(content_id=ID, lacking=lacking(3, 7), patience=Duration(seconds=30)), timeout=40
    )
    for index in (1, 2, 7):
        assert not call.done()
        await until(lambda: relay.callers)
        fetching(index)
    assert (BLOCK_KEY, "7") in list(await call.initial_metadata()), "it says beforehand which block it is going to be"
    assert (await call).index == 7


async def test_who_wants_nothing_announced_hears_of_its_block_with_the_block(relay):
    for unannounced in (False, True):
        wanted = {"lacking": lacking(7 + unannounced), "patience": Duration(seconds=10)}
        call = relay.stub.GetBlock(pb2.GetBlockRequest(content_id=ID, unannounced=unannounced, **wanted), timeout=20)
        assert (await call).index == 7 + unannounced
        assert (BLOCK_KEY in dict(list(await call.initial_metadata()))) == (not unannounced)


async def test_who_is_alone_is_given_as_many_blocks_in_a_row_as_it_takes(relay):
    answer = await relay.block(index=2, block_count=5)
    assert (answer.index, answer.data) == (2, DATA[2 * BLOCK : 7 * BLOCK])
    await all_given_back(relay)
    answer = await relay.block(lacking=lacking(8, 9, 10), block_count=16)
    assert answer.index in {8, 9, 10}, "holders begin at different blocks"
    assert answer.data == DATA[answer.index * BLOCK :]


@pytest.mark.parametrize(("most_bytes", "count"), [(0, 9), (3 * BLOCK + 7, 3), (BLOCK, 1), (1000, 1)])
async def test_an_answer_has_only_whole_blocks_in_a_row_and_no_more_bytes_than_are_taken(relay, most_bytes, count):
    answer = await relay.block(index=0, block_count=9, most_bytes=most_bytes)
    assert answer.data == DATA[: min(count * BLOCK, most_bytes or len(DATA))]


async def test_a_run_that_goes_beyond_the_end_is_refused_and_one_of_thousands_is_cut(relay):
    for index, count in ((LAST, 2), (0, 2**32 - 1)):
        with pytest.raises(grpc.RpcError, match="11 blocks"):
            await relay.block(index=index, block_count=count)
    everything = lacking(*range(LAST + 1))
    answer = await relay.block(lacking=everything, block_count=2**32 - 1)
    assert answer.data in {DATA, DATA[answer.index * BLOCK :]}


async def test_within_an_upload_limit_blocks_are_given_one_by_one(relay):
    relay.upload.change(1e9)
    assert (await relay.block(index=0, block_count=5)).data == DATA[:BLOCK]


async def test_a_limit_that_comes_before_blocks_in_a_row_leave_has_one_of_them_sent_in_pieces(relay):
    relay.shelf.gate = asyncio.Event()
    call = asyncio.ensure_future(relay.block(index=1, block_count=9, most_bytes=9 * BLOCK))
    share = relay.serving.sending.share

    async def limited(*wanted):
        relay.upload.change(1e6)
        return await share(*wanted)

    relay.serving.sending.share = limited
    relay.shelf.gate.set()
    answer = await call
    assert answer.index == 1
    assert answer.data == DATA[BLOCK : 2 * BLOCK]


async def test_from_somewhere_within_a_block_on_the_rest_of_that_block_is_given(relay):
    answer = await relay.block(index=2, block_count=5, offset_bytes=BLOCK - 10)
    assert answer.data == DATA[3 * BLOCK - 10 : 3 * BLOCK]


async def test_while_others_want_a_content_too_nobody_is_given_blocks_in_a_row(relay):
    relay.shelf.gate = asyncio.Event()
    other = asyncio.ensure_future(relay.serving.choose("other", ID, Wanted(0, b"\xff"), 10.0))
    gift = await other
    answer = asyncio.ensure_future(relay.block(index=2, block_count=5))
    await relay.shelf.reading.wait()
    relay.shelf.gate.set()
    assert (await answer).data == DATA[2 * BLOCK : 3 * BLOCK]
    relay.serving.left(gift.ask, arrived=True)


async def test_a_patient_ask_that_nothing_comes_for_is_answered_without_a_block(relay, fetching):
    answer = await relay.block(lacking=lacking(3), patience=Duration(nanos=1000))
    assert not answer.data
    assert not (await relay.block(lacking=lacking())).data, "whoever lacks nothing is answered at once"
    error = await relay.refused(relay.block(index=3, patience=Duration(nanos=1000)))
    assert (type(error), error.retry_after) == (errors.Busy, 0.5), "an answer by index has the block"
    call = relay.stub.GetBlock(
        pb2.GetBlockRequest(content_id=ID, lacking=lacking(3), patience=Duration(seconds=30)), timeout=40
    )
    await until(lambda: len(relay.callers) == 4)
    call.cancel()
    await until(lambda: not relay.serving._waiting)
    fetching(3)
    assert relay.serving._slots.free == 4, "nothing is given to those who have gone"


async def test_what_came_second_hand_is_given_to_who_takes_it_from_any_hand(relay, fetching):
    fetching(3, first_hand=False)
    fetching(4)
    first_hand = {"lacking": lacking(3, 4), "first_hand": True}
    assert (await relay.block(**first_hand, patience=Duration(seconds=5))).index == 4
    first_hand["lacking"] = lacking(3)
    assert not (await relay.block(**first_hand, patience=Duration(nanos=10_000_000))).data
    answer = await relay.block(lacking=lacking(3))
    assert (answer.index, answer.first_hand) == (3, False)


async def test_who_waits_for_what_was_lost_on_its_way_to_another_gets_it_at_once(relay):
    relay.shelf.gate = asyncio.Event()
    request = pb2.GetBlockRequest(content_id=ID, lacking=lacking(3), patience=Duration(seconds=30))
    lost = relay.connect().GetBlock(request, timeout=40)
    await all_reading(relay, 1)
    relay.now += 1
    asking = asyncio.ensure_future(
        relay.block(lacking=lacking(3), patience=Duration(seconds=30), first_hand=True),
    )
    await until(lambda: relay.serving._waiting)
    lost.cancel()
    await until(lambda: not relay.serving._waiting)
    relay.shelf.gate.set()
    assert (await asking).index == 3


async def test_the_holder_says_whether_a_block_is_given_the_first_time(relay):
    assert (await relay.block(lacking=lacking(3))).first_hand
    assert not (await relay.connect().GetBlock(pb2.GetBlockRequest(content_id=ID, index=3), timeout=5)).first_hand


async def test_to_one_caller_blocks_leave_one_at_a_time_while_that_takes_long(relay):
    relay.shelf.gate = asyncio.Event()
    patient = {"lacking": lacking(*range(11)), "patience": Duration(seconds=30)}
    calls = [asyncio.ensure_future(relay.block(**patient)) for _ in range(3)]
    await all_reading(relay, 1)
    assert relay.serving._slots.free == 3
    relay.now += 1  # so long does the first one take
    relay.shelf.gate.set()
    assert len({(await call).index for call in calls}) == 3
    await all_given_back(relay)


async def test_a_block_that_comes_in_the_moment_in_which_patience_ends_is_given(relay, fetching):
    loop = asyncio.get_running_loop()
    asking = asyncio.ensure_future(relay.serving.choose("ana", ID, Wanted(0, b"\x08"), 1.0))
    await until(lambda: relay.serving._waiting)
    loop.call_later(0.001, fetching, 3)
    time.sleep(1.1)  # noqa: ASYNC251 - so that both are due at once
    gift = await asking
    assert (gift.index, relay.serving._slots.free) == (3, 3)
    relay.serving.left(gift.ask, arrived=True)
    assert relay.serving._slots.free == 4


async def test_an_ask_that_waits_for_a_slot_gets_one_that_contents_have_left(relay):
    relay.shelf.gate = asyncio.Event()
    contents = pb2.GetContentsRequest(content_ids=SMALL_IDS)
    calls = [asyncio.ensure_future(relay.stub.GetContents(contents, timeout=20)) for _ in range(3)]
    calls.append(asyncio.ensure_future(relay.connect().GetContents(contents, timeout=20)))
    await all_reading(relay, 4)
    request = pb2.GetBlockRequest(content_id=ID, index=3, patience=Duration(seconds=30))
    block = asyncio.ensure_future(relay.connect().GetBlock(request, timeout=40))
    await until(lambda: relay.serving._waiting)
    relay.shelf.gate.set()
    async with asyncio.timeout(10):
        assert (await block).index == 3
    await asyncio.gather(*calls)
    await all_given_back(relay)


async def test_so_many_calls_are_carried_at_once_for_each_caller_and_for_all(relay):
    """The calls of others go on under this peer's name: who has too many carried must not use up its share."""
    relay.carrier.gate = asyncio.Event()

    def carried(stub):
        return asyncio.ensure_future(stub.ListFiles(pb2.PeerRelayListFilesRequest(), timeout=5))

    async def refused(call):
        with pytest.raises(grpc.RpcError) as caught:
            await call
        error = from_rpc_error(caught.value)
        assert (type(error), error.retry_after) == (errors.Busy, 0.5)

    async with asyncio.timeout(5):
        mallory = [carried(relay.stub) for _ in range(3)]
        while len(relay.carrier.asked) < 3:  # noqa: ASYNC110 - the carrier tells nobody
            await asyncio.sleep(0.001)
        await refused(carried(relay.stub))
        ana, ben = relay.connect(), relay.connect()
        hers = carried(ana)
        while len(relay.carrier.asked) < 4:  # noqa: ASYNC110 - the carrier tells nobody
            await asyncio.sleep(0.001)
        await refused(carried(ben))
        relay.carrier.gate.set()
        await asyncio.gather(*mallory, hers)
        relay.carrier.failure = errors.NotFound("nothing there")
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                await carried(relay.stub)
            assert type(from_rpc_error(caught.value)) is errors.NotFound, "failures give their places back"
