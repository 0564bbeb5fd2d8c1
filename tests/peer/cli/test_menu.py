import pytest

from core import errors
from peer.commands import menu
from relevo.v1 import content_pb2


async def test_the_menu_downloads_what_is_chosen_by_number(daemon, run, tmp_path):
    daemon.offer("first.txt")
    daemon.offer("second.txt")
    result = await run("menu", input=f"2\n\n2\n{tmp_path}\n4\n")
    assert result.exit_code == 0
    (request,) = daemon.asked("StartDownload")
    assert (request.file.path, request.directory) == ("second.txt", str(tmp_path))
    assert f"{tmp_path}/second.txt  5 B" in result.stdout


async def test_the_menu_downloads_what_is_named(daemon, run, tmp_path):
    daemon.offer("a/first.txt")
    await run("menu", input=f"2\nfirst\nfirst.txt\n{tmp_path}\n4\n")
    assert daemon.asked("StartDownload")[0].file.path == "a/first.txt"


async def test_the_menu_uploads_with_the_copies_that_are_wanted(daemon, run, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"hello")
    daemon.placements = [content_pb2.Placement(wanted_copies=3, live_copies=0, state=1)]
    result = await run("menu", input=f"1\n{tmp_path}/x.bin\n3\n4\n")
    (request,) = daemon.asked("StartUpload")
    assert (request.source, request.replicas) == (str(tmp_path / "x.bin"), 3)
    assert "x.bin  5 B  shared, 0 of 3 copies so far" in result.stdout


async def test_the_menu_logs_out_and_ends(daemon, run):
    result = await run("menu", input="3\n1\n")
    assert result.exit_code == 0
    assert result.stdout.endswith("logged out; the daemon has stopped\n")
    assert len(daemon.asked("Logout")) == 1


@pytest.mark.parametrize("answer", ["9", "0", "upload", "-1", "１"])
async def test_an_invalid_choice_asks_again(daemon, run, answer):
    result = await run("menu", input=f"{answer}\n4\n")
    assert result.exit_code == 0
    assert f"{answer!r} is none of these; type a number from 1 to 4." in result.stdout
    assert result.stdout.count("Upload a file") == 2


@pytest.mark.parametrize("typed", ["", "1\n", "2\n", "2\nfirst\n", "2\nfirst\n1\n"])
async def test_the_end_of_input_leaves_politely_wherever_it_comes(daemon, run, typed):
    daemon.offer("first.txt")
    result = await run("menu", input=typed)
    assert (result.exit_code, result.stderr) == (0, "")
    assert daemon.asked("Logout") == daemon.asked("StartDownload") == []


async def test_an_action_that_fails_is_told_and_the_menu_goes_on(daemon, run, tmp_path):
    daemon.offer("a/same")
    daemon.offer("b/same")
    daemon.offer("taken")
    daemon.failures["StartDownload", "taken"] = errors.AlreadyExists("taken holds other bytes")
    (tmp_path / "x").touch()
    typed = [
        *("1", tmp_path / "none"),
        *("1", tmp_path / "x", "many"),
        *("1", tmp_path / "x", "33"),
        *("2", "same", "same"),
        *("2", "", "nix"),
        *("2", "taken", "1", tmp_path),
        *("2", "nothing like it"),
        *("2", "", ""),
        "4",
    ]
    result = await run("menu", input="".join(f"{line}\n" for line in typed))
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if line.startswith("relevo: ")]
    assert [next(word for word in WORDS if word in line) for line in told] == list(WORDS)
    assert "Nothing matches that." in result.stdout
    assert result.stdout.count("Upload a file") == 9


WORDS = (
    "there is no file",
    "'many' is not a number from 0 to 32",
    "'33' is not a number from 0 to 32",
    "is the name of 2 different files",
    "no live peer offers 'nix'",
    "taken holds other bytes",
)


async def test_a_daemon_that_stops_does_not_end_the_menu_in_a_traceback(daemon, run):
    daemon.failures["ListFiles"] = errors.Unreachable("neither a neighbour nor central answers")
    result = await run("menu", input="2\n\n4\n")
    assert result.exit_code == 0
    assert result.stderr == "relevo: neither a neighbour nor central answers\n"


def test_a_menu_whose_input_is_closed_ends(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(menu.Left):
        menu._ask("Choose")


async def test_hostile_names_never_steer_the_menu(daemon, run):
    daemon.status.peer.name = "ana\x1b[2J"
    daemon.offer("evil\x1b[31m\u202e.txt")
    result = await run("menu", input="2\n\n\n4\n")
    assert not set(result.stdout + result.stderr) & set("\x1b\u202e")
    assert "evil\\x1b[31m\\u202e.txt" in result.stdout
