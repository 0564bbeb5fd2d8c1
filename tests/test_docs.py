"""What docs/protocol.md says is so: its examples are computed again, its tables compared with the code."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core import errors
from core.content import Layout
from core.errors import RelevoError
from core.names import MAX_PART_BYTES, MAX_PATH_BYTES
from core.pages import DEFAULT_PAGE, MAX_PAGE
from core.signing import WINDOW_SECONDS
from relevo.v1 import central_directory_pb2, enrolment_pb2, peer_control_pb2, peer_relay_pb2

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "protocol.md").read_text("utf-8")
FACTS = dict(re.findall(r"^([a-z]+(?: [a-z0-9]+)?) {2,}([0-9a-z]+)$", PAGE, re.MULTILINE))
KIB, MIB = 1024, 1024 * 1024
UNITS = {"KiB": KIB, "MiB": MIB}


def rows(header: str) -> list[list[str]]:
    """Cells of the table that begins with `header`, without markup."""
    after = PAGE.partition(header)[2].splitlines()[2:]
    lines = [line.strip() for line in after[: next(i for i, line in enumerate(after) if "|" not in line)]]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_rpc_is_mentioned_once_and_says_what_it_does():
    services = [
        service
        for file in (central_directory_pb2, peer_relay_pb2, enrolment_pb2, peer_control_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    expected = [f"{service.name}.{method.name}" for service in services for method in service.methods]
    told = re.findall(r"^\| `(\w+\.\w+)` \| (.{20,}) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in told] == expected


def test_the_example_of_a_content_id_is_right():
    data = bytes(index % 251 for index in range(70_000))
    blocks = [blake3(data[:65536]).digest(), blake3(data[65536:]).digest()]
    page = blake3(b"".join(blocks)).digest()
    root = b"\x01" + (70_000).to_bytes(8, "big") + (65_536).to_bytes(4, "big") + page
    assert FACTS["block 0"] == blocks[0].hex()
    assert FACTS["block 1"] == blocks[1].hex()
    assert FACTS["page 0"] == page.hex()
    assert FACTS["root"] == root.hex()
    assert FACTS["content id"] == blake3(root).hexdigest()
    assert FACTS["empty"] == blake3(b"\x01" + bytes(8) + (65_536).to_bytes(4, "big")).hexdigest()


def test_the_example_of_an_identity_is_right():
    key = ec.derive_private_key(1, ec.SECP256R1()).public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert FACTS["public key"] == der.hex()
    assert FACTS["peer id"] == base64.b32encode(hashlib.sha256(der).digest()).decode().rstrip("=").lower()


def test_the_example_of_a_signed_request_is_right():
    fields = [
        b"relevo signed request v1",
        FACTS["peer id"].encode(),
        FACTS["request id"].encode(),
        b"1800000000500000000",
        b"/relevo.v1.CentralDirectory/PlaceFile",
        bytes.fromhex("0a00"),
    ]
    signed = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert FACTS["signed"] == signed.hex()
    key = serialization.load_der_public_key(bytes.fromhex(FACTS["public key"]))
    key.verify(bytes.fromhex(FACTS["signature"]), signed, ec.ECDSA(hashes.SHA256()))


def test_the_table_of_block_sizes_is_the_rule():
    table = rows("| size | block size |")
    assert len(table) == 5
    smallest = 0
    for upto, block in table:
        expected = int(block.split()[0]) * UNITS[block.split()[1]]
        found = re.fullmatch(r"up to (\d+) MiB", upto)
        largest = int(found[1]) * MIB if found else 1 << 47
        assert Layout(smallest).block_size == expected
        assert Layout(largest).block_size == expected
        smallest = largest + 1


def test_the_table_of_errors_is_the_tree():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelevoError)]
    expected = [
        [kind.__name__, kind.code, kind.reason, str(kind.exit_code)] for kind in kinds if kind is not RelevoError
    ]
    assert rows("| error | status | reason | exit code |") == expected


@pytest.mark.parametrize(
    "said",
    [
        f"more than {WINDOW_SECONDS:.0f} seconds",
        f"0 means {DEFAULT_PAGE}, more than {MAX_PAGE:,} means {MAX_PAGE:,}",
        f"at most {MAX_PATH_BYTES:,} bytes long, each part at most {MAX_PART_BYTES}",
    ],
)
def test_numbers_are_those_of_the_code(said):
    assert said in " ".join(PAGE.split())


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_no_link_is_broken(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
