"""Kinds of values on central's command line, and the options that its commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)")


def span(least: float, most: float) -> Callable[[str], float]:
    """Returns a click type for spans of time between these, in seconds.

    It reads `30m`, `1h` or `7d`, and a bare number as seconds; the value is in seconds.
    """

    def read(text: str) -> float:
        match = _SPAN.fullmatch(text)
        if match is None:
            raise click.BadParameter(f"{text!r} is not a span of time such as 30m, 1h or 7d")
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
        if not least <= seconds <= most:
            raise click.BadParameter(f"{text} is not within {spelt(least)} and {spelt(most)}")
        return seconds

    return read


def spelt(seconds: float) -> str:
    """Returns a span in its largest whole unit, such as `90s`, `24h` or `7d`."""
    for unit in ("d", "h", "m"):
        if seconds > _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def data_option(function: F) -> F:
    """Adds `--data DIR` (`RELEVO_DATA`)."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: platformdirs.user_data_dir("relevo-central"),
        envvar="RELEVO_DATA",
        metavar="DIR",
        help="Directory that keeps the network and the catalogue; it belongs to one central at a time.  "
        f"[default: {platformdirs.user_data_dir('relevo-central')}]",
    )(function)
