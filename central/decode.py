"""From messages to what the use cases take: every documented rule of a request is checked here."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from central import fields
from central.store.store import Batch, Entry, FileQuery, Order
from core import checks
from core.errors import InvalidInput, Unauthenticated
from core.identity import peer_id_of
from core.names import check_path, check_peer_name, normal
from core.pages import decode_token, encode_token, page_size
from core.signing import check_signed
from core.tokens import INVITATION_BYTES, SECRET_BYTES
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.content_pb2 import FileEntry, SignedRequest
from relevo.v1.enrolment_pb2 import EnrollDetails, EnrollRequest, RenewRequest

LOGIN = "/relevo.v1.CentralDirectory/Login"
ENROLL = "/relevo.v1.Enrolment/Enroll"
RENEW = "/relevo.v1.Enrolment/Renew"
PLACE_FILE = "/relevo.v1.CentralDirectory/PlaceFile"
END_PLACEMENT = "/relevo.v1.CentralDirectory/EndPlacement"
MAX_REPLICAS = 32
_MAX_KEY = 256
_MAX_SIGNATURE = 72
_MAX_NONCE = 64
_ORDERS = {
    pb2.FILE_ORDER_UNSPECIFIED: Order.NEWEST_FIRST,
    pb2.FILE_ORDER_NEWEST_FIRST: Order.NEWEST_FIRST,
    pb2.FILE_ORDER_BY_NAME: Order.BY_NAME,
}
Key = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a mutation directly: a peer by its session, and the id that makes the request repeatable."""

    peer_id: str
    session_id: str = field(repr=False)
    request_id: str


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A peer that has proved its key and wants a session. `observed` is the address that central saw, or empty."""

    peer_id: str
    public_key: bytes
    request_id: str
    name: str
    addresses: tuple[str, ...]
    free_bytes: int
    min_version: int
    max_version: int
    observed: str


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who has proved its key and shows an invitation."""

    peer_id: str
    public_key: bytes
    name: str
    invitation_id: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """What an author wants stored, and on how many peers beside its own."""

    author: str
    request_id: str
    content_id: bytes
    path: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Farewell:
    """Which content an author wants no copies of any more."""

    author: str
    request_id: str
    content_id: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A peer says that a holder did not give what central named it for."""

    peer_id: str
    session_id: str = field(repr=False)
    holder: str


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat of a heartbeat stream; `trust_version` is what the peer goes by, `fetching` has content ids."""

    peer_id: str
    session_id: str = field(repr=False)
    sequence: int
    free_bytes: int
    trust_version: int
    fetching: tuple[bytes, ...] = ()


def newcomer(request: pb2.LoginRequest, observed: str, now: float) -> Newcomer:
    """Returns who logs in; the signature is checked at `now`, in seconds since 1970."""
    signed = _by_own_key(request.signed, request.public_key, LOGIN, now)
    details = pb2.LoginDetails()
    fields.message(signed.payload, details, "signed.payload")
    if details.min_protocol_version < 1:
        raise InvalidInput("min_protocol_version", "the lowest protocol version is 1")
    if details.max_protocol_version < details.min_protocol_version:
        raise InvalidInput("max_protocol_version", "it is lower than min_protocol_version")
    return Newcomer(
        peer_id=signed.author,
        public_key=request.public_key,
        request_id=signed.request_id,
        name=check_peer_name(details.name),
        addresses=fields.addresses(details.addresses, "addresses", observed),
        free_bytes=fields.free_bytes(details.free_bytes),
        min_version=details.min_protocol_version,
        max_version=details.max_protocol_version,
        observed=observed,
    )


def applicant(request: EnrollRequest, now: float) -> Applicant:
    """Returns who wants to become a member; the signature is checked at `now`, in seconds since 1970."""
    signed = _by_own_key(request.signed, request.public_key, ENROLL, now)
    details = EnrollDetails()
    fields.message(signed.payload, details, "signed.payload")
    if len(details.invitation_id) != INVITATION_BYTES:
        raise InvalidInput("invitation_id", f"it is not {INVITATION_BYTES} bytes")
    if len(details.secret) != SECRET_BYTES:
        raise InvalidInput("secret", f"it is not {SECRET_BYTES} bytes")
    return Applicant(
        peer_id=signed.author,
        public_key=request.public_key,
        name=check_peer_name(details.name),
        invitation_id=details.invitation_id,
        secret=details.secret,
    )


def renewal(request: RenewRequest, now: float) -> str:
    """Returns who wants a fresh certificate; the signature is checked at `now`, in seconds since 1970."""
    return _by_own_key(request.signed, request.public_key, RENEW, now).author


def _by_own_key(signed: SignedRequest, public_key: bytes, method: str, now: float) -> SignedRequest:
    """Returns a request that the holder of a key has signed, who is named after that key."""
    envelope(signed)
    if not 0 < len(public_key) <= _MAX_KEY:
        raise InvalidInput("public_key", "it is not a DER SubjectPublicKeyInfo of an ECDSA P-256 key")
    if peer_id_of(public_key) != signed.author:
        raise Unauthenticated("the author's peer id is not that of the public key")
    check_signed(signed, public_key, method, now)
    return signed


def envelope(signed: SignedRequest) -> SignedRequest:
    """Returns a signed request whose fields have the right form; its signature is not checked here."""
    checks.peer_id(signed.author, "signed.author")
    checks.hex_id(signed.request_id, "signed.request_id")
    fields.time(signed.create_time, "signed.create_time")
    if not 0 < len(signed.signature) <= _MAX_SIGNATURE:
        raise InvalidInput("signed.signature", f"a signature has 1 to {_MAX_SIGNATURE} bytes")
    return signed


def wish(signed: SignedRequest, public_key: bytes, now: float) -> Wish:
    """Returns what an author wants stored; the signature is checked at `now`, in seconds since 1970."""
    check_signed(signed, public_key, PLACE_FILE, now)
    details = pb2.PlaceFileDetails()
    fields.message(signed.payload, details, "signed.payload")
    if not 1 <= details.replicas <= MAX_REPLICAS:
        raise InvalidInput("replicas", f"wanted copies are 1 to {MAX_REPLICAS}")
    content_id = fields.content_id(details.content_id)
    return Wish(signed.author, signed.request_id, content_id, check_path(details.path), details.replicas)


def farewell(signed: SignedRequest, public_key: bytes, now: float) -> Farewell:
    """Returns what an author gives up; the signature is checked at `now`, in seconds since 1970."""
    check_signed(signed, public_key, END_PLACEMENT, now)
    details = pb2.EndPlacementDetails()
    fields.message(signed.payload, details, "signed.payload")
    return Farewell(signed.author, signed.request_id, fields.content_id(details.content_id))


def caller(request: pb2.LogoutRequest | pb2.PublishFilesRequest) -> Caller:
    """Returns who makes a mutation."""
    return Caller(
        checks.peer_id(request.peer_id),
        checks.hex_id(request.session_id, "session_id"),
        checks.hex_id(request.request_id, "request_id"),
    )


def beat(request: pb2.HeartbeatRequest) -> Beat:
    """Returns one beat."""
    if request.sequence < 1:
        raise InvalidInput("sequence", "beats are counted from 1")
    fields.at_most(len(request.fetching_content_ids), fields.MAX_FETCHING, "fetching_content_ids")
    return Beat(
        checks.peer_id(request.peer_id),
        checks.hex_id(request.session_id, "session_id"),
        request.sequence,
        fields.free_bytes(request.free_bytes),
        request.trust_version,
        tuple(fields.content_id(one, "fetching_content_ids") for one in request.fetching_content_ids),
    )


def single_beat(request: pb2.BeatRequest) -> tuple[Beat, bytes]:
    """Returns one beat that came without a stream, and the nonce that it has."""
    if len(request.nonce) > _MAX_NONCE:
        raise InvalidInput("nonce", f"it is longer than {_MAX_NONCE} bytes")
    return beat(request.beat), request.nonce


def carried(request: pb2.CarryRequest, now: float) -> SignedRequest:
    """Returns what somebody else has carried here for its author, signed for the method that it names."""
    return _by_own_key(request.signed, request.public_key, request.signed.method, now)


def report(request: pb2.ReportHolderRequest) -> Report:
    """Returns one accusation."""
    fields.content_id(request.content_id)
    if request.fault not in {pb2.HOLDER_FAULT_LACKS_CONTENT, pb2.HOLDER_FAULT_WRONG_BYTES}:
        raise InvalidInput("fault", "say what the holder did")
    return Report(
        checks.peer_id(request.peer_id),
        checks.hex_id(request.session_id, "session_id"),
        checks.peer_id(request.holder_peer_id, "holder_peer_id"),
    )


def batch(request: pb2.PublishFilesRequest) -> Batch:
    """Returns the changes of a published library."""
    fields.at_most(len(request.added) + len(request.removed_paths), fields.MAX_BATCH, "added")
    for name in ("stored_content_ids", "dropped_content_ids", "declined"):
        fields.at_most(len(getattr(request, name)), fields.MAX_BATCH, name)
    added = tuple(_entry(entry, f"added[{index}]") for index, entry in enumerate(request.added))
    removed = tuple(check_path(path, f"removed_paths[{index}]") for index, path in enumerate(request.removed_paths))
    fields.distinct((*(entry.path for entry in added), *removed), "added")
    stored = _content_ids(request.stored_content_ids, "stored_content_ids")
    dropped = _content_ids(request.dropped_content_ids, "dropped_content_ids")
    fields.distinct((*stored, *dropped), "stored_content_ids")
    declined = {}
    for index, copy in enumerate(request.declined):
        declined[checks.hex_id(copy.placement_id, f"declined[{index}].placement_id")] = copy.reason
        if len(copy.reason) > fields.MAX_REASON:
            raise InvalidInput(f"declined[{index}].reason", f"it is longer than {fields.MAX_REASON} characters")
    return Batch(fields.version(request.base_version, "base_version"), added, removed, stored, dropped, declined)


def _entry(entry: FileEntry, field: str) -> Entry:
    return Entry(
        check_path(entry.path, f"{field}.path"),
        fields.content_id(entry.content_id, f"{field}.content_id"),
        fields.size(entry.size_bytes, f"{field}.size_bytes"),
        fields.time(entry.modify_time, f"{field}.modify_time"),
        entry.executable,
    )


def _content_ids(values: Iterable[bytes], field: str) -> tuple[bytes, ...]:
    return tuple(fields.content_id(value, f"{field}[{index}]") for index, value in enumerate(values))


def file_query(request: pb2.ListFilesRequest) -> FileQuery:
    """Returns what to list: filter, order, and where to go on."""
    order = _ORDERS.get(request.order)
    if order is None:
        raise InvalidInput("order", f"there is no order {request.order}")
    if request.WhichOneof("filter") == "reference" and not request.reference:
        raise InvalidInput("reference", "it is empty; say which file is meant")
    return FileQuery(
        text=fields.text(request.query, "query", fields.MAX_QUERY),
        directory=check_path(request.directory, "directory") if request.WhichOneof("filter") == "directory" else "",
        reference=normal(fields.text(request.reference, "reference", fields.MAX_QUERY)),
        order=order,
        after=_file_key(request, order),
        limit=page_size(request.page_size),
    )


def wanted_contents(request: pb2.LocateFilesRequest) -> tuple[bytes, ...]:
    """Returns the contents whose holders are asked for."""
    fields.at_most(len(request.content_ids), fields.MAX_LOCATED, "content_ids")
    if not request.content_ids:
        raise InvalidInput("content_ids", "say at least one content")
    return tuple(fields.content_id(value, "content_ids") for value in request.content_ids)


def file_token(request: pb2.ListFilesRequest, key: Key) -> str:
    """Returns the token of the page after `key`, which holds for this filter and order only."""
    return encode_token(_fingerprint(request), *key)


def _file_key(request: pb2.ListFilesRequest, order: Order) -> Key | None:
    first = str if order is Order.BY_NAME else float
    key = decode_token(request.page_token, str, first, str, str, int)
    if key is None:
        return None
    if key[0] != _fingerprint(request):
        raise InvalidInput("page_token", "it belongs to another filter or order; start again without one")
    return key[1:]


def _fingerprint(request: pb2.ListFilesRequest) -> str:
    asked = pb2.ListFilesRequest()
    asked.CopyFrom(request)
    for name in ("page_size", "page_token"):
        asked.ClearField(name)
    asked.order = asked.order or pb2.FILE_ORDER_NEWEST_FIRST
    if not asked.query and asked.WhichOneof("filter") == "query":
        asked.ClearField("query")
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).hexdigest()[:16]
