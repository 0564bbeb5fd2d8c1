"""Fixtures for the peer's tests. Each helper's names begin with what they are about."""

import asyncio
import os
import time

import pytest

from core.access import ENROLMENT
from core.certificates import Authority, Kind, Subject, central_name, to_pem
from core.errors import NotEnrolled, Refused, Revoked
from core.identity import Identity
from core.rpc import CENTRAL_MESSAGE, Server
from core.signing import check_signed
from core.tls import Material, server_credentials
from core.tokens import JoinToken
from core.trust import Trust
from peer.library import Library, LibrarySettings
from peer.library.hashing import Hasher, hash_part
from peer.membership.membership import Membership
from relevo.v1 import enrolment_pb2
from relevo.v1.enrolment_pb2_grpc import EnrolmentServicer, add_EnrolmentServicer_to_server


class LibraryBench:
    """A shared directory, a home, and libraries on them that are closed at the end."""

    def __init__(self, base):
        self.base = base
        self.shared = base / "shared"
        self.home = base / "home"
        self.shared.mkdir()
        self.home.mkdir()
        self.hashed = []
        self.clock = time.monotonic
        self._open = []

    def count_part(self, root, disk, stamp, first, last):
        self.hashed.append(disk)
        return hash_part(root, disk, stamp, first, last)

    async def open(self, scanned=True, **settings):
        times = {"rest": 0.05, "tick": 0.1} | settings
        library = Library(
            self.shared,
            self.home,
            lambda: self.clock(),  # noqa: PLW0108 - a test may move it
            settings=LibrarySettings(**times),
            hasher=Hasher(2, part=self.count_part),
        )
        self._open.append(library)
        await library.start()
        if scanned:
            await asyncio.wait_for(library.wait_scanned(), 20)
        return library

    async def close(self, library):
        self._open.remove(library)
        await library.close()

    async def close_all(self):
        for library in list(self._open):
            await self.close(library)

    def write(self, name, data, root=None):
        path = (root or self.shared) / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def until(self, library, condition, timeout=20):
        """Waits for a condition on the library, asked after each of its changes."""
        async with asyncio.timeout(timeout):
            while not condition():
                await library.changed()

    async def until_skipped(self, library, path, timeout=20):
        """Skips are no news for the publisher, so a change that is comes after them."""
        async with asyncio.timeout(timeout):
            while path not in library.skipped:
                await library.rescan()


@pytest.fixture
async def library_bench(tmp_path):
    bench = LibraryBench(tmp_path)
    yield bench
    await bench.close_all()


class EnrolmentBench(EnrolmentServicer):
    """A network's authority, and an Enrolment that answers as the proto says and as a test scripts it."""

    def __init__(self):
        self.wall = time.time
        self.life = 86_400.0
        self.authority = Authority.create(self.wall(), 1e8)
        self.vouchers = ()
        self.members = set()
        self.invitations = {b"invitati": b"a secret of 16 b"}
        self.trust = Trust(1, (self.authority.certificate,))
        self.error = None
        self.asked = []
        self.port = 0
        self._servers = []

    async def open(self, port=0):
        server = Server(
            CENTRAL_MESSAGE,
            way_in=ENROLMENT,
            credentials=server_credentials(self.material, mutual=False),
            inspectable=False,
        )
        add_EnrolmentServicer_to_server(self, server.server)
        self.port = server.listen(f"127.0.0.1:{port}")
        await server.start()
        self._servers.append(server)

    async def close(self):
        for server in self._servers:
            await server.stop(0)

    @property
    def network_id(self):
        return self.authority.network_id

    def material(self):
        """What central shows: its certificate, and those by which older authorities vouch for the one that made it."""
        key = Identity.generate()
        own = self.authority.issue(Subject(Kind.CENTRAL, self.network_id), key.public_key, time.time(), self.life)
        return Material(key.pem(), to_pem((own, *self.vouchers)), to_pem(self.trust.authorities))

    @property
    def central_name(self):
        return central_name(self.network_id)

    def token(self, *addresses, **changes):
        fields = {
            "addresses": addresses or ("127.0.0.1:1",),
            "enrolment_port": self.port,
            "invitation_id": b"invitati",
            "secret": b"a secret of 16 b",
            "authority": self.authority.certificate,
        }
        return JoinToken(**{**fields, **changes})

    def rotate(self):
        """A new authority issues from now on."""
        before = self.authority
        self.authority = Authority.create(self.wall(), 1e8, before)
        self.vouchers = (before.vouch_for(self.authority, self.wall(), 1e8), *self.vouchers)
        authorities = (self.authority.certificate, before.certificate)
        self.trust = Trust(self.trust.version + 1, authorities, self.trust.revoked)

    def revoke(self, peer_id):
        self.trust = Trust(self.trust.version + 1, self.trust.authorities, self.trust.revoked | {peer_id})

    def membership(self, identity, *, now=None, life=None):
        """A membership of this network, as central would give it at `now`."""
        self.members.add(identity.peer_id)
        message = self._message(identity.peer_id, identity.public_key, now or self.wall(), life or self.life)
        return Membership.from_message(message, identity.peer_id)

    def _message(self, peer_id, public_key, now, life):
        own = self.authority.issue(Subject(Kind.PEER, peer_id), public_key, now, life)
        return enrolment_pb2.Membership(
            network_id=self.network_id,
            certificates=(own, *self.vouchers),
            trust=self.trust.to_message(),
            enrolment_port=self.port or 1,
        )

    def _begin(self, method, request):
        self.asked.append(method)
        if self.error:
            raise self.error
        check_signed(request.signed, request.public_key, f"/relevo.v1.Enrolment/{method}", self.wall())
        if request.signed.author in self.trust.revoked:
            raise Revoked("revoked")
        return request.signed.author

    async def Enroll(self, request, context):
        peer_id = self._begin("Enroll", request)
        details = enrolment_pb2.EnrollDetails.FromString(request.signed.payload)
        if self.invitations.get(details.invitation_id) != details.secret:
            raise Refused("no")
        self.members.add(peer_id)
        membership = self._message(peer_id, request.public_key, self.wall(), self.life)
        return enrolment_pb2.EnrollResponse(membership=membership)

    async def Renew(self, request, context):
        peer_id = self._begin("Renew", request)
        if peer_id not in self.members:
            raise NotEnrolled("no member")
        membership = self._message(peer_id, request.public_key, self.wall(), self.life)
        return enrolment_pb2.RenewResponse(membership=membership)


@pytest.fixture
async def enrolment_bench():
    bench = EnrolmentBench()
    await bench.open()
    yield bench
    await bench.close()


@pytest.fixture
async def other_enrolment_bench():
    """Another network."""
    bench = EnrolmentBench()
    await bench.open()
    yield bench
    await bench.close()
