"""Hostile names through every field that carries text: refused or looked up in vain, and nothing outside is touched.

Which fields there are is read from the descriptors, so that a new one without a row here fails. Each field is given one
name in twelve, the next field others; RELEVO_ATTACKS=full (`make attacks`) gives each of them every name.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from itertools import count
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor

from central.server import running_central
from central.settings import Settings
from core.certificates import central_name, to_pem
from core.content import digest
from core.errors import InvalidInput
from core.identity import Identity
from core.names import check_peer_name, path_problem
from core.rpc import CENTRAL_MESSAGE, open_channel
from core.signing import new_request_id, sign_request
from core.tls import Material
from peer.daemon import running_peer
from peer.settings import ServeSettings, control_address
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import content_pb2, enrolment_pb2, peer_control_pb2, peer_relay_pb2


def corpus(name):
    lines = (Path(__file__).parent / "data" / name).read_text("ascii").splitlines()
    return [json.loads(line) for line in lines if line and not line.startswith("#")]


REFUSED = corpus("hostile_names.txt")
# They look dangerous, are for some systems, and travel: full-width dots, `CON`, `a:b`, `%2e%2e`, overrides.
ODD = corpus("allowed_names.txt")
# On the wire only: overlong forms, surrogates, and other bytes that are no UTF-8.
NO_UTF8 = [
    b"\xc0\xae\xc0\xae/etc/passwd", b"..\xc0\xafetc", b"\xe0\x80\xae\xe0\x80\xae/x", b"\xf0\x80\x80\xae", b"a\xc0\x80b",
    b"\xed\xa0\x80", b"\xed\xb0\x80.txt", b"\xff\xfe", b"\x80", b"a\xf5\x80\x80\x80", b"\xc3", b"docs/\xe7\xa9",
]  # fmt: skip


def on_the_wire(name):
    """Returns the bytes of a name; bytes that are no UTF-8 as they were, long enough to be found again."""
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = name.encode("utf-8", "surrogatepass")
    return encoded if is_utf8(encoded) else b"docs/" + encoded


def is_utf8(value):
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


EVERY = 1 if os.environ.get("RELEVO_ATTACKS") == "full" else 12
NAMES = list(dict.fromkeys([*map(on_the_wire, REFUSED + ODD), *(b"docs/" + name for name in NO_UTF8)]))
FILES = (central_pb2, peer_relay_pb2, enrolment_pb2, peer_control_pb2)
METHODS = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# What the bytes of a signed request are.
PAYLOADS = {
    "CentralDirectory.Login": central_pb2.LoginDetails,
    "CentralDirectory.PlaceFile": central_pb2.PlaceFileDetails,
    "CentralDirectory.EndPlacement": central_pb2.EndPlacementDetails,
    "PeerRelay.PlaceFile": central_pb2.PlaceFileDetails,
    "PeerRelay.EndPlacement": central_pb2.EndPlacementDetails,
    "CentralDirectory.Carry": None,
    "PeerRelay.Carry": None,
    "Enrolment.Enroll": enrolment_pb2.EnrollDetails,
    "Enrolment.Renew": None,  # nothing
}

# What core.names refuses is an invalid argument.
PATH = "path"
# Every hostile name is an invalid argument.
ADDRESS = "address"
# A peer's name: what check_peer_name refuses is an invalid argument; the rest is only ever shown.
NAME = "name"
# An identifier: nothing of the kind is there.
ID = "id"
# Looked up: it may well be valid, and finds nothing.
TEXT = "text"
# A place that the local user names over the control socket: nothing is there.
LOCAL = "local"
FIELDS = {
    "CentralDirectory.Login": {
        "signed.author": ID, "signed.request_id": ID, "signed.method": ID, "details.name": NAME,
        "details.addresses": ADDRESS,
    },
    "CentralDirectory.Logout": {"peer_id": ID, "session_id": ID, "request_id": ID},
    "CentralDirectory.GetNeighbours": {"peer_id": ID},
    "CentralDirectory.ListPeers": {"page_token": TEXT},
    "CentralDirectory.Heartbeat": {"peer_id": ID, "session_id": ID},
    "CentralDirectory.PublishFiles": {
        "peer_id": ID, "session_id": ID, "request_id": ID, "added.path": PATH, "removed_paths": PATH,
        "declined.placement_id": ID, "declined.reason": TEXT,
    },
    "CentralDirectory.ListFiles": {"query": TEXT, "reference": TEXT, "directory": PATH, "page_token": TEXT},
    "CentralDirectory.LocateFile": {"page_token": TEXT},
    "CentralDirectory.PlaceFile": {
        "signed.author": ID, "signed.request_id": ID, "signed.method": ID, "details.path": PATH,
    },
    "CentralDirectory.EndPlacement": {"signed.author": ID, "signed.request_id": ID, "signed.method": ID},
    "CentralDirectory.GetPlacement": {"placement_id": ID},
    "CentralDirectory.ReportHolder": {"peer_id": ID, "session_id": ID, "holder_peer_id": ID},
    "CentralDirectory.ReportProbe": {"suspect_peer_id": ID},
    "CentralDirectory.Beat": {"beat.peer_id": ID, "beat.session_id": ID},
    # Whatever is wrong stands in the answer, which is signed.
    "CentralDirectory.Carry": {
        "signed.author": TEXT, "signed.request_id": TEXT, "signed.method": TEXT, "observed_address": TEXT,
    },
    "PeerRelay.Carry": {
        "request.signed.author": TEXT, "request.signed.request_id": TEXT, "request.signed.method": TEXT,
        "request.observed_address": TEXT,
    },
    "PeerRelay.ListFiles": {
        "request.query": TEXT, "request.reference": TEXT, "request.directory": PATH, "request.page_token": TEXT,
    },
    "PeerRelay.LocateFile": {"request.page_token": TEXT},
    "PeerRelay.PlaceFile": {
        "request.signed.author": ID, "request.signed.request_id": ID, "request.signed.method": ID,
        "details.path": PATH,
    },
    "PeerRelay.EndPlacement": {
        "request.signed.author": ID, "request.signed.request_id": ID, "request.signed.method": ID,
    },
    "PeerRelay.GetNeighbours": {"request.peer_id": ID},
    "PeerRelay.GetManifest": {"holder_peer_id": ID},
    "PeerRelay.GetBlock": {"holder_peer_id": ID},
    "PeerRelay.GetContents": {"holder_peer_id": ID},
    "PeerRelay.DialBack": {"addresses": ADDRESS},
    "PeerRelay.Attach": {"peer_id": ID, "invitation": TEXT},
    "PeerRelay.Deliver": {"peer_id": ID, "failure.message": TEXT},
    "PeerRelay.Invite": {
        "holder_peer_id": ID, "invitation.host.peer_id": ID, "invitation.host.name": NAME,
        "invitation.host.addresses": ADDRESS, "invitation.invitation": ID,
    },
    "Enrolment.Enroll": {
        "signed.author": ID, "signed.request_id": ID, "signed.method": ID, "details.name": NAME,
    },
    "Enrolment.Renew": {"signed.author": ID, "signed.request_id": ID, "signed.method": ID},
    "PeerControl.ListFiles": {
        "request.query": TEXT, "request.reference": TEXT, "request.directory": PATH, "request.page_token": TEXT,
    },
    "PeerControl.ListPeers": {"request.page_token": TEXT},
    "PeerControl.StartDownload": {"file.path": PATH, "directory": LOCAL, "options.limit_group": TEXT},
    "PeerControl.StartSetDownload": {
        "selections.beneath": PATH, "selections.pattern": TEXT, "directory": LOCAL, "options.limit_group": TEXT,
    },
    "PeerControl.StartUpload": {"source": LOCAL},
    "PeerControl.ListTransfers": {"page_token": TEXT},
    "PeerControl.GetTransfer": {"transfer_id": ID},
    "PeerControl.CancelTransfer": {"transfer_id": ID},
    "PeerControl.PauseTransfer": {"transfer_id": ID},
    "PeerControl.ResumeTransfer": {"transfer_id": ID},
    "PeerControl.SetTransferPriority": {"transfer_id": ID},
    "PeerControl.GetPlacement": {"request.placement_id": ID},
}  # fmt: skip
ROWS = [(method, field) for method, fields in FIELDS.items() for field in fields]
INVALID, OK = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK
IN_VAIN = {
    INVALID,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
# The field is right as it is, and something else in the request decides.
IN_TIME = {OK, grpc.StatusCode.ABORTED, *IN_VAIN} - {INVALID}


def texts(message, prefix=""):
    """Gives the dotted paths of all text fields of a message; no message here holds itself."""
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield prefix + field.name
        elif field.message_type is not None:
            yield from texts(field.message_type, f"{prefix}{field.name}.")


def test_every_text_field_of_every_request_is_driven():
    there = set()
    for name, method in METHODS.items():
        there |= {(name, field) for field in texts(method.input_type)}
        if any(field.endswith("signed.author") for field in texts(method.input_type)):
            payload = PAYLOADS[name]
            there |= {(name, f"details.{field}") for field in (texts(payload.DESCRIPTOR) if payload else ())}
    assert there == set(ROWS)


def test_there_are_names_enough_of_every_kind():
    assert len(NAMES) >= 300
    kinds = Counter()
    for name in NAMES:
        kinds["climbs"] += b".." in name
        kinds["absolute"] += name.startswith(b"/")
        kinds["backslash"] += b"\\" in name
        kinds["NUL"] += b"\0" in name
        kinds["escape"] += b"\x1b" in name
        kinds["percent"] += b"%2e" in name.lower()
        kinds["long"] += len(name) > 255
        kinds["full width"] += "\uff0e".encode() in name
        kinds["override"] += "\u202e".encode() in name
        kinds["drive"] += b":" in name
        kinds["very deep"] += name.count(b"/") > 100
        try:
            name.decode()
        except UnicodeDecodeError:
            kinds["no UTF-8"] += 1
    assert min(kinds.values()) >= 2, kinds
    assert len(kinds) == 12


def hashed(directory, left_out):
    """Returns what stands beneath a directory, but for what changes by itself."""
    names = {str(path.relative_to(directory)): path for path in sorted(directory.rglob("*"))}
    return {
        name: (path.lstat().st_mode, path.lstat().st_mtime_ns)
        + ((hashlib.sha256(path.read_bytes()).hexdigest(),) if path.is_file() else ())
        for name, path in names.items()
        if not name.startswith(left_out)
    }


class Victims:
    """A central in plaintext with a peer, and a central over TLS that lets strangers ask to join."""

    def __init__(self, base):
        self.base = base
        self.identity = Identity.generate()
        self.session_id = self.placement_id = ""
        self.port = count(20_000)

    async def start(self, stack):
        enter = stack.enter_async_context
        fast = Settings(enrolment_rate=1e6, enrolment_total_rate=1e6, beat_interval=60.0)
        self.central = await enter(running_central(self.base / "central", settings=fast, insecure=True))
        self.secure = await enter(running_central(self.base / "secure", settings=fast))
        self.token = await self.secure.invite()
        shared, home = self.base / "root" / "shared", self.base / "root" / "home"
        shared.mkdir(parents=True)
        (shared / "song.txt").write_bytes(b"la la")
        chosen = {"centrals": (self.central.address,), "name": "ana", "listen": "127.0.0.1:0", "insecure": True}
        self.peer = await enter(running_peer(ServeSettings(home=home, shared=shared, **chosen)))
        await self.peer.session.wait_live()
        await self.peer.library.wait_scanned()
        authority = Material(b"", b"", to_pem((self.token.authority,)))
        port = self.secure.enrolment_port
        self.channels = {
            "CentralDirectory": open_channel(self.central.address, CENTRAL_MESSAGE),
            "PeerRelay": open_channel(f"127.0.0.1:{self.peer.server.port}", CENTRAL_MESSAGE),
            "PeerControl": open_channel(control_address(home), CENTRAL_MESSAGE),
            "Enrolment": open_channel(
                f"127.0.0.1:{port}", CENTRAL_MESSAGE, authority, central_name(self.secure.network_id)
            ),
        }
        for channel in self.channels.values():
            stack.push_async_callback(channel.close)
        await self.log_in()

    async def log_in(self):
        """Begins a session: without a live one, nobody looks at what a peer publishes."""
        answer = await self.raw("CentralDirectory.Login", self.request("CentralDirectory.Login").SerializeToString())
        self.session_id = central_pb2.LoginResponse.FromString(answer).session_id

    def signed(self, name, payload, **changed):
        method = f"/relevo.v1.{name.replace('PeerRelay', 'CentralDirectory').replace('.', '/')}"
        return sign_request(self.identity, changed.get("method", method), payload, time.time())

    def details(self, name):
        kind = PAYLOADS[name]
        if kind is central_pb2.LoginDetails:
            return kind(name="ana", addresses=["127.0.0.1:4321"], min_protocol_version=1, max_protocol_version=1)
        if kind is central_pb2.PlaceFileDetails:
            return kind(content_id=digest(b"x"), path="x", replicas=1)
        if kind is central_pb2.EndPlacementDetails:
            return kind(content_id=digest(b"x"))
        if kind is enrolment_pb2.EnrollDetails:
            return kind(invitation_id=self.token.invitation_id, secret=bytes(len(self.token.secret)), name="ana")
        return None

    def request(self, name, payload=None):
        """Returns a request in which every field is right, for this peer in its session."""
        method = METHODS[name]
        request = getattr(FILES[[file.DESCRIPTOR for file in FILES].index(method.containing_service.file)],
                          method.input_type.name)()  # fmt: skip
        inner = request.request if "request" in method.input_type.fields_by_name else request
        for field, value in {
            "peer_id": self.identity.peer_id,
            "session_id": self.session_id,
            "request_id": new_request_id(),
            "sequence": 1,
            "content_id": digest(b"x"),
            "holder_peer_id": self.peer.identity.peer_id,
            "suspect_peer_id": self.identity.peer_id,
            "nonce": bytes(32),
            "fault": central_pb2.HOLDER_FAULT_LACKS_CONTENT,
            "public_key": self.identity.public_key,
            "placement_id": new_request_id(),
            "transfer_id": "0" * 16,
            "directory": str(self.base / "root" / "to"),
        }.items():
            if field in inner.DESCRIPTOR.fields_by_name and not name.endswith("ListFiles"):
                setattr(inner, field, value)
        if "signed" in inner.DESCRIPTOR.fields_by_name:
            if payload is None:
                details = self.details(name)
                payload = details.SerializeToString() if details else b""
            inner.signed.CopyFrom(self.signed(name, payload))
        if name == "PeerControl.StartDownload":
            request.file.CopyFrom(content_pb2.FileEntry(path="x", content_id=digest(b"nobody has it"), size_bytes=1))
        if name == "PeerControl.StartSetDownload":
            request.selections.add(beneath="x")
            request.directory = str(self.base / "root" / "set")
        if name == "PeerRelay.Deliver":
            request.failure.message = "it is gone"
        if name == "PeerRelay.Invite":
            host = content_pb2.PeerInfo(peer_id=self.identity.peer_id, name="ana", addresses=["127.0.0.1:4321"])
            request.invitation.CopyFrom(peer_relay_pb2.Invitation(host=host, invitation=new_request_id()))
        if name == "CentralDirectory.PublishFiles":
            request.base_version = 1 << 40  # never the right one, so that nothing is changed
            request.added.add(path="x", content_id=digest(b"x"), size_bytes=1)
            request.removed_paths.append("y")
            request.declined.add(placement_id=new_request_id(), reason="no room")
        return request

    def hostile(self, name, field, value):
        """Returns the bytes of a request that is right but for one field."""
        if field.startswith("details."):
            payload = replaced(self.details(name), field.removeprefix("details."), value)
            return self.request(name, payload).SerializeToString()
        if field.endswith("signed.method") and is_utf8(value):  # signed as it is sent
            request = self.request(name)
            inner = request.request if "request" in request.DESCRIPTOR.fields_by_name else request
            inner.signed.CopyFrom(self.signed(name, inner.signed.payload, method=value.decode()))
            return request.SerializeToString()
        return replaced(self.request(name), field, value)

    def outside(self):
        """Returns everything on disk that is not the peer's own or a central's."""
        own = ("root/home", "root/shared", "root/to", "root/set", "central", "secure")
        return hashed(self.base, own)

    async def raw(self, name, request):
        channel = self.channels[name.partition(".")[0]]
        path = f"/relevo.v1.{name.replace('.', '/')}"
        if METHODS[name].client_streaming:
            call = channel.stream_stream(path)(iter([request]), timeout=10)
            return await call.read()
        return await channel.unary_unary(path)(request, timeout=10)

    async def code(self, name, request):
        try:
            await self.raw(name, request)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return OK


def replaced(message, field, value):
    """Returns the bytes of a message with a text field set to bytes that may not be UTF-8."""
    *above, last = field.split(".")
    inner = message
    for part in above:
        inner = getattr(inner, part)
        if not hasattr(inner, "DESCRIPTOR"):  # repeated
            inner = inner[0]
    stand_in = value.decode() if is_utf8(value) else "Q" * len(value)
    if inner.DESCRIPTOR.fields_by_name[last].is_repeated:
        del getattr(inner, last)[:]
        getattr(inner, last).append(stand_in)
    else:
        setattr(inner, last, stand_in)
    data = message.SerializeToString()
    if is_utf8(value):
        return data
    assert data.count(stand_in.encode()) == 1
    return data.replace(stand_in.encode(), value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def victims(tmp_path_factory):
    base = tmp_path_factory.mktemp("hostile")
    (base / "canary").mkdir()
    (base / "canary" / "secret").write_bytes(b"outside")
    (base / "root" / "to").mkdir(parents=True)
    (base / "root" / "set").mkdir()
    (base / "root" / "beside").write_bytes(b"beside the library")
    async with contextlib.AsyncExitStack() as stack:
        found = Victims(base)
        await found.start(stack)
        yield found


def wanted(kind, value):
    """Returns the codes that a field may answer to a hostile value."""
    if not is_utf8(value) or kind == ADDRESS:
        return {INVALID}
    if kind == PATH:
        return {INVALID} if path_problem(value.decode()) else IN_TIME
    if kind == NAME:
        return {INVALID} if name_problem(value.decode()) else IN_TIME
    return IN_VAIN if kind == ID else IN_VAIN | IN_TIME


def batched(items, size):
    return [items[first : first + size] for first in range(0, len(items), size)]


def name_problem(name):
    try:
        check_peer_name(name)
    except InvalidInput as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("method", "field"), ROWS, ids=[f"{method}:{field}" for method, field in ROWS])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_hostile_name_does_nothing(victims, method, field):
    kind = FIELDS[method][field]
    # What stands at an absolute path is what the user of this machine names.
    names = [name for name in NAMES if kind != LOCAL or not name.startswith(b"/")]
    assert len(names) >= 300
    names = names[ROWS.index((method, field)) % EVERY :: EVERY]
    await victims.log_in()
    before = victims.outside()
    for some in batched(names, 16):
        codes = await asyncio.gather(*(victims.code(method, victims.hostile(method, field, name)) for name in some))
        wrong = [(name, code) for name, code in zip(some, codes, strict=True) if code not in wanted(kind, name)]
        assert wrong == []
    await asyncio.gather(*(transfer.ended for transfer in victims.peer.transfers.running()))
    assert victims.outside() == before
    assert {path.name for path in (victims.base / "root" / "shared").iterdir()} == {"song.txt"}
    assert not list((victims.base / "root" / "to").iterdir())
