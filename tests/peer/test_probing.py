"""Peers look for others of which central hears nothing: what these sign is brought to central, once for each nonce."""

import asyncio
import contextlib
import socket
import time
from types import SimpleNamespace

import grpc
import pytest

from core import errors
from core.identity import Identity
from core.life import check_proof, prove
from core.rpc import Server
from core.status import from_rpc_error
from core.times import to_duration
from peer.directory.routes import Routes
from peer.giving.answering import Answering
from peer.giving.serving import Serving
from peer.links.channels import Channels
from peer.relay_servicer import RelayServicer
from peer.relays.attachment import Attachment
from peer.relays.probing import MOST_PROBES, Prober
from peer.relays.relaying import Relaying
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1 import peer_relay_pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer, add_CentralDirectoryServicer_to_server
from relevo.v1.content_pb2 import PeerInfo
from relevo.v1.peer_relay_pb2_grpc import add_PeerRelayServicer_to_server
from tests.network import eventually

NONCE = bytes(range(32))


class Central(CentralDirectoryServicer):
    def __init__(self):
        self.reports = []
        self.reported = asyncio.Event()

    async def ReportProbe(self, request, context):
        self.reports.append(request)
        self.reported.set()
        return pb2.ReportProbeResponse()


class Stage:
    def __init__(self):
        self.central = Central()
        self.channels = Channels()
        self.identity = Identity.generate()
        self.asked = []
        self.servers = []

    async def start(self):
        address = await self._serve(add_CentralDirectoryServicer_to_server, self.central)
        self.relaying = Relaying("r" * 52, time.monotonic)
        self.prober = Prober(Routes(self.channels, address, (), time.monotonic), self.relaying)
        relay = RelayServicer(Serving(None, time.monotonic), None, prove=self.prove)
        self.address = await self._serve(add_PeerRelayServicer_to_server, relay)

    @contextlib.asynccontextmanager
    async def attached(self):
        """Has the suspect attached to who looks for it."""
        host = RelayServicer(Serving(None, time.monotonic), None, relaying=self.relaying)
        address = await self._serve(add_PeerRelayServicer_to_server, host)
        answering = Answering(Serving(None, time.monotonic), self.prove)
        attachment = Attachment(self.identity.peer_id, answering, time.monotonic, lambda _: None)

        async def dial():
            return self.channels.peer(address, "r" * 52)

        serving = asyncio.create_task(attachment.serve(dial))
        await eventually(lambda: self.relaying.is_here(self.identity.peer_id))
        yield
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    def prove(self, nonce):
        self.asked.append(nonce)
        return prove(self.identity, nonce)

    async def _serve(self, add, servicer):
        server = Server()
        add(servicer, server.server)
        port = server.listen("127.0.0.1:0")
        await server.start()
        self.servers.append(server)
        return f"127.0.0.1:{port}"

    def directive(self, *addresses, nonce=NONCE, patience=20.0):
        suspect = PeerInfo(peer_id=self.identity.peer_id, name="ana", addresses=addresses)
        return pb2.Directive(probe=pb2.ProbeDirective(suspect=suspect, nonce=nonce, patience=to_duration(patience)))

    async def idle(self):
        async with asyncio.timeout(20):
            await asyncio.gather(*self.prober._under_way)


@pytest.fixture
async def stage():
    stage = Stage()
    await stage.start()
    yield stage
    await stage.prober.close()
    await stage.channels.close()
    for server in stage.servers:
        await server.stop(0)


async def test_what_the_suspect_signs_is_brought_to_central(stage):
    stage.prober.obey([stage.directive(stage.address)])
    async with asyncio.timeout(20):
        await stage.central.reported.wait()
    (report,) = stage.central.reports
    assert (report.suspect_peer_id, report.nonce) == (stage.identity.peer_id, NONCE)
    check_proof(stage.identity.peer_id, stage.identity.public_key, NONCE, report.signature)


async def test_a_directive_that_is_repeated_is_carried_out_once(stage):
    for _ in range(5):
        stage.prober.obey([stage.directive(stage.address)])
    await stage.idle()
    stage.prober.obey([stage.directive(stage.address)])
    await stage.idle()
    assert stage.asked == [NONCE]
    stage.prober.obey([stage.directive(stage.address, nonce=bytes(32))])
    await stage.idle()
    assert stage.asked == [NONCE, bytes(32)]


async def test_an_address_at_which_nobody_answers_keeps_nobody_from_the_next(stage):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        stage.prober.obey([stage.directive("nonsense", f"127.0.0.1:{port}", stage.address)])
        await stage.idle()
    assert len(stage.central.reports) == 1


@pytest.mark.parametrize("addresses", [(), ("nonsense",), ("silent",)])
async def test_a_suspect_that_answers_nowhere_is_given_up_and_central_is_told_nothing(stage, addresses):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = [f"127.0.0.1:{port}" if address == "silent" else address for address in addresses]
        stage.prober.obey([stage.directive(*found, patience=0.2)])
        await stage.idle()
    assert stage.central.reports == []


@pytest.mark.parametrize("addresses", [(), ("127.0.0.1:1",)])
async def test_a_suspect_that_is_attached_is_asked_down_its_stream(stage, addresses):
    async with stage.attached():
        stage.prober.obey([stage.directive(*addresses)])
        await stage.idle()
    (report,) = stage.central.reports
    check_proof(stage.identity.peer_id, stage.identity.public_key, NONCE, report.signature)


async def test_a_suspect_whose_stream_is_silent_is_dialled_beside_it(stage, monkeypatch):
    async with stage.attached():
        monkeypatch.setattr(stage.relaying, "deliver", lambda _: None)
        stage.prober.obey([stage.directive(stage.address)])
        await stage.idle()
    assert len(stage.central.reports) == 1


async def test_what_is_delivered_and_is_no_answer_is_brought_to_nobody(stage, monkeypatch):
    monkeypatch.setattr(Answering, "probe", lambda *_: SimpleNamespace(SerializeToString=lambda: b"\xff"))
    async with stage.attached():
        stage.prober.obey([stage.directive()])
        await stage.idle()
    assert stage.central.reports == []


async def test_so_many_are_looked_for_at_once_and_no_more(stage):
    directives = [stage.directive(stage.address, nonce=bytes([number]) * 32) for number in range(MOST_PROBES + 10)]
    stage.prober.obey(directives)
    await stage.idle()
    assert len(stage.central.reports) == MOST_PROBES


async def test_a_peer_signs_no_nonce_of_another_length(stage):
    stub = stage.channels.peer(stage.address, stage.identity.peer_id)
    with pytest.raises(grpc.RpcError, match="32 bytes") as caught:
        await stub.Probe(peer_relay_pb2.ProbeRequest(nonce=b"short"), timeout=20)
    assert isinstance(from_rpc_error(caught.value), errors.InvalidInput)
