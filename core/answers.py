"""Channels on which an answer that is no message of its type is an error, like every other answer that is of no use.

As gRPC comes, such an answer is logged with a traceback, and the caller is given None instead of a message: whoever
answers could break whoever asks, wherever a field of the answer is read. So is the end of a stream's channel.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError

_Deserialize = Callable[[bytes], Any]
_Open = Callable[..., Any]


class _Unreadable:
    """Stands for an answer that could not be read."""


_UNREADABLE = _Unreadable()
_END = object()


def _lenient(deserialize: _Deserialize | None) -> _Deserialize | None:
    """Returns `deserialize`, giving `_UNREADABLE` for bytes that are no message, and where there are none."""
    if deserialize is None:
        return None

    def message(data: bytes | None) -> Any:
        if data is None:  # a unary call may end well without an answer
            return _UNREADABLE
        try:
            return deserialize(data)
        except DecodeError:
            return _UNREADABLE

    return message


class _Call:
    """A call whose answers are looked at; everything else is the call's own."""

    def __init__(self, call: Any, method: str) -> None:
        self._call = call
        self._method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._checked((yield from self._call.__await__()))

    async def __aiter__(self) -> AsyncIterator[Any]:
        answers = aiter(self._call)
        while True:
            with self._outlived():
                answer = await anext(answers, _END)
            if answer is _END:
                return
            yield self._checked(answer)

    async def read(self) -> Any:
        """Returns the next answer of a stream, or EOF."""
        with self._outlived():
            return self._checked(await self._call.read())

    @contextmanager
    def _outlived(self) -> Iterator[None]:
        """Has a stream that is cut off as its channel is closed fail like one that breaks.

        gRPC cancels whoever reads it, although nobody wants that task to end.
        """
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._error(grpc.StatusCode.UNAVAILABLE, f"{self._method} is cut off") from error

    def _checked(self, answer: Any) -> Any:
        if answer is not _UNREADABLE:
            return answer
        self._call.cancel()
        raise self._error(grpc.StatusCode.DATA_LOSS, f"these bytes are no answer to {self._method}")

    @staticmethod
    def _error(code: grpc.StatusCode, words: str) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=words)


class StrictChannel:
    """A channel for generated stubs. A call that is answered with bytes which are no message fails with DATA_LOSS."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def __aenter__(self) -> "StrictChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> _Open:
        """As grpc.aio.Channel.unary_unary."""
        return self._opening(self._channel.unary_unary, method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> _Open:
        """As grpc.aio.Channel.unary_stream."""
        return self._opening(self._channel.unary_stream, method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> _Open:
        """As grpc.aio.Channel.stream_stream."""
        return self._opening(self._channel.stream_stream, method, *arguments, **options)

    def _opening(
        self,
        make: _Open,
        method: str,
        request_serializer: Any = None,
        response_deserializer: _Deserialize | None = None,
        **options: Any,
    ) -> _Open:
        call = make(method, request_serializer, _lenient(response_deserializer), **options)
        return lambda *arguments, **given: _Call(call(*arguments, **given), method)


def strict(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """Returns `channel` as one that refuses unreadable answers."""
    return cast("grpc.aio.Channel", StrictChannel(channel))
