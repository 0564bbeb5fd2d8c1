"""The protos keep the rules that the whole project relies on; read from the descriptors, so nothing is forgotten."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from relevo.v1 import central_directory_pb2, content_pb2, enrolment_pb2, peer_control_pb2, peer_relay_pb2

ROOT = Path(__file__).parents[1]
FILES = [
    file.DESCRIPTOR for file in (content_pb2, central_directory_pb2, peer_relay_pb2, enrolment_pb2, peer_control_pb2)
]
METHODS = [method for file in FILES for service in file.services_by_name.values() for method in service.methods]
MESSAGES = [message for file in FILES for message in file.message_types_by_name.values()]
ENUMS = [enum for file in FILES for enum in file.enum_types_by_name.values()]
SOURCES = sorted((ROOT / "protos").rglob("*.proto"))


def rpc(method) -> str:
    return f"{method.containing_service.name}.{method.name}"


def comments(source: Path) -> dict[str, str]:
    """Comment above each RPC of a file, by `Service.Rpc`."""
    found, service, lines = {}, "", []
    for line in source.read_text("utf-8").splitlines():
        words = line.split()
        if words[:1] == ["//"]:
            lines.append(" ".join(words[1:]))
            continue
        if words[:1] == ["service"]:
            service = words[1]
        elif words[:1] == ["rpc"]:
            found[f"{service}.{words[1].partition('(')[0]}"] = "\n".join(lines)
        lines = []
    return found


COMMENTS = {name: text for source in SOURCES for name, text in comments(source).items()}


def contained(message: Descriptor) -> set[Descriptor]:
    """The message and everything that can stand inside it."""
    found, waiting = set(), [message]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [field.message_type for field in one.fields if field.message_type]
    return found


def test_every_rpc_has_a_request_and_a_response_of_its_own():
    used = [message for method in METHODS for message in (method.input_type, method.output_type)]
    assert len({message.full_name for message in used}) == len(used)
    for method in METHODS:
        plain = method.name
        prefixed = method.containing_service.name + method.name
        assert (method.input_type.name, method.output_type.name) in {
            (f"{plain}Request", f"{plain}Response"),
            (f"{prefixed}Request", f"{prefixed}Response"),
        }


def test_only_the_heartbeat_streams():
    streams = {rpc(method): (method.client_streaming, method.server_streaming) for method in METHODS}
    assert streams.pop("CentralDirectory.Heartbeat") == (True, True)
    assert streams.pop("PeerRelay.Attach") == (True, True)  # the heartbeat of a peer to its relay
    assert set(streams.values()) == {(False, False)}


def test_the_services_are_the_four_that_are_documented():
    assert {method.containing_service.full_name for method in METHODS} == {
        "relevo.v1.CentralDirectory",
        "relevo.v1.PeerRelay",
        "relevo.v1.Enrolment",
        "relevo.v1.PeerControl",
    }


@pytest.mark.parametrize("name", ["GetManifestRequest", "GetManifestResponse", "GetBlockRequest", "GetBlockResponse"])
def test_a_holder_is_asked_for_contents_and_never_for_a_place(name):
    assert_no_place(peer_relay_pb2.DESCRIPTOR.message_types_by_name[name])


def test_a_directive_names_a_content_and_never_a_place():
    assert_no_place(central_directory_pb2.StoreDirective.DESCRIPTOR)
    assert_no_place(central_directory_pb2.DropDirective.DESCRIPTOR)
    # An identifier, which is looked up, and who a suspect is are the only text; neither is joined to a path.
    texts = {
        field.name
        for message in contained(central_directory_pb2.Directive.DESCRIPTOR)
        for field in message.fields
        if field.type == FieldDescriptor.TYPE_STRING
    }
    assert texts == {"placement_id", *(field.name for field in content_pb2.PeerInfo.DESCRIPTOR.fields)}


def test_an_accusation_names_a_holder_and_a_content_and_never_a_place():
    request = central_directory_pb2.ReportHolderRequest.DESCRIPTOR
    assert {field.name for field in request.fields} == {
        "peer_id",
        "session_id",
        "holder_peer_id",
        "content_id",
        "fault",
    }


def test_what_central_tells_a_peer_by_itself_holds_no_path():
    """Only answers to what a user asked may carry paths, and those are for show and for the last part of a name."""
    for message in contained(central_directory_pb2.HeartbeatResponse.DESCRIPTOR):
        for field in message.fields:
            assert not {"path", "paths", "file", "directory", "source", "target"} & set(field.name.split("_"))


def assert_no_place(message: Descriptor) -> None:
    words = {"path", "name", "file", "directory", "source", "target", "url", "host", "address"}
    for part in contained(message):
        for field in part.fields:
            assert not words & set(field.name.split("_")), f"{part.name}.{field.name} names a place"
            if part.name != "StoreDirective" and field.name != "holder_peer_id":  # looked up among who is attached
                assert field.type != FieldDescriptor.TYPE_STRING, f"{part.name}.{field.name} is text"


LISTS = [method for method in METHODS if method.name.startswith("List") or method.name == "LocateFile"]


@pytest.mark.parametrize("method", LISTS, ids=rpc)
def test_every_list_has_pages(method):
    request, response = method.input_type, method.output_type
    if "request" in request.fields_by_name:  # carried: the pages are inside
        request = request.fields_by_name["request"].message_type
        response = response.fields_by_name["response"].message_type
    assert request.fields_by_name["page_size"].type == FieldDescriptor.TYPE_INT32
    assert request.fields_by_name["page_token"].type == FieldDescriptor.TYPE_STRING
    assert response.fields_by_name["next_page_token"].type == FieldDescriptor.TYPE_STRING
    assert any(field.is_repeated for field in response.fields)


def test_every_enum_begins_with_unspecified():
    for enum in ENUMS:
        first = enum.values[0]
        assert first.number == 0
        assert first.name.endswith("_UNSPECIFIED")
        assert [value.number for value in enum.values] == list(range(len(enum.values)))


def test_times_are_messages_and_sizes_say_their_unit():
    for message in MESSAGES:
        for field in message.fields:
            if field.name.endswith("_time") or field.name in {"beat_interval", "lease", "grace", "took"}:
                assert field.message_type.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}
            assert not field.name.endswith(("_seconds", "_ms", "_at")), field.full_name
            if field.name.endswith("size"):
                assert field.name.endswith("page_size"), f"{field.full_name} does not say its unit"


def test_a_carried_call_holds_exactly_what_central_is_asked():
    carried = [method for method in METHODS if method.containing_service.name == "PeerRelay"][:6]
    central = central_directory_pb2.DESCRIPTOR.services_by_name["CentralDirectory"]
    names = ["ListFiles", "LocateFile", "LocateFiles", "PlaceFile", "EndPlacement", "GetNeighbours"]
    assert [method.name for method in carried] == names
    for method in carried:
        original = central.methods_by_name[method.name]
        assert [field.message_type for field in method.input_type.fields] == [original.input_type]
        assert [field.message_type for field in method.output_type.fields] == [original.output_type]


def test_no_session_secret_passes_a_neighbour():
    relayed = [method for method in METHODS if method.containing_service.name == "PeerRelay"]
    for method in relayed:
        for message in contained(method.input_type) | contained(method.output_type):
            assert "session_id" not in message.fields_by_name, message.full_name


@pytest.mark.parametrize("method", METHODS, ids=rpc)
def test_every_rpc_says_what_it_does_and_how_it_fails(method):
    text = COMMENTS[rpc(method)]
    assert len(text) > 30
    if rpc(method) not in CANNOT_FAIL:
        assert "Errors:" in text


# They have no errors beyond those of every RPC: an invalid field, a process that starts or stops, a defect.
CANNOT_FAIL = {
    "CentralDirectory.ListPeers",
    "CentralDirectory.ListFiles",
    "PeerControl.GetStatus",
    "PeerControl.ListTransfers",
    "PeerControl.Logout",
}


def test_the_recipe_compiles_every_proto():
    recipe = (ROOT / "protos" / "protoc.args").read_text("ascii").split()
    listed = [word for word in recipe if not word.startswith("--")]
    assert sorted(listed) == [str(source.relative_to(ROOT / "protos")) for source in SOURCES]
    assert sorted(listed) == sorted(file.name for file in FILES)


def test_the_stubs_were_compiled_from_these_protos():
    """A stale generated/ would make every other test here speak of something else."""
    for source in SOURCES:
        for name, text in comments(source).items():
            assert text
            assert name in {rpc(method) for method in METHODS}
    assert set(COMMENTS) == {rpc(method) for method in METHODS}


BUF = Path(sys.executable).parent / "buf"


@pytest.mark.parametrize("command", [["lint"], ["format", "--diff", "--exit-code"]], ids=["lint", "format"])
def test_buf_has_nothing_to_say(command):
    done = subprocess.run([BUF, *command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
