"""The one table between errors and gRPC status, in both directions, and the interceptor that applies it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NoReturn, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from core import errors
from core.access import WayIn, admit
from core.callers import Callers
from core.errors import Busy, Defect, InvalidInput, RelevoError, Unreachable, WrongIdentity, WrongTime
from core.limits import Limits
from core.requests import Requests
from core.times import from_duration

log = logging.getLogger("relevo.rpc")
DOMAIN = "relevo"
# A server can ask its clients to come back this much later and no more, in seconds: its word is not to end their work.
LONGEST_RETRY = 600.0
# A caller that only listens is looked at anew so often, in seconds: its certificate may not count any more.
ADMITTED_AGAIN = 1.0
# Details beyond about 8 KB of metadata are lost on the way, and the text goes along three times: as the status message,
# where each byte beyond ASCII takes three, and twice in base64.
_MAX_MESSAGE_BYTES = 1000


def _descendants(kind: type[RelevoError]) -> Iterator[type[RelevoError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


# (code, reason) to class: the whole tree of core.errors, once, but for what only the own handshake can tell.
BY_STATUS: dict[tuple[str, str], type[RelevoError]] = {
    (kind.code, kind.reason): kind for kind in _descendants(RelevoError) if not issubclass(kind, WrongIdentity)
}
_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}
# What an aio stream says when its connection ends while it writes, and a call when what comes cannot be decrypted.
_LOST = ("Internal error from Core", "Stream removed")
# What the transport says when the handshake shows another name, or a certificate of another authority.
_WRONG_IDENTITY = ("Hostname Verification Check failed", "CERTIFICATE_VERIFY_FAILED", "certificate signature failure")
# And what it says when the certificate is right, and does not count at this time.
_WRONG_TIME = {"certificate is not yet valid": "is not valid yet", "certificate has expired": "has expired"}
# gRPC logs a traceback for every client that leaves while its answer is under way, as often as anybody likes.
logging.getLogger("grpc._cython.cygrpc").addFilter(
    lambda record: not record.getMessage().startswith("ExecuteBatchError raised in core")
)
_ALSO: dict[str, type[RelevoError]] = {
    "DEADLINE_EXCEEDED": Unreachable,
    "OUT_OF_RANGE": InvalidInput,
    "UNIMPLEMENTED": errors.NotPossible,
    "UNKNOWN": Defect,
}


def to_status(error: RelevoError) -> Status:
    """Returns the status with its details: ErrorInfo always, BadRequest and RetryInfo where they apply."""
    message = _sendable(str(error))
    details: list[Any] = [ErrorInfo(reason=error.reason or error.code, domain=DOMAIN, metadata=error.metadata)]
    if isinstance(error, InvalidInput):
        violation = BadRequest.FieldViolation(field=error.field, description=message)
        details.append(BadRequest(field_violations=[violation]))
    if isinstance(error, Busy):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        wrapped = AnyMessage()
        wrapped.Pack(detail)
        packed.append(wrapped)
    return Status(code=grpc.StatusCode[error.code].value[0], message=message, details=packed)


def _sendable(text: str) -> str:
    """Returns `text` as protobuf takes it, surrogates of odd file names escaped, cut to what fits."""
    return text.encode("utf-8", "backslashreplace")[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def from_code(code: int, message: str) -> RelevoError:
    """Returns the error that a canonical code (0 to 16) and its text stand for, as they are kept in a message."""
    kind = BY_STATUS.get((_NAMES.get(code, ""), ""), Defect)
    return InvalidInput("", message) if issubclass(kind, InvalidInput) else kind(message)


def from_rpc_error(error: BaseException) -> RelevoError:
    """Returns the error that a call's failure stands for, its details read back.

    Takes a grpc.RpcError, or the asyncio.InvalidStateError that an aio stream raises when its server dies. An error
    that has been read already is returned as it is.
    """
    if isinstance(error, RelevoError):
        return error
    if not isinstance(error, grpc.RpcError):
        return Unreachable("the connection was lost; it is tried again")
    call = cast("grpc.aio.AioRpcError", error)
    code = call.code().name
    message = call.details() or code
    details = _details(_status_of(call))
    info = _info(details)
    kind = _kind(code, info)
    if code == "DEADLINE_EXCEEDED":
        message = "no answer in time"
    elif message.startswith(_LOST) and info.domain != DOMAIN:
        kind, message = Unreachable, "the connection was lost"
    elif kind is Unreachable and info.domain != DOMAIN:  # the transport's own words, which help nobody
        log.debug("unreachable: %s", message)
        kind, message = _unreachable(message)
    return _built(kind, message, details)


def _unreachable(said: str) -> tuple[type[RelevoError], str]:
    """Returns what the transport's words mean: that nobody answers, or whoever does cannot be believed."""
    for words, how in _WRONG_TIME.items():
        if words in said:
            return (
                WrongTime,
                f"its certificate {how} by this machine's clock; set the clock that is wrong, here or there",
            )
    if any(words in said for words in _WRONG_IDENTITY):
        return WrongIdentity, "whoever answers there is not who was expected"
    return Unreachable, "nobody answers there"


def from_status(status: Status) -> RelevoError:
    """Returns the error that a status stands for which did not come as a call's own, its details read back."""
    details = _details(status)
    code = _NAMES.get(status.code, "UNKNOWN")
    return _built(_kind(code, _info(details)), status.message or code, details)


def _info(details: dict[Any, Any]) -> ErrorInfo:
    info: ErrorInfo = details.get(ErrorInfo, ErrorInfo())
    return info if info.domain == DOMAIN else ErrorInfo()


def _kind(code: str, info: ErrorInfo) -> type[RelevoError]:
    return BY_STATUS.get((code, info.reason)) or BY_STATUS.get((code, "")) or _ALSO.get(code, Defect)


def _built(kind: type[RelevoError], message: str, details: dict[Any, Any]) -> RelevoError:
    metadata = _info(details).metadata
    if issubclass(kind, InvalidInput):
        violations = details.get(BadRequest, BadRequest()).field_violations
        found = InvalidInput("", message, metadata)
        found.field = violations[0].field if violations else ""
        return found
    if issubclass(kind, Busy):
        retry = details.get(RetryInfo, RetryInfo()).retry_delay
        return kind(message, min(max(0.0, from_duration(retry)), LONGEST_RETRY), metadata)
    return kind(message, metadata)


def _status_of(call: grpc.aio.AioRpcError) -> Status | None:
    try:
        return cast("Status | None", rpc_status.from_call(cast("Any", call)))
    except (ValueError, DecodeError):  # it belongs to another status, or whoever was called sends rubbish
        return None


def _details(status: Status | None) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    try:
        for packed in status.details if status else ():
            for kind in (ErrorInfo, BadRequest, RetryInfo):
                if packed.Is(kind.DESCRIPTOR):
                    detail = kind()
                    packed.Unpack(detail)
                    found[kind] = detail
    except DecodeError:  # whoever was called sends rubbish
        return {}
    return found


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: BaseException, method: str) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):  # health checking ends its calls itself
        raise error
    if isinstance(error, NotImplementedError):  # what a generated servicer says of an RPC that it lacks
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not served here")
    if not isinstance(error, RelevoError):
        log.error("%s failed", method, exc_info=error)
        error = Defect("internal error; the log of the process that was called has the details")
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


def _strict(deserialize: Callable[[bytes], Any], method: str) -> Callable[[bytes], Any]:
    """Returns `deserialize`, raising InvalidInput for bytes that are no message of its type."""

    def message(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            raise InvalidInput("", f"these bytes are not the message that {method} takes") from error

    return message


async def _only(context: Any, method: str) -> bytes:
    """Returns the one request of a unary call. Raises InvalidInput when there is none.

    gRPC's iterator of requests is not used for it: left before its end, it keeps what it has given.
    """
    try:
        data = await context.read()
    except grpc.aio.BaseError as error:  # the server has stopped before it was read, and nobody waits for an answer
        raise asyncio.CancelledError from error
    if data is grpc.aio.EOF:
        raise InvalidInput("", f"{method} takes a message, and none came")
    read: bytes = data
    return read


class _Admitted:
    """The requests of a stream, each of which is let in like a call: a stream may outlive a certificate by days."""

    def __init__(self, requests: AsyncIterator[Any], way_in: WayIn, method: str, context: Any) -> None:
        self._requests = requests
        self._admit = partial(admit, way_in, method, context)

    def __aiter__(self) -> _Admitted:
        return self

    async def __anext__(self) -> Any:
        try:
            request = await anext(self._requests)
        except grpc.aio.BaseError as error:  # the server has stopped: nothing more comes
            raise StopAsyncIteration from error
        self._admit()
        return request


async def _while_admitted(answers: AsyncIterator[Any], admit_again: Callable[[], None]) -> AsyncIterator[Any]:
    """Gives the answers of a stream to a caller that is let in: at each of them, and while none comes."""
    while True:
        following = asyncio.ensure_future(anext(answers, None))
        try:
            while not (await asyncio.wait({following}, timeout=ADMITTED_AGAIN))[0]:
                admit_again()
        finally:
            following.cancel()
            await asyncio.wait({following})
        answer = following.result()
        if answer is None:
            return
        admit_again()
        yield answer


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Lets calls in or refuses them, bounds what each caller has under way, and turns errors of handlers into statuses.

    Unknown errors are logged and leave as INTERNAL without their text. Requests are parsed here: for bytes that are no
    message, gRPC would log a traceback and answer UNKNOWN.
    """

    def __init__(self, way_in: WayIn, limits: Limits, requests: Requests) -> None:
        self._way_in = way_in
        self._requests = requests
        self._callers = Callers(limits)
        # By method, of those that there are: gRPC asks for its handler at every call.
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of every method that there is; there are none that stream upwards only."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        encode = handler.response_serializer
        parse = _strict(handler.request_deserializer, method)
        if handler.stream_stream:

            def both(requests: AsyncIterator[Any], context: Any) -> Any:
                return handler.stream_stream(_Admitted(requests, self._way_in, method, context), context)

            return grpc.stream_stream_rpc_method_handler(self._stream(both, method), parse, encode)
        if handler.unary_stream:

            def many(data: bytes, context: Any) -> AsyncIterator[Any]:
                return cast("AsyncIterator[Any]", handler.unary_stream(parse(data), context))

            return grpc.unary_stream_rpc_method_handler(self._stream(many, method), None, encode)
        inner = handler.unary_unary

        async def unary(_: AsyncIterator[bytes], context: Any) -> Any:
            try:
                admit(self._way_in, method, context)
                underway = self._callers.begin(context)
                # Encoded here: gRPC would keep the message beside its bytes until these have left.
                async with self._requests.reading(underway.who):
                    data = await _only(context, method)
                self._requests.check(method, len(data))
                answer = await inner(parse(data), context)
                if not isinstance(answer, bytes):  # a handler that has much to say may encode it itself
                    answer = encode(answer)
                underway.answering(len(answer))
                return answer
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - every error ends here, by the table
                await _abort(context, error, method)

        # As a handler of a stream it is asked before the request has come, which may never happen.
        return grpc.stream_unary_rpc_method_handler(unary, None, None)

    def _stream(self, inner: Callable[[Any, Any], AsyncIterator[Any]], method: str) -> Callable[[Any, Any], Any]:
        async def stream(asked: Any, context: Any) -> AsyncIterator[Any]:
            try:
                admit(self._way_in, method, context)
                self._callers.begin(context)
                answers = inner(asked, context)
                if asyncio.iscoroutine(answers):  # it writes its answers itself
                    await answers
                    return
                async for response in _while_admitted(answers, partial(admit, self._way_in, method, context)):
                    yield response
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:  # noqa: BLE001 - every error ends here, by the table
                await _abort(context, error, method)

        return stream
