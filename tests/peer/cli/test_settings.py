import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from core.errors import Refused
from peer import settings as module
from peer.cli import relevo
from peer.settings import (
    MAX_SOCKET_PATH,
    Remembered,
    ServeSettings,
    control_address,
    control_socket,
    default_name,
    recall,
    remember,
)

ID = "a" * 52


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RELEVO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def shared(tmp_path):
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


@pytest.fixture
def served(monkeypatch):
    """What the daemon was started with."""
    found = []
    monkeypatch.setitem(sys.modules, "peer.process", SimpleNamespace(run=found.append))
    return found


@pytest.fixture
def serve(home):
    def run(*args, env=None):
        return CliRunner().invoke(relevo, ["--home", str(home), "serve", *map(str, args)], env=env)

    return run


# What `serve` makes of flags, environment and file


def test_serve_fills_in_what_was_not_said(serve, served, home, shared):
    result = serve(shared, "--central", "c:7400")
    assert (result.exit_code, result.stderr) == (0, "")
    assert served == [
        ServeSettings(home=home, shared=shared, centrals=("c:7400",), name=default_name(), store_quota=10 << 30)
    ]
    assert served[0].listen == "[::]:0"
    assert served[0].insecure is False


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(serve, served, shared, tmp_path):
    file = tmp_path / "relevo.toml"
    file.write_text(
        'central = ["file:1", "file:2"]\nname = "file"\nlisten = "file:3"\nadvertise = "file"\nstore-quota = "3KiB"\n'
    )
    env = {"RELEVO_CENTRAL": "env:1 env:2", "RELEVO_NAME": "env", "RELEVO_LISTEN": "env:3"}
    serve(shared, "--config", file, "--name", "flag", env=env)
    (found,) = served
    assert found.name == "flag"
    assert found.listen == "env:3"
    assert found.centrals == ("env:1", "env:2")
    assert found.advertise == "file"
    assert found.store_quota == 3072
    assert found.friends == ()


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("RELEVO_VIA", f"a:1 {ID}@b:2", "via", ("a:1", f"{ID}@b:2")),
        ("RELEVO_FRIEND", f"{ID}@a:1 {ID}@b:2", "friends", (f"{ID}@a:1", f"{ID}@b:2")),
        ("RELEVO_JOIN", "relevo1_x", "join", "relevo1_x"),
        ("RELEVO_ADVERTISE", "[::1]", "advertise", "::1"),
        ("RELEVO_ENTRANCE", "[::]", "entrance", "[::]:0"),
        ("RELEVO_ENTRANCE", "::1", "entrance", "[::1]:0"),
        ("RELEVO_ENTRANCE", "ana.example", "entrance", "ana.example:0"),
        ("RELEVO_ENTRANCE", "0.0.0.0:7401", "entrance", "0.0.0.0:7401"),
        ("RELEVO_STORE_QUOTA", "1.5GiB", "store_quota", 3 << 29),
        ("RELEVO_INSECURE", "1", "insecure", True),
    ],
)
def test_every_option_has_its_environment_variable(serve, served, shared, *, variable, value, attribute, expected):
    serve(shared, "--central", "c:1", env={variable: value})
    assert getattr(served[0], attribute) == expected


def test_in_plaintext_there_is_no_entrance(serve, served, shared):
    result = serve(shared, "--central", "c:1", "--entrance", "[::]", "--insecure")
    assert (result.exit_code, served) == (2, [])
    assert result.stderr == "relevo: entrance: with --insecure nobody has to join: leave --entrance out\n"


def test_the_file_can_name_the_directory_and_friends(serve, served, shared, tmp_path):
    file = tmp_path / "relevo.toml"
    file.write_text(f'directory = "{shared}"\ncentral = "c:1"\nfriend = ["f:1", "g:2"]\ninsecure = true\n')
    assert serve(env={"RELEVO_CONFIG": str(file)}).exit_code == 0
    assert (served[0].shared, served[0].friends, served[0].insecure) == (shared, ("f:1", "g:2"), True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "name the directory to share"),
        (["{shared}", "--insecure"], "name the central to use"),
        (["{shared}", "--insecure", "--join", "relevo1_x"], "choose one"),
        (["{shared}", "--friend", "id@h:1"], "is not a peer id"),
        (["{shared}", "--friend", f"{ID}@h"], "is not HOST:PORT"),
        (["{shared}/none", "--central", "c:1"], "does not exist"),
        (["{shared}/file", "--central", "c:1"], "is not a directory: name another"),
        (["{shared}", "--central", "c"], "is not HOST:PORT"),
        (["{shared}", "--central", "c:0"], "needs the port"),
        (["{shared}", "--central", "c:1", "--listen", "nowhere"], "is not HOST:PORT"),
        (["{shared}", "--central", "c:1", "--advertise", "h:80"], "is not a host name"),
        (["{shared}", "--central", "c:1", "--entrance", "h:many"], "has no port"),
        (["{shared}", "--central", "c:1", "--store-quota", "much"], "is not a size"),
        (["{shared}", "--central", "c:1", "--name", "a\x1b[31m"], "control characters"),
        (["{shared}", "--central", "c:1", "--name", "a" * 65], "1 to 64 characters"),
        (["{home}", "--central", "c:1"], "holds this peer's key"),
        (["{home}/..", "--central", "c:1"], "holds this peer's key"),
        (["{shared}", "--central", "c:1", "--colour", "red"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(serve, served, home, shared, *, args, words):
    (shared / "file").touch()
    result = serve(*(arg.format(shared=shared, home=home) for arg in args))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "relevo serve --help" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert served == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--friend", "f:1"], "friend: say who is expected at f:1: PEER_ID@f:1"),
        (["--insecure", "--listen", "0.0.0.0:0"], "plaintext on 0.0.0.0:0 lets everybody in"),
        (["--insecure", "--listen", "[::]:7"], "--insecure-anywhere"),
        (["--insecure", "--listen", "192.0.2.1:7"], "--insecure-anywhere"),
        (["--insecure", "--listen", "foo.localhost:7"], "--insecure-anywhere"),
        (["--insecure-anywhere"], "give both, or neither"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_starts(serve, served, shared, args, words):
    result = serve(shared, "--central", "c:1", *args)
    assert (result.exit_code, served) == (2, [])
    assert words in result.stderr


def test_plaintext_stays_on_this_machine_unless_somebody_insists(serve, served, shared):
    assert serve(shared, "--central", "c:1", "--insecure").exit_code == 0
    serve(shared, "--central", "c:1", "--insecure", "--insecure-anywhere", "--listen", "0.0.0.0:5")
    serve(shared, "--central", "c:1", "--insecure", "--listen", "[::1]:5", "--friend", "f:1")
    assert [found.listen for found in served] == ["127.0.0.1:0", "0.0.0.0:5", "[::1]:5"]


def test_a_token_stands_in_for_where_central_is_and_is_never_shown(serve, served, home, shared):
    remember(ServeSettings(home=home, shared=shared, centrals=("old:1",)))
    assert serve(shared, "--join", "relevo1_secret").exit_code == 0
    assert (served[0].centrals, served[0].join) == ((), "relevo1_secret")
    assert "secret" not in repr(served[0])


def test_a_home_below_a_hidden_directory_may_lie_in_the_shared_one(served, tmp_path):
    home = tmp_path / ".local" / "relevo"
    result = CliRunner().invoke(relevo, ["--home", str(home), "serve", str(tmp_path), "--central", "c:1"])
    assert result.exit_code == 0, result.output
    assert served[0].shared == tmp_path


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("4096", 4096), ("10GiB", 10 << 30), ("10 g", 10 << 30), ("1.5k", 1536), ("2MB", 2_000_000), ("7b", 7)],
)
def test_sizes_are_read_in_the_usual_ways(serve, served, shared, text, count):
    serve(shared, "--central", "c:1", "--store-quota", text)
    assert served[0].store_quota == count


# What a home remembers


def test_a_home_remembers_who_and_where(home, shared):
    settings = ServeSettings(
        home=home,
        shared=shared,
        centrals=("a:1", "b:2"),
        friends=("f:3",),
        via=("v:4",),
        name="ana ñ",
        listen="0.0.0.0:9",
        insecure=True,
    )
    remember(settings)
    assert recall(home) == Remembered(
        shared=shared, centrals=("a:1", "b:2"), friends=("f:3",), via=("v:4",), name="ana ñ"
    )
    assert [path.name for path in home.iterdir()] == ["settings.json"]


def test_a_path_that_is_not_valid_utf8_is_remembered_too(home):
    odd = Path(os.fsdecode(b"/srv/\xff"))
    remember(ServeSettings(home=home, shared=odd, centrals=("a:1",)))
    assert recall(home).shared == odd


def test_serve_without_arguments_goes_on_as_before(serve, served, home, shared):
    before = ServeSettings(home=home, shared=shared, centrals=("a:1",), friends=(f"{ID}@f:3",), name="ana")
    remember(before)
    assert serve().exit_code == 0
    assert served == [before]


def test_what_is_said_beats_what_the_home_remembers(serve, served, home, shared, tmp_path):
    remember(ServeSettings(home=home, shared=shared, centrals=("a:1",), name="ana"))
    serve(tmp_path, "--central", "b:2", "--name", "ben")
    assert (served[0].shared, served[0].centrals, served[0].name) == (tmp_path, ("b:2",), "ben")


def test_a_host_name_as_name_is_not_remembered_since_it_may_change(home, shared, monkeypatch):
    remember(ServeSettings(home=home, shared=shared, centrals=("a:1",), name=default_name()))
    assert recall(home).name == ""


def test_a_home_that_remembers_nothing_is_new(home):
    assert recall(home) == recall(home / "none") == Remembered()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"directory": 1}', "\xff"])
def test_a_broken_memory_is_no_memory(home, text, caplog):
    (home / "settings.json").write_text(text, "latin-1")
    assert recall(home) == Remembered()
    assert "is not understood" in caplog.text


def test_a_failed_write_leaves_the_old_memory(home, shared, monkeypatch):
    remember(ServeSettings(home=home, shared=shared, centrals=("a:1",)))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        remember(ServeSettings(home=home, shared=shared, centrals=("b:2",)))
    assert recall(home).centrals == ("a:1",)


def test_a_machine_without_a_usable_name_gets_one(monkeypatch):
    monkeypatch.setattr(module.socket, "gethostname", lambda: "")
    monkeypatch.setattr(module.getpass, "getuser", lambda: "ana")
    assert default_name() == "ana@host"


# Where the control socket stands


def test_the_socket_stands_in_a_private_directory_of_the_home(home):
    path = control_socket(home)
    assert path == home.resolve() / "control" / "relevo.sock"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_directory_is_made_for_a_home_that_is_not_there(home):
    control_socket(home / "typo")
    assert not (home / "typo").exists()


@pytest.fixture
def long_home(home):
    path = home / ("n" * 120)
    path.mkdir()
    return path


@pytest.fixture
def temporary(monkeypatch):
    """A temporary directory of its own, and no XDG_RUNTIME_DIR."""
    path = Path(tempfile.mkdtemp(prefix="rt-"))
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    yield path
    shutil.rmtree(path)


def test_a_path_too_long_for_a_socket_moves_to_the_temporary_directory(long_home, temporary):
    path = control_socket(long_home)
    assert path.parent.parent == temporary
    assert path.parent.name.startswith(f"relevo-{os.getuid()}-")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def test_two_long_homes_have_two_sockets_and_a_symlink_leads_to_the_same(long_home, temporary, home):
    other = home / ("m" * 120)
    other.mkdir()
    (home / "link").symlink_to(long_home)
    assert control_socket(other) != control_socket(long_home) == control_socket(home / "link")


def test_the_socket_is_found_where_the_runtime_directory_differs_from_the_daemons(long_home, temporary, monkeypatch):
    runtime = temporary / "run"
    runtime.mkdir()
    bound = control_socket(long_home)
    bound.touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert control_socket(long_home) == bound
    bound.unlink()
    assert control_socket(long_home).parent.parent == runtime


def test_a_control_directory_that_is_a_symlink_is_refused(home):
    (home / "elsewhere").mkdir(mode=0o700)
    (home / "control").symlink_to(home / "elsewhere")
    with pytest.raises(Refused, match="is not a directory"):
        control_socket(home)


def test_a_control_directory_that_others_can_enter_is_refused(home):
    (home / "control").mkdir()
    (home / "control").chmod(0o755)
    with pytest.raises(Refused, match="chmod 700"):
        control_socket(home)


def test_a_control_directory_of_another_user_is_refused(home, monkeypatch):
    control_socket(home)
    monkeypatch.setattr(module.os, "getuid", lambda: 4711)
    with pytest.raises(Refused, match="belongs to another user"):
        control_socket(home)


def test_the_address_of_a_socket_is_quoted_for_grpc(home):
    odd = home / "50%20 a?b#c ñ"
    odd.mkdir()
    assert control_address(odd).endswith("/50%2520%20a%3Fb%23c%20%C3%B1/control/relevo.sock")
