"""A holder that sends one byte a second, over HTTP/2 of its own making: its blocks come from another within seconds."""

import asyncio
import contextlib
import random
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

from core.content import Layout
from core.manifest import manifest_of
from core.rpc import Server
from peer.fetching.progress import Progress
from peer.fetching.reaching import Reach
from peer.fetching.transfer import Downloader, DownloadSettings, FetchRequest
from peer.giving.serving import Serving
from peer.links.channels import Channels
from peer.links.contacts import Contact, Holder
from peer.links.dialling import Dialler
from peer.relay_servicer import RelayServicer
from relevo.v1.peer_relay_pb2 import GetBlockRequest, GetBlockResponse, GetManifestResponse
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server

BLOCK = 64 * 1024
DATA = random.Random(4).randbytes(20 * BLOCK)
HELD = manifest_of(DATA)


class Memory:
    """The content in memory."""

    async def manifest(self, content_id):
        return HELD

    async def read_run(self, content_id, index, count=1):
        return DATA[index * BLOCK : (index + count) * BLOCK]


def manifest_page(_):
    layout = HELD.layout
    return GetManifestResponse(
        size_bytes=layout.size,
        block_size_bytes=layout.block_size,
        page_digests=HELD.root.page_digests,
        block_digests=HELD.page(0),
    )


def block(request):
    index = GetBlockRequest.FromString(request).index
    return GetBlockResponse(index=index, data=DATA[index * BLOCK : (index + 1) * BLOCK])


ANSWERS = {b"GetManifest": manifest_page, b"GetBlock": block}
HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


class Dripper:
    """Answers the right bytes; those of one method one a second."""

    def __init__(self):
        self.slow = b""
        self.dripped = 0
        self.asked = []
        self._tasks = set()
        self._writers = []

    async def start(self, slow):
        self.slow = slow
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def serve(self, reader, writer):
        self._writers.append(writer)
        h2_ = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        h2_.initiate_connection()
        methods, bodies = {}, {}
        while True:
            writer.write(h2_.data_to_send())
            received = await reader.read(65536)
            if not received:
                break
            for event in h2_.receive_data(received):
                match event:
                    case h2.events.RequestReceived(stream_id=stream, headers=headers):
                        methods[stream] = dict(headers)[b":path"].rpartition(b"/")[2]
                        bodies[stream] = b""
                    case h2.events.DataReceived(stream_id=stream, data=data):
                        bodies[stream] += data
                        h2_.acknowledge_received_data(event.flow_controlled_length, stream)
                    case h2.events.StreamEnded(stream_id=stream):
                        work = self.answer(h2_, writer, stream, methods[stream], bodies[stream][5:])
                        task = asyncio.ensure_future(work)
                        self._tasks.add(task)

    async def answer(self, h2_, writer, stream, method, request):
        self.asked.append(method)
        message = ANSWERS[method](request).SerializeToString()
        body = b"\0" + len(message).to_bytes(4) + message
        h2_.send_headers(stream, HEADERS)
        if method != self.slow:
            h2_.send_data(stream, body)
            h2_.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            writer.write(h2_.data_to_send())
            return
        for byte in body:
            try:
                h2_.send_data(stream, bytes([byte]))
            except h2.exceptions.ProtocolError:  # the stream has been given up
                return
            writer.write(h2_.data_to_send())
            self.dripped += 1
            await asyncio.sleep(1.0)

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._server.wait_closed()


@pytest.fixture
async def channels():
    channels = Channels()
    yield channels
    await channels.close()


@pytest.fixture
async def dripper():
    dripper = Dripper()
    yield dripper
    await dripper.stop()


@pytest.fixture
async def honest():
    server = Server()
    add_PeerRelayServicer_to_server(RelayServicer(Serving(Memory(), time.monotonic), None), server.server)
    port = server.listen("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("slow", ANSWERS)
async def test_one_byte_a_second_holds_a_download_up_for_seconds_only(channels, dripper, honest, tmp_path, slow):
    address = await dripper.start(slow)
    contacts = [Contact("dripper", "dripper", (address,)), Contact("honest", "honest", (honest,))]

    async def find(content_id, *, directly=False):
        return [Holder(contact) for contact in contacts]

    async def not_here(content_id):
        return None

    dialler = Reach(Dialler(channels, lambda: "127.0.0.1:1", time.monotonic))
    # The settings are those of every daemon.
    downloader = Downloader(find, dialler, not_here, "me", time.monotonic, DownloadSettings())
    progress, began = Progress(0), time.monotonic()
    async with asyncio.timeout(20):
        request = FetchRequest(HELD.content_id, len(DATA), tmp_path, "file")
        fetched = await downloader.fetch(request, progress)
    took = time.monotonic() - began
    assert fetched.location.read_bytes() == DATA
    assert HELD.layout == Layout(len(DATA))
    assert dripper.dripped, "it was asked, and dripped"
    assert took < 8, "an honest holder takes over before the first deadline is over"
    if slow == b"GetBlock":
        assert progress.sources["honest"].bytes == len(DATA)
        assert dripper.asked.count(slow) <= 4
