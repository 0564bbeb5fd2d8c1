"""What is too large for the disk is refused before it is fetched and leaves nothing behind: on a real small disk."""

import asyncio
import contextlib
import functools
import inspect
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict

import pytest

from core import errors
from core.content import DIGEST_BYTES, Layout, content_id, digest
from core.manifest import manifest_of
from core.rpc import Server
from peer.fetching.block_sets import from_bitmap
from peer.fetching.manifest_fetch import ManifestTimes
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.swarm import DownloadSettings
from peer.fetching.transfer import Downloader, FetchRequest
from peer.library import Library
from peer.links.channels import Channels
from peer.links.contacts import Contact, Holder
from peer.links.dialling import Dialler
from peer.work.storing import Storing
from peer.work.transfers import State, Transfers
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2 as relay_pb2
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer, add_PeerRelayServicer_to_server

TIB = 1 << 40
DISK = 4 << 20
QUICK = DownloadSettings(
    manifest=ManifestTimes(timeout=5.0, patience=0.1), refresh=0.1, first_retry=0.02, max_retry=0.05, patience=20.0
)


def ran(*command):
    return subprocess.run(command, check=False, capture_output=True, text=True)


@functools.cache
def in_a_namespace(path):
    """Returns what pytest says of all tests here where this user may mount."""
    command = ("unshare", "-Urm", sys.executable, "-m", "pytest", "-q", "-rp", "-p", "no:cacheprovider", path)
    again = ran("env", "RELEVO_IN_NAMESPACE=1", *command)
    return again.stdout + again.stderr


def on_a_small_disk(scenario):
    """Makes a test of a coroutine function that takes a directory on a tmpfs of 4 MiB and another one elsewhere.

    Whoever is not root mounts it in a user namespace, in which the test runs once more.
    """

    @functools.wraps(scenario)
    def test(tmp_path, request):
        disk = tmp_path / "disk"
        disk.mkdir()
        if ran("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)).returncode == 0:
            try:
                asyncio.run(scenario(disk, tmp_path))
            finally:
                ran("umount", "-l", str(disk))  # lazily: a thread that watches may take a moment to let go
        elif "RELEVO_IN_NAMESPACE" not in os.environ and ran("unshare", "-Urm", "true").returncode == 0:
            said = in_a_namespace(str(request.path))
            passed = [line for line in said.splitlines() if line.startswith("PASSED")]
            assert any(line.endswith(f"::{request.node.name}") for line in passed), said
        else:
            pytest.skip("no small disk: neither `mount -t tmpfs` nor `unshare -Urm` is allowed here")

    test.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("tmp_path", "request")]
    )
    return test


class Honest(PeerRelayServicer):
    """A holder of contents in memory."""

    def __init__(self):
        self.contents = {}
        self.pages = 0
        self.given = defaultdict(Counter)
        self.gate = asyncio.Event()
        self.gate.set()

    def offer(self, data):
        manifest = manifest_of(data)
        self.contents[manifest.content_id] = (manifest, data)
        return manifest.content_id

    def manifest(self, wanted):
        manifest = self.contents[wanted][0]
        return manifest.layout, manifest.root.page_digests, manifest.page

    async def GetManifest(self, request, context):
        self.pages += 1
        layout, page_digests, page = self.manifest(request.content_id)
        return relay_pb2.GetManifestResponse(
            size_bytes=layout.size,
            block_size_bytes=layout.block_size,
            page_digests=page_digests,
            block_digests=page(request.page_index),
        )

    async def GetBlock(self, request, context):
        await self.gate.wait()
        manifest, data = self.contents[request.content_id]
        lacking = from_bitmap(request.lacking.first, request.lacking.bitmap, manifest.layout.block_count)
        able = [index for index in range(manifest.layout.block_count) if lacking >> index & 1] or [request.index]
        given = self.given[request.content_id]
        index = min(able, key=given.__getitem__)  # who answers several asks with one block is left to rest
        given[index] += 1
        at = manifest.layout.block_offset(index)
        length = manifest.layout.run_length(index, request.block_count or 1)
        return relay_pb2.GetBlockResponse(index=index, data=data[at : at + length])


class Huge(Honest):
    """Has a manifest of 1 TiB that proves itself, and no bytes."""

    layout = Layout(TIB)
    block_digests = bytes(layout.page_blocks(0) * DIGEST_BYTES)
    page_digests = digest(block_digests) * layout.page_count
    content_id = content_id(layout, page_digests)

    def manifest(self, wanted):
        return self.layout, self.page_digests, lambda _: self.block_digests


class Publisher:
    """Notes what central would be told."""

    def __init__(self):
        self.declined = {}

    def confirm(self, content_id):
        raise AssertionError("nothing was stored before")

    def decline(self, placement_id, reason):
        self.declined[placement_id] = reason


class Stage:
    """A storing peer whose home is on the small disk, and one holder."""

    def __init__(self, disk, elsewhere, holder, address):
        self.home = disk / "home"
        self.home.mkdir()
        shared = elsewhere / "shared"
        shared.mkdir()
        self.holder = holder
        self.channels = Channels()
        self.library = Library(shared, self.home, time.monotonic)
        self.publisher, self.transfers = Publisher(), Transfers(time.time)

        async def holders(content_id, *, directly=False):
            return [Holder(Contact("holder", "holder", (address,)))]

        dialler = Reach(Dialler(self.channels, lambda: "127.0.0.1:1", time.monotonic))
        self.downloader = Downloader(holders, dialler, self.library.find_local, "me", time.monotonic, QUICK)
        self.storing = Storing(
            library=self.library,
            downloader=self.downloader,
            publisher=self.publisher,
            transfers=self.transfers,
            quota=2 * TIB,
            home=self.home,
        )

    def ask(self, content_id, size, placement_id="p"):
        store = pb2.StoreDirective(placement_id=placement_id, content_id=content_id, size_bytes=size)
        self.storing.obey([pb2.Directive(store=store)])

    async def ended(self):
        running = [transfer.task for transfer in self.transfers.running()]
        if running:
            _, late = await asyncio.wait(running, timeout=20)
            assert not late
        return self.transfers.latest_first()

    def left_behind(self):
        """Returns all files of the store: copies, and what is in progress."""
        return [path for path in (self.home / "store").rglob("*") if not path.is_dir()]


@contextlib.asynccontextmanager
async def stage(disk, elsewhere, holder):
    async with contextlib.AsyncExitStack() as stack:
        server = Server()
        add_PeerRelayServicer_to_server(holder, server.server)
        port = server.listen("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        found = Stage(disk, elsewhere, holder, f"127.0.0.1:{port}")
        stack.push_async_callback(found.channels.close)
        await found.library.start()
        stack.push_async_callback(found.library.close)
        stack.push_async_callback(found.transfers.close)
        stack.callback(holder.gate.set)
        yield found


@on_a_small_disk
async def test_a_copy_of_a_tebibyte_is_declined_before_anybody_is_asked(disk, elsewhere):
    async with stage(disk, elsewhere, Huge()) as here:
        assert 0 < here.storing.free_bytes() <= DISK
        here.ask(Huge.content_id, TIB)
        assert here.publisher.declined == {"p": "no room within the quota"}
        assert here.transfers.latest_first() == []
        assert here.holder.pages == 0
        assert here.left_behind() == []


@on_a_small_disk
async def test_a_copy_that_is_listed_small_and_has_a_tebibyte_is_refused_after_its_first_page(disk, elsewhere):
    async with stage(disk, elsewhere, Huge()) as here:
        here.ask(Huge.content_id, 1 << 20)
        (transfer,) = await here.ended()
        assert transfer.state is State.FAILED
        assert f"the content has {TIB} bytes" in here.publisher.declined["p"]
        assert here.holder.pages == 1
        assert here.left_behind() == []
        assert here.storing.used_bytes == 0


@on_a_small_disk
async def test_a_download_of_a_tebibyte_is_refused_whatever_size_is_listed(disk, elsewhere):
    async with stage(disk, elsewhere, Huge()) as here:
        for listed in (TIB, 1 << 20, 0):
            request = FetchRequest(Huge.content_id, listed, disk, "film")
            with pytest.raises(errors.NotPossible, match="room for"):
                await here.downloader.fetch(request, Progress(0))
        assert here.holder.pages == 3
        assert [path.name for path in disk.iterdir()] == ["home"]


@on_a_small_disk
async def test_copies_that_are_promised_count_before_their_bytes_are_there(disk, elsewhere):
    async with stage(disk, elsewhere, Honest()) as here:
        here.holder.gate.clear()
        size = here.storing.free_bytes() * 2 // 5
        contents = [here.holder.offer(bytes([number]) * size) for number in range(3)]
        for number, content in enumerate(contents):
            here.ask(content, size, f"p{number}")
        assert here.publisher.declined == {"p2": "no room within the quota"}
        here.holder.gate.set()
        assert [transfer.state for transfer in await here.ended()] == [State.DONE, State.DONE]
        assert set(here.library.stored) == set(contents[:2])
        assert len(here.left_behind()) == 2
