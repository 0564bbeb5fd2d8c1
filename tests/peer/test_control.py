"""PeerControl on its Unix socket: a real daemon and a real central, every RPC, good and bad."""

import asyncio
import contextlib

import grpc
import pytest

from central.quotas import Quotas
from central.server import running_central
from central.settings import Settings
from core import errors
from core.content import MAX_BLOCK
from core.limits import Limits
from core.manifest import manifest_of
from core.rpc import open_channel
from core.status import from_rpc_error
from peer.daemon import running_peer
from peer.settings import ServeSettings, control_address
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import content_pb2
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.peer_control_pb2_grpc import PeerControlStub
from relevo.v1.peer_relay_pb2 import BlockSet, GetBlockRequest
from relevo.v1.peer_relay_pb2_grpc import PeerRelayStub

BYTES = b"some bytes"


class Network:
    def __init__(self, base, central, stack):
        self.base, self.central, self.stack = base, central, stack

    async def join(self, name, files=(), centrals=()):
        """Starts a peer; returns it, and its command line's stub."""
        shared, home = self.base / name / "shared", self.base / name / "home"
        shared.mkdir(parents=True)
        for path, data in dict(files).items():
            (shared / path).write_bytes(data)
        settings = ServeSettings(
            home=home,
            shared=shared,
            centrals=centrals or (self.central.address,),
            name=name,
            listen="127.0.0.1:0",
            insecure=True,
        )
        peer = await self.stack.enter_async_context(running_peer(settings))
        channel = open_channel(control_address(home))
        self.stack.push_async_callback(channel.close)
        if not centrals:
            await peer.session.wait_live()
        await peer.library.wait_scanned()
        for file in [] if centrals else peer.library.files.values():
            await peer.publisher.published(file.path, file.content_id, 10)
        return peer, PeerControlStub(channel)


@pytest.fixture
async def network(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central", insecure=True))
        yield Network(tmp_path, central, stack)


@pytest.fixture
def _patient(monkeypatch):
    """However loaded the machine is, a neighbour answers before central is asked beside it."""
    monkeypatch.setattr("peer.directory.routes.PATIENCE", 20.0)


@pytest.fixture
async def alone(network):
    """A daemon whose central does not answer."""
    return await network.join("alone", {"a.txt": BYTES}, centrals=("127.0.0.1:1",))


@contextlib.asynccontextmanager
async def fails_with(kind, field=None):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = from_rpc_error(caught.value)
    assert type(error) is kind, error
    assert field is None or error.field == field


def entry(path="a.txt", data=BYTES, **changes):
    return content_pb2.FileEntry(
        **{"path": path, "content_id": manifest_of(data).content_id, "size_bytes": len(data), **changes}
    )


async def ended(peer, transfer):
    """Waits until a transfer has ended."""
    await asyncio.wait([peer.transfers.get(transfer.transfer_id).task], timeout=20)


async def test_status_tells_what_the_daemon_is_and_shares(network):
    peer, ana = await network.join("ana", {"a.txt": BYTES, "b.part": b"unfinished", "c.tmp": b""})
    status = await ana.GetStatus(pb2.GetStatusRequest())
    assert (status.peer.peer_id, status.peer.name) == (peer.identity.peer_id, "ana")
    assert status.peer.addresses == [f"127.0.0.1:{peer.server.port}"]
    assert (status.shared_directory, status.home) == (str(network.base / "ana/shared"), str(network.base / "ana/home"))
    assert status.central == network.central.address
    assert (status.session_state, status.session_problem) == (pb2.SESSION_STATE_LIVE, "")
    assert status.session_id == peer.session.login.session_id
    assert (status.file_count, status.file_bytes, status.unhashed_count) == (1, len(BYTES), 0)
    assert (status.stored_count, status.stored_bytes, status.store_quota_bytes) == (0, 0, peer.settings.store_quota)
    assert [skipped.path for skipped in status.skipped] == ["b.part", "c.tmp"]
    assert (status.skipped_count, status.sent_bytes, status.received_bytes) == (2, 0, 0)
    assert not status.HasField("last_route")
    assert not status.HasField("membership")  # in plaintext
    assert not status.HasField("clock_ahead")
    few = await ana.GetStatus(pb2.GetStatusRequest(skipped_page_size=1))
    assert ([skipped.path for skipped in few.skipped], few.skipped_count) == (["b.part"], 2)
    async with fails_with(errors.InvalidInput, "skipped_page_size"):
        await ana.GetStatus(pb2.GetStatusRequest(skipped_page_size=-1))


async def test_a_connection_of_the_daemons_user_stays_however_long_nothing_is_asked(network, monkeypatch):
    monkeypatch.setitem(Limits.__init__.__kwdefaults__, "idle", 0.2)
    peer, _ = await network.join("ana")

    async def closed_when_idle(address, patience):
        async with open_channel(address) as channel:
            await channel.channel_ready()
            await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), patience)

    await closed_when_idle(f"127.0.0.1:{peer.server.port}", 20)
    with pytest.raises(TimeoutError):
        await closed_when_idle(control_address(peer.settings.home), 2)


async def test_a_peer_takes_no_request_as_large_as_a_block(network):
    peer, _ = await network.join("ana", {"a.txt": BYTES})
    async with open_channel(f"127.0.0.1:{peer.server.port}") as channel:
        relay = PeerRelayStub(channel)
        asked = GetBlockRequest(content_id=manifest_of(BYTES).content_id, lacking=BlockSet(bitmap=bytes(MAX_BLOCK)))
        async with fails_with(errors.Busy):
            await relay.GetBlock(asked, timeout=10)
        asked.lacking.bitmap = b"\1"
        assert (await relay.GetBlock(asked, timeout=10)).data == BYTES


async def test_status_says_what_central_does_not_take(tmp_path):
    few = Settings(quotas=Quotas(entries=1))
    async with contextlib.AsyncExitStack() as stack:
        central = await stack.enter_async_context(running_central(tmp_path / "central", settings=few, insecure=True))
        network = Network(tmp_path, central, stack)
        peer, ana = await network.join("ana", {"a.txt": BYTES})
        assert (await ana.GetStatus(pb2.GetStatusRequest())).publishing_problem == ""
        (peer.library.shared / "b.txt").write_bytes(b"one too many")
        async with asyncio.timeout(20):
            while not (problem := (await ana.GetStatus(pb2.GetStatusRequest())).publishing_problem):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert "1" in problem


async def test_status_without_central_says_why_and_shares_all_the_same(alone):
    peer, stub = alone
    status = await stub.GetStatus(pb2.GetStatusRequest())
    assert (status.session_state, status.session_id) == (pb2.SESSION_STATE_CONNECTING, "")
    assert status.session_problem
    assert status.file_count == 1
    assert status.peer.addresses == [f"127.0.0.1:{peer.server.port}"]


@pytest.mark.usefixtures("_patient")
async def test_files_are_listed_through_the_neighbour_and_the_way_is_told(network):
    ben, _ = await network.join("ben", {"b.txt": b"b"})
    _, ana = await network.join("ana", {"a.txt": BYTES})
    answer = await ana.ListFiles(pb2.PeerControlListFilesRequest())
    assert {file.path for file in answer.response.files} == {"a.txt", "b.txt"}
    assert (answer.route.kind, answer.route.peer.name) == (pb2.ROUTE_KIND_PRIMARY, "ben")
    assert answer.route.address == f"127.0.0.1:{ben.server.port}"
    assert answer.route.took.ToMicroseconds() > 0
    assert (await ana.GetStatus(pb2.GetStatusRequest())).last_route == answer.route
    asked = central_pb2.ListFilesRequest(reference="b.txt")
    answer = await ana.ListFiles(pb2.PeerControlListFilesRequest(request=asked))
    assert [file.path for file in answer.response.files] == ["b.txt"]
    async with fails_with(errors.InvalidInput, "page_token"):
        wrong = central_pb2.ListFilesRequest(page_token="x")
        await ana.ListFiles(pb2.PeerControlListFilesRequest(request=wrong))


@pytest.mark.usefixtures("_patient")
async def test_peers_and_neighbours_are_told(network):
    ben, _ = await network.join("ben")
    _, ana = await network.join("ana")
    listed = (await ana.ListPeers(pb2.PeerControlListPeersRequest())).response.peers
    assert [listing.peer.name for listing in listed] == ["ana", "ben"]
    async with fails_with(errors.InvalidInput, "page_size"):
        wrong = central_pb2.ListPeersRequest(page_size=-1)
        await ana.ListPeers(pb2.PeerControlListPeersRequest(request=wrong))
    answer = await ana.GetNeighbours(pb2.PeerControlGetNeighboursRequest())
    assert (answer.neighbours.primary.peer_id, answer.route.peer.name) == (ben.identity.peer_id, "ben")
    assert not answer.neighbours.HasField("backup")


async def test_without_central_every_directory_call_says_so(alone):
    _, stub = alone
    for call in (
        stub.ListFiles(pb2.PeerControlListFilesRequest()),
        stub.ListPeers(pb2.PeerControlListPeersRequest()),
        stub.GetNeighbours(pb2.PeerControlGetNeighboursRequest()),
        stub.GetPlacement(pb2.PeerControlGetPlacementRequest()),
    ):
        async with fails_with(errors.Unreachable):
            await call


async def test_a_download_is_started_followed_and_listed(network, monkeypatch):
    await network.join("ben", {"dir-b.txt": BYTES})
    peer, ana = await network.join("ana")
    fetch, go_on = peer.downloader.fetch, asyncio.Event()

    async def later(*arguments):
        await go_on.wait()
        return await fetch(*arguments)

    monkeypatch.setattr(peer.downloader, "fetch", later)
    out = network.base / "out"
    out.mkdir()
    request = pb2.StartDownloadRequest(file=entry("dir-b.txt", executable=True), directory=str(out))
    begun = (await ana.StartDownload(request)).transfer
    assert (begun.kind, begun.path, begun.target) == (pb2.TRANSFER_KIND_DOWNLOAD, "dir-b.txt", str(out / "dir-b.txt"))
    assert begun.state in {pb2.TRANSFER_STATE_WAITING, pb2.TRANSFER_STATE_RUNNING}
    assert not begun.HasField("end_time")
    go_on.set()
    await ended(peer, begun)
    done = (await ana.GetTransfer(pb2.GetTransferRequest(transfer_id=begun.transfer_id))).transfer
    assert (done.state, done.error_code, done.error_message) == (pb2.TRANSFER_STATE_DONE, 0, "")
    assert (done.done_bytes, done.size_bytes, done.content_id) == (len(BYTES), len(BYTES), request.file.content_id)
    assert [(source.peer.name, source.bytes) for source in done.sources] == [("ben", len(BYTES))]
    assert done.HasField("end_time")
    assert done.rate_bytes_per_second == 0
    assert (out / "dir-b.txt").read_bytes() == BYTES
    assert list((await ana.ListTransfers(pb2.ListTransfersRequest())).transfers) == [done]
    stopped = (await ana.CancelTransfer(pb2.CancelTransferRequest(transfer_id=begun.transfer_id))).transfer
    assert stopped == done
    status = await ana.GetStatus(pb2.GetStatusRequest())
    assert status.received_bytes == len(BYTES)


@pytest.mark.parametrize(
    "wrong",
    [
        ({"path": ""}, "out", errors.InvalidInput, "file.path"),
        ({"path": "../up"}, "out", errors.InvalidInput, "file.path"),
        ({"path": "/etc/passwd"}, "out", errors.InvalidInput, "file.path"),
        ({"content_id": b"short"}, "out", errors.InvalidInput, "file.content_id"),
        ({"size_bytes": 2**47 + 1}, "out", errors.InvalidInput, "file.size_bytes"),
        ({}, "", errors.InvalidInput, "directory"),
        ({}, "missing", errors.NotPossible, None),
        ({}, "a file", errors.NotPossible, None),
    ],
)
async def test_a_download_that_breaks_a_rule_is_refused_and_leaves_no_transfer(alone, tmp_path, wrong):
    changes, directory, kind, field = wrong
    _, stub = alone
    (tmp_path / "out").mkdir()
    (tmp_path / "a file").write_bytes(b"")
    where = str(tmp_path / directory) if directory else "out"
    async with fails_with(kind, field):
        await stub.StartDownload(pb2.StartDownloadRequest(file=entry(**changes), directory=where))
    assert not (await stub.ListTransfers(pb2.ListTransfersRequest())).transfers
    assert list((tmp_path / "out").iterdir()) == []


async def test_what_goes_wrong_later_stands_in_the_transfer(network):
    peer, ana = await network.join("ana")
    out = network.base / "out"
    out.mkdir()
    (out / "a.txt").write_bytes(b"mine")
    for file, code in ((entry(), grpc.StatusCode.ALREADY_EXISTS), (entry("b.txt"), grpc.StatusCode.NOT_FOUND)):
        begun = (await ana.StartDownload(pb2.StartDownloadRequest(file=file, directory=str(out)))).transfer
        await ended(peer, begun)
        failed = (await ana.GetTransfer(pb2.GetTransferRequest(transfer_id=begun.transfer_id))).transfer
        assert failed.state == pb2.TRANSFER_STATE_FAILED
        assert failed.error_code == code.value[0]
        assert failed.error_message
    assert (out / "a.txt").read_bytes() == b"mine"


async def test_a_download_is_joined_and_stopped(network):
    ben, _ = await network.join("ben", {"a.txt": BYTES})
    _, ana = await network.join("ana")
    asked = asyncio.Event()

    async def silent(content_id, index, count):
        asked.set()
        await asyncio.Event().wait()

    ben.library.read_run = silent
    request = pb2.StartDownloadRequest(file=entry(), directory=str(network.base))
    begun = (await ana.StartDownload(request)).transfer
    await asyncio.wait_for(asked.wait(), 10)
    assert (await ana.StartDownload(request)).transfer.transfer_id == begun.transfer_id
    stop = pb2.CancelTransferRequest(transfer_id=begun.transfer_id)
    for _ in range(2):
        stopped = (await ana.CancelTransfer(stop)).transfer
        assert stopped.state == pb2.TRANSFER_STATE_CANCELLED
        assert stopped.HasField("end_time")
    assert not (network.base / "a.txt").exists()
    again = (await ana.StartDownload(request)).transfer
    assert again.transfer_id != begun.transfer_id


async def test_a_download_is_paused_ranked_and_resumed(network):
    ben, _ = await network.join("ben", {"a.txt": BYTES})
    peer, ana = await network.join("ana")
    give, asked = ben.library.read_run, asyncio.Event()

    async def silent(content_id, index, count):
        asked.set()
        await asyncio.Event().wait()

    ben.library.read_run = silent
    options = pb2.DownloadOptions(priority=pb2.TRANSFER_PRIORITY_LOW, rate_limit_bytes_per_second=1 << 20)
    request = pb2.StartDownloadRequest(file=entry(), directory=str(network.base), options=options)
    begun = (await ana.StartDownload(request)).transfer
    assert (begun.priority, begun.rate_limit_bytes_per_second) == (pb2.TRANSFER_PRIORITY_LOW, 1 << 20)
    await asyncio.wait_for(asked.wait(), 10)
    name = {"transfer_id": begun.transfer_id}
    for _ in range(2):
        paused = (await ana.PauseTransfer(pb2.PauseTransferRequest(**name))).transfer
        assert paused.state == pb2.TRANSFER_STATE_PAUSED
    ranked = pb2.SetTransferPriorityRequest(**name, priority=pb2.TRANSFER_PRIORITY_HIGH)
    assert (await ana.SetTransferPriority(ranked)).transfer.priority == pb2.TRANSFER_PRIORITY_HIGH
    async with fails_with(errors.InvalidInput, "priority"):
        await ana.SetTransferPriority(pb2.SetTransferPriorityRequest(**name))
    ben.library.read_run = give
    assert (await ana.ResumeTransfer(pb2.ResumeTransferRequest(**name))).transfer.state != pb2.TRANSFER_STATE_PAUSED
    await asyncio.wait_for(peer.transfers.get(begun.transfer_id).ended, 20)
    assert (network.base / "a.txt").read_bytes() == BYTES
    async with fails_with(errors.NotPossible):
        await ana.PauseTransfer(pb2.PauseTransferRequest(**name))


async def test_limits_are_set_shown_and_checked(alone):
    peer, stub = alone
    none = (await stub.SetRateLimits(pb2.SetRateLimitsRequest())).rate_limits
    assert none == pb2.RateLimits()
    both = pb2.SetRateLimitsRequest(upload_bytes_per_second=5000, download_bytes_per_second=7000)
    wanted = pb2.RateLimits(upload_bytes_per_second=5000, download_bytes_per_second=7000)
    assert (await stub.SetRateLimits(both)).rate_limits == wanted
    status = await stub.GetStatus(pb2.GetStatusRequest())
    assert (status.rate_limits, status.max_downloads) == (wanted, 16)
    for field in ("upload_bytes_per_second", "download_bytes_per_second"):
        async with fails_with(errors.InvalidInput, field):
            await stub.SetRateLimits(pb2.SetRateLimitsRequest(**{field: 1023}))
    assert (
        await stub.SetRateLimits(pb2.SetRateLimitsRequest(upload_bytes_per_second=0))
    ).rate_limits == pb2.RateLimits(download_bytes_per_second=7000)
    assert (peer.serving.sending.limiter.rate, peer.transfers.limiter.rate) == (0, 7000)


async def test_a_limit_that_cannot_be_kept_is_refused(alone, tmp_path):
    _, stub = alone
    options = pb2.DownloadOptions(rate_limit_bytes_per_second=1)
    async with fails_with(errors.InvalidInput, "options.rate_limit_bytes_per_second"):
        await stub.StartDownload(pb2.StartDownloadRequest(file=entry(), directory=str(tmp_path), options=options))
    assert not (await stub.ListTransfers(pb2.ListTransfersRequest())).transfers


async def test_a_detached_download_waits_for_holders_and_says_so(alone, tmp_path):
    _, stub = alone
    options = pb2.DownloadOptions(detached=True)
    request = pb2.StartDownloadRequest(file=entry("b.txt", b"elsewhere"), directory=str(tmp_path), options=options)
    begun = (await stub.StartDownload(request)).transfer
    assert begun.detached
    asked = pb2.GetTransferRequest(transfer_id=begun.transfer_id)
    async with asyncio.timeout(20):
        while not (found := await stub.GetTransfer(asked)).transfer.waiting_reason:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert found.transfer.state == pb2.TRANSFER_STATE_WAITING
    assert found.transfer.error_code == 0


async def test_unknown_transfers_are_not_found(alone):
    _, stub = alone
    async with fails_with(errors.NotFound):
        await stub.GetTransfer(pb2.GetTransferRequest(transfer_id="0" * 16))
    async with fails_with(errors.NotFound):
        await stub.CancelTransfer(pb2.CancelTransferRequest())
    async with fails_with(errors.NotFound):
        await stub.PauseTransfer(pb2.PauseTransferRequest())
    async with fails_with(errors.NotFound):
        await stub.ResumeTransfer(pb2.ResumeTransferRequest())
    async with fails_with(errors.NotFound):
        ranked = pb2.SetTransferPriorityRequest(priority=pb2.TRANSFER_PRIORITY_LOW)
        await stub.SetTransferPriority(ranked)


async def test_transfers_come_in_pages_the_latest_first(alone, tmp_path):
    peer, stub = alone
    (tmp_path / "own.txt").write_bytes(b"own")
    ids = []
    for _ in range(3):
        begun = (await stub.StartUpload(pb2.StartUploadRequest(source=str(tmp_path / "own.txt")))).transfer
        await ended(peer, begun)
        ids.insert(0, begun.transfer_id)
    found, token = [], ""
    for size in (2, 1):
        page = await stub.ListTransfers(pb2.ListTransfersRequest(page_size=2, page_token=token))
        assert len(page.transfers) == size
        found += [transfer.transfer_id for transfer in page.transfers]
        token = page.next_page_token
    assert (found, token) == (ids, "")
    async with fails_with(errors.InvalidInput, "page_size"):
        await stub.ListTransfers(pb2.ListTransfersRequest(page_size=-1))
    async with fails_with(errors.InvalidInput, "page_token"):
        await stub.ListTransfers(pb2.ListTransfersRequest(page_token="nonsense"))


async def test_an_upload_shares_the_file_places_copies_and_its_placement_is_answered(network):
    await network.join("ben")
    peer, ana = await network.join("ana")
    source = network.base / "report.pdf"
    source.write_bytes(BYTES)
    begun = (await ana.StartUpload(pb2.StartUploadRequest(source=str(source), replicas=1))).transfer
    assert (begun.kind, begun.path) == (pb2.TRANSFER_KIND_UPLOAD, "report.pdf")
    await ended(peer, begun)
    done = (await ana.GetTransfer(pb2.GetTransferRequest(transfer_id=begun.transfer_id))).transfer
    assert done.state == pb2.TRANSFER_STATE_DONE, done.error_message
    assert done.target == str(network.base / "ana/shared/report.pdf")
    assert (done.size_bytes, done.done_bytes, done.content_id) == (10, 10, manifest_of(BYTES).content_id)
    asked = central_pb2.GetPlacementRequest(placement_id=done.placement_id)
    placement = (await ana.GetPlacement(pb2.PeerControlGetPlacementRequest(request=asked))).response.placement
    assert (placement.path, placement.wanted_copies) == ("report.pdf", 1)
    assert [copy.peer.name for copy in placement.copies] == ["ben"]
    async with fails_with(errors.NotFound):
        unknown = central_pb2.GetPlacementRequest(placement_id="0" * 32)
        await ana.GetPlacement(pb2.PeerControlGetPlacementRequest(request=unknown))
    async with fails_with(errors.InvalidInput, "placement_id"):
        await ana.GetPlacement(pb2.PeerControlGetPlacementRequest())


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb2.StartUploadRequest(), "source"),
        (pb2.StartUploadRequest(source="relative"), "source"),
        (pb2.StartUploadRequest(source="/a\0b"), "source"),
        (pb2.StartUploadRequest(source="/a", replicas=33), "replicas"),
    ],
)
async def test_an_upload_that_breaks_a_rule_names_the_field(alone, request_, field):
    _, stub = alone
    async with fails_with(errors.InvalidInput, field):
        await stub.StartUpload(request_)
    assert not (await stub.ListTransfers(pb2.ListTransfersRequest())).transfers


async def test_an_upload_that_cannot_be_shared_says_why(alone, tmp_path):
    peer, stub = alone
    (tmp_path / "a.txt").write_bytes(b"other bytes under the name of a shared file")
    for source, code in (
        ("missing", grpc.StatusCode.NOT_FOUND),
        ("a.txt", grpc.StatusCode.ALREADY_EXISTS),
        ("alone", grpc.StatusCode.FAILED_PRECONDITION),
    ):
        begun = (await stub.StartUpload(pb2.StartUploadRequest(source=str(tmp_path / source)))).transfer
        await ended(peer, begun)
        failed = (await stub.GetTransfer(pb2.GetTransferRequest(transfer_id=begun.transfer_id))).transfer
        assert (failed.state, failed.error_code) == (pb2.TRANSFER_STATE_FAILED, code.value[0])
        assert failed.error_message
    assert (peer.library.shared / "a.txt").read_bytes() == BYTES


async def test_logging_out_withdraws_at_once_and_stops_the_daemon(network):
    _, ben = await network.join("ben")
    peer, ana = await network.join("ana", {"a.txt": BYTES})
    assert (await ana.Logout(pb2.PeerControlLogoutRequest())).confirmed
    await asyncio.wait_for(peer.stopped, 5)
    assert not (await ben.ListFiles(pb2.PeerControlListFilesRequest())).response.files
    listed = (await ben.ListPeers(pb2.PeerControlListPeersRequest())).response.peers
    assert [listing.peer.name for listing in listed] == ["ben"]


async def test_logging_out_without_central_stops_the_daemon_unconfirmed(alone):
    peer, stub = alone
    assert not (await stub.Logout(pb2.PeerControlLogoutRequest())).confirmed
    await asyncio.wait_for(peer.stopped, 5)


async def test_status_tells_by_how_much_a_clock_is_wrong_that_jumps(network):
    peer, ana = await network.join("ana")
    wall = peer.session.time._wall
    peer.session.time._wall = lambda: wall() - 7200
    status = await ana.GetStatus(pb2.GetStatusRequest())
    assert abs(status.clock_ahead.ToTimedelta().total_seconds() + 7200) < 5
