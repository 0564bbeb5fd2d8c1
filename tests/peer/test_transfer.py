"""Whole downloads between real servers: honest holders, liars, the slow, the dead, and disks in trouble."""

import asyncio
import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core import errors
from core.content import MAX_BLOCK, PAGE_BLOCKS, Layout, digest
from core.manifest import Manifest, manifest_of
from core.rpc import Server
from peer.fetching.block_sets import members, set_of
from peer.fetching.budget import Budget
from peer.fetching.download import DownloadLimits
from peer.fetching.manifest_fetch import ManifestTimes
from peer.fetching.pace import Pace, PaceLimits
from peer.fetching.partial import Partial, partial_name
from peer.fetching.pieces import Allowance
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.swarm import Swarm
from peer.fetching.transfer import Downloader, DownloadSettings, FetchRequest
from peer.giving.sending import Sending
from peer.giving.serving import Serving
from peer.giving.unfinished import Unfinished
from peer.links.channels import Channels
from peer.links.contacts import Contact, Holder
from peer.links.dialling import Dialler
from peer.links.limiter import Limiter
from peer.relay_servicer import RelayServicer
from relevo.v1 import peer_relay_pb2 as pb2
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

BLOCK = 64 * 1024
SELF = "me"
PACE = PaceLimits(first_deadline=0.6, min_deadline=0.4, overdue=0.2, first_rest=0.02, max_rest=0.1)
QUICK = DownloadSettings(
    limits=DownloadLimits(pace=PACE),
    manifest=ManifestTimes(timeout=1.0, patience=0.1),
    refresh=0.1,
    first_retry=0.02,
    max_retry=0.05,
    patience=20.0,
    address_patience=0.1,
)
# For downloads that are to fail: less would be over on a busy machine before there is something to show.
IMPATIENT = replace(QUICK, patience=1.5)


def some_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


class Memory:
    """Contents in memory."""

    def __init__(self, *contents):
        self.contents = {manifest_of(data).content_id: data for data in contents}
        self.given = Counter()

    async def manifest(self, content_id):
        if content_id not in self.contents:
            raise errors.NotFound("not held")
        return manifest_of(self.contents[content_id])

    async def read_run(self, content_id, index, count=1):
        if content_id not in self.contents:
            raise errors.NotFound("not held")
        data = self.contents[content_id]
        layout = Layout(len(data))
        length, offset = layout.run_length(index, count), layout.block_offset(index)
        self.given.update(range(index, index + count))
        return data[offset : offset + length]


def blocks_of(request, answer):
    """The blocks that an answer to a request has."""
    return range(answer.index, answer.index + (request.block_count or 1))


class Tampered(RelayServicer):
    """A holder whose answers pass through two functions before they leave; it sends `rate` bytes a second."""

    def __init__(self, held, block=None, manifest=None, rate=0):
        sending = Sending(Limiter(time.monotonic, rate))
        super().__init__(Serving(held, time.monotonic, sending=sending), carrier=None)
        self.block, self.manifest = block, manifest
        self.asked = 0

    async def GetBlock(self, request, context):
        self.asked += 1
        answer = pb2.GetBlockResponse.FromString(await super().GetBlock(request, context))
        return await self.block(request, answer) if self.block else answer

    async def GetManifest(self, request, context):
        answer = await super().GetManifest(request, context)
        return self.manifest(answer) if self.manifest else answer


class Watched(Progress):
    """Progress that tells when the first block is there."""

    def fetched(self, peer_id, count, now, *how):
        super().fetched(peer_id, count, now, *how)
        self.begun.set()


class World:
    """Servers, channels and a downloader in one place."""

    def __init__(self, directory):
        self.directory = directory
        self.channels = Channels()
        self.dialler = Reach(Dialler(self.channels, lambda: "127.0.0.1:1", time.monotonic))
        self.accused = []
        self.servers = {}
        self.ending = []
        self.servicers = {}
        self.holders = []
        self.local = None
        self.looks = 0
        self.settings = QUICK
        self.progress = Progress(0)
        self.begun = asyncio.Event()
        self.unfinished = Unfinished()

    async def serve(self, name, servicer, address="127.0.0.1:0"):
        server = Server()
        add_PeerRelayServicer_to_server(servicer, server.server)
        port = server.listen(address)
        await server.start()
        self.servers[name] = server
        self.servicers[name] = servicer
        return f"127.0.0.1:{port}"

    async def holder(self, name, held, block=None, manifest=None, rate=0):
        servicer = Tampered(held, block, manifest, rate)
        address = await self.serve(name, servicer)
        self.holders.append(Holder(Contact(name, name, (address,))))
        return servicer

    async def find_holders(self, content_id, *, directly=False):
        self.looks += 1
        return list(self.holders)

    def accuse(self, peer_id, content_id, lied):
        self.accused.append((peer_id, lied))

    async def find_local(self, content_id):
        return self.local

    def downloader(self):
        return Downloader(
            self.find_holders,
            self.dialler,
            self.find_local,
            SELF,
            time.monotonic,
            self.settings,
            self.accuse,
            self.unfinished,
        )

    def request(self, data, name="file", **more):
        return FetchRequest(manifest_of(data).content_id, len(data), self.directory, name, **more)

    async def fetch(self, data, **more):
        self.progress = Watched(0)
        self.progress.begun = self.begun
        async with asyncio.timeout(20):
            fetched = await self.downloader().fetch(self.request(data, **more), self.progress)
        assert fetched.location.read_bytes() == data
        assert fetched.manifest == manifest_of(data)
        assert self.hidden() == []
        assert self.progress.done_bytes == len(data)
        assert all(source.in_flight == 0 for source in self.progress.sources.values())
        return fetched

    def hidden(self):
        return [path.name for path in self.directory.iterdir() if path.name.startswith(".")]

    def kill(self, name):
        """Ends a server, from one of its handlers too: a stop that the handler awaits would cancel itself."""
        if name in self.servers:
            self.ending.append(asyncio.ensure_future(self.servers.pop(name).stop(0)))

    async def close(self):
        self.unfinished.close()
        await self.channels.close()
        await asyncio.gather(*self.ending, *(server.stop(0) for server in self.servers.values()))


@pytest.fixture
async def world(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.monkeypatch = monkeypatch
    before = asyncio.all_tasks()
    yield world
    await world.close()
    for _ in range(100):
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        if not left:
            break
        await asyncio.sleep(0)
    assert not [task for task in left if "peer" in repr(task.get_coro())]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 40 * BLOCK + 3, 17 * 1024 * 1024 + 5])
async def test_a_content_of_any_size_arrives_whole(world, size):
    data = some_bytes(size)
    await world.holder("a", Memory(data))
    await world.fetch(data)
    assert sum(source.bytes for source in world.progress.sources.values()) == size


async def test_blocks_come_from_every_holder_and_each_only_once(world):
    data, held = some_bytes(60 * BLOCK), [Memory(some_bytes(60 * BLOCK)) for _ in range(3)]
    # However loaded the machine is, nobody is late here.
    world.settings = replace(QUICK, limits=DownloadLimits(pace=PaceLimits(overdue=60.0, first_deadline=60.0)))
    for number, memory in enumerate(held):
        await world.holder(f"holder-{number}", memory)
    await world.fetch(data)
    assert all(memory.given for memory in held)
    given = sum((memory.given for memory in held), Counter())
    assert set(given) == set(range(60))
    assert sum(given.values()) == 60


async def test_what_all_downloads_at_once_have_in_flight_is_bounded_and_all_of_them_end(world):
    contents = [random.Random(number).randbytes(40 * BLOCK) for number in range(6)]
    for number, data in enumerate(contents):
        await world.holder(f"holder-{number}", Memory(data))
    # However loaded the machine is, nobody is late here.
    world.settings = replace(
        QUICK, patience=60.0, limits=DownloadLimits(pace=PaceLimits(overdue=60.0, first_deadline=60.0))
    )
    downloader = world.downloader()
    budget = downloader._budget = Budget(2 * MAX_BLOCK)
    told, tell, most = 0, Swarm._room, 0

    def room(swarm):
        nonlocal told
        told += 1
        tell(swarm)

    world.monkeypatch.setattr(Swarm, "_room", room)

    class Noted(Progress):
        def fetched(self, peer_id, count, now, *how):
            nonlocal most
            super().fetched(peer_id, count, now, *how)
            most = max(most, budget.taken)

    requests = [world.request(data, f"file{number}") for number, data in enumerate(contents)]
    async with asyncio.timeout(20):
        fetched = await asyncio.gather(*(downloader.fetch(request, Noted(0)) for request in requests))
    assert [one.location.read_bytes() for one in fetched] == contents
    assert 6 * BLOCK < most <= (2 + 6) * MAX_BLOCK, "an answer more for each at most"
    assert budget.taken == 0
    assert told < 6 * 40 * 6, "nobody is told of room again and again without taking it"


async def test_mtime_and_executable_bit_are_kept(world):
    data = some_bytes(100)
    await world.holder("a", Memory(data))
    fetched = await world.fetch(data, modify_time=1_234_567_890.25, executable=True)
    found = fetched.location.stat()
    assert found.st_mtime == 1_234_567_890.25
    assert found.st_mode & 0o100
    plain = await world.fetch(data, name="plain", modify_time=1e30)
    assert not plain.location.stat().st_mode & 0o111


async def test_the_own_holding_and_holders_without_address_are_not_asked(world):
    data = some_bytes(100)
    await world.holder(SELF, Memory(data))
    world.holders.append(Holder(Contact("relayed", "relayed", ())))
    with pytest.raises(errors.NotFound, match="nobody holds"):
        await world.fetch(data)
    assert world.servicers[SELF].asked == 0
    assert world.hidden() == []


async def test_without_any_holder_it_is_not_found(world):
    with pytest.raises(errors.NotFound):
        await world.fetch(some_bytes(10))
    assert list(world.directory.iterdir()) == []


# Others who fetch the same.


class Fetching(Tampered):
    """A peer that is fetching the content too: it has these blocks of it."""

    def __init__(self, data, *indexes):
        self.unfinished, self.manifest_of = Unfinished(), manifest_of(data)
        RelayServicer.__init__(self, Serving(Memory(), time.monotonic, self.unfinished), carrier=None)
        self.block = self.manifest = None
        self.asked, self.announced = 0, []
        self.held = set_of(indexes)
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the test
        self.file.write(data)
        self.file.flush()

    def begin(self):
        assert self.unfinished.begin(self.manifest_of, self.file.fileno(), self.held, lambda _: None)
        self.file.close()


async def partial_holder(world, name, data, *indexes):
    servicer = Fetching(data, *indexes)
    servicer.begin()
    address = await world.serve(name, servicer)
    world.holders.append(Holder(Contact(name, name, (address,)), complete=False))
    return servicer


async def test_peers_that_have_everything_only_together_are_enough(world):
    data = some_bytes(30 * BLOCK + 5)
    await partial_holder(world, "even", data, *range(0, 31, 2))
    await partial_holder(world, "odd", data, *range(1, 31, 2))
    await world.fetch(data)
    assert {name: source.bytes for name, source in world.progress.sources.items()} == {
        "even": 15 * BLOCK + 5,
        "odd": 15 * BLOCK,
    }
    assert world.accused == []


async def test_a_peer_that_has_stopped_fetching_is_not_accused(world):
    data = some_bytes(30 * BLOCK)
    stopped = await partial_holder(world, "stopped", data, 1, 2, 3)
    stopped.block = not_found
    await world.holder("whole", Memory(data))
    await world.fetch(data)
    assert stopped.asked
    assert world.accused == []


async def test_what_has_come_is_given_to_others_while_the_rest_is_fetched(world):
    data, gate = some_bytes(30 * BLOCK), asyncio.Event()
    content_id = manifest_of(data).content_id

    async def late(request, answer):
        if holder.asked > 5:
            await gate.wait()
        return answer

    holder = await world.holder("whole", Memory(data), late)
    world.settings = replace(QUICK, limits=DownloadLimits(pace=PaceLimits()))
    fetching = asyncio.ensure_future(world.fetch(data))
    async with asyncio.timeout(10):
        while world.unfinished.held(content_id).bit_count() < 5:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    for index in members(world.unfinished.held(content_id)):
        given = await world.unfinished.read(content_id, index)
        assert given == data[index * BLOCK :][:BLOCK]
    gate.set()
    await fetching
    assert world.unfinished.content_ids == []
    assert world.unfinished.held(content_id) == (1 << 30) - 1, "until the library has it"


async def test_a_download_looks_for_holders_again_when_a_stranger_asks_for_its_content(world):
    data, gate = some_bytes(10 * BLOCK), asyncio.Event()

    async def wait(request, answer):
        await gate.wait()
        return answer

    await world.holder("slow", Memory(data), wait)
    world.settings = replace(
        QUICK, limits=DownloadLimits(pace=PaceLimits()), first_refresh=60.0, refresh=60.0, patience=60.0
    )
    fetching = asyncio.ensure_future(world.fetch(data))
    content_id = manifest_of(data).content_id
    async with asyncio.timeout(10):
        while not world.unfinished.content_ids:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    before = world.looks
    world.unfinished.asked_by(content_id, "slow")
    await partial_holder(world, "stranger", data, *range(10))
    for _ in range(20):
        world.unfinished.asked_by(content_id, "stranger")
    async with asyncio.timeout(10):
        while "stranger" not in world.progress.sources:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    await fetching
    gate.set()
    assert world.looks == before + 1
    assert world.progress.sources["stranger"].bytes > 0


# Liars.


async def flip(request, answer):
    data = bytearray(answer.data)
    data[len(data) // 2] ^= 1
    answer.data = bytes(data)
    return answer


async def lengthen(request, answer):
    answer.data += b"x"
    return answer


async def shorten(request, answer):
    answer.data = answer.data[:-1]
    return answer


async def lengthen_much(request, answer):
    answer.data = bytes(3 * 1024 * 1024)
    return answer


async def another_index(request, answer):
    answer.index += 1
    return answer


async def index_past_the_end(request, answer):
    answer.index = 2**32 - 1
    return answer


async def nothing(request, answer):
    return pb2.GetBlockResponse(index=answer.index)


async def corrupt(request, answer):
    raise errors.Corrupt("the file has changed")


async def not_found(request, answer):
    raise errors.NotFound("not here")


async def invalid(request, answer):
    raise errors.InvalidInput("index", "there is no such block")


async def test_a_holder_that_gives_little_is_not_taken_for_one_that_fails(world):
    data = some_bytes(3 * BLOCK)
    slow = await world.holder("slow", Memory(data), rate=64 * 1024)
    late = []
    failed = Pace.failed
    world.monkeypatch.setattr(Pace, "failed", lambda *args, **more: late.append(args) or failed(*args, **more))
    await world.fetch(data)
    assert PACE.first_deadline < 1.0, "a block takes longer than that"
    assert not late
    assert slow.asked > 20, "it came in pieces"
    assert slow._answering.serving.sending.sent_bytes == len(data), "and none of it twice"


async def test_a_limited_download_asks_for_no_more_than_it_may_and_blames_nobody(world):
    data = some_bytes(3 * BLOCK)
    holder = await world.holder("a", Memory(data))
    late = []
    failed = Pace.failed
    world.monkeypatch.setattr(Pace, "failed", lambda *args, **more: late.append(args) or failed(*args, **more))
    free, own = Limiter(time.monotonic), Limiter(time.monotonic, 64 * 1024)
    progress, began = Progress(0), time.monotonic()
    async with asyncio.timeout(20):
        await world.downloader().fetch(world.request(data), progress, Allowance("me", free, own))
    assert time.monotonic() - began > 2.0, "at least three seconds' worth, less what had been saved up"
    assert progress.done_bytes == len(data)
    assert not late
    assert holder.asked > 20, "it was asked for in pieces"
    assert holder._answering.serving.sending.sent_bytes == len(data)


LIES = [flip, lengthen, shorten, lengthen_much, another_index, index_past_the_end, nothing, invalid]


@pytest.mark.parametrize("lie", LIES)
async def test_a_holder_that_lies_is_dropped_for_good_and_the_file_is_right(world, lie):
    data = some_bytes(30 * BLOCK)
    liar = await world.holder("liar", Memory(data), lie)
    await world.holder("honest", Memory(data))
    await world.fetch(data)
    assert world.progress.sources["liar"].dropped_reason
    assert world.progress.sources["liar"].bytes == 0
    assert liar.asked <= 2 * PaceLimits().first_window, "it was not asked again"
    assert world.progress.sources["honest"].bytes == len(data)


@pytest.mark.parametrize("lack", [corrupt, not_found])
async def test_a_holder_without_the_content_is_replaced(world, lack):
    data = some_bytes(30 * BLOCK)
    await world.holder("without", Memory(data), lack)
    await world.holder("honest", Memory(data))
    await world.fetch(data)
    assert world.progress.sources["without"].bytes == 0
    assert world.progress.sources["honest"].bytes == len(data)


@pytest.mark.parametrize("lack", [corrupt, not_found])
async def test_an_only_holder_whose_file_is_hashed_again_for_a_while_is_asked_again(world, lack):
    data = some_bytes(30 * BLOCK)

    async def rename(request, answer):
        if 20 in blocks_of(request, answer) and world.looks < 4:
            return await lack(request, answer)
        return answer

    await world.holder("a", Memory(data), rename)
    await world.fetch(data)
    assert world.looks >= 4
    assert not world.progress.sources["a"].dropped_reason


async def test_an_only_holder_whose_file_is_hashed_again_before_the_manifest_is_asked_again(world):
    data = some_bytes(3 * BLOCK)

    def not_yet(answer):
        if world.looks < 3:
            raise errors.NotFound("not here")
        return answer

    await world.holder("a", Memory(data), manifest=not_yet)
    await world.fetch(data)


async def test_a_content_that_was_removed_meanwhile_is_not_found_and_what_was_fetched_is_kept(world):
    data = some_bytes(30 * BLOCK)

    async def remove(request, answer):
        if holder.asked > 5:
            world.holders.clear()
            raise errors.NotFound("not here")
        return answer

    holder = await world.holder("a", Memory(data), remove)
    world.settings = IMPATIENT
    with pytest.raises(errors.NotFound, match=r"nobody holds [0-9a-f]{12} any more"):
        await world.fetch(data)
    assert len(world.hidden()) == 1


async def test_one_flipped_bit_from_the_only_holder_never_reaches_a_file(world):
    data = some_bytes(3 * BLOCK)

    async def flip_last(request, answer):
        return await flip(request, answer) if 2 in blocks_of(request, answer) else answer

    await world.holder("liar", Memory(data), flip_last)
    world.settings = IMPATIENT
    with pytest.raises(errors.Unreachable, match="what was fetched is kept"):
        await world.fetch(data)
    assert [path.name for path in world.directory.iterdir()] == world.hidden()


def lying_root(**changes):
    def change(answer):
        for name, value in changes.items():
            setattr(answer, name, value(getattr(answer, name)) if callable(value) else value)
        return answer

    return change


LYING_MANIFESTS = {
    "size 2^63": lying_root(size_bytes=2**63),
    "size 2^47": lying_root(size_bytes=2**47),
    "size 0": lying_root(size_bytes=0),
    "size + 1": lying_root(size_bytes=lambda size: size + 1),
    "size - 1": lying_root(size_bytes=lambda size: size - 1),
    "block size 0": lying_root(block_size_bytes=0),
    "block size doubled": lying_root(block_size_bytes=lambda size: size * 2),
    "block size 1": lying_root(block_size_bytes=1),
    "a digest more": lying_root(block_digests=lambda digests: digests + bytes(32)),
    "a digest less": lying_root(block_digests=lambda digests: digests[:-32]),
    "no digest": lying_root(block_digests=b""),
    "a byte more": lying_root(block_digests=lambda digests: digests + b"x"),
    "a page digest more": lying_root(page_digests=lambda digests: digests + bytes(32)),
    "no page digest": lying_root(page_digests=b""),
    "a flipped bit in a digest": lying_root(block_digests=lambda digests: bytes([digests[0] ^ 1]) + digests[1:]),
    "a flipped bit in a page": lying_root(page_digests=lambda digests: bytes([digests[0] ^ 1]) + digests[1:]),
    "digests that fit each other": lambda answer: lying_root(
        block_digests=bytes(len(answer.block_digests)), page_digests=digest(bytes(len(answer.block_digests)))
    )(answer),
}


@pytest.mark.parametrize("lie", LYING_MANIFESTS.values(), ids=LYING_MANIFESTS)
async def test_a_lying_manifest_is_refused_and_another_holder_asked(world, lie):
    data = some_bytes(9 * BLOCK + 7)
    liar = await world.holder("liar", Memory(data), manifest=lie)
    await world.holder("honest", Memory(data))
    await world.fetch(data)
    assert world.progress.sources["liar"].dropped_reason
    assert liar.asked == 0


@pytest.mark.parametrize("size", [9 * BLOCK + 1, 9 * BLOCK - 1, 2**47, 1, 0])
async def test_a_listed_size_that_is_not_the_contents_keeps_nobody_from_it(world, size):
    data = some_bytes(9 * BLOCK)
    await world.holder("a", Memory(data))
    progress = Progress(0)
    fetched = await world.downloader().fetch(replace(world.request(data), size=size), progress)
    assert fetched.location.read_bytes() == data
    assert (progress.size, progress.done_bytes) == (len(data), len(data))


@pytest.mark.parametrize("size", [2**47, 1, 0])
async def test_a_local_copy_serves_whatever_size_is_listed(world, size):
    data = some_bytes(9 * BLOCK)
    world.local = world.directory.parent / "local"
    world.local.write_bytes(data)
    progress = Progress(0)
    fetched = await world.downloader().fetch(replace(world.request(data), size=size), progress)
    assert fetched.location.read_bytes() == data
    assert progress.copied_bytes == len(data)


async def test_an_empty_content_is_empty_whatever_size_is_listed(world):
    fetched = await world.downloader().fetch(replace(world.request(b""), size=7), Progress(0))
    assert fetched.location.read_bytes() == b""


async def test_a_content_larger_than_may_be_is_refused_after_the_first_page_of_its_manifest(world):
    data = some_bytes(9 * BLOCK)
    await world.holder("a", Memory(data))
    request = replace(world.request(data), size=1, most=len(data) - 1)
    with pytest.raises(errors.NotPossible, match="room for"):
        await world.downloader().fetch(request, Progress(0))
    assert list(world.directory.iterdir()) == []
    assert (await world.downloader().fetch(replace(request, most=len(data)), Progress(0))).location.exists()


async def test_a_content_larger_than_listed_has_to_fit_onto_the_disk(world, monkeypatch):
    data = some_bytes(9 * BLOCK)
    await world.holder("a", Memory(data))
    monkeypatch.setattr("peer.fetching.transfer._room", lambda _: len(data) - 1)
    with pytest.raises(errors.NotPossible, match="room for"):
        await world.downloader().fetch(replace(world.request(data), size=1), Progress(0))


async def test_a_manifest_of_many_pages_comes_page_by_page_from_several_holders(world):
    layout = Layout((2 * PAGE_BLOCKS + 5) * 1024 * 1024)
    manifest = Manifest(layout, b"".join(digest(str(index).encode()) for index in range(layout.block_count)))

    class Synthetic(Memory):
        async def manifest(self, content_id):
            return manifest

    def second_page_lies(answer):
        if answer.block_digests == manifest.page(1):
            answer.block_digests = manifest.page(0)
        return answer

    await world.holder("liar", Synthetic(), manifest=second_page_lies)
    await world.holder("honest", Synthetic())
    finder_holders = world.holders
    from peer.fetching.finder import Finder
    from peer.fetching.manifest_fetch import fetch_manifest

    finder = Finder(manifest.content_id, world.find_holders, world.dialler, SELF, 0.1, world.accuse)
    await finder.look()
    dropped = []
    lines = [finder.lines[holder.contact.peer_id] for holder in finder_holders]
    found = await fetch_manifest(
        manifest.content_id, layout.size, lines, QUICK.manifest, lambda peer, _: dropped.append(peer)
    )
    assert found == manifest
    assert dropped == ["liar"]


# The slow and the dead.


async def test_a_slow_drip_is_replaced_within_its_deadline(world):
    data = some_bytes(20 * BLOCK)
    never = asyncio.Event()

    async def drip(request, answer):
        await never.wait()

    await world.holder("slow", Memory(data), drip)
    await world.holder("honest", Memory(data))
    began = time.monotonic()
    await world.fetch(data)
    assert time.monotonic() - began < 5
    assert world.progress.sources["honest"].bytes == len(data)


async def test_a_holder_that_dies_midway_is_replaced(world):
    data = some_bytes(40 * BLOCK)

    async def die(request, answer):
        if dying.asked > 5:
            world.kill("dying")
        return answer

    dying = await world.holder("dying", Memory(data), die)
    await world.holder("honest", Memory(data))
    await world.fetch(data)
    assert world.progress.sources["dying"].bytes < len(data)


async def test_a_busy_holder_is_asked_again_when_it_says(world):
    data = some_bytes(10 * BLOCK)

    async def busy_at_first(request, answer):
        if holder.asked <= 6:
            raise errors.Busy("later", retry_after=0.05)
        return answer

    holder = await world.holder("a", Memory(data), busy_at_first)
    await world.fetch(data)


async def test_a_dead_address_is_passed_over_and_the_working_one_remembered(world):
    data = some_bytes(40 * BLOCK)

    async def fail(request, answer):
        raise errors.Unreachable("wrong way")

    wrong = await world.holder("wrong", Memory(data), fail)
    await world.holder("a", Memory(data))
    addresses = [address for holder in world.holders for address in holder.contact.addresses]
    world.holders = [Holder(Contact("a", "a", ("127.0.0.1:1", *addresses)))]
    await world.fetch(data)
    assert wrong.asked <= 6, "only the first of 40 blocks went that way"


async def test_holders_that_come_while_it_waits_are_used(world):
    data = some_bytes(10 * BLOCK)

    async def fail(request, answer):
        came.set()
        raise errors.Unreachable("away")

    came = asyncio.Event()
    await world.holder("failing", Memory(data), fail)
    running = asyncio.ensure_future(world.fetch(data))
    await came.wait()
    await world.holder("late", Memory(data))
    await running
    assert world.progress.sources["late"].bytes == len(data)


async def test_a_holder_that_moves_to_another_port_is_followed(world):
    data = some_bytes(10 * BLOCK)

    async def vanish(request, answer):
        if answer.index == 0:
            gone.set()
            world.kill("a")
        return answer

    gone = asyncio.Event()

    await world.holder("a", Memory(data), vanish)
    running = asyncio.ensure_future(world.fetch(data))
    await gone.wait()
    world.holders.clear()
    await world.holder("a", Memory(data))
    await running


async def test_a_download_that_nobody_helps_fails_after_its_patience_and_resumes(world):
    data = some_bytes(30 * BLOCK)

    async def half(request, answer):
        if max(blocks_of(request, answer)) >= 26:
            raise errors.Unreachable("away")
        return answer

    holder = await world.holder("a", Memory(data), half)
    world.settings, began = IMPATIENT, time.monotonic()
    with pytest.raises(errors.Unreachable, match=r"no holder of [0-9a-f]{12} answers"):
        await world.fetch(data)
    assert IMPATIENT.patience < time.monotonic() - began < 15
    assert world.looks > 3
    done = world.progress.done_bytes
    assert len(world.hidden()) == 1
    holder.block = None
    world.settings = QUICK
    await world.fetch(data)
    assert world.progress.resumed_bytes == done == 26 * BLOCK


async def busy(request, answer):
    raise errors.Busy("later", retry_after=0.05)


async def no_turn(request, answer):
    await asyncio.sleep(0.2)
    return pb2.GetBlockResponse()


async def no_word(request, answer):
    await asyncio.sleep(60)


@pytest.mark.parametrize("waits", [busy, no_turn, no_word])
async def test_a_complete_holder_that_lets_it_wait_for_its_turn_is_waited_for(world, waits):
    data = some_bytes(4 * BLOCK)
    world.settings = replace(IMPATIENT, limits=DownloadLimits(patience=0.2, pace=PaceLimits()))
    holder = await world.holder("whole", Memory(data), waits)
    fetching = asyncio.ensure_future(world.fetch(data))
    await asyncio.wait({fetching}, timeout=2 * IMPATIENT.patience)
    assert not fetching.done()
    if waits is no_word:  # its asks are as old as the wait: what was asked in time is waited for
        fetching.cancel()
        await asyncio.wait({fetching})
    else:
        holder.block = None
        await fetching


@pytest.mark.parametrize("waits", [busy, no_turn])
async def test_peers_that_are_fetching_too_and_have_nothing_new_are_not_waited_for(world, waits):
    data = some_bytes(4 * BLOCK)
    world.settings = replace(IMPATIENT, limits=DownloadLimits(patience=0.2, pace=PaceLimits()))
    for name in ("a", "b"):
        partial = await partial_holder(world, name, data, 1)
        partial.block = waits
    with pytest.raises(errors.Unreachable):
        await world.fetch(data)


async def test_errors_of_central_do_not_end_a_download_that_runs(world):
    data = some_bytes(20 * BLOCK)
    release = asyncio.Event()

    async def slow(request, answer):
        if 3 in blocks_of(request, answer):
            await release.wait()
        return answer

    await world.holder("a", Memory(data), slow)
    failed = asyncio.Event()

    async def find_holders(content_id, *, directly=False):
        if world.looks:
            failed.set()
            release.set()
            raise errors.Unreachable("central is gone")
        world.looks += 1
        return world.holders

    world.find_holders = find_holders
    await world.fetch(data)
    assert failed.is_set()


async def test_a_cancelled_download_leaves_what_it_fetched_and_resumes(world):
    data = some_bytes(30 * BLOCK)
    never, waiting = asyncio.Event(), asyncio.Event()

    async def half(request, answer):
        if holder.asked > 5:
            waiting.set()
            await never.wait()
        return answer

    world.settings = replace(QUICK, limits=DownloadLimits())
    holder = await world.holder("a", Memory(data), half)
    running = asyncio.ensure_future(world.fetch(data))
    await waiting.wait()
    await world.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(world.hidden()) == 1
    assert all(source.in_flight == 0 for source in world.progress.sources.values())
    done = world.progress.done_bytes
    holder.block = None
    await world.fetch(data)
    assert world.progress.resumed_bytes >= done > 0


# What is there already.


async def test_the_same_bytes_at_the_target_are_done_without_a_holder(world):
    data = some_bytes(3 * BLOCK)
    (world.directory / "file").write_bytes(data)
    before = (world.directory / "file").stat()
    await world.fetch(data)
    assert world.looks == 0
    assert (world.directory / "file").stat().st_ino == before.st_ino


@pytest.mark.parametrize("other", [b"", b"x", some_bytes(3 * BLOCK, seed=9)])
async def test_other_bytes_at_the_target_are_refused_and_stay(world, other):
    data = some_bytes(3 * BLOCK)
    await world.holder("a", Memory(data))
    target = world.directory / "file"
    target.write_bytes(other)
    with pytest.raises(errors.AlreadyExists, match=str(target)):
        await world.fetch(data)
    assert target.read_bytes() == other
    assert world.hidden() == []


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
async def test_what_is_no_regular_file_at_the_target_is_refused(world, make):
    data = some_bytes(10)
    make(world.directory / "file")
    with pytest.raises(errors.AlreadyExists):
        await world.fetch(data)


@pytest.mark.parametrize("same", [True, False])
async def test_a_file_that_appears_at_the_target_meanwhile_is_not_overwritten(world, same):
    data = some_bytes(3 * BLOCK)
    other = data if same else b"precious"

    async def appear(request, answer):
        (world.directory / "file").write_bytes(other)
        return answer

    await world.holder("a", Memory(data), appear)
    if same:
        await world.fetch(data)
    else:
        with pytest.raises(errors.AlreadyExists):
            await world.fetch(data)
    assert (world.directory / "file").read_bytes() == other


async def test_local_content_is_copied_not_fetched(world, tmp_path_factory):
    data = some_bytes(30 * BLOCK + 1)
    world.local = tmp_path_factory.mktemp("library") / "mine"
    world.local.write_bytes(data)
    await world.fetch(data)
    assert world.looks == 0
    assert world.progress.copied_bytes == len(data)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"other"), Path.unlink])
async def test_a_local_copy_that_is_not_the_content_is_fetched_instead(world, tmp_path_factory, change):
    data = some_bytes(30 * BLOCK + 1)
    world.local = tmp_path_factory.mktemp("library") / "mine"
    world.local.write_bytes(data)
    change(world.local)
    await world.holder("a", Memory(data))
    await world.fetch(data)
    assert world.progress.copied_bytes == 0


async def test_one_content_under_two_names_at_once_in_one_directory_is_fetched_once_after_the_other(world):
    data = some_bytes(20 * BLOCK)
    await world.holder("a", Memory(data))
    downloader = world.downloader()
    requests = [world.request(data, name=name) for name in ("one", "two", "one")]
    async with asyncio.timeout(20):
        found = await asyncio.gather(*(downloader.fetch(request, Progress(0)) for request in requests))
    assert [fetched.location.name for fetched in found] == ["one", "two", "one"]
    assert {fetched.location.read_bytes() for fetched in found} == {data}
    assert world.hidden() == []
    assert not downloader._turns


async def test_what_was_whole_before_a_crash_is_finished_without_any_holder(world):
    data = some_bytes(5 * BLOCK)
    manifest = manifest_of(data)
    (world.directory / partial_name(manifest.content_id)).write_bytes(data)
    await world.fetch(data)
    assert world.progress.resumed_bytes == len(data)


async def test_not_found_keeps_what_an_earlier_try_fetched(world):
    data = some_bytes(5 * BLOCK)
    partial = world.directory / partial_name(manifest_of(data).content_id)
    partial.write_bytes(data[:BLOCK])
    with pytest.raises(errors.NotFound):
        await world.fetch(data)
    assert partial.read_bytes()[:BLOCK] == data[:BLOCK]


# Trouble on this side.


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/../b", "/etc/passwd", "a\\b", "a\0b", "a\x1b[31m", "x" * 256, "n\u0303"]
)
async def test_a_name_that_is_no_file_name_is_refused(world, name):
    with pytest.raises(errors.InvalidInput):
        await world.downloader().fetch(world.request(b"abc", name=name), Progress(0))
    assert list(world.directory.iterdir()) == []


async def test_a_missing_directory_is_said_to_be_missing(world):
    request = replace(world.request(b"abc"), directory=world.directory / "nowhere")
    with pytest.raises(errors.NotPossible, match="nowhere: the directory is not there"):
        await world.downloader().fetch(request, Progress(0))


async def test_a_content_that_does_not_fit_is_refused_before_anything_is_fetched(world, monkeypatch):
    data = some_bytes(9 * BLOCK)
    holder = await world.holder("a", Memory(data))
    real = os.statvfs(world.directory)

    class Full:
        f_bavail, f_frsize, f_blocks = 8 * BLOCK // real.f_frsize, real.f_frsize, real.f_blocks

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(errors.NotPossible, match="make room"):
        await world.fetch(data)
    assert holder.asked == 0
    assert list(world.directory.iterdir()) == []


async def test_a_disk_that_fills_up_ends_the_download_and_keeps_what_is_there(world, monkeypatch):
    world.settings = DownloadSettings()  # nothing is waited for, and a busy machine has its time
    data = some_bytes(20 * BLOCK)
    await world.holder("a", Memory(data))
    real, written = os.pwrite, []

    def fill(descriptor, block, offset):
        if len(written) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(block))
        return real(descriptor, block, offset)

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.raises(errors.NotPossible, match="the disk is full"):
        await world.fetch(data)
    monkeypatch.undo()
    await world.fetch(data)
    assert world.progress.resumed_bytes == sum(written) > 0


CHILD = """
import asyncio, sys, time
from pathlib import Path
from peer.links.channels import Channels
from peer.links.contacts import Contact, Holder
from peer.links.dialling import Dialler
from peer.fetching.progress import Progress
from peer.fetching.transfer import Downloader, FetchRequest
from peer.fetching.reaching import Reach

async def main(address, content_id, size, directory):
    async def holders(content_id, *, directly=False):
        return [Holder(Contact("a", "a", (address,)))]
    async def local(content_id):
        return None
    dialler = Reach(Dialler(Channels(), lambda: address, time.monotonic))
    downloader = Downloader(holders, dialler, local, "child", time.monotonic)
    await downloader.fetch(FetchRequest(bytes.fromhex(content_id), int(size), Path(directory), "file"), Progress(0))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_comes_quickly_comes_many_blocks_at_a_time_from_the_first_ask_of_the_next_download_on(world):
    first, second = some_bytes(60 * BLOCK, 1), some_bytes(60 * BLOCK, 2)
    asked = []

    async def note(request, answer):
        asked.append(len(answer.data) // BLOCK)
        return answer

    await world.holder("a", Memory(first, second), note)
    world.settings = DownloadSettings()
    downloader = world.downloader()
    await downloader.fetch(world.request(first, "first"), world.progress)
    assert asked[0] == 1, "it is not known yet how quick it is"
    assert sum(asked) == 60
    asked.clear()
    peer_id = world.holders[0].contact.peer_id
    assert downloader._rates.of(peer_id) > 0
    downloader._rates.note(peer_id, 1e9)
    await downloader.fetch(world.request(second, "second"), Progress(0))
    assert sum(asked) == 60
    assert len(asked) <= 6, "of 1 MiB, but for the last and where the order of blocks goes round"


async def test_of_a_late_answer_whose_first_block_has_come_from_elsewhere_the_rest_is_stored(world):
    data = some_bytes(16 * BLOCK)
    content_id = manifest_of(data).content_id
    never, late = asyncio.Event(), []

    async def answers(request, answer):
        if not late:
            late.extend(blocks_of(request, answer))
            while not world.unfinished.held(content_id) >> late[0] & 1:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.001)
        elif answer.index == late[0]:
            answer.data = answer.data[:BLOCK]
        elif answer.index in late:
            await never.wait()
        return answer

    for name in "ab":
        await world.holder(name, Memory(data), answers)
    world.settings = DownloadSettings(limits=DownloadLimits(pace=PaceLimits(overdue=0.05)))
    downloader = world.downloader()
    for holder in world.holders:
        downloader._rates.note(holder.contact.peer_id, 1e9)
    fetched = await downloader.fetch(world.request(data), world.progress)
    assert fetched.location.read_bytes() == data
    assert len(late) > 1
    assert sum(source.bytes for source in world.progress.sources.values()) == len(data), "each block counts once"
    assert not any(source.dropped_reason for source in world.progress.sources.values())


async def test_a_killed_downloader_resumes_with_everything_that_was_written(world):
    data = some_bytes(60 * BLOCK)
    never, enough = asyncio.Event(), asyncio.Event()
    given = set()

    async def forty(request, answer):
        if len(given) >= 40:
            enough.set()
            await never.wait()
        given.update(blocks_of(request, answer))
        return answer

    holder = await world.holder("a", Memory(data), forty)
    address, manifest = world.holders[0].contact.addresses[0], manifest_of(data)
    arguments = [address, manifest.content_id.hex(), str(len(data)), str(world.directory)]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD,
        *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    partial = world.directory / partial_name(manifest.content_id)
    async with asyncio.timeout(20):
        await enough.wait()
        while not partial.exists() or len(blocks_in(partial, manifest)) < 30:  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    await child.communicate()
    with partial.open("r+b") as file:  # what a crash can do: a block that is not what was written
        file.seek(min(blocks_in(partial, manifest)) * BLOCK)
        file.write(b"rotten")
    there = blocks_in(partial, manifest)
    holder.block = None
    await world.fetch(data)
    assert world.progress.resumed_bytes == len(there) * BLOCK >= 29 * BLOCK


def blocks_in(path, manifest):
    data = path.read_bytes()
    return {
        index
        for index in range(manifest.layout.block_count)
        if manifest.verifies(index, data[index * BLOCK : (index + 1) * BLOCK])
    }


async def test_a_lock_of_another_program_is_respected(world):
    data = some_bytes(3 * BLOCK)
    await world.holder("a", Memory(data))
    other = Partial(world.directory, manifest_of(data).content_id, Layout(len(data)))
    other.open()
    with contextlib.closing(other), pytest.raises(errors.Busy, match="another program"):
        await world.fetch(data)
    await world.fetch(data)
