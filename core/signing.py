"""Signed requests: how a mutation travels through a neighbour that can delay it but not change or invent it."""

import secrets

from core.errors import ClockSkew, Unauthenticated
from core.identity import Identity, verify
from core.times import to_timestamp
from relevo.v1.content_pb2 import SignedRequest

# Requests are refused when they are further than this from central's clock; answers are kept as long.
WINDOW_SECONDS = 600.0
_NANOSECONDS = 1_000_000_000
_CONTEXT = b"relevo signed request v1"


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
