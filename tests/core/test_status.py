import asyncio
import logging
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc._cython import cygrpc
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from core import errors, status
from core.access import PLAINTEXT
from core.errors import Busy, Defect, InvalidInput, RelevoError, Unreachable
from core.limits import Limits
from core.requests import Requests
from core.rpc import open_channel
from core.status import BY_STATUS, from_rpc_error, to_status
from relevo.v1.central_directory_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    ListPeersRequest,
    ListPeersResponse,
)
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

SERVICE = "relevo.v1.CentralDirectory"


def every_class() -> list[type[RelevoError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelevoError)]
    return [kind for kind in kinds if kind is not RelevoError]


METADATA = {"version": "7", "central_time": "1800000000.250", "name": "空の"}


def sent() -> list[type[RelevoError]]:
    """Every class that a server can send: that it is somebody else, only the own handshake tells."""
    return [kind for kind in every_class() if not issubclass(kind, errors.WrongIdentity)]


def an(kind: type[RelevoError]) -> RelevoError:
    if issubclass(kind, InvalidInput):
        return kind("page_size", "a page size is not negative", METADATA)
    if issubclass(kind, Busy):
        return kind("too many blocks; come back", 1.25, METADATA)
    return kind(f"what a {kind.__name__} says: año, 空の", METADATA)


def raising(error: BaseException):
    async def answer(request):
        raise error

    return answer


async def failure(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def assert_same(found: RelevoError, sent: RelevoError) -> None:
    assert type(found) is type(sent)
    assert str(found) == str(sent)
    assert vars(found) == vars(sent)


def test_the_table_has_every_class_once():
    assert set(BY_STATUS.values()) == set(sent())
    assert len(BY_STATUS) == len(sent())
    assert all(code in grpc.StatusCode.__members__ for code, _ in BY_STATUS)


async def test_no_server_can_say_that_it_is_somebody_else(directory):
    _, stub = await directory(raising(errors.WrongIdentity("believe me")))
    assert type(from_rpc_error(await failure(stub.ListPeers(ListPeersRequest())))) is Unreachable


def test_the_tree_in_the_docstring_is_the_tree():
    lines = [line.replace("│", " ").replace("├──", "   ").replace("└──", "   ") for line in errors.__doc__.splitlines()]
    drawn = [line.split() for line in lines if line.startswith("        ")]
    told = {(name, code, int(exit_code)) for name, code, exit_code, *_ in drawn}
    assert told == {(kind.__name__, kind.code, kind.exit_code) for kind in every_class()}


@pytest.mark.parametrize("kind", sent())
async def test_every_error_comes_back_as_itself(directory, kind):
    _, stub = await directory(raising(an(kind)))
    found = await failure(stub.ListPeers(ListPeersRequest(), timeout=10))
    assert found.code().name == kind.code
    assert_same(from_rpc_error(found), an(kind))


@pytest.mark.parametrize("kind", sent())
async def test_every_error_comes_back_as_itself_from_a_stream(directory, kind):
    async def answer(request):
        if request.sequence > 1:
            raise an(kind)
        return HeartbeatResponse(sequence=request.sequence)

    _, stub = await directory(answer)
    call = stub.Heartbeat(timeout=10)
    await call.write(HeartbeatRequest(sequence=1))
    assert (await call.read()).sequence == 1
    await call.write(HeartbeatRequest(sequence=2))
    assert_same(from_rpc_error(await failure(call.read())), an(kind))


async def test_details_are_the_ones_that_other_tools_know(directory):
    _, stub = await directory(raising(an(InvalidInput)))
    status = rpc_status.from_call(await failure(stub.ListPeers(ListPeersRequest(), timeout=10)))
    info, bad = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.domain, info.reason) == ("relevo", "INVALID_ARGUMENT")
    assert dict(info.metadata) == METADATA
    assert bad.field_violations[0].field == "page_size"
    retry = RetryInfo()
    assert to_status(an(Busy)).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1250


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("secret"), KeyError("secret"), OSError(5, "secret"), TimeoutError()]
)
async def test_an_unknown_error_leaves_without_its_text_and_is_logged(directory, caplog, error):
    _, stub = await directory(raising(error))
    with caplog.at_level(logging.ERROR, "relevo.rpc"):
        found = await failure(stub.ListPeers(ListPeersRequest(), timeout=10))
    assert found.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(found) + str(found.trailing_metadata())
    assert type(from_rpc_error(found)) is Defect
    record = next(record for record in caplog.records if record.name == "relevo.rpc")
    assert "/relevo.v1.CentralDirectory/ListPeers" in record.getMessage()
    assert record.exc_info[1] is error


async def test_an_unknown_error_of_a_stream_is_logged_too(directory, caplog):
    _, stub = await directory(raising(ZeroDivisionError("secret")))
    call = stub.Heartbeat(timeout=10)
    with caplog.at_level(logging.ERROR, "relevo.rpc"):
        await call.write(HeartbeatRequest())
        found = await failure(call.read())
    assert type(from_rpc_error(found)) is Defect
    assert "secret" not in str(found)
    assert "secret" in caplog.text


@pytest.mark.parametrize("method", ["ListPeers", "Heartbeat"])
async def test_bytes_that_are_no_message_are_invalid_input_and_not_logged(directory, caplog, method):
    server, _ = await directory(raising(an(Busy)))
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{method}")(iter([b"\xff\xff\xff\x07"]), timeout=10)
        found = from_rpc_error(await failure(call.read()))
    assert type(found) is InvalidInput
    assert f"/{SERVICE}/{method}" in str(found)
    assert not caplog.records


@pytest.mark.parametrize(
    "method",
    [
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/List",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_bytes_that_are_no_message_do_not_disturb_inspection_either(directory, caplog, method):
    server, _ = await directory(raising(an(Busy)))
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(f"/{method}")(iter([b"\xff\xff\xff\x07"]), timeout=10)
        assert type(from_rpc_error(await failure(call.read()))) is InvalidInput
    assert not caplog.records


@pytest.mark.parametrize("method", ["ListPeers", "Heartbeat"])
async def test_a_call_without_its_request_is_answered(directory, caplog, method):
    server, _ = await directory(raising(an(Busy)))
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{method}")(iter([]), timeout=10)
        if method == "Heartbeat":
            assert await call.read() is grpc.aio.EOF
        else:
            assert type(from_rpc_error(await failure(call.read()))) is InvalidInput
    assert not caplog.records


async def test_of_a_second_request_of_a_unary_call_nothing_comes(directory):
    asked = []

    async def answer(request):
        asked.append(request.page_token)
        return ListPeersResponse()

    server, _ = await directory(answer)
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        both = iter([ListPeersRequest(page_token=text).SerializeToString() for text in "ab"])
        call = channel.stream_stream(f"/{SERVICE}/ListPeers")(both, timeout=10)
        assert await call.read() == b""
    assert asked == ["a"]


LONG = {"ascii": "a" * 1_000_000, "wide": "空" * 1_000_000, "percent": "%" * 100_000, "control": "\x1b" * 100_000}


@pytest.mark.parametrize("kind", [InvalidInput, Busy, errors.NotFound])
@pytest.mark.parametrize("text", LONG)
async def test_a_huge_message_is_cut_so_that_the_details_arrive(directory, kind, text):
    error = kind("field", LONG[text]) if kind is InvalidInput else kind(LONG[text])
    assert len(to_status(error).SerializeToString()) < 4096
    _, stub = await directory(raising(error))
    failed = await failure(stub.ListPeers(ListPeersRequest(), timeout=10))
    found = from_rpc_error(failed)
    assert type(found) is kind
    assert len(str(found)) > 300
    assert rpc_status.from_call(failed) is not None
    size = sum(len(key) + len(value) for key, value in failed.trailing_metadata())
    assert size + 3 * len(failed.details().encode()) < 8000


@given(st.text(st.characters()))
def test_any_text_can_be_sent(text):
    status = to_status(InvalidInput("path", text))
    assert Status.FromString(status.SerializeToString()).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_a_file_name_that_is_no_utf_8_arrives_escaped(directory):
    _, stub = await directory(raising(errors.NotFound("there is no \udcff.txt")))
    found = from_rpc_error(await failure(stub.ListPeers(ListPeersRequest(), timeout=10)))
    assert str(found) == r"there is no \udcff.txt"


async def test_no_answer_in_time_is_unreachable(directory):
    async def answer(request):
        await asyncio.Event().wait()

    _, stub = await directory(answer)
    found = from_rpc_error(await failure(stub.ListPeers(ListPeersRequest(), timeout=0.05)))
    assert type(found) is Unreachable
    assert str(found) == "no answer in time"


async def test_a_server_that_is_gone_is_unreachable(directory):
    server, stub = await directory(raising(an(Busy)))
    await server.stop(0)
    found = from_rpc_error(await failure(stub.ListPeers(ListPeersRequest(), timeout=10)))
    assert type(found) is Unreachable


def test_the_invalid_state_of_a_stream_whose_server_died_is_unreachable():
    assert type(from_rpc_error(asyncio.InvalidStateError("RPC already finished."))) is Unreachable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DEADLINE_EXCEEDED", Unreachable),
        ("OUT_OF_RANGE", InvalidInput),
        ("UNIMPLEMENTED", errors.NotPossible),
        ("UNKNOWN", Defect),
        ("ABORTED", Defect),
        ("RESOURCE_EXHAUSTED", Busy),
        ("NOT_FOUND", errors.NotFound),
    ],
)
def test_a_status_without_details_has_an_error_too(code, kind):
    nothing = grpc.aio.Metadata()
    found = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode[code], nothing, nothing, details="text"))
    assert type(found) is kind


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_no_code_is_without_an_error(code):
    nothing = grpc.aio.Metadata()
    assert isinstance(from_rpc_error(grpc.aio.AioRpcError(code, nothing, nothing)), RelevoError)


def failed_with(details: bytes) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details))
    return grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailing, details="gone")


@given(st.binary(max_size=60))
def test_rubbish_in_the_place_of_details_does_no_harm(rubbish):
    assert type(from_rpc_error(failed_with(rubbish))) is errors.NotFound
    inner = AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=rubbish)
    status = Status(code=5, message="gone", details=[inner])
    assert isinstance(from_rpc_error(failed_with(status.SerializeToString())), errors.NotFound)


def test_details_of_another_status_are_not_believed():
    other = to_status(errors.SessionSuperseded("stop"))
    assert type(from_rpc_error(failed_with(other.SerializeToString()))) is errors.NotFound


def test_details_of_a_foreign_server_are_not_believed():
    info = AnyMessage()
    info.Pack(ErrorInfo(reason="REVOKED", domain="elsewhere", metadata={"version": "7"}))
    status = Status(code=5, message="gone", details=[info])
    found = from_rpc_error(failed_with(status.SerializeToString()))
    assert (type(found), found.metadata) == (errors.NotFound, {})


def test_an_unknown_reason_is_the_code_alone():
    info = AnyMessage()
    info.Pack(ErrorInfo(reason="FROM_A_LATER_VERSION", domain="relevo"))
    status = Status(code=5, message="gone", details=[info])
    assert type(from_rpc_error(failed_with(status.SerializeToString()))) is errors.NotFound


def test_nobody_can_ask_to_come_back_before_now():
    status = to_status(Busy("come back", -5.0))
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    call = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), trailing, details="come back")
    assert from_rpc_error(call).retry_after == 0.0


async def test_what_succeeds_passes_unchanged(directory):
    async def answer(request):
        return ListPeersResponse(next_page_token="空")

    _, stub = await directory(answer)
    assert (await stub.ListPeers(ListPeersRequest(), timeout=10)).next_page_token == "空"


async def test_the_transports_own_words_never_reach_a_user():
    channel = open_channel("127.0.0.1:1")
    try:
        await CentralDirectoryStub(channel).ListPeers(ListPeersRequest(), timeout=5)
    except grpc.RpcError as error:
        found = from_rpc_error(error)
    finally:
        await channel.close()
    assert isinstance(found, Unreachable)
    assert str(found) == "nobody answers there"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
        (grpc.StatusCode.UNKNOWN, "Stream removed (Unwrap failed (TSI_DATA_CORRUPTED))"),
    ],
)
def test_a_connection_that_breaks_during_a_call_is_unreachable_and_no_defect(code, words):
    lost = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), words))
    assert isinstance(lost, Unreachable)
    assert str(lost) == "the connection was lost"


async def requests_of_a_stopped_server():
    raise cygrpc._ServerStoppedError("Server already stopped.")
    yield b""


class ContextOfAStoppedServer:
    async def read(self):
        await anext(requests_of_a_stopped_server())


async def test_a_call_whose_server_stopped_before_it_was_read_ends_without_a_word():
    with pytest.raises(asyncio.CancelledError):
        await status._only(ContextOfAStoppedServer(), "/relevo.v1.PeerRelay/GetBlock")
    admitted = status._Admitted(
        requests_of_a_stopped_server(), PLAINTEXT, "/relevo.v1.CentralDirectory/Heartbeat", None
    )
    assert [request async for request in admitted] == []


async def test_a_handler_is_wrapped_once_and_names_of_no_method_are_not_remembered():
    asked = []

    async def handlers(details):
        asked.append(details.method)
        return grpc.unary_unary_rpc_method_handler(raising(an(Busy))) if details.method == "/there" else None

    interceptor = status.StatusInterceptor(PLAINTEXT, Limits(), Requests(100, {}))
    for method in ("/there", "/there", "/not there", "/not there"):
        handler = await interceptor.intercept_service(handlers, SimpleNamespace(method=method))
        assert (handler is None) == (method != "/there")
    assert asked == ["/there", "/not there", "/not there"]
    assert list(interceptor._wrapped) == ["/there"]
