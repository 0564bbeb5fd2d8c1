"""`relevo rm`: what it says of the copies that are given up, and of those that cannot be."""

import json

import pytest

from core import errors
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import content_pb2
from relevo.v1 import peer_control_pb2 as pb2


def ended(daemon, copies=2, others=0, location="", path="notes.txt"):
    storing = [content_pb2.PlacementCopy(peer=peer, confirmed=True) for peer in (daemon.ana, daemon.ben)[:copies]]
    placement = content_pb2.Placement(path=path, copies=storing, live_copies=copies, wanted_copies=2)
    response = central_pb2.EndPlacementResponse(placement=placement, wanted_copies=others)
    return pb2.PeerControlEndPlacementResponse(response=response, shared_location=location)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "notes.txt: 2 copies are given back\n"),
        ({"copies": 1}, "notes.txt: 1 copy is given back\n"),
        (
            {"location": "/home/ana/shared/notes.txt"},
            "notes.txt: 2 copies are given back; the file is still shared from /home/ana/shared/notes.txt\n",
        ),
        ({"others": 3}, "notes.txt: given up; others still want 3 copies\n"),
        ({"path": "a\x1b[2Jb"}, "a\\x1b[2Jb: 2 copies are given back\n"),
    ],
)
async def test_rm_says_what_becomes_of_the_copies_and_of_the_file(daemon, run, fields, line):
    file = daemon.offer("notes.txt")
    daemon.ended = ended(daemon, **fields)
    result = await run("rm", "notes.txt")
    assert (result.exit_code, result.stdout, result.stderr) == (0, line, "")
    (request,) = daemon.asked("EndPlacement")
    assert request.content_id == file.content_id


async def test_rm_takes_the_whole_id_of_a_content_that_no_live_peer_has(daemon, run):
    daemon.ended = ended(daemon, copies=0)
    result = await run("rm", "ab" * 32)
    assert (result.exit_code, result.stdout) == (0, "notes.txt: 0 copies are given back\n")
    assert daemon.asked("EndPlacement")[0].content_id == b"\xab" * 32


async def test_rm_of_a_name_that_means_nothing_or_several_files_gives_nothing_up(daemon, run):
    daemon.offer("one/same.txt")
    daemon.offer("two/same.txt")
    result = await run("rm", "same.txt", "nothing.txt")
    assert result.exit_code == 7
    assert "choose one by its id, such as `relevo rm " in result.stderr
    assert "no live peer offers 'nothing.txt'" in result.stderr
    assert daemon.asked("EndPlacement") == []


async def test_rm_goes_on_after_a_file_that_this_peer_has_no_claim_to(daemon, run):
    daemon.offer("mine.txt")
    daemon.offer("others.txt")
    daemon.ended = ended(daemon, path="mine.txt")
    refused = errors.NotFound("this peer has not asked for copies; ben did")
    daemon.failures["EndPlacement"] = lambda: refused if len(daemon.asked("EndPlacement")) == 1 else None
    result = await run("rm", "others.txt", "mine.txt")
    assert (result.exit_code, result.stdout) == (3, "mine.txt: 2 copies are given back\n")
    assert "ben did" in result.stderr


async def test_rm_as_json(daemon, run):
    daemon.offer("notes.txt")
    daemon.ended = ended(daemon, location="/srv/notes.txt")
    (file,) = json.loads((await run("rm", "notes.txt", "--json")).stdout)["files"]
    assert (file["placement"]["path"], file["wanted_copies"]) == ("notes.txt", 0)
    assert file["shared_location"] == "/srv/notes.txt"
