"""The limits of a server: their options, and files that may be open."""

import resource
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from core.limit_options import limit_options
from core.limits import Limits, open_files


@click.command()
@limit_options
def command(limits):
    click.echo(repr(limits))


def test_without_options_the_limits_are_their_defaults():
    assert CliRunner().invoke(command, []).output.strip() == repr(Limits())
    assert Limits().handshake == 5.0


def test_every_limit_has_an_option():
    given = [
        *("--max-connections", "10"),
        *("--handshake-timeout", "2.5"),
        *("--max-calls", "11"),
        *("--max-unread", "3000000"),
        *("--max-unread-total", "4000000"),
    ]
    wanted = Limits(connections=10, handshake=2.5, calls_each=11, unread_each=3_000_000, unread=4_000_000)
    assert CliRunner().invoke(command, given).output.strip() == repr(wanted)


@pytest.mark.parametrize(
    "given",
    ["--max-connections=0", "--max-calls=0", "--handshake-timeout=0", "--handshake-timeout=nan", "--max-unread=1000"],
)
def test_a_limit_with_which_nothing_could_be_served_is_refused(given):
    assert CliRunner().invoke(command, [given]).exit_code == 2


def test_a_server_may_open_as_many_files_as_the_system_allows():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import resource; from core.limits import open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"
        "open_files(10); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == (hard if sys.platform == "linux" else min(hard, 10_240))


def test_it_is_said_when_the_system_allows_too_few_files_for_the_connections(caplog):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        open_files(10)
        assert not caplog.records
        open_files(1 << 40)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert "--max-connections" in caplog.text
