"""A central in this process with a clock that tests move, and peers that speak to it as real ones do."""

import asyncio
import time
from contextlib import AsyncExitStack, closing, contextmanager
from random import Random

import grpc
import pytest

from central.network.enrolment import Enrolment
from central.server import _look, running_central
from central.settings import Settings
from core.certificates import central_name, to_pem
from core.identity import Identity
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import new_request_id, sign_request
from core.status import from_rpc_error
from core.tls import Material
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub
from relevo.v1.content_pb2 import FileEntry
from relevo.v1.enrolment_pb2 import EnrollDetails, EnrollRequest, RenewRequest, RenewResponse
from relevo.v1.enrolment_pb2_grpc import EnrolmentStub

LOGIN = "/relevo.v1.CentralDirectory/Login"
ENROLL = "/relevo.v1.Enrolment/Enroll"
RENEW = "/relevo.v1.Enrolment/Renew"
PLACE_FILE = "/relevo.v1.CentralDirectory/PlaceFile"
END_PLACEMENT = "/relevo.v1.CentralDirectory/EndPlacement"
PATIENCE = 20.0


@contextmanager
def _fails_with(kind, words=""):
    """Expects a call to fail with exactly this class of core.errors."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    caught.error = from_rpc_error(caught.value)
    assert type(caught.error) is kind, repr(caught.error)
    assert words in str(caught.error)


@pytest.fixture
def fails_with():
    return _fails_with


class Clock:
    """Monotonic time and the time of day, which pass only when a test says so."""

    def __init__(self, began=1_750_000_000.0):
        self.now = 1_000.0
        self.began = began

    def monotonic(self):
        return self.now

    def wall(self):
        return self.began + self.now

    def advance(self, seconds):
        self.now += seconds


class Beats:
    """A heartbeat stream of one peer."""

    def __init__(self, peer, call):
        self.peer = peer
        self.call = call
        self.sequence = 0

    async def send(self, **changed):
        self.sequence += 1
        fields = {"peer_id": self.peer.id, "session_id": self.peer.session_id, "sequence": self.sequence}
        await self.call.write(pb2.HeartbeatRequest(**{**fields, "free_bytes": self.peer.free_bytes, **changed}))

    async def read(self):
        async with asyncio.timeout(PATIENCE):
            return await self.call.read()

    async def beat(self, **changed):
        """Beats, and returns the answer to this very beat."""
        await self.send(**changed)
        while (answer := await self.read()).sequence != self.sequence:
            assert answer.sequence == 0
        return answer

    async def until(self, condition):
        """Returns the first answer that meets the condition."""
        while not condition(answer := await self.read()):
            pass
        return answer

    async def ended(self):
        """Reads on to the end of the stream."""
        while await self.read() is not grpc.aio.EOF:
            pass


class Peer:
    """A peer: its key, what it says of itself, and its calls."""

    def __init__(self, network, name, addresses, free_bytes, identity=None):
        self.network = network
        self.identity = identity or Identity.generate()
        self.id = self.identity.peer_id
        self.name = name
        self.addresses = addresses
        self.free_bytes = free_bytes
        self.session_id = ""
        self.version = 0

    @property
    def stub(self):
        return self.network.stub

    def details(self, **changed):
        fields = {
            "name": self.name,
            "addresses": self.addresses,
            "min_protocol_version": 1,
            "max_protocol_version": 1,
            "free_bytes": self.free_bytes,
        }
        return pb2.LoginDetails(**{**fields, **changed})

    def signed(self, method, message, request_id=""):
        now = self.network.clock.wall()
        return sign_request(self.identity, method, message.SerializeToString(), now, request_id)

    def login_request(self, request_id="", **changed):
        signed = self.signed(LOGIN, self.details(**changed), request_id)
        return pb2.LoginRequest(signed=signed, public_key=self.identity.public_key)

    async def login(self, **changed):
        answer = await self.stub.Login(self.login_request(**changed))
        self.session_id = answer.session_id
        self.version = answer.catalogue_version
        return answer

    async def logout(self, **changed):
        fields = {"peer_id": self.id, "session_id": self.session_id, "request_id": new_request_id()}
        return await self.stub.Logout(pb2.LogoutRequest(**{**fields, **changed}))

    def stream(self):
        return Beats(self, self.stub.Heartbeat())

    async def live(self):
        """Opens a stream and beats once, so that the peer is not suspect."""
        beats = self.stream()
        await beats.beat()
        return beats

    def publish_request(self, files=None, **changed):
        added = [entry(path, content) for path, content in (files or {}).items()]
        fields = {"peer_id": self.id, "session_id": self.session_id, "request_id": new_request_id()}
        return pb2.PublishFilesRequest(**{**fields, "base_version": self.version, "added": added, **changed})

    async def publish(self, files=None, **changed):
        answer = await self.stub.PublishFiles(self.publish_request(files, **changed))
        self.version = answer.catalogue_version
        return answer

    def place_request(self, content, path="a.txt", replicas=1, request_id=""):
        details = pb2.PlaceFileDetails(content_id=content, path=path, replicas=replicas)
        return pb2.PlaceFileRequest(signed=self.signed(PLACE_FILE, details, request_id))

    async def place(self, content, **changed):
        return (await self.stub.PlaceFile(self.place_request(content, **changed))).placement

    def end_request(self, content, request_id=""):
        details = pb2.EndPlacementDetails(content_id=content)
        return pb2.EndPlacementRequest(signed=self.signed(END_PLACEMENT, details, request_id))

    async def end(self, content, **changed):
        return await self.stub.EndPlacement(self.end_request(content, **changed))

    async def neighbours(self):
        answer = await self.stub.GetNeighbours(pb2.GetNeighboursRequest(peer_id=self.id))
        return answer.neighbours.primary.peer_id, answer.neighbours.backup.peer_id


def entry(path, content=bytes(32), size=10, **changed):
    return FileEntry(path=path, content_id=content, size_bytes=size, **changed)


class Network:
    """A running central and its peers."""

    def __init__(self, data):
        self.data = data
        self.clock = Clock()
        # On a busy machine a short search takes its time. Only tests search for leases, as only they move the clock.
        self.settings = Settings(drain=10.0, longest_search=60.0, sweep_interval=3600.0)
        self.central = None
        self.channel = None
        self.stub = None
        self._stack = None
        self._count = 0

    async def start(self):
        self._stack = AsyncExitStack()
        clock = self.clock
        central = running_central(
            self.data,
            settings=self.settings,
            insecure=True,
            clock=clock.monotonic,
            wall=clock.wall,
            random=Random(5),
        )
        self.central = await self._stack.enter_async_context(central)
        self.channel = open_channel(self.central.address, CENTRAL_MESSAGE)
        self.stub = CentralDirectoryStub(self.channel)

    async def stop_central(self):
        await self._stack.aclose()

    async def stop(self):
        await self.channel.close()
        await self.stop_central()

    async def restart(self):
        await self.stop()
        await self.start()

    @property
    def directory(self):
        return self.central.directory

    def peer(self, name="", addresses=None, free_bytes=1 << 40, identity=None):
        self._count += 1
        addresses = [f"127.0.0.1:{self._count}"] if addresses is None else addresses
        return Peer(self, name or f"peer{self._count}", addresses, free_bytes, identity)

    async def logged_in(self, **fields):
        peer = self.peer(**fields)
        await peer.login()
        return peer

    async def pass_time(self, seconds):
        """Moves the clock and has leases searched for."""
        self.clock.advance(seconds)
        await self.directory.sweep()

    def state(self, peer):
        return self.directory.roster.leases.state(peer.session_id).name

    async def until(self, condition):
        """Waits for something inside central that no answer tells of."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - central has no reason to signal it
                await asyncio.sleep(0.002)

    async def until_suspect(self, peer):
        await self.until(lambda: self.state(peer) == "SUSPECT")


class Member(Peer):
    """A peer with a certificate, which speaks TLS on connections of its own."""

    def __init__(self, network, name, addresses, free_bytes, identity=None):
        super().__init__(network, name, addresses, free_bytes, identity)
        self.authorities = ()
        self.certificates = ()
        self.channel = None

    @property
    def stub(self):
        return CentralDirectoryStub(self.channel)

    def enroll_request(self, token, request_id="", **changed):
        fields = {"invitation_id": token.invitation_id, "secret": token.secret, "name": self.name}
        signed = self.signed(ENROLL, EnrollDetails(**{**fields, **changed}), request_id)
        return EnrollRequest(signed=signed, public_key=self.identity.public_key)

    def renew_request(self):
        return RenewRequest(signed=self.signed(RENEW, RenewResponse()), public_key=self.identity.public_key)

    async def enroll(self, token, **changed):
        self.authorities = (token.authority,)
        answer = await self.network.enrolment(self.authorities).Enroll(self.enroll_request(token, **changed))
        await self.take(answer.membership)
        return answer.membership

    async def renew(self):
        answer = await self.network.enrolment(self.authorities).Renew(self.renew_request())
        await self.take(answer.membership)
        return answer.membership

    async def take(self, membership, trusting=True):
        """Goes by this membership from now on, over a new connection; `trusting` also takes whom to trust."""
        self.certificates = tuple(membership.certificates)
        if trusting:
            self.authorities = tuple(membership.trust.authorities)
        self.channel = self.connect()

    def connect(self):
        material = Material(self.identity.pem(), to_pem(self.certificates), to_pem(self.authorities))
        return self.network.open(self.network.central.address, material)


class SecureNetwork(Network):
    """A running central over TLS, and members. The clock begins now, since handshakes go by the real one."""

    def __init__(self, data, **settings):
        super().__init__(data)
        self.clock = Clock(time.time() - 1_000.0)
        fast = {"enrolment_rate": 1e5, "enrolment_total_rate": 1e5, "sweep_interval": 3600.0}
        self.settings = Settings(**{"drain": 10.0, **fast, **settings})
        self._channels = []

    async def start(self):
        self._stack = AsyncExitStack()
        clock = self.clock
        central = running_central(
            self.data, settings=self.settings, clock=clock.monotonic, wall=clock.wall, random=Random(5)
        )
        self.central = await self._stack.enter_async_context(central)

    async def stop(self):
        for channel in self._channels:
            await channel.close()
        await self.stop_central()

    def open(self, address, material):
        channel = open_channel(address, CENTRAL_MESSAGE, material, central_name(self.central.network_id))
        self._channels.append(channel)
        return channel

    def enrolment(self, authorities):
        """Returns a stub on a new connection that shows no certificate and trusts these authorities only."""
        return EnrolmentStub(self.open(self.enrolment_address, Material(b"", b"", to_pem(authorities))))

    @property
    def enrolment_address(self):
        return f"127.0.0.1:{self.central.enrolment_port}"

    def stranger(self, name="", addresses=None, free_bytes=1 << 40, identity=None):
        self._count += 1
        addresses = [f"192.0.2.1:{self._count}"] if addresses is None else addresses
        return Member(self, name or f"peer{self._count}", addresses, free_bytes, identity)

    async def member(self, **fields):
        peer = self.stranger(**fields)
        await peer.enroll(await self.central.invite())
        return peer

    async def logged_in(self, **fields):
        peer = await self.member(**fields)
        await peer.login()
        return peer

    async def look(self):
        """Has central take up what the command line changed, as it does after every sweep interval."""
        await _look(self.central.network, self.directory)

    def beside(self, work):
        """Does something with the network as the command line does, while central serves."""
        with closing(Enrolment.open(self.data)) as enrolment:
            return work(enrolment)


@pytest.fixture
async def secure_network(tmp_path):
    """Returns a function: given settings, starts a central over TLS, and returns its network."""
    async with AsyncExitStack() as stack:

        async def start(**settings):
            network = SecureNetwork(tmp_path / "data", **settings)
            await network.start()
            stack.push_async_callback(network.stop)
            return network

        yield start


@pytest.fixture
async def secure(secure_network):
    return await secure_network()


@pytest.fixture
async def network(tmp_path):
    network = Network(tmp_path / "data")
    await network.start()
    try:
        yield network
    finally:
        await network.stop()
