"""Whatever stands in the daemon's answers, which quote central, neighbours and holders, nothing steers the terminal.

Every text field of every answer is filled from the corpus of hostile names, by the descriptors: a new field is in.
"""

import json
import unicodedata
from itertools import cycle
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from core import errors
from core.access import OWN_SOCKET
from core.names import printable
from core.rpc import Server
from peer.settings import control_address
from relevo.v1 import peer_control_pb2 as pb2
from relevo.v1.peer_control_pb2_grpc import PeerControlServicer, add_PeerControlServicer_to_server

DATA = Path(__file__).parents[2] / "data"
STEERING = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "a\rb",
    "a\nrelevo: forged",
    "\x9b31m",
    "\x08\x7f",
    "gpj.\u202eexe",
    "\x00",
]


def corpus():
    lines = [
        line for name in ("hostile", "allowed") for line in (DATA / f"{name}_names.txt").read_text("ascii").split("\n")
    ]
    names = [json.loads(line) for line in lines if line and not line.startswith("#")]
    # What is no UTF-8 cannot be in a message.
    return STEERING + [
        name for name in names if name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)
    ]


# A page of the longest would be refused for its size.
NAMES = [name for name in corpus() if len(name) <= 600]


def fill(message, names, most, depth=0):
    """Puts hostile text into every text field, and entries into every list, the outermost of which has `most`."""
    for field in message.DESCRIPTOR.fields:
        entries = (most if depth < 2 else 2) if field.is_repeated else 1
        if field.type == FieldDescriptor.TYPE_STRING:
            texts = [next(names) for _ in range(entries)]
            if field.is_repeated:
                getattr(message, field.name).extend(texts)
            elif field.name != "next_page_token":
                setattr(message, field.name, texts[0])
        elif field.message_type is not None and not field.message_type.full_name.startswith("google."):
            inner = getattr(message, field.name)
            for _ in range(entries):
                each = inner.add() if field.is_repeated else inner
                each.SetInParent()
                fill(each, names, most, depth + 1)
        elif field.name in {"content_id", "data"}:
            setattr(message, field.name, bytes(32))
    return message


def assert_harmless(text):
    for line in text.split("\n"):
        assert printable(line) == line, ascii(line)
    assert not [char for char in text if unicodedata.category(char) in {"Cc", "Zl", "Zp"} and char != "\n"]


class Lying(PeerControlServicer):
    """Every answer is hostile; of transfers, some are done and the others have failed."""

    def __init__(self):
        self._names = cycle(NAMES)
        self._count = 0
        for method in pb2.DESCRIPTOR.services_by_name["PeerControl"].methods:
            setattr(self, method.name, self._answer(getattr(pb2, method.output_type.name)))

    def _answer(self, kind):
        async def answer(request, _context):
            filled = fill(kind(), self._names, 30)
            self._count += 1
            if "transfer" in kind.DESCRIPTOR.fields_by_name:
                states = (pb2.TRANSFER_STATE_DONE, pb2.TRANSFER_STATE_FAILED, pb2.TRANSFER_STATE_CANCELLED)
                filled.transfer.state = states[self._count % 3]
            if kind is pb2.GetTransferResponse and request.known_problem_count:
                del filled.problems[:]  # a thousand of them would only take longer
            if kind is pb2.GetStatusResponse:
                filled.skipped_count = len(filled.skipped)
            return filled

        return answer


@pytest.fixture
async def lying(home):
    server = Server(way_in=OWN_SOCKET)
    server.listen(control_address(home))
    add_PeerControlServicer_to_server(Lying(), server.server)
    await server.start("relevo.v1.PeerControl")
    yield
    await server.stop(0)


COMMANDS = [
    ["ls"], ["ls", "--json"], ["get", "x"], ["get", "--json", "x"], ["put", "--replicas", "2", "FILE"],
    ["peers"], ["peers", "--json"], ["neighbour"], ["neighbour", "--json"], ["status"], ["status", "--json"],
    ["transfers"], ["transfers", "--json"], ["get", "--detach", "x"], ["limit"], ["pause", "--all"],
    ["resume", "--all"], ["cancel", "0"], ["priority", "0", "low"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_no_answer_steers_the_terminal(lying, run, tmp_path, command):
    (tmp_path / "FILE").write_bytes(b"data")
    arguments = [str(tmp_path / "FILE") if each == "FILE" else each for each in command]
    if command[0] == "get":
        arguments += ["--to", str(tmp_path / "to")]
    seen = set()
    for _ in range(6):
        result = await run(*arguments)
        assert result.stdout + result.stderr
        assert "defect" not in result.stderr
        assert_harmless(result.stdout)
        assert_harmless(result.stderr)
        seen |= set(texts_in(json.loads(result.stdout))) if "--json" in command else set()
    if "--json" in command and command[0] != "get":
        assert seen & set(STEERING)  # a program gets the very text


def texts_in(document):
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for each in document.values() if isinstance(document, dict) else document:
            yield from texts_in(each)


@pytest.mark.parametrize(
    "kind", [errors.NotFound, errors.NotPossible, errors.Unreachable, errors.Corrupt, errors.Refused]
)
async def test_no_error_steers_the_terminal(daemon, run, tmp_path, kind):
    (tmp_path / "FILE").write_bytes(b"data")
    text = " ".join(STEERING)
    for rpc in ("ListFiles", "ListPeers", "GetNeighbours", "GetStatus", "ListTransfers", "StartUpload"):
        daemon.failures[rpc] = kind(text)
    for command in (
        ["ls"],
        ["get", "x"],
        ["peers"],
        ["neighbour"],
        ["status"],
        ["transfers"],
        ["put", tmp_path / "FILE"],
    ):
        result = await run(*command)
        assert result.exit_code
        assert len(result.stderr.splitlines()) == 1
        assert_harmless(result.stderr)


async def test_no_name_that_the_user_types_steers_the_terminal(daemon, run, tmp_path):
    for name in [*STEERING[:-1], "\udcff\x1b[31m"]:
        for command in (["get", name], ["put", name], ["ls", name], ["get", "x", "--to", f"{tmp_path}/{name}"]):
            result = await run(*command)
            assert_harmless(result.stdout)
            assert_harmless(result.stderr)
