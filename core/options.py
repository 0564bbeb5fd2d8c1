"""Command-line options that both programs share: the configuration file, logging, numbers.

Every setting is a click option, and nothing else: a flag beats its environment variable (`RELEVO_…`), which beats the
file, which beats the default. The file's keys are the options' names.
"""

import logging
import math
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from core.logs import PrintableFormatter

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A range that not-a-number, which no comparison puts outside, does not pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number."""
        number: float = super().convert(value, param, ctx)
        return self.fail("nan is not a number", param, ctx) if math.isnan(number) else number


def _load(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Puts the file's settings below flags and environment; refuses keys that no option reads."""
    if path is None:
        return None
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}", ctx, param) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, and arrays in arrays without end
        raise click.BadParameter(f"{path} is not valid TOML: {error}", ctx, param) from error
    options = {option.name: option for option in ctx.command.params if option.name and option.name != param.name}
    named = {key.replace("-", "_"): value for key, value in settings.items()}
    for key, value in named.items():
        option = options.get(key)
        if option is None:
            known = ", ".join(sorted(name.replace("_", "-") for name in options))
            raise click.BadParameter(f"{path}: there is no setting {key!r}; there are {known}", ctx, param)
        if isinstance(value, dict) or (isinstance(value, list) and not getattr(option, "multiple", False)):
            raise click.BadParameter(f"{path}: {key} takes one value", ctx, param)
        items = value if isinstance(value, list) else [value]
        try:
            # As text, like flags and variables: click's types are not ready for a date, or for a number as a flag.
            texts = [str(item) for item in items]
        except (ValueError, RecursionError) as error:
            raise click.BadParameter(f"{path}: {key} has a number that is too long", ctx, param) from error
        named[key] = texts if getattr(option, "multiple", False) else texts[0]
    ctx.default_map = {**(ctx.default_map or {}), **named}
    return path


def config_option(function: F) -> F:
    """Adds `--config FILE` (`RELEVO_CONFIG`): a TOML file with the command's other options by name."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_load,
        is_eager=True,
        expose_value=False,
        envvar="RELEVO_CONFIG",
        help="Read settings from this TOML file; flags and RELEVO_… variables beat it.",
    )(function)


def log_option(function: F) -> F:
    """Adds `--log-level` (`RELEVO_LOG_LEVEL`), which sets up logging to stderr; gRPC's core stays silent there."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        envvar="RELEVO_LOG_LEVEL",
        expose_value=False,
        callback=_set_up_logging,
        help="How much to log to stderr.",
    )(function)


def _set_up_logging(ctx: click.Context, param: click.Parameter, level: str) -> str:
    del ctx, param
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters of it comes as errors
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in ("watchfiles", "asyncio", "grpc"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    return level
