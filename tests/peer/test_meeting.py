"""Who is at an address: a member of this network, by the certificate that it shows, or nobody."""

import asyncio

import pytest

from core.access import PLAINTEXT
from core.certificates import Kind, Subject, to_pem
from core.errors import Unreachable
from core.identity import Identity
from core.rpc import Server
from core.tls import Material, server_credentials
from peer.links.meeting import Meeting

ANA = Identity.generate()


@pytest.fixture
async def at():
    """Serves with the certificate of a subject, and returns where."""
    servers = []

    async def serve(bench, subject):
        key = ANA if subject.kind is Kind.PEER else Identity.generate()
        chain = to_pem([bench.authority.issue(subject, key.public_key, bench.wall(), 1e6)])
        material = Material(key.pem(), chain, to_pem([bench.authority.certificate]))
        server = Server(way_in=PLAINTEXT, credentials=server_credentials(lambda: material))
        port = server.listen("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield serve
    await asyncio.gather(*(server.stop(0) for server in servers))


def meeting(bench):
    return Meeting(lambda: Material(b"", b"", to_pem([bench.authority.certificate])))


async def test_a_member_is_known_by_its_certificate(at, enrolment_bench):
    address = await at(enrolment_bench, Subject(Kind.PEER, ANA.peer_id))
    assert await meeting(enrolment_bench).who_is_at(address) == ANA.peer_id


async def test_who_is_no_peer_of_this_network_is_nobody(at, enrolment_bench, other_enrolment_bench):
    stranger = await at(other_enrolment_bench, Subject(Kind.PEER, ANA.peer_id))
    with pytest.raises(Unreachable, match="no member of this network"):
        await meeting(enrolment_bench).who_is_at(stranger)
    central = await at(enrolment_bench, Subject(Kind.CENTRAL, enrolment_bench.network_id))
    with pytest.raises(Unreachable, match="name it with --central"):
        await meeting(enrolment_bench).who_is_at(central)
    with pytest.raises(Unreachable):
        await meeting(enrolment_bench).who_is_at("127.0.0.1:1")


async def test_another_member_at_an_address_is_met_once_the_first_is_forgotten(at, enrolment_bench):
    address = await at(enrolment_bench, Subject(Kind.PEER, ANA.peer_id))
    found = meeting(enrolment_bench)
    found._met[address] = "before"
    assert await found.who_is_at(address) == "before"
    found.forget(address)
    assert await found.who_is_at(address) == ANA.peer_id


async def test_in_plaintext_nobody_has_a_name():
    assert not await Meeting(None).who_is_at("127.0.0.1:1")
