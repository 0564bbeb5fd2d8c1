"""One member that asks for much, beside the calls of the others."""

import asyncio
import time
from contextlib import suppress
from itertools import islice

import grpc
import pytest

from central.mutations import MOST_WAITING
from central.quotas import Quotas
from central.store.sqlite_store import READERS, SqliteStore
from central.store.store import Batch, Entry, FileQuery, PeerRecord, Receipt
from core.errors import Busy, InvalidInput
from core.status import from_rpc_error
from relevo.v1 import central_directory_pb2 as pb2

# Each path takes SQLite some 50 ms with this pattern, and no index helps.
DEEP = [f"{number:03}/" + "/".join(["a" * 250] * 16) for number in range(200)]
SLOW = "*" + "[ab/]" * 700 + "c*"
CONTENT = b"c" * 32


@pytest.fixture
async def store(tmp_path):
    store = await SqliteStore.open(tmp_path / "data", longest_search=0.4)
    await store.login(PeerRecord("a" * 52, b"key", "ana", (), "s" * 32, 1, 1.0), Receipt("a", "1", b"", 1.0))
    added = tuple(Entry(path, CONTENT, 10, 1.0) for path in DEEP)
    await store.publish("a" * 52, Batch(0, added=added), Receipt("a", "2", b"", 1.0), Quotas())
    yield store
    await store.close()


async def test_a_search_that_takes_too_long_is_given_up_and_its_thread_serves_others(store):
    began = time.monotonic()
    searches = [store.list_files(FileQuery(text=SLOW)) for _ in range(READERS)]
    for error in await asyncio.gather(*searches, return_exceptions=True):
        assert isinstance(error, InvalidInput), error
        assert error.field == "query"
    assert time.monotonic() - began < 15, "two cores would be at it for 20 s"
    for _ in range(2 * READERS):
        assert len((await store.list_files(FileQuery(text="*/aaa*", limit=5))).items) == 5


async def test_nothing_is_interrupted_before_its_time(store):
    found = await asyncio.gather(*(store.list_files(FileQuery(text="zz")) for _ in range(300)))
    assert all(not page.items for page in found)


@pytest.mark.parametrize("gives_up", [False, True], ids=["patient", "calling off"])
async def test_a_member_that_searches_all_the_time_keeps_nobody_waiting(secure_network, gives_up):
    network = await secure_network(longest_search=1.0)
    mallory, ana = await network.logged_in(), await network.logged_in()
    await ana.publish({"a.txt": CONTENT})
    for first in range(0, len(DEEP), 100):
        await mallory.publish(dict.fromkeys(DEEP[first : first + 100], b"m" * 32))

    async def floods():
        while True:
            with suppress(grpc.RpcError):
                asked = pb2.ListFilesRequest(query=SLOW, page_size=1)
                await mallory.stub.ListFiles(asked, timeout=0.1 if gives_up else 60)
            await asyncio.sleep(0.01)

    flood = [asyncio.create_task(floods()) for _ in range(60)]
    await asyncio.sleep(1)
    try:
        for _ in range(5):
            # Behind 60 searches, of which four run at once, it would take 15 s.
            await ana.stub.LocateFile(pb2.LocateFileRequest(content_id=CONTENT), timeout=8)
            await ana.publish({"b.txt": CONTENT})
    finally:
        for one in flood:
            one.cancel()
        await asyncio.wait(flood)


async def test_a_member_that_publishes_much_at_once_is_told_to_wait_and_the_others_are_not(secure, monkeypatch):
    mallory, ana = await secure.logged_in(), await secure.logged_in()
    sessions, go_on = secure.directory.sessions, asyncio.Event()
    real = sessions.require

    async def require(peer_id, session_id):
        if peer_id == mallory.id:
            await go_on.wait()
        await real(peer_id, session_id)

    monkeypatch.setattr(sessions, "require", require)
    asked = [mallory.publish_request({"m.txt": CONTENT}) for _ in range(2 * MOST_WAITING)]
    flood = [asyncio.ensure_future(mallory.stub.PublishFiles(one, timeout=60)) for one in asked]
    try:
        for ended in islice(asyncio.as_completed(flood), MOST_WAITING):
            with pytest.raises(grpc.RpcError) as caught:
                await ended
            error = from_rpc_error(caught.value)
            assert (type(error), error.retry_after) == (Busy, 0.5), error
        await asyncio.wait_for(ana.publish({"a.txt": CONTENT}), 20)
    finally:
        go_on.set()
        await asyncio.wait(flood)
