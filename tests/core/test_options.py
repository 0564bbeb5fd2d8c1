import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from core.options import config_option, log_option


@click.command()
@config_option
@log_option
@click.option("--listen", default="127.0.0.1:7400", envvar="RELEVO_LISTEN")
@click.option("--store-quota", default=10, type=int, envvar="RELEVO_STORE_QUOTA")
@click.option("--central", multiple=True, envvar="RELEVO_CENTRAL")
@click.option("--insecure", is_flag=True, envvar="RELEVO_INSECURE")
def program(**settings):
    for name, value in sorted(settings.items()):
        click.echo(f"{name}={value!r}")


def run(*args, **environment):
    result = CliRunner().invoke(program, args, env=environment)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(autouse=True)
def keep_logging():
    """The program sets up logging for its whole process, which here is that of other tests."""
    root, before = logging.getLogger(), logging.getLogger().level
    yield
    root.setLevel(before)


@pytest.fixture
def config(tmp_path):
    def write(text: str | bytes) -> str:
        path: Path = tmp_path / "relevo.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(config):
    file = config('listen = "file:1"')
    assert "listen='127.0.0.1:7400'" in run()[1]
    assert "listen='file:1'" in run("--config", file)[1]
    assert "listen='env:1'" in run("--config", file, RELEVO_LISTEN="env:1")[1]
    assert "listen='flag:1'" in run("--config", file, "--listen", "flag:1", RELEVO_LISTEN="env:1")[1]
    assert "listen='flag:1'" in run("--listen", "flag:1", "--config", file)[1]


def test_the_file_itself_can_be_named_by_the_environment(config):
    assert "listen='file:1'" in run(RELEVO_CONFIG=config('listen = "file:1"'))[1]


def test_keys_are_options_with_hyphens_or_underscores(config):
    assert "store_quota=5" in run("--config", config("store-quota = 5"))[1]
    assert "store_quota=5" in run("--config", config("store_quota = 5"))[1]
    assert "insecure=True" in run("--config", config("insecure = true"))[1]


def test_a_setting_that_repeats_takes_a_list_or_one_value(config):
    assert "central=('a:1', 'b:2')" in run("--config", config('central = ["a:1", "b:2"]'))[1]
    assert "central=('a:1',)" in run("--config", config('central = "a:1"'))[1]
    assert "central=('c:3',)" in run("--config", config('central = ["a:1", "b:2"]'), "--central", "c:3")[1]


def test_an_empty_file_changes_nothing(config):
    assert run("--config", config("# nothing\n"))[1] == run()[1]


WRONG = {
    "unknown key": ('colour = "red"', ["no setting 'colour'", "store-quota"]),
    "the file names itself": ('config = "x"', ["no setting 'config'"]),
    "a word for a number": ('store-quota = "many"', ["store-quota", "many", "integer"]),
    "a list for one value": ('listen = ["a:1"]', ["listen takes one value"]),
    "a table": ("[listen]\nhost = 1", ["listen takes one value"]),
    "a word for a switch": ('insecure = "perhaps"', ["insecure", "perhaps"]),
    "a level that is none": ('log-level = "loud"', ["log-level", "loud"]),
    "a number for a switch": ("insecure = 17", ["insecure", "17"]),
    "a date for a number": ("store-quota = 2020-01-01", ["store-quota", "2020-01-01"]),
    "a number without end": ("store-quota = " + "9" * 5000, ["not valid TOML"]),
    "a hexadecimal number without end": ("store-quota = 0x" + "f" * 5000, ["too long"]),
    "lists in lists without end": ("listen = " + "[" * 5000, ["not valid TOML"]),
    "no TOML": ("listen =\nname = 1", ["not valid TOML", "line 1"]),
    "no UTF-8": (b"listen = '\xff'", ["cannot be read"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_file_is_a_usage_error_that_says_what_is_wrong(config, case):
    text, said = WRONG[case]
    code, out, err = run("--config", config(text))
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for words in said:
        assert words in err


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    for path in (tmp_path / "nowhere.toml", tmp_path):
        code, _, err = run("--config", str(path))
        assert code == 2
        assert str(path) in err


def test_the_log_level_is_a_setting_like_any_other(config):
    assert run("--log-level", "debug")[0] == 0
    assert run("--config", config('log-level = "error"'))[0] == 0
    assert run(RELEVO_LOG_LEVEL="loud")[0] == 2
