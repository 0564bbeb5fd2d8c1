"""What holds for every RPC, read from the descriptors, so that a new one is covered on the day it is added."""

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryServicer

SERVICE = pb2.DESCRIPTOR.services_by_name["CentralDirectory"]
# What is wrong with a carried request stands in its answer, which is signed.
EMPTY_IS_FINE = {"ListPeers", "ListFiles", "Carry"}


def text_of(field, text):
    return [text] if field.is_repeated else text


def messages(method):
    """Yields requests that are empty, or have one hostile value in one field."""
    kind = GetMessageClass(method.input_type)
    yield kind()
    for field in method.input_type.fields:
        if field.type == field.TYPE_STRING:
            for text in ("x", "\x00", "'; DROP TABLE peers; --", "../../etc/passwd", "x" * 100_000, "\U0010ffff"):
                yield kind(**{field.name: text_of(field, text)})
        elif field.type == field.TYPE_BYTES:
            for data in (b"", b"\xff" * 33, bytes(32)):
                yield kind(**{field.name: [data] if field.is_repeated else data})
        elif field.type in {field.TYPE_INT32, field.TYPE_ENUM}:
            for number in (-(2**31), -1, 2**31 - 1):
                yield kind(**{field.name: number})
        elif field.type == field.TYPE_UINT64:
            yield kind(**{field.name: 2**64 - 1})
        elif field.type == field.TYPE_MESSAGE:
            yield kind(**{field.name: [{}] if field.is_repeated else {}})


async def call(network, method, message):
    handler = getattr(network.stub, method.name)
    if not method.client_streaming:
        return await handler(message, timeout=20)
    stream = handler(timeout=20)
    await stream.write(message)
    return await stream.read()


@pytest.mark.parametrize("name", [method.name for method in SERVICE.methods])
async def test_an_empty_or_hostile_request_is_refused_by_its_documented_code_and_never_a_defect(network, name):
    method = SERVICE.methods_by_name[name]
    await network.logged_in()
    for number, message in enumerate(messages(method)):
        code = grpc.StatusCode.OK
        try:
            await call(network, method, message)
        except grpc.RpcError as error:
            code = error.code()
        assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK}, message
        if number == 0:
            expected = grpc.StatusCode.OK if name in EMPTY_IS_FINE else grpc.StatusCode.INVALID_ARGUMENT
            assert code == expected
    assert len(network.directory.roster) == 1


def test_every_rpc_is_implemented():
    from central.servicer import DirectoryServicer

    for method in SERVICE.methods:
        assert getattr(DirectoryServicer, method.name) is not getattr(CentralDirectoryServicer, method.name)
