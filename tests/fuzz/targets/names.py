"""Names, addresses, page tokens, and the details of statuses."""

import asyncio
import contextlib
import os.path
from collections.abc import Sequence
from random import Random

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from core.addresses import join_address, split_address
from core.errors import Busy, InvalidInput, RelevoError
from core.names import check_path, check_peer_name, folded, last_part, normal, printable
from core.pages import decode_token, encode_token
from core.status import from_rpc_error, to_status
from tests.fuzz.engine import Broken, Target
from tests.fuzz.messages import hostile_names
from tests.fuzz.mutations import mutated_text

_ROOT = "/srv/library"


class NameTarget(Target):
    """Names of files and peers, addresses and page tokens: what each function promises, for any text."""

    name = "names"

    def seeds(self) -> Sequence[bytes]:
        texts = [*hostile_names(), "año/空の写真.jpg", "a.txt", "[::1]:7400", "host:1", encode_token("a", 1.5, 3)]
        return [text.encode() for text in texts]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        return mutated_text(data, other, random)

    async def run(self, data: bytes) -> None:
        for text in {data.decode("utf-8", "replace"), data.decode("utf-8", "surrogateescape")}:
            self._look(text)
            self._accept(text)
            self._tokens(text)

    def _look(self, text: str) -> None:
        shown = printable(text)
        if any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or "\ud800" <= char <= "\udfff" for char in shown):
            raise Broken("something that can steer a terminal is called printable")
        if printable(shown) != shown:
            raise Broken("what is printable is changed again")
        if normal(normal(text)) != normal(text):
            raise Broken("normal is not idempotent")
        if folded(folded(text)) != folded(text):
            raise Broken("folded is not idempotent")
        last_part(text)

    def _accept(self, text: str) -> None:
        try:
            path = check_path(text)
        except InvalidInput:
            pass
        else:
            joined = os.path.normpath(f"{_ROOT}/{path}")
            if joined != f"{_ROOT}/{path}" or normal(path) != path:
                raise Broken("a path was taken that does not stay what and where it is")
        with contextlib.suppress(InvalidInput):
            check_peer_name(text)
        try:
            host, port = split_address(text)
        except InvalidInput:
            return
        if split_address(join_address(host, port)) != (host, port):
            raise Broken("an address is not read back as it was written")

    def _tokens(self, text: str) -> None:
        for kinds in ((str,), (str, float, str, str, int), (float, str)):
            try:
                key = decode_token(text, *kinds)
            except InvalidInput:
                continue
            if key is not None and decode_token(encode_token(*key), *kinds) != key:
                raise Broken("a page token is not read back as it was written")


_CODES = list(grpc.StatusCode)


class StatusTarget(Target):
    """The status of a failed call, of which a stranger wrote everything: code, text, and details."""

    name = "status"

    def seeds(self) -> Sequence[bytes]:
        errors = (InvalidInput("path", "no"), Busy("later", 2.5), RelevoError("x", {"central_time": "5"}))
        seeds = []
        for number, error in enumerate(errors[:2]):
            seeds.append(bytes([3 + 5 * number]) + to_status(error).SerializeToString())
        return [b"\x00", b"\x0e", *seeds]

    async def run(self, data: bytes) -> None:
        code, body = _CODES[data[0] % len(_CODES)] if data else _CODES[2], data[1:]
        for text in ("", "Internal error from Core", body.decode("utf-8", "replace"), _told(body)):
            trailing = grpc.aio.Metadata((rpc_status.GRPC_DETAILS_METADATA_KEY, body))
            error = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=text))
            if not isinstance(error, RelevoError):
                raise Broken("the error is none of ours")
            str(error)
            if isinstance(error, Busy):
                await _sleeps(error.retry_after)
            to_status(error).SerializeToString()


def _told(details: bytes) -> str:
    """Returns the text in the details: they are read only when it is the status's own."""
    with contextlib.suppress(DecodeError):
        return Status.FromString(details).message
    return ""


async def _sleeps(seconds: float) -> None:
    """Waits as a client does which was told to, and gives up at once."""
    if not 0 <= seconds <= 86_400:
        raise Broken(f"a stranger can tell a client to wait for {seconds} s")
    task = asyncio.ensure_future(asyncio.sleep(seconds))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
