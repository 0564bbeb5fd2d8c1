import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from core import errors
from core.access import OWN_SOCKET
from core.content import digest
from core.rpc import Server
from peer.cli import relevo
from peer.commands import show
from peer.commands.state import status_page
from peer.settings import control_address, control_socket
from relevo.v1 import central_directory_pb2 as central_pb2
from relevo.v1 import content_pb2
from relevo.v1 import peer_control_pb2 as pb2

HOSTILE = "evil\x1b[31m\u202egpj\x9b.exe"
ROOT = Path(__file__).parents[3]


def id_of(path):
    return digest(path.encode()).hex()


# ls


async def test_ls_lists_files_with_short_ids_and_sizes(daemon, run):
    daemon.offer("富士山/一.jpg", 3 << 20)
    daemon.offer("notes.txt", 12, holders=1)
    result = await run("ls")
    assert (result.exit_code, result.stderr) == (0, "")
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["ID", "SIZE", "HOLDERS", "AGE", "PATH"]
    assert first.split() == [id_of("富士山/一.jpg")[:8], "3.0", "MiB", "2", "2023-11-14", "富士山/一.jpg"]
    assert second.split() == [id_of("notes.txt")[:8], "12", "B", "1", "2023-11-14", "notes.txt"]
    assert head.index("PATH") == second.index("notes.txt")


async def test_ls_in_full_shows_wanted_and_live_copies(daemon, run):
    daemon.offer("kept.bin")
    daemon.offer("plain.bin")
    daemon.offer("given up.bin")
    daemon.files[0].wanted_copies, daemon.files[0].live_copies = 3, 2
    daemon.files[2].live_copies = 1
    head, *rows = (await run("ls", "--long")).stdout.splitlines()
    assert head.split() == ["ID", "SIZE", "HOLDERS", "WANTED", "LIVE", "AGE", "PATH"]
    assert [row.split()[3:6] for row in rows] == [["2", "3", "2"], ["2", "-", "-"], ["2", "-", "1"]]


async def test_ls_asks_for_what_the_options_say(daemon, run):
    await run("ls", "*.ISO", "--by-name")
    await run("ls", "nin\u0303o")
    first, second = daemon.asked("ListFiles")
    assert (first.query, first.order) == ("*.ISO", central_pb2.FILE_ORDER_BY_NAME)
    assert (second.query, second.order) == ("ni\u00f1o", central_pb2.FILE_ORDER_NEWEST_FIRST)


@pytest.mark.parametrize(("limit", "listed"), [([], 7), (["--limit", 4], 4), (["--limit", 100], 7)])
async def test_ls_follows_the_pages_up_to_its_limit(daemon, run, limit, listed):
    daemon.page = 3
    for number in range(7):
        daemon.offer(f"file-{number}")
    result = await run("ls", *limit, "--json")
    paths = [file["path"] for file in json.loads(result.stdout)["files"]]
    assert paths == [f"file-{number}" for number in range(listed)]


async def test_ls_of_nothing_says_so_and_is_no_failure(daemon, run):
    result = await run("ls", "xyz\x1b")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no file matches" in result.stderr
    assert "\x1b" not in result.stderr


async def test_json_is_one_utf8_document_with_times_ids_and_integers(daemon, run):
    daemon.offer("空の/ñ.bin", (1 << 47) - 1, holders=3)
    result = await run("ls", "--json")
    assert "空の/ñ.bin" in result.stdout_bytes.decode("utf-8")
    assert json.loads(result.stdout_bytes) == {
        "files": [
            {
                "path": "空の/ñ.bin",
                "content_id": id_of("空の/ñ.bin"),
                "size_bytes": (1 << 47) - 1,
                "modify_time": "2023-11-14T22:12:20.250000Z",
                "executable": False,
                "holder_count": 3,
                "publish_time": "2023-11-14T22:13:20.000000Z",
                "wanted_copies": 0,
                "live_copies": 0,
            }
        ]
    }


async def test_json_of_a_time_that_no_calendar_holds_is_null(daemon, run):
    daemon.offer("x", published=(1 << 40))
    result = await run("ls", "--json")
    assert json.loads(result.stdout)["files"][0]["publish_time"] is None


# What comes from the network never steers the terminal


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
@pytest.mark.parametrize("command", [["ls"], ["peers"], ["neighbour"], ["status"], ["transfers"], ["get", "x"]])
async def test_hostile_names_are_escaped_in_every_command(daemon, run, tmp_path, command, json_flag):
    peer = content_pb2.PeerInfo(peer_id=HOSTILE, name=HOSTILE, addresses=[HOSTILE])
    daemon.offer(HOSTILE)
    daemon.offer(f"x/{HOSTILE}", content="x")
    daemon.offer("x", content="x")
    daemon.steps["x"] = [daemon.step(5, 5, "DONE", target=HOSTILE)]
    daemon.listings = [central_pb2.PeerListing(peer=peer, primary_peer_id=HOSTILE, backup_peer_id="b")]
    daemon.neighbours = content_pb2.Neighbours(primary=peer, backup=peer)
    daemon.route = pb2.Route(kind=pb2.ROUTE_KIND_BACKUP, peer=peer, address=HOSTILE)
    daemon.status = pb2.GetStatusResponse(
        peer=peer,
        shared_directory=HOSTILE,
        central=HOSTILE,
        session_problem=HOSTILE,
        neighbours=daemon.neighbours,
        last_route=daemon.route,
        skipped=[pb2.SkippedFile(path=HOSTILE, reason=HOSTILE)],
        skipped_count=1,
        home=HOSTILE,
        version=HOSTILE,
    )
    daemon.listed_transfers = [daemon.step(1, 5, "FAILED", path=HOSTILE, error_message=HOSTILE)]
    to = ["--to", tmp_path] if command[0] == "get" else []
    result = await run(*command, *to, *json_flag)
    assert result.exit_code == 0, result.stderr
    assert not set(result.stdout + result.stderr) & set("\x1b\u202e\x9b")
    assert "gpj" in result.stdout
    if json_flag:
        assert json.dumps(HOSTILE) in json.dumps(json.loads(result.stdout))


async def test_a_hostile_error_message_is_escaped_and_stays_one_line(daemon, run):
    daemon.failures["ListFiles"] = errors.NotPossible(f"{HOSTILE}\nsecond line")
    result = await run("ls")
    assert result.exit_code == 7
    assert result.stderr == "relevo: evil\\x1b[31m\\u202egpj\\x9b.exe\\nsecond line\n"


# peers, neighbour, status, transfers


async def test_peers_names_neighbours_and_tells_suspects(daemon, run):
    daemon.listings = [
        central_pb2.PeerListing(
            peer=daemon.ana, state=central_pb2.PEER_STATE_LIVE, file_count=1234, primary_peer_id=daemon.ben.peer_id
        ),
        central_pb2.PeerListing(peer=daemon.ben, state=central_pb2.PEER_STATE_SUSPECT, backup_peer_id="q" * 52),
        central_pb2.PeerListing(peer=daemon.ben, state=central_pb2.PEER_STATE_REACHED),
        central_pb2.PeerListing(
            peer=daemon.ben, state=central_pb2.PEER_STATE_LIVE, carried=True, carrier_peer_id=daemon.ana.peer_id
        ),
        central_pb2.PeerListing(peer=daemon.ben, state=central_pb2.PEER_STATE_LIVE, carried=True),
    ]
    head, ana, ben, reached, carried, carried_in_plaintext = (await run("peers")).stdout.splitlines()
    assert head.split() == ["ID", "NAME", "ADDRESS", "STATE", "FILES", "FREE", "JOINED", "PRIMARY", "BACKUP"]
    assert ana.split() == ["aaaaaaaa", "ana", "127.0.0.1:4321", "live", "1,234", "0", "B", "-", "ben", "-"]
    assert ben.split()[3] == "suspect"
    assert ben.split()[-2:] == ["-", "qqqqqqqq"]
    assert " only by others " in reached
    assert " via ana " in carried
    assert " via another " in carried_in_plaintext


async def test_peers_and_transfers_follow_the_pages(daemon, run):
    daemon.page = 2
    daemon.listings = [central_pb2.PeerListing(file_count=number) for number in range(5)]
    found = json.loads((await run("peers", "--json")).stdout)["peers"]
    assert [listing["file_count"] for listing in found] == [0, 1, 2, 3, 4]
    daemon.listed_transfers = [daemon.step(number, 9) for number in range(5)]
    for options, count in (([], 5), (["--limit", 3], 3)):
        found = json.loads((await run("transfers", "--json", *options)).stdout)["transfers"]
        assert [transfer["done_bytes"] for transfer in found] == list(range(count))


async def test_peers_as_json(daemon, run):
    daemon.listings = [
        central_pb2.PeerListing(
            peer=daemon.ana,
            state=central_pb2.PEER_STATE_SUSPECT,
            free_bytes=7,
            carried=True,
            carrier_peer_id=daemon.ben.peer_id,
        )
    ]
    (listing,) = json.loads((await run("peers", "--json")).stdout)["peers"]
    assert listing["peer"] == {"peer_id": "a" * 52, "name": "ana", "addresses": ["127.0.0.1:4321", "[::1]:4321"]}
    assert (listing["state"], listing["free_bytes"], listing["login_time"]) == ("suspect", 7, None)
    assert (listing["carried"], listing["carrier_peer_id"]) == (True, "b" * 52)


async def test_neighbour_shows_both_and_the_way_of_the_answer(daemon, run):
    result = await run("neighbour")
    head, primary, backup, way = result.stdout.splitlines()
    assert head.split() == ["ROLE", "NAME", "ID", "ADDRESSES"]
    assert primary.split() == ["primary", "ana", "aaaaaaaa", "127.0.0.1:4321", "[::1]:4321"]
    assert backup.split() == ["backup", "ben", "bbbbbbbb", "127.0.0.1:4400"]
    assert way == "asked through primary neighbour ana (127.0.0.1:4321), 3 ms"
    assert json.loads((await run("neighbour", "--json")).stdout)["route"]["took_seconds"] == 0.003


async def test_a_lone_peer_has_no_neighbour(daemon, run):
    daemon.neighbours = content_pb2.Neighbours()
    daemon.route = pb2.Route(kind=pb2.ROUTE_KIND_CENTRAL, address="127.0.0.1:7400", took={"seconds": 2})
    assert (await run("neighbour")).stdout.splitlines() == [
        "no neighbour: this peer is alone, and asks central itself",
        "asked straight to central at 127.0.0.1:7400, 2.0 s",
    ]
    found = json.loads((await run("neighbour", "--json")).stdout)
    assert (found["primary"], found["backup"]) == (None, None)
    assert (found["route"]["kind"], found["route"]["took_seconds"]) == ("central", 2.0)


async def test_status_tells_the_whole_story(daemon, run):
    daemon.status = pb2.GetStatusResponse(
        peer=daemon.ana,
        shared_directory="/srv/ana",
        home="/home/ana",
        central="127.0.0.1:7400",
        session_state=pb2.SESSION_STATE_LIVE,
        neighbours=daemon.neighbours,
        last_route=daemon.route,
        file_count=120,
        file_bytes=3 << 30,
        unhashed_count=3,
        stored_count=1,
        stored_bytes=1 << 20,
        store_quota_bytes=10 << 30,
        skipped=[pb2.SkippedFile(path="a\\\\b", reason="it contains a backslash")],
        skipped_count=30,
        sent_bytes=5 << 30,
        version="0.1.0",
        publishing_problem="central takes 100 files of this peer at most",
        rate_limits=pb2.RateLimits(upload_bytes_per_second=2 << 20),
        max_downloads=16,
        reachability=pb2.REACHABILITY_HIDDEN,
        received_bytes=1000,
        received_reversed_bytes=300,
        received_relayed_bytes=200,
        relay=pb2.RelayStatus(
            attached_count=1, relayed_bytes=2048, attached_to=[daemon.neighbours.primary, daemon.neighbours.backup]
        ),
        entrance=pb2.EntranceStatus(address="[::]:7401", led_count=3, refused_count=1200),
    )
    relays = "; relays for 1 peer, 2.0 KiB so far"
    assert (await run("status")).stdout.splitlines() == [
        "peer       ana  aaaaaaaa  127.0.0.1:4321, [::1]:4321",
        f"peer id    {'a' * 52}",
        "network    logged in to central at 127.0.0.1:7400 (-)",
        "identity   PLAINTEXT: nothing is encrypted, and nobody has to prove who they are",
        "neighbours primary ana (127.0.0.1:4321) · backup ben (127.0.0.1:4400)",
        "last route through primary neighbour ana (127.0.0.1:4321), 3 ms",
        "shares     /srv/ana: 120 files, 3.0 GiB, 3 more being read",
        "catalogue  central takes 100 files of this peer at most",
        "stores     1 copy for others, 1.0 MiB of 10.0 GiB",
        f"reached    nobody can dial this peer: it pushes, or is relayed by ana and ben{relays}",
        "entrance   [::]:7401: 3 connections led to central, 1,200 turned away",
        "traffic    sent 5.0 GiB, received 1000 B (50% direct, 30% reversed, 20% relayed)",
        "limits     upload 2.0 MiB/s, download no limit, 16 downloads at once",
        "home       /home/ana",
        "version    0.1.0",
        "not shared 30 files:",
        "  a\\\\b  it contains a backslash",
        "  and 29 more; `relevo status --json` lists up to 1,000",
    ]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (1_800_000_000, "certificate good until 2027-01-16 08:00 UTC (for 1 d), renews 2027-01-16 00:00 UTC"),
        (1_800_082_800, "(for 1 h), renews as soon as central answers"),
        (1_800_090_000, "certificate good until 2027-01-16 08:00 UTC: EXPIRED, renews as soon as central answers"),
    ],
)
def test_status_tells_what_makes_the_peer_a_member(now, words):
    member = pb2.MembershipStatus(network_id="abcdefghijklmnop")
    member.certificate_expire_time.seconds = 1_800_000_000 + 86_400
    member.renew_time.seconds = 1_800_000_000 + 57_600
    line = status_page(pb2.GetStatusResponse(membership=member), now)[3]
    assert line.startswith("identity   member of abcdefghijklmnop, certificate good until ")
    assert words in line


@pytest.mark.parametrize(
    ("seconds", "words"), [(7200, "2 h AHEAD OF central's: set"), (-172_800, "2 d BEHIND central's")]
)
def test_status_says_when_this_machines_clock_is_wrong(seconds, words):
    found = pb2.GetStatusResponse()
    assert not [line for line in status_page(found, 0) if line.startswith("clock")]
    found.clock_ahead.seconds = seconds
    (line,) = [line for line in status_page(found, 0) if line.startswith("clock")]
    assert words in line


async def test_status_as_json_tells_the_membership_and_no_secret(daemon, run):
    daemon.status.session_id = "5e55" * 8
    daemon.status.membership.network_id = "abcdefghijklmnop"
    result = await run("status", "--json")
    assert json.loads(result.stdout)["membership"]["network_id"] == "abcdefghijklmnop"
    assert "5e55" not in result.stdout


async def test_status_keeps_the_reason_in_sight_however_long_a_skipped_path_is(daemon, run):
    daemon.status.skipped.add(path="deep/" * 900 + "file", reason="it is too long")
    daemon.status.skipped_count = 1
    line = (await run("status")).stdout.splitlines()[-1]
    assert line.startswith("  deep/deep/")
    assert line.endswith("/deep/file  it is too long")
    assert len(line) < 110


async def test_status_says_why_the_peer_is_not_logged_in(daemon, run):
    daemon.status.session_state = pb2.SESSION_STATE_CONNECTING
    daemon.status.session_problem = "central does not answer"
    result = await run("status")
    assert "NOT logged in to central at 127.0.0.1:7400 (-): central does not answer" in result.stdout
    found = json.loads((await run("status", "--json")).stdout)
    assert (found["session_state"], found["last_route"], found["file_count"]) == ("connecting", None, 0)


async def test_a_failed_copy_for_others_shows_its_reason_alone(daemon, run):
    daemon.listed_transfers = [daemon.step(1, 5, "FAILED", error_message="no room")]
    assert (await run("transfers")).stdout.splitlines()[-1].endswith("  no room")


async def test_transfers_show_how_far_they_are(daemon, run):
    daemon.listed_transfers = [
        daemon.step(
            *(10, 100), kind=1, path="a.iso", rate_bytes_per_second=5 << 20, transfer_id="0a1b2c3d" * 2,
            remaining_time={"seconds": 125},
        ),
        daemon.step(0, 100, "FAILED", kind=2, path="b", error_message="nobody answers", transfer_id="0a1b2c3e" * 2),
        daemon.step(9, 100, "PAUSED", kind=1, path="c", priority=pb2.TRANSFER_PRIORITY_HIGH, transfer_id="c" * 16),
        daemon.step(9, 100, "WAITING", kind=1, path="d", waiting_reason="nobody holds it", transfer_id="d" * 16),
    ]  # fmt: skip
    heads, running, failed, paused, waiting = (await run("transfers")).stdout.splitlines()
    assert heads.split() == ["ID", "KIND", "STATE", "SIZE", "DONE", "RATE", "LEFT", "HOLDERS", "BEGAN", "PATH"]
    assert " ".join(running.split()) == "0a1b2c3d download running 100 B 10% 5.0 MiB/s 2 min 5 s 1 2023-11-14 a.iso"
    assert failed.endswith("b: nobody answers")
    assert " ".join(paused.split()) == "cccccccc download paused (high) 100 B 9% - - 1 2023-11-14 c"
    assert waiting.endswith("d: nobody holds it")
    (first,) = json.loads((await run("transfers", "--limit", 1, "--json")).stdout)["transfers"]
    assert (first["kind"], first["state"], first["end_time"]) == ("download", "running", None)
    assert first["sources"][0]["peer"]["name"] == "ana"


async def test_a_copy_for_others_is_named_by_its_content(daemon, run):
    daemon.listed_transfers = [daemon.step(9, 9, path="", content_id=bytes.fromhex("0a6287e8" * 8))]
    assert (await run("transfers")).stdout.splitlines()[-1].endswith("  0a6287e8")


async def test_no_transfers_is_no_failure(daemon, run):
    result = await run("transfers")
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((await run("transfers", "--json")).stdout) == {"transfers": []}


# get


async def test_get_hands_the_daemon_the_file_as_listed(daemon, run, tmp_path):
    file = daemon.offer("a/notes.txt", 5)
    result = await run("get", "notes.txt", "--to", tmp_path / "new" / "deep")
    assert (result.exit_code, result.stderr) == (0, "")
    (request,) = daemon.asked("StartDownload")
    assert request.directory == str(tmp_path / "new" / "deep")
    assert request.directory in [str(path) for path in (tmp_path / "new").iterdir()]
    assert (request.file.path, request.file.content_id, request.file.size_bytes) == ("a/notes.txt", file.content_id, 5)
    assert request.file.modify_time == file.modify_time


async def test_get_writes_to_the_current_directory_by_default(daemon, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daemon.offer("x")
    await run("get", "x")
    assert daemon.asked("StartDownload")[0].directory == str(tmp_path)


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([(0, "WAITING", {}), (5 << 20, "RUNNING", {}), (10 << 20, "DONE", {})], "in 2.0 s (5.0 MiB/s) from 1 holder"),
        ([(10 << 20, "DONE", {"sources": []})], "already there"),
        ([(10 << 20, "DONE", {"sources": [], "copied_bytes": 10 << 20})], "copied locally"),
        ([(10 << 20, "DONE", {"sources": [], "resumed_bytes": 10 << 20})], "from an earlier try"),
        ([(10 << 20, "DONE", {"resumed_bytes": 2 << 20})], "from 1 holder, 2.0 MiB of it in an earlier try"),
    ],
)
async def test_get_says_where_the_file_is_and_how_it_came(daemon, run, tmp_path, looks, words):
    daemon.offer("big.iso", 10 << 20)
    daemon.steps["big.iso"] = [daemon.step(done, 10 << 20, state, **fields) for done, state, fields in looks]
    result = await run("get", "big.iso", "--to", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path}/big.iso  10.0 MiB  ")
    assert result.stdout.endswith(f"{words}\n")
    assert result.stderr == ""


async def test_get_takes_the_beginning_of_a_content_id(daemon, run, tmp_path):
    daemon.offer("x")
    result = await run("get", id_of("x")[:8], id_of("x"), "--to", tmp_path)
    assert result.exit_code == 0
    assert [request.file.path for request in daemon.asked("StartDownload")] == ["x"]


async def test_the_same_bytes_under_two_paths_are_one_file(daemon, run, tmp_path):
    daemon.offer("old/other.txt", content="same")
    daemon.offer("notes.txt", content="same")
    result = await run("get", digest(b"same").hex()[:6], "notes.txt", "--to", tmp_path)
    assert result.exit_code == 0
    assert [request.file.path for request in daemon.asked("StartDownload")] == ["old/other.txt", "notes.txt"]


async def test_a_name_of_different_files_lists_the_candidates(daemon, run, tmp_path):
    daemon.offer("a/report.pdf", 1 << 20)
    daemon.offer("b/report.pdf", 2 << 20, holders=1)
    result = await run("get", "report.pdf", "--to", tmp_path)
    assert (result.exit_code, result.stdout) == (7, "")
    one, other = id_of("a/report.pdf")[:8], id_of("b/report.pdf")[:8]
    assert result.stderr.splitlines() == [
        f"relevo: 'report.pdf' is the name of 2 different files; choose one by its id, such as `relevo get {one}`",
        f"  {one}  1.0 MiB  2 holders  a/report.pdf",
        f"  {other}  2.0 MiB  1 holder   b/report.pdf",
    ]
    assert daemon.asked("StartDownload") == []


async def test_a_name_that_nobody_offers_is_exit_code_3(daemon, run, tmp_path):
    result = await run("get", "nix", "--to", tmp_path / "new")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "relevo: no live peer offers 'nix'; `relevo ls` shows what there is\n"
    assert not (tmp_path / "new").exists()


async def test_one_failure_keeps_nothing_else_from_coming_and_the_worst_code_counts(daemon, run, tmp_path):
    for path in ("taken", "good", "lost"):
        daemon.offer(path)
    daemon.failures["StartDownload", "taken"] = errors.AlreadyExists("taken holds other bytes; move it away")
    daemon.steps["lost"] = [daemon.step(0, 5, "FAILED", error_code=14, error_message="no holder answers")]
    result = await run("get", "taken", "nix", "lost", "good", "--to", tmp_path)
    assert result.exit_code == 7
    assert result.stdout.startswith(f"{tmp_path}/good  ")
    assert result.stdout.count("\n") == 1
    assert [line.split(";")[0] for line in result.stderr.splitlines()] == [
        "relevo: no live peer offers 'nix'",
        "relevo: taken holds other bytes",
        "relevo: no holder answers",
    ]
    assert (await run("get", "lost", "--to", tmp_path)).exit_code == 5


async def test_get_as_json_tells_what_failed_too(daemon, run, tmp_path):
    daemon.offer("lost")
    daemon.steps["lost"] = [daemon.step(0, 5, "FAILED", error_code=15, error_message="every holder lies")]
    result = await run("get", "lost", "nix", "--to", tmp_path, "--json")
    assert result.exit_code == 3
    assert "every holder lies" in result.stderr
    (file,) = json.loads(result.stdout)["files"]
    assert (file["state"], file["error_message"], file["target"]) == ("failed", "every holder lies", f"{tmp_path}/lost")
    assert json.loads((await run("get", "nix", "--json")).stdout) == {"files": [], "sets": []}


async def test_get_keeps_only_some_transfers_under_way(daemon, run, tmp_path):
    for number in range(70):
        daemon.offer(f"file-{number}")
        daemon.steps[f"file-{number}"] = [daemon.step(0, 5), daemon.step(5, 5, "DONE")]
    result = await run("get", *(f"file-{number}" for number in range(70)), "--to", tmp_path)
    assert result.stdout.count("\n") == 70
    rpcs = [rpc for rpc, _ in daemon.requests if rpc in {"StartDownload", "GetTransfer"}]
    assert rpcs[:32] == ["StartDownload"] * 32
    assert rpcs[32:64] == ["GetTransfer"] * 32


@pytest.mark.parametrize("name", ["film.mkv", "films/"])
async def test_ctrl_c_before_the_daemon_has_answered_cancels_what_it_begins(daemon, spawn, tmp_path, name):
    daemon.offer("films/film.mkv", 8 << 20)
    daemon.steps["films/film.mkv"] = daemon.steps["films/"] = [daemon.step(0, 8 << 20)]
    daemon.begins.clear()
    process = await spawn("get", name, "--to", tmp_path)
    await daemon.asked_to_start.wait()
    process.send_signal(2)
    daemon.begins.set()
    _, stderr = await process.communicate()
    assert process.returncode == 130
    assert stderr.decode() == "relevo: stopped; the same command goes on from where it was\n"
    (cancelled,) = daemon.asked("CancelTransfer")
    assert cancelled.transfer_id in daemon.under_way


async def test_ctrl_c_cancels_the_transfers_and_says_how_to_go_on(daemon, spawn, tmp_path):
    for path in ("slow", "small"):
        daemon.offer(path)
    daemon.steps["slow"] = [daemon.step(1, 5)]
    process = await spawn("get", "small", "slow", "--to", tmp_path)
    await daemon.waiting_calls.wait()
    process.send_signal(2)
    stdout, stderr = await process.communicate()
    assert process.returncode == 130
    assert stderr.decode() == "relevo: stopped; the same command goes on from where it was\n"
    assert stdout.decode().startswith(f"{tmp_path}/small  ")
    assert [request.transfer_id for request in daemon.asked("CancelTransfer")] == [f"{2:016x}"]


async def test_what_goes_on_in_the_background_is_not_stopped_by_who_watches_it(daemon, spawn, tmp_path):
    for path in ("own", "theirs"):
        daemon.offer(path)
        daemon.steps[path] = [daemon.step(1, 5, detached=path == "theirs")]
    process = await spawn("get", "own", "theirs", "--to", tmp_path)
    await daemon.waiting_calls.wait()
    process.send_signal(2)
    _, stderr = await process.communicate()
    assert process.returncode == 130
    assert stderr.decode() == "relevo: stopped; 1 download in the background goes on, see `relevo transfers`\n"
    assert [request.transfer_id for request in daemon.asked("CancelTransfer")] == [f"{1:016x}"]


async def test_a_detached_get_returns_when_everything_is_accepted(daemon, run, tmp_path):
    for path in ("a", "b"):
        daemon.offer(path)
        daemon.steps[path] = [daemon.step(0, 5)]
    result = await run("get", "a", "b", "nix", "--to", tmp_path, "--detach")
    assert result.exit_code == 3
    assert result.stdout == f"00000000  5 B  {tmp_path}/a\n00000000  5 B  {tmp_path}/b\n"
    assert [request.options.detached for request in daemon.asked("StartDownload")] == [True, True]
    assert not daemon.asked("GetTransfer")
    found = json.loads((await run("get", "a", "--to", tmp_path, "--detach", "--json")).stdout)["files"]
    assert [(file["path"], file["state"]) for file in found] == [("a", "running")]


async def test_one_get_has_one_limit_and_one_priority(daemon, run, tmp_path):
    for path in ("a", "b"):
        daemon.offer(path)
    assert (await run("get", "a", "b", "--to", tmp_path)).exit_code == 0
    await run("get", "a", "b", "--to", tmp_path, "--limit-rate", "1.5MiB/s", "--priority", "high")
    plain, _, first, second = (request.options for request in daemon.asked("StartDownload"))
    normal = pb2.TRANSFER_PRIORITY_NORMAL
    assert plain == pb2.DownloadOptions(priority=normal)
    assert first == second
    assert (first.rate_limit_bytes_per_second, first.priority) == (3 << 19, pb2.TRANSFER_PRIORITY_HIGH)
    assert first.limit_group


# pause, resume, cancel, priority, limit


@pytest.fixture
def listed(daemon):
    daemon.listed_transfers = [
        daemon.step(5, 100, kind=1, path="a", transfer_id="aaaa0000" * 2),
        daemon.step(5, 100, "PAUSED", kind=1, path="b", transfer_id="aaab0000" * 2),
        daemon.step(5, 100, kind=2, path="up", transfer_id="bbbb0000" * 2),
        daemon.step(5, 100, "DONE", kind=1, path="over", transfer_id="aaaa1111" * 2),
    ]
    return {transfer.path: transfer.transfer_id for transfer in daemon.listed_transfers}


async def test_downloads_are_paused_by_the_beginning_of_their_ids(daemon, run, listed):
    result = await run("pause", "AAAA", "aaab0000aaab0000")
    assert (result.exit_code, result.stdout) == (
        0,
        "aaaa0000  paused  5% of 100 B  a\naaab0000  paused  5% of 100 B  b\n",
    )
    assert [request.transfer_id for request in daemon.asked("PauseTransfer")] == [listed["a"], listed["b"]]


async def test_all_is_all_to_which_it_could_matter(daemon, run, listed):
    assert "aaaa0000  paused" in (await run("pause", "--all")).stdout
    assert [request.transfer_id for request in daemon.asked("PauseTransfer")] == [listed["a"]]
    found = json.loads((await run("resume", "--all", "--json")).stdout)["transfers"]
    assert [(transfer["path"], transfer["state"]) for transfer in found] == [("a", "running"), ("b", "running")]
    result = await run("resume", "--all")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "there is no such download\n")
    assert json.loads((await run("resume", "--all", "--json")).stdout) == {"transfers": []}


async def test_what_cannot_be_done_is_told_and_the_others_go_on(daemon, run, listed):
    daemon.failures["PauseTransfer", listed["up"]] = errors.NotPossible("it is no download")
    result = await run("pause", "nix", "bbbb", "aaaa")
    assert result.exit_code == 7
    assert result.stdout == "aaaa0000  paused  5% of 100 B  a\n"
    assert "there is no transfer 'nix'; `relevo transfers` lists them" in result.stderr
    assert "it is no download" in result.stderr


async def test_an_ambiguous_beginning_lists_its_candidates(daemon, run, listed):
    result = await run("cancel", "aaa")
    assert result.exit_code == 7
    assert "'aaa' is the beginning of 2 ids; choose one" in result.stderr
    assert "aaaa0000aaaa0000  running  a" in result.stderr
    assert not daemon.asked("CancelTransfer")


async def test_cancel_stops_transfers_of_any_kind(daemon, run, listed):
    result = await run("cancel", "bbbb", "aaab")
    assert result.stdout == "bbbb0000  cancelled  5% of 100 B  up\naaab0000  cancelled  5% of 100 B  b\n"


async def test_a_priority_is_set_and_told(daemon, run, listed):
    result = await run("priority", "aaaa", "high")
    assert result.stdout == "aaaa0000  running, high priority  5% of 100 B  a\n"
    (request,) = daemon.asked("SetTransferPriority")
    assert (request.transfer_id, request.priority) == (listed["a"], pb2.TRANSFER_PRIORITY_HIGH)


@pytest.mark.parametrize(
    "command", [["pause"], ["resume"], ["cancel"], ["pause", "--all", "aaaa"], ["priority", "aaaa", "urgent"]]
)
async def test_what_is_to_be_steered_has_to_be_said(daemon, run, command):
    result = await run(*command)
    assert result.exit_code == 2
    assert result.stderr.strip()
    assert not daemon.requests


async def test_limits_are_shown_set_and_lifted(daemon, run):
    assert (await run("limit")).stdout == "upload    no limit\ndownload  no limit\n"
    assert (await run("limit", "--upload", "2MiB/s")).stdout == "upload    2.0 MiB/s\ndownload  no limit\n"
    found = json.loads((await run("limit", "--download", "500k", "--json")).stdout)
    assert found == {"upload_bytes_per_second": 2 << 20, "download_bytes_per_second": 500 * 1024}
    assert (await run("limit", "--upload", "none")).stdout == "upload    no limit\ndownload  500 KiB/s\n"
    for rate in ("fast", "1000", "-1", "2MiB/h"):
        result = await run("limit", "--upload", rate)
        assert result.exit_code == 2, rate
        assert "rate such as 2MiB/s" in result.stderr or "at least 1KiB/s" in result.stderr


async def test_a_transfer_that_somebody_else_cancels_ends_the_command(daemon, run, tmp_path):
    daemon.offer("x")
    daemon.steps["x"] = [daemon.step(1, 5), daemon.step(1, 5, "CANCELLED")]
    result = await run("get", "x", "--to", tmp_path)
    assert result.exit_code == 1
    assert "x was stopped" in result.stderr


@pytest.mark.parametrize("argument", ["\udcff", "a\udcffb"])
async def test_names_that_are_not_unicode_are_refused_clearly(daemon, run, tmp_path, argument):
    for args in (["get", argument], ["ls", argument]):
        result = await run(*args)
        assert result.exit_code == 2
        assert "is not valid UTF-8" in result.stderr


async def test_to_must_not_be_a_file(daemon, run, tmp_path):
    (tmp_path / "file").touch()
    daemon.offer("x")
    result = await run("get", "x", "--to", tmp_path / "file")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


async def test_to_that_cannot_be_made_is_one_line(daemon, run, tmp_path):
    (tmp_path / "file").touch()
    daemon.offer("x")
    result = await run("get", "x", "--to", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert result.stderr == f"relevo: cannot use {tmp_path}/file/below: Not a directory\n"


async def test_progress_goes_to_a_terminal_only_and_stdout_stays_plain(daemon, spawn, tmp_path):
    daemon.offer("big.iso", 100 << 20)
    looks = [daemon.step(done << 20, 100 << 20, rate_bytes_per_second=10 << 20) for done in range(0, 100, 10)]
    daemon.steps["big.iso"] = [*looks, daemon.step(100 << 20, 100 << 20, "DONE")]
    ours, theirs = os.openpty()
    try:
        process = await spawn("get", "big.iso", "--to", tmp_path, stderr=theirs)
        stdout, _ = await process.communicate()
        os.set_blocking(ours, False)
        shown = os.read(ours, 1 << 20).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "big.iso" in shown
    assert "10.0 MiB/s" in shown
    assert stdout.decode() == f"{tmp_path}/big.iso  100 MiB  in 2.0 s (50.0 MiB/s) from 1 holder\n"


async def test_quiet_shows_no_progress_on_a_terminal(daemon, spawn, tmp_path):
    daemon.offer("big.iso", 100)
    daemon.steps["big.iso"] = [daemon.step(10, 100)] * 5 + [daemon.step(100, 100, "DONE")]
    ours, theirs = os.openpty()
    try:
        process = await spawn("get", "big.iso", "--to", tmp_path, "--quiet", stderr=theirs)
        await process.communicate()
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)


# get of sets


async def test_a_directory_and_patterns_are_one_transfer_and_named_files_each_their_own(daemon, run, tmp_path):
    daemon.offer("trip/photos/a.jpg")
    daemon.offer("film.mov")
    result = await run("get", "trip/photos/", "film.mov", "*.jpg", "photos/**", "trip/photos/", "--to", tmp_path)
    assert result.exit_code == 0
    (request,) = daemon.asked("StartSetDownload")
    assert [(one.beneath, one.pattern) for one in request.selections] == [
        ("trip/photos", ""), ("", "*.jpg"), ("", "photos/**"),
    ]  # fmt: skip
    assert request.directory == str(tmp_path)
    assert [one.file.path for one in daemon.asked("StartDownload")] == ["film.mov"]


async def test_a_file_of_that_very_name_comes_before_a_pattern_and_a_pattern_before_a_directory(daemon, run, tmp_path):
    daemon.offer("a[1].txt")
    daemon.offer("photos/x.jpg")
    assert (await run("get", "a[1].txt", "--to", tmp_path)).exit_code == 0
    assert not daemon.asked("StartSetDownload")
    assert (await run("get", "photos", "a[2].txt", "--to", tmp_path)).exit_code == 0
    (request,) = daemon.asked("StartSetDownload")
    assert [(one.beneath, one.pattern) for one in request.selections] == [("photos", ""), ("", "a[2].txt")]
    result = await run("get", "nothing", "--to", tmp_path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no live peer offers 'nothing'" in result.stderr


@pytest.mark.parametrize("name", ["../", "/", "a//b/", "a/../b/", "a\\b/"])
async def test_a_directory_that_cannot_be_is_refused(daemon, run, tmp_path, name):
    result = await run("get", name, "--to", tmp_path)
    assert result.exit_code == 2
    assert "is not a valid path" in result.stderr
    assert not daemon.asked("StartSetDownload")


def given(**bytes_by_name):
    return [
        pb2.TransferSource(peer={"peer_id": name * 52, "name": name}, bytes=count)
        for name, count in bytes_by_name.items()
    ]


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        (({"found_count": 12345, "done_count": 12345}, given(a=600, b=395, c=5)),
         "12,345 files, 1000 B  in 2.0 s (500 B/s) from 3 holders (a 60%, b 39%, c <1%)"),
        (({"found_count": 2, "done_count": 2, "present_count": 1}, given(a=1)),
         "2 files, 1000 B  in 2.0 s (0 B/s) from 1 holder, 1 of them already there"),
        (({"found_count": 2, "done_count": 2, "present_count": 2}, []), "2 files, 1000 B  already there"),
        (({"found_count": 9, "done_count": 8}, given(a=5, b=4, c=3, d=2, e=1)),
         "8 of 9 files, 1000 B  in 2.0 s (8 B/s) from 5 holders (a 33%, b 26%, c 20%, 2 more)"),
    ],
)  # fmt: skip
async def test_get_says_what_a_set_came_to_and_how_much_came_from_whom(daemon, run, tmp_path, looks, words):
    found, sources = looks
    daemon.steps["d/"] = [daemon.step(1000, 1000, "DONE", set={"listed": True, **found}, sources=sources)]
    result = await run("get", "d/", "--to", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path}  d/  {words}\n"


async def test_several_results_are_followed_by_what_they_come_to(daemon, run, tmp_path):
    daemon.offer("x", 50)
    daemon.steps["x"] = [daemon.step(50, 50, "DONE", sources=given(a=50))]
    daemon.steps["d/"] = [
        daemon.step(150, 150, "DONE", set={"listed": True, "found_count": 3, "done_count": 3}, sources=given(b=150))
    ]
    result = await run("get", "x", "d/", "--to", tmp_path)
    assert result.stdout.count("\n") == 2
    assert result.stderr == "4 files, 200 B from 2 holders (b 75%, a 25%)\n"
    assert (await run("get", "x", "d/", "--to", tmp_path, "--quiet")).stderr == ""


def problem(number, code=5):
    return pb2.SetProblem(path=f"d/{number}", error_code=code, error_message="nobody holds it")


async def test_what_of_a_set_does_not_come_is_told_file_by_file_while_it_runs_and_only_so_much(daemon, run, tmp_path):
    daemon.problems = [problem(number) for number in range(150)] + [problem(150, 6)]
    failed = {"listed": True, "found_count": 200, "done_count": 49, "failed_count": 151}
    end = {"error_code": 6, "error_message": "151 are missing, the first of them d/0"}
    daemon.steps["d/"] = [daemon.step(1, 9, set=failed), daemon.step(1, 9, "FAILED", set=failed, **end)]
    result = await run("get", "d/", "--to", tmp_path)
    assert result.exit_code == 7, "the worst that any file ended with"
    lines = result.stderr.splitlines()
    assert lines[:20] == [f"relevo: d/{number}: nobody holds it" for number in range(20)]
    assert lines[20:] == ["relevo: and 131 more could not be fetched; --json lists up to 1,000"]
    assert result.stdout.startswith(f"{tmp_path}  d/  49 of 200 files, ")
    document = json.loads((await run("get", "d/", "--to", tmp_path, "--json", "--quiet")).stdout)
    assert document["files"] == []
    (found,) = document["sets"]
    assert (found["path"], found["state"], found["set"]["failed_count"]) == ("d/", "failed", 151)
    assert [one["path"] for one in found["problems"]] == [f"d/{number}" for number in range(151)]


async def test_a_set_that_fails_as_a_whole_says_why_once(daemon, run, tmp_path):
    end = {"error_code": 9, "error_message": "the disk is full", "set": {"found_count": 2}}
    daemon.steps["d/"] = [daemon.step(0, 9, "FAILED", **end)]
    result = await run("get", "d/", "--to", tmp_path)
    assert (result.exit_code, result.stdout, result.stderr) == (7, "", "relevo: the disk is full\n")


async def test_a_set_can_be_left_to_the_daemon(daemon, run, tmp_path):
    daemon.steps["d/"] = [daemon.step(0, 0, "WAITING", set={})]
    result = await run("get", "d/", "--to", tmp_path, "--detach")
    assert result.stdout == f"00000000  d/  {tmp_path}\n"
    assert daemon.asked("StartSetDownload")[0].options.detached


async def test_transfers_lists_a_set_with_its_files(daemon, run):
    daemon.listed_transfers = [daemon.step(5, 9, path="photos/", set={"found_count": 1200, "done_count": 30})]
    assert (await run("transfers")).stdout.splitlines()[-1].endswith("photos/ (30 of 1,200 files)")


# put


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "ñ file.bin"
    path.write_bytes(b"hello")
    return path


def placement(live, state, *copies):
    return content_pb2.Placement(
        placement_id="0" * 32, path="ñ file.bin", wanted_copies=2, live_copies=live, state=state, copies=copies
    )


def copy(peer, confirmed):
    return content_pb2.PlacementCopy(peer=peer, confirmed=confirmed)


async def test_put_shares_and_says_how_far_the_copies_are(daemon, run, source, monkeypatch):
    monkeypatch.chdir(source.parent)
    daemon.placements = [placement(1, 1, copy(daemon.ana, True), copy(daemon.ben, False))]
    result = await run("put", source.name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ñ file.bin  5 B  shared, 1 of 2 copies so far (on ana), ben is storing\n"
    (request,) = daemon.asked("StartUpload")
    assert (request.source, request.replicas) == (str(source), 2)


async def test_put_says_that_peers_are_missing(daemon, run, source):
    daemon.placements = [placement(0, 1)]
    assert (await run("put", source)).stdout.endswith("0 of 2 copies so far, 2 more peers with room are needed\n")


async def test_put_without_replicas_only_shares(daemon, run, source):
    result = await run("put", source, "--replicas", 0, "--wait")
    assert (result.exit_code, result.stdout) == (0, "ñ file.bin  5 B  shared\n")
    assert daemon.asked("GetPlacement") == []


async def test_put_waits_until_every_copy_is_confirmed(daemon, run, source):
    kept = placement(2, 2, copy(daemon.ana, True), copy(daemon.ben, True))
    daemon.placements = [placement(0, 1), placement(1, 1, copy(daemon.ana, True)), kept]
    result = await run("put", source, "--wait", "--timeout", 60)
    assert (result.exit_code, result.stdout) == (0, "ñ file.bin  5 B  shared, 2 of 2 copies (on ana and ben)\n")
    assert len(daemon.asked("GetPlacement")) == 3


async def test_put_gives_up_waiting_after_its_timeout(daemon, run, source):
    daemon.steps[source.name] = [daemon.step(5, 5, "DONE")]
    daemon.placements = [placement(0, 1, copy(daemon.ana, False), copy(daemon.ben, False))]
    result = await run("put", source, "--wait", "--timeout", 0.05)
    assert result.exit_code == 5
    assert "0 of 2 copies so far, ana and ben are storing" in result.stdout
    assert result.stderr == "relevo: not every copy was confirmed within 0.05 s; central goes on seeing to it\n"


async def test_put_gives_up_sharing_after_its_timeout(daemon, run, source):
    daemon.steps[source.name] = [daemon.step(0, 5)]
    result = await run("put", source, "--wait", "--timeout", 0.05)
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == f"relevo: {source} is still being shared; that goes on, and `relevo transfers` shows it\n"


async def test_waiting_survives_a_central_that_is_away_for_a_while(daemon, run, source):
    away = [errors.Unreachable("central does not answer"), errors.Unreachable("central does not answer"), None]
    daemon.failures["GetPlacement"] = lambda: away.pop(0) if away else None
    daemon.placements = [placement(0, 1), placement(2, 2)]
    result = await run("put", source, "--wait", "--timeout", 60)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(daemon.asked("GetPlacement")) == 4


async def test_put_without_central_has_shared_all_the_same(daemon, run, source):
    daemon.failures["GetPlacement"] = errors.Unreachable("central does not answer")
    result = await run("put", source)
    assert result.exit_code == 0
    assert "0 of 2 copies so far" in result.stdout


async def test_put_as_json(daemon, run, source):
    daemon.placements = [placement(2, 2, copy(daemon.ana, True))]
    (file,) = json.loads((await run("put", source, "--json")).stdout)["files"]
    assert (file["path"], file["size_bytes"], file["content_id"]) == ("ñ file.bin", 5, id_of("ñ file.bin"))
    assert (file["placement"]["state"], file["placement"]["copies"][0]["peer"]["name"]) == ("kept", "ana")
    (file,) = json.loads((await run("put", source, "--json", "--replicas", 0)).stdout)["files"]
    assert file["placement"] is None


async def test_put_tells_each_file_that_cannot_be_shared(daemon, run, source, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    daemon.failures["StartUpload", "taken"] = errors.AlreadyExists("another file is shared as taken")
    (tmp_path / "taken").touch()
    missing = await run("put", tmp_path / "none", "--replicas", 0)
    assert (missing.exit_code, missing.stderr) == (3, f"relevo: there is no file {tmp_path}/none\n")
    for odd, words in ((tmp_path, "is a directory"), (tmp_path / "pipe", "not a regular file")):
        result = await run("put", odd)
        assert result.exit_code == 2
        assert words in result.stderr
    result = await run("put", tmp_path / "taken", tmp_path / "none", source, "--replicas", 0)
    assert result.exit_code == 7
    assert result.stdout == "ñ file.bin  5 B  shared\n"


async def test_an_upload_that_fails_has_its_own_exit_code(daemon, run, source):
    daemon.steps[source.name] = [daemon.step(0, 5, "FAILED", error_code=14, error_message="nobody answers")]
    result = await run("put", source)
    assert (result.exit_code, result.stdout, result.stderr) == (5, "", "relevo: nobody answers\n")


@pytest.mark.parametrize("options", [["--timeout", "3"], ["--replicas", "33"], ["--replicas", "-1"], []])
async def test_put_refuses_wrong_usage(daemon, run, source, options):
    result = await run("put", *([source] if options else []), *options)
    assert result.exit_code == 2
    assert "see `relevo put --help`" in result.stderr
    assert result.stderr.count("\n") == 1


async def test_ctrl_c_while_waiting_leaves_the_placement_and_says_so(daemon, spawn, source):
    daemon.placements = [placement(1, 1, copy(daemon.ana, True))] * 2
    process = await spawn("put", source, "--wait")
    await daemon.waiting_calls.wait()
    process.send_signal(2)
    stdout, stderr = await process.communicate()
    assert process.returncode == 130
    assert "1 of 2 copies so far (on ana)" in stdout.decode()
    assert stderr.decode().startswith("relevo: stopped waiting; what was begun goes on")
    assert daemon.asked("CancelTransfer") == []


# logout and the daemon itself


async def test_logout_waits_until_the_daemon_is_gone(daemon, run, home):
    result = await run("logout")
    assert (result.exit_code, result.stdout) == (0, "logged out; the daemon has stopped\n")
    assert not control_socket(home).exists()


async def test_logout_without_central_stops_the_daemon_all_the_same(daemon, run):
    daemon.confirms = False
    result = await run("logout")
    assert result.exit_code == 0
    assert result.stdout.startswith("central did not confirm: it drops this peer by itself")
    assert result.stdout.endswith("the daemon has stopped\n")


@pytest.mark.parametrize("args", [["ls"], ["ls", "--json"], ["get", "x"], ["status"], ["logout"], ["menu"]])
async def test_without_a_daemon_every_command_says_how_to_start_one(run, args):
    result = await run(*args)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "no daemon runs for this home: start one with `relevo serve DIR`" in result.stderr
    assert result.stderr.count("\n") == 1


async def test_a_socket_that_a_killed_daemon_left_is_no_daemon(run, home):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(control_socket(home)))
    assert "no daemon runs for this home" in (await run("ls")).stderr


async def test_a_daemon_that_stops_meanwhile_is_told_from_a_silent_central(daemon, run, home, tmp_path):
    daemon.offer("x")
    daemon.steps["x"] = [daemon.step(0, 5)]
    daemon.failures["GetTransfer"] = errors.Unreachable("central does not answer")
    assert (await run("get", "x", "--to", tmp_path)).stderr == "relevo: central does not answer\n"

    def stop():
        control_socket(home).unlink()
        return errors.Unreachable("the connection is gone")

    daemon.failures["GetTransfer"] = stop
    result = await run("get", "x", "--to", tmp_path)
    assert result.exit_code == 5
    assert result.stderr == "relevo: the daemon has stopped; start it again with `relevo serve`\n"


async def test_a_home_with_odd_characters_works(home):
    odd = home / "50%20 a?b#c ñ"
    odd.mkdir()
    server = Server(way_in=OWN_SOCKET)
    server.listen(control_address(odd))
    await server.start()
    try:
        result = await asyncio.to_thread(CliRunner().invoke, relevo, ["--home", str(odd), "status"])
    finally:
        await server.stop(0)
    assert (result.exit_code, result.stderr) == (7, "relevo: Method not found!\n")


@pytest.mark.parametrize("error", [kind for kind in errors.RelevoError.__subclasses__() if kind.code != "INTERNAL"])
async def test_every_error_keeps_its_exit_code_and_its_sentence(daemon, run, error):
    daemon.failures["ListFiles"] = error("", "do this") if error is errors.InvalidInput else error("do this")
    result = await run("ls", "--json")
    assert (result.exit_code, result.stdout) == (error.exit_code, "")
    assert result.stderr == "relevo: do this\n"


async def test_a_defect_is_one_line_too(daemon, run, monkeypatch):
    monkeypatch.setattr(show, "size", lambda _: 1 / 0)
    daemon.offer("x")
    result = await run("ls")
    assert result.exit_code == 1
    assert result.stderr == "relevo: a defect of relevo (ZeroDivisionError: division by zero); please report it\n"


# The program as a whole


@pytest.mark.parametrize("args", [["lss"], ["ls", "--limit", "0"], ["ls", "a", "b"], ["get"], ["--homes"]])
def test_wrong_usage_is_one_line_that_points_to_help(args):
    result = CliRunner().invoke(relevo, args, prog_name="relevo")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "--help`)" in result.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    script = (
        "import sys; from peer import cli; import click\n"
        "@cli.relevo.command()\n"
        "def flood():\n"
        "    for _ in range(100000): click.echo('x' * 100)\n"
        "cli.relevo(['flood'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["serve", "--help"], ["get", "--help"], ["ls"]])
def test_help_and_version_import_nothing_slow(args, tmp_path):
    script = (
        "import sys\n"
        "from peer.cli import relevo\n"
        f"try: relevo(['--home', {str(tmp_path)!r}, *{args!r}], prog_name='relevo')\n"
        "except SystemExit: pass\n"
        "slow = {'grpc', 'rich', 'google.protobuf', 'cryptography', 'asyncio', 'sqlite3', 'blake3', 'watchfiles'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = result.stderr.splitlines()[-1]
    assert imported == "[]" if args != ["ls"] else "'grpc'" in imported and "'rich'" not in imported


def test_python_m_peer_is_the_same_program():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}"}
    command = [sys.executable, "-m", "peer", "--version"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == CliRunner().invoke(relevo, ["--version"], prog_name="relevo").stdout
    assert result.stdout.startswith("relevo ")


def test_the_home_comes_from_flag_or_environment(tmp_path):
    for options, env in ((["--home", str(tmp_path)], {}), ([], {"RELEVO_HOME": str(tmp_path)})):
        result = CliRunner().invoke(relevo, [*options, "ls"], env=env)
        assert f"the home is {tmp_path};" in result.stderr
