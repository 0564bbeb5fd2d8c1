"""A peer that publishes what it does not have: others fetch all the same, and central soon names it last."""

import asyncio
import contextlib
import random
import time

import pytest

from central.catalogue.reputation import REPORTERS
from central.server import running_central
from core.errors import NotFound
from core.identity import Identity
from core.manifest import manifest_of
from core.rpc import Server
from core.signing import new_request_id
from peer.daemon import running_peer
from peer.directory.logins import Introduction
from peer.directory.session import Session
from peer.links.channels import Channels
from peer.settings import ServeSettings
from peer.work.transfers import State
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry
from relevo.v1.peer_relay_pb2_grpc import PeerRelayServicer, add_PeerRelayServicer_to_server

CLAIMS = 1000
FILES = {f"film {number}.mkv": random.Random(number).randbytes(40 * 64 * 1024) for number in range(5)}


class Claimant(PeerRelayServicer):
    """Publishes a thousand contents, and has none of them."""

    def __init__(self):
        self.asked = 0

    async def GetManifest(self, request, context):
        self.asked += 1
        raise NotFound("this peer does not hold the content any more")

    GetBlock = GetManifest


@contextlib.asynccontextmanager
async def claiming(central):
    """Runs a claimant, logged in and beating; yields it and its peer id."""
    claimant, server, channels, identity = Claimant(), Server(), Channels(), Identity.generate()
    add_PeerRelayServicer_to_server(claimant, server.server)
    address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
    await server.start()
    introduction = Introduction("claimant", lambda _: (address,), lambda: 0)
    session = Session(identity, channels, (central,), introduction, clock=time.monotonic, wall=time.time)
    beating = asyncio.create_task(session.run())
    login = await session.wait_live()
    contents = [manifest_of(data).content_id for data in FILES.values()]
    contents += [random.Random(number).randbytes(32) for number in range(CLAIMS - len(contents))]
    request = pb2.PublishFilesRequest(
        peer_id=identity.peer_id,
        session_id=login.session_id,
        request_id=new_request_id(),
        added=[FileEntry(path=f"{number}", content_id=content) for number, content in enumerate(contents)],
    )
    await channels.central(central).PublishFiles(request)
    yield claimant, identity.peer_id
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    await channels.close()
    await server.stop(0)


class Network:
    def __init__(self, base, central, stack):
        self.base, self.central, self.stack = base, central, stack

    async def join(self, name, files=()):
        shared = self.base / name / "shared"
        shared.mkdir(parents=True)
        for path, data in dict(files).items():
            (shared / path).write_bytes(data)
        settings = ServeSettings(
            home=self.base / name / "home",
            shared=shared,
            centrals=(self.central.address,),
            name=name,
            listen="127.0.0.1:0",
            insecure=True,
        )
        peer = await self.stack.enter_async_context(running_peer(settings))
        peer.reporter._confirm_after = 0.0  # nobody withdraws anything here
        await peer.session.wait_live()
        await peer.library.wait_scanned()
        for file in peer.library.files.values():
            await peer.publisher.published(file.path, file.content_id, 20)
        return peer

    async def fetch(self, peer, path):
        """Downloads a file and returns the name of each peer that was asked, with the bytes that it gave."""
        data, target = FILES[path], self.base / "out" / peer.settings.name
        target.mkdir(parents=True)
        entry = FileEntry(path=path, content_id=manifest_of(data).content_id, size_bytes=len(data))
        transfer = peer.downloads.start(entry, str(target))
        await asyncio.wait([transfer.task], timeout=30)
        assert transfer.state is State.DONE, transfer.error
        assert (target / path).read_bytes() == data
        return {source.contact.name: source.bytes for source in transfer.progress.sources.values()}


@pytest.fixture
async def network(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        running = running_central(tmp_path / "central", listen="127.0.0.1:0", insecure=True)
        yield Network(tmp_path, await stack.enter_async_context(running), stack)


async def test_a_thousand_false_claims_spoil_no_download_and_are_doubted_after_three_reports(network):
    await network.join("honest", FILES)
    async with claiming(network.central.address) as (claimant, liar):
        paths = iter(FILES)
        for number in range(REPORTERS):
            assert not network.central.directory.reports.doubted(liar)
            given = await network.fetch(await network.join(f"reader {number}"), next(paths))
            assert given["honest"] == len(next(iter(FILES.values())))
        async with asyncio.timeout(10):
            while not network.central.directory.reports.doubted(liar):  # noqa: ASYNC110 - central tells nobody
                await asyncio.sleep(0.01)
        asked = claimant.asked
        assert 3 <= asked <= 3 * 4, "it is given up after its first failure in each download"
        given = await network.fetch(await network.join("late reader"), next(paths))
        assert claimant.asked == asked
        assert set(given) == {"honest"}
