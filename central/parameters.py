"""Kinds of values on central's command line, and the options that its commands share."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import platformdirs

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)")


class Number(click.FloatRange):
    """A range that not-a-number, which no comparison puts outside, does not pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number."""
        number: float = super().convert(value, param, ctx)
        return self.fail("nan is not a number", param, ctx) if math.isnan(number) else number


class Span(click.ParamType[float]):
    """A span of time such as `30m`, `1h` or `7d`; a bare number is seconds. The value is in seconds."""

    name = "span"

    def __init__(self, least: float, most: float) -> None:
        """Takes spans between these, in seconds."""
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the seconds."""
        if isinstance(value, int | float):  # from the configuration file
            seconds = float(value)
        elif match := _SPAN.fullmatch(str(value)):
            seconds = float(match[1]) * _UNITS[match[2] or "s"]
        else:
            self.fail(f"{value!r} is not a span of time such as 30m, 1h or 7d", param, ctx)
        if not self._least <= seconds <= self._most:
            self.fail(f"{value} is not within {spelt(self._least)} and {spelt(self._most)}", param, ctx)
        return seconds


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
