"""What arrives as bytes and is judged by its digest or signature: manifests, join tokens, certificates, trust."""

import tracemalloc
from collections.abc import Sequence
from random import Random

from google.protobuf.message import DecodeError

from core.certificates import Authority, Kind, Subject, certificate_of, from_pem, network_id_of, to_pem
from core.content import Layout, content_id
from core.errors import Corrupt, InvalidInput
from core.identity import peer_id_of
from core.manifest import Manifest, manifest_of
from core.tokens import PREFIX, JoinToken, _check
from core.trust import Trust
from peer.fetching.manifest_fetch import _checked
from relevo.v1.content_pb2 import Trust as TrustMessage
from relevo.v1.enrolment_pb2 import JoinToken as TokenMessage
from relevo.v1.peer_relay_pb2 import GetManifestResponse
from tests.fuzz.engine import Broken, Target
from tests.fuzz.identities import KEY, MALLORY
from tests.fuzz.messages import spoil
from tests.fuzz.mutations import mutated, mutated_text

# An authority that stays the same, so that what is found breaks again tomorrow.
_NOW = 1_750_000_000.0
_LIFE = 10 * 365 * 86_400.0


def _answer(size: int) -> GetManifestResponse:
    manifest = manifest_of(bytes(size))
    return GetManifestResponse(
        size_bytes=size,
        block_size_bytes=manifest.layout.block_size,
        page_digests=manifest.root.page_digests,
        block_digests=manifest.page(0) if size else b"",
    )


class ManifestTarget(Target):
    """A page of a manifest, as a holder sends it: proven, or Corrupt, and nothing large made of what it claims."""

    name = "manifest"
    _MOST = 1 << 20

    def __init__(self) -> None:
        self._wanted = manifest_of(bytes(200_000)).content_id

    async def __aenter__(self) -> "ManifestTarget":
        tracemalloc.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        tracemalloc.stop()

    def seeds(self) -> Sequence[bytes]:
        return [_answer(size).SerializeToString() for size in (0, 1, 65_536, 65_537, 200_000)]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        return _spoiled(GetManifestResponse(), data, random) or mutated(data, other, random)

    async def run(self, data: bytes) -> None:
        try:
            answer = GetManifestResponse.FromString(data)
        except DecodeError:
            return
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for wanted in {self._wanted, self._own(answer)}:
            for page in (0, 1, 2**32 - 1):
                self._take(wanted, page, answer)
        if tracemalloc.get_traced_memory()[1] - before > self._MOST + 4 * len(data):
            raise Broken("an answer of a few bytes had much allocated for it")

    def _own(self, answer: GetManifestResponse) -> bytes:
        """Returns the content id that proves this very root, so that what comes after it is reached too."""
        try:
            return content_id(Layout(answer.size_bytes), answer.page_digests)
        except ValueError:
            return self._wanted

    def _take(self, wanted: bytes, page: int, answer: GetManifestResponse) -> None:
        try:
            root, digests = _checked(wanted, page, None, answer)
        except Corrupt:
            return
        except IndexError:
            # Pages beyond the last are never asked for.
            if page < Layout(answer.size_bytes).page_count:
                raise
            return
        if root.content_id != wanted:
            raise Broken("a root was taken that is not that of the content")
        if root.layout.page_count == 1 and Manifest(root.layout, digests).content_id != wanted:
            raise Broken("a manifest was taken that is not that of the content")


_VIA = ("192.0.2.2:7500", f"{'a' * 52}@[::1]:7500")


class TokenTarget(Target):
    """A join token as a user pastes it. The body is fuzzed too, with a check that fits it."""

    name = "token"

    def __init__(self) -> None:
        self._authority = Authority.create(_NOW, _LIFE).certificate

    def seeds(self) -> Sequence[bytes]:
        token = JoinToken(("192.0.2.1:7400", "[::1]:7400"), 7401, bytes(8), bytes(16), self._authority, _VIA)
        body = TokenMessage(
            addresses=token.addresses,
            enrolment_port=token.enrolment_port,
            invitation_id=token.invitation_id,
            secret=token.secret,
            authority=token.authority,
            via=token.via,
        )
        return [token.to_text().encode(), body.SerializeToString()]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        if data.startswith(PREFIX.encode()):
            return mutated_text(data, other, random)
        return _spoiled(TokenMessage(), data, random) or mutated(data, other, random)

    async def run(self, data: bytes) -> None:
        import base64

        whole = PREFIX + base64.urlsafe_b64encode(data + _check(data)).decode().rstrip("=")
        for text in (data.decode("utf-8", "replace"), whole):
            try:
                token = JoinToken.from_text(text)
            except InvalidInput:
                continue
            if JoinToken.from_text(token.to_text()) != token:
                raise Broken("a token is not read back as it was written")


class CertificateTarget(Target):
    """Certificates in DER and PEM, and the trust that carries them."""

    name = "certificates"

    def __init__(self) -> None:
        authority = Authority.create(_NOW, _LIFE)
        successor = Authority.create(_NOW, _LIFE, authority)
        peer = authority.issue(Subject(Kind.PEER, peer_id_of(MALLORY.public_key)), MALLORY.public_key, _NOW, _LIFE)
        self._trust = TrustMessage(
            version=2,
            authorities=[successor.certificate, authority.certificate],
            revoked_peer_ids=[MALLORY.peer_id],
        )
        self._certificates = [authority.certificate, peer, authority.vouch_for(successor, _NOW, _LIFE)]
        self._pem = authority.pem()

    def seeds(self) -> Sequence[bytes]:
        return [*self._certificates, to_pem(self._certificates), self._pem, KEY, self._trust.SerializeToString()]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        if data.startswith(b"\x08"):  # the trust's version
            return _spoiled(TrustMessage(), data, random) or mutated(data, other, random)
        return mutated(data, other, random)

    async def run(self, data: bytes) -> None:
        try:
            as_pem = to_pem([data])
        except InvalidInput:
            as_pem = data
        for read in (network_id_of, certificate_of, from_pem, self._trusted):
            for given in {data, as_pem}:
                try:
                    read(given)
                except InvalidInput:
                    continue

    def _trusted(self, data: bytes) -> None:
        for message in (_parsed(TrustMessage(), data), TrustMessage(version=1, authorities=[data])):
            if message is not None:
                trust = Trust.from_message(message)
                if Trust.from_message(trust.to_message()) != trust:
                    raise Broken("a trust is not read back as it was written")


def _parsed(message: TrustMessage, data: bytes) -> TrustMessage | None:
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return message


def _spoiled(message: GetManifestResponse | TokenMessage | TrustMessage, data: bytes, random: Random) -> bytes:
    """Returns `data` with a hostile field, in half of the cases and when it is such a message; else nothing."""
    if random.random() < 0.5:
        return b""
    try:
        message.ParseFromString(data)
    except DecodeError:
        return b""
    spoil(message, random)
    return message.SerializeToString()
