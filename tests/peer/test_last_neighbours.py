"""The neighbours that a home remembers."""

import asyncio

import pytest

from peer.directory.last_neighbours import MOST, LastNeighbours
from peer.links.contacts import Contact
from relevo.v1.content_pb2 import Neighbours, PeerInfo


def info(letter):
    return PeerInfo(peer_id=letter * 52, name=f"peer {letter}", addresses=["192.0.2.1:5"])


def ids(found):
    return "".join(contact.peer_id[0] for contact in found.contacts)


def test_the_latest_come_first_each_once_and_not_too_many(tmp_path):
    found = LastNeighbours(tmp_path)
    found.hear(Neighbours(primary=info("a"), backup=info("b")))
    found.hear(Neighbours(primary=info("c"), backup=info("a")))
    assert ids(found) == "cab"
    found.hear(Neighbours())
    assert ids(found) == "cab", "who is alone now has had neighbours all the same"
    for letter in "defghijklm":
        found.hear(Neighbours(primary=info(letter)))
    assert (len(found.contacts), ids(found)[:2]) == (MOST, "ml")


def test_what_is_no_peer_is_not_remembered(tmp_path):
    found = LastNeighbours(tmp_path)
    found.hear(Neighbours(primary=PeerInfo(peer_id="x"), backup=info("b")))
    assert ids(found) == "b"


async def test_they_are_there_after_a_restart(tmp_path):
    found = LastNeighbours(tmp_path)
    running = asyncio.create_task(found.run())
    found.hear(Neighbours(primary=info("a"), backup=info("b")))
    async with asyncio.timeout(20):
        while ids(LastNeighbours(tmp_path)) != "ab":  # noqa: ASYNC110 - the file tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    assert LastNeighbours(tmp_path).contacts[0] == Contact("a" * 52, "peer a", ("192.0.2.1:5",))
    assert (tmp_path / "neighbours.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "7", "[7]", "[{}]", '[{"peer_id": 7}]', '[{"odd": ""}]', '{"a": 1}', "[" * 100_000, "\ud800"]
)
def test_a_broken_memory_is_no_memory(tmp_path, text):
    (tmp_path / "neighbours.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert not LastNeighbours(tmp_path).contacts
