"""Signed requests, and central's signed answers: both travel through a neighbour that can delay them, and no more."""

import hashlib
import secrets
from dataclasses import dataclass

from core.certificates import central_name, certified_key, from_pem
from core.errors import ClockSkew, Unauthenticated
from core.identity import Identity, verify
from core.times import to_timestamp
from core.tls import Material
from core.trust import Trust
from relevo.v1.content_pb2 import SignedAnswer, SignedRequest

# Requests are refused when they are further than this from central's clock; answers are kept as long.
WINDOW_SECONDS = 600.0
_NANOSECONDS = 1_000_000_000
_CONTEXT = b"relevo signed request v1"
_ANSWER_CONTEXT = b"relevo signed answer v1"
_SESSION_NAME_DIGITS = 32


def new_request_id() -> str:
    """Returns 32 random hexadecimal digits."""
    return secrets.token_hex(16)


def _message(request: SignedRequest) -> bytes:
    time = request.create_time.seconds * _NANOSECONDS + request.create_time.nanos
    parts = (
        _CONTEXT,
        request.author.encode(),
        request.request_id.encode(),
        str(time).encode(),
        request.method.encode(),
        request.payload,
    )
    return _joined(*parts)


def _joined(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign_request(identity: Identity, method: str, payload: bytes, now: float, request_id: str = "") -> SignedRequest:
    """Returns `payload` signed for `method` (such as `/relevo.v1.CentralDirectory/Login`).

    `now` is central's time as far as the author knows it, in seconds since 1970.
    """
    request = SignedRequest(
        author=identity.peer_id,
        request_id=request_id or new_request_id(),
        create_time=to_timestamp(now),
        method=method,
        payload=payload,
    )
    request.signature = identity.sign(_message(request))
    return request


def check_signed(request: SignedRequest, public_key: bytes, method: str, now: float) -> None:
    """Checks that the holder of `public_key` signed `request` for `method` within ten minutes of `now`.

    Whether the key is the author's is the caller's business.

    Raises:
        Unauthenticated: another method, another key, or something was changed.
        ClockSkew: signed too long ago or too far in the future; the metadata tell central's time.
    """
    if request.method != method:
        raise Unauthenticated(f"the request was signed for {request.method or 'nothing'}, not for {method}")
    verify(public_key, _message(request), request.signature)
    created = request.create_time.seconds + request.create_time.nanos / _NANOSECONDS
    if abs(created - now) > WINDOW_SECONDS:
        side = "before" if created < now else "after"
        raise ClockSkew(
            f"the request was signed {abs(created - now):.0f} s {side} central's time; set the clock of this machine",
            {"central_time": f"{now:.3f}"},
        )


def session_name(session_id: str) -> str:
    """Returns what names a session to central and opens nothing: 32 digits of the SHA-256 of its secret id."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:_SESSION_NAME_DIGITS]


@dataclass(frozen=True, slots=True)
class AnswerSigner:
    """Signs answers as central; `certificates` (DER) are its own and the links that lead to older authorities."""

    identity: Identity
    certificates: tuple[bytes, ...]

    @classmethod
    def from_material(cls, material: Material) -> "AnswerSigner":
        """Returns the signer whose key and certificates central shows in handshakes."""
        return cls(Identity.from_pem(material.key), from_pem(material.chain))

    def sign(self, answer: SignedAnswer, request: SignedRequest, public_key: bytes) -> None:
        """Makes `answer` one that counts for `request`, whose author's key is `public_key`, and for no other."""
        answer.signature = self.identity.sign(_answer_message(answer, request, public_key))
        answer.certificates.extend(self.certificates)


def check_answer(answer: SignedAnswer, request: SignedRequest, public_key: bytes, trust: Trust, now: float) -> None:
    """Checks that central of the network has given `answer` to `request`; `now` in seconds since 1970.

    Raises:
        Unauthenticated: it is another's, or to another request, or was changed.
    """
    key = certified_key(answer.certificates, central_name(trust.network_id), trust.authorities, now)
    verify(key, _answer_message(answer, request, public_key), answer.signature)


def _answer_message(answer: SignedAnswer, request: SignedRequest, public_key: bytes) -> bytes:
    asked = hashlib.sha256(_joined(_message(request), request.signature, public_key)).digest()
    outcome = answer.WhichOneof("outcome") or ""
    return _joined(_ANSWER_CONTEXT, asked, outcome.encode(), getattr(answer, outcome) if outcome else b"")
