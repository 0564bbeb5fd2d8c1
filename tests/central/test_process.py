"""Central as a process: how it starts, refuses, stops, and what grpcurl sees of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from central.__main__ import cli
from core.identity import Identity
from core.signing import sign_request
from relevo.v1 import central_directory_pb2 as pb2
from relevo.v1.central_directory_pb2_grpc import CentralDirectoryStub

ROOT = Path(__file__).parents[2]
GRPCURL = Path(sys.executable).with_name("grpcurl")
LOGIN = "/relevo.v1.CentralDirectory/Login"


def environment(**changed):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RELEVO_")}
    return {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}", **changed}


def run(*arguments, patience=60, **variables):
    return subprocess.run(
        [sys.executable, "-m", "central", *map(str, arguments)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


@contextmanager
def serving(data, *arguments, **variables):
    """Runs a central and yields its process and its address."""
    command = [sys.executable, "-m", "central", "serve", "--insecure", "--data", str(data), *arguments]
    with subprocess.Popen(
        command, env=environment(RELEVO_LISTEN="127.0.0.1:0", **variables), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("central ready on 127.0.0.1:"), line
            yield process, line.split()[-1]
        finally:
            process.kill()


def log_in(address, identity):
    details = pb2.LoginDetails(name="shell", min_protocol_version=1, max_protocol_version=1)
    signed = sign_request(identity, LOGIN, details.SerializeToString(), time.time())
    request = pb2.LoginRequest(signed=signed, public_key=identity.public_key)
    with grpc.insecure_channel(address) as channel:
        return CentralDirectoryStub(channel).Login(request, timeout=20, wait_for_ready=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A central for tests that only look at it."""
    with serving(tmp_path_factory.mktemp("central")) as (_, address):
        yield address


def grpcurl(address, *arguments, data=None):
    options = ["-d", json.dumps(data)] if data is not None else []
    command = [str(GRPCURL), "-plaintext", "-max-time", "20", *options, address, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_heartbeats_and_central_in_order(tmp_path, number):
    identity = Identity.generate()
    with serving(tmp_path, "--drain", "600") as (process, address):
        session = log_in(address, identity).session_id
        with grpc.insecure_channel(address) as channel:
            beat = pb2.HeartbeatRequest(peer_id=identity.peer_id, session_id=session, sequence=1)

            def beats():
                yield beat
                process.wait()

            answers = CentralDirectoryStub(channel).Heartbeat(beats(), timeout=20)
            assert next(answers).sequence == 1
            process.send_signal(number)
            with pytest.raises(grpc.RpcError) as caught:
                list(answers)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "central is stopping" in caught.value.details()
        assert process.wait(timeout=60) == 0, "nothing was left to be waited for"


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    identity = Identity.generate()
    with serving(tmp_path) as (process, address):
        session = log_in(address, identity).session_id
        process.kill()
        process.wait()
    with serving(tmp_path) as (_, address), grpc.insecure_channel(address) as channel:
        beat = pb2.HeartbeatRequest(peer_id=identity.peer_id, session_id=session, sequence=1)
        (answer,) = CentralDirectoryStub(channel).Heartbeat(iter([beat]), timeout=20, wait_for_ready=True)
        assert answer.sequence == 1


def refused(*arguments):
    """Returns the one line with which `serve` refuses its settings; nothing is started for that."""
    result = CliRunner().invoke(cli, ["serve", *map(str, arguments)], prog_name="relevo-central")
    assert result.exit_code == 2
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("relevo-central: ")
    return line


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7400", "foo.localhost:0"])
def test_plaintext_that_other_machines_could_reach_is_refused_unless_asked_for(tmp_path, listen):
    assert "--insecure-anywhere" in refused("--insecure", "--data", tmp_path, "--listen", listen)
    assert not [*tmp_path.iterdir()]


def test_allowing_plaintext_without_serving_it_is_refused(tmp_path):
    line = refused("--insecure-anywhere", "--data", tmp_path, "--listen", "127.0.0.1:0")
    assert "give both, or neither" in line
    assert not [*tmp_path.iterdir()]


def test_plaintext_is_loudly_logged(tmp_path):
    command = [sys.executable, "-m", "central", "serve", "--insecure", "--insecure-anywhere", "--data", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--listen", "0.0.0.0:0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("central ready on 0.0.0.0:")
        process.kill()
        assert "WARNING" in (said := process.stderr.read())
        assert "PLAINTEXT" in said


def test_the_first_start_says_how_to_invite_and_a_network_survives_kill_9(tmp_path):
    def started():
        command = [sys.executable, "-m", "central", "serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0"]
        with subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert re.fullmatch(r"central ready on 127\.0\.0\.1:\d+\n", process.stdout.readline())
            process.kill()
            return process.stderr.read()

    first, second = started(), started()
    assert f"relevo-central invite --data {tmp_path}" in first
    assert "relevo-central invite" not in second
    (network,) = {re.search("this is network (.*)", said)[1] for said in (first, second)}
    assert re.fullmatch("[a-z2-7]{16}", network)
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and "central.db" not in path.name and path.stat().st_mode & 0o77
    ]


def test_a_second_central_on_the_same_port_or_data_is_refused_in_one_line(tmp_path):
    with serving(tmp_path / "one") as (_, address):
        same_port = run("serve", "--data", tmp_path / "two", "--listen", address)
        same_data = run("serve", "--data", tmp_path / "one", "--listen", "127.0.0.1:0")
    for refused, words in ((same_port, address), (same_data, str(tmp_path / "one"))):
        assert refused.returncode == 7, refused.stderr
        (line,) = refused.stderr.splitlines()
        assert line.startswith("relevo-central: ")
        assert words in line
        assert not refused.stdout


def test_bad_settings_are_refused_in_one_line(tmp_path):
    bad = run("serve", "--data", tmp_path, "--listen", "nonsense")
    assert bad.returncode == 2
    assert bad.stderr.startswith("relevo-central: listen: ")
    assert len(bad.stderr.splitlines()) == 1
    (tmp_path / "file").touch()
    assert run("serve", "--data", tmp_path / "file" / "below", "--listen", "127.0.0.1:0").returncode in {2, 7}
    assert run("serve", "--relay-cap", "0").returncode == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--beat-interval", "nan"),
        ("--beat-interval", "0"),
        ("--grace", "inf"),
        ("--sweep-interval", "1e300"),
        ("--max-beats", "1e-300"),
        ("--forget-after", "nan"),
        ("--drain", "nan"),
        ("--data", __file__),
        ("--config", "/none"),
        ("--colour", "red"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(option, value):
    line = refused(option, value)
    assert option in line
    assert "`relevo-central serve --help`" in line


def test_settings_come_from_flags_before_environment_before_file(tmp_path):
    file = tmp_path / "central.toml"
    file.write_text('beat-interval = 4\ngrace = 1.5\nrelay-cap = 3\nlisten = "nonsense"\n')
    variables = {"RELEVO_GRACE": "1.25", "RELEVO_BEAT_INTERVAL": "9"}
    options = ("--config", str(file), "--beat-interval", "0.5")
    with serving(tmp_path / "data", *options, **variables) as (_, address):
        terms = log_in(address, Identity.generate()).terms
    assert terms.beat_interval.ToMilliseconds() == 500
    assert terms.lease.ToMilliseconds() == 1750
    assert terms.grace.ToMilliseconds() == 1250


def test_help_describes_every_option_and_version_tells_the_version():
    help_text = run("serve", "--help").stdout
    for option in ("--data", "--listen", "--config", "--insecure", "--beat-interval", "--grace", "--sweep-interval"):
        assert option in help_text
    assert "plaintext" in help_text
    assert re.fullmatch(r"relevo-central \d+\.\d+\.\d+\n", run("--version").stdout)


def test_help_and_version_import_nothing_heavy():
    heavy = {"grpc", "google", "cryptography", "sqlite3", "asyncio", "uvloop", "blake3"}
    script = (
        "import sys\nfrom central.__main__ import cli\n"
        "try: cli(['serve', '--help'], prog_name='x')\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert not heavy & set(json.loads(done.stderr.replace("'", '"')))


def test_grpcurl_lists_and_describes_the_services(address):
    services = grpcurl(address, "list").split()
    assert "relevo.v1.CentralDirectory" in services
    assert "grpc.health.v1.Health" in services
    described = grpcurl(address, "describe", "relevo.v1.CentralDirectory")
    for method in pb2.DESCRIPTOR.services_by_name["CentralDirectory"].methods:
        assert f"rpc {method.name} " in described


def test_grpcurl_calls_with_json(address):
    assert json.loads(grpcurl(address, "relevo.v1.CentralDirectory/ListFiles", data={"query": "*.txt"})) == {}
    health = grpcurl(address, "grpc.health.v1.Health/Check", data={"service": "relevo.v1.CentralDirectory"})
    assert json.loads(health) == {"status": "SERVING"}


def test_grpcurl_beats(address):
    identity = Identity.generate()
    session = log_in(address, identity).session_id
    beat = {"peer_id": identity.peer_id, "session_id": session, "sequence": 1}
    answer = json.loads(grpcurl(address, "relevo.v1.CentralDirectory/Heartbeat", data=beat))
    assert answer["sequence"] == "1"
    assert answer["terms"]["lease"] == "7s"
