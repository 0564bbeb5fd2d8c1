"""The options of both programs that say what a server takes from the network at once."""

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from core.limits import Limits
from core.options import Number

# For each option the limit that it sets, its least and its largest value, its unit, and what it limits.
_OPTIONS = {
    "max-connections": ("connections", 1, 1_000_000, "N", "Most connections at once."),
    "handshake-timeout": ("handshake", 0.1, 600, "SECONDS", "Time that a new connection has to say who it is."),
    "idle-timeout": ("idle", 0.1, 86_400, "SECONDS", "Time after which a connection without a call is closed."),
    "max-calls": ("calls_each", 1, 1_000_000, "N", "Most calls of one caller under way."),
    "max-unread": ("unread_each", 1 << 21, 1 << 40, "BYTES", "Most bytes of answers that one caller has not read."),
    "max-unread-total": ("unread", 1 << 21, 1 << 40, "BYTES", "Most bytes of answers that all have not read."),
    "max-streams": ("streams", 1, 1_000_000, "N", "Most calls at once on one connection."),
    "max-pending": ("pending", 1, 1_000_000, "N", "Most calls that wait for their turn."),
    "max-metadata": ("metadata", 1 << 12, 1 << 20, "BYTES", "Most bytes of a request's metadata."),
    "min-ping-interval": ("ping_interval", 0.1, 600, "SECONDS", "Who pings sooner is disconnected."),
}


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option for every limit, and hands them over together as `limits`."""

    @functools.wraps(command)
    def with_limits(*args: Any, **options: Any) -> None:
        chosen = {limit: options.pop(option.replace("-", "_")) for option, (limit, *_) in _OPTIONS.items()}
        command(*args, limits=Limits(**chosen), **options)

    defaults = asdict(Limits())
    for option, (limit, least, most, unit, text) in reversed(_OPTIONS.items()):
        whole = isinstance(defaults[limit], int)
        kind = click.IntRange(int(least), most) if whole else Number(least, most)
        with_limits = click.option(
            f"--{option}", type=kind, metavar=unit, default=defaults[limit], show_default=True, help=text
        )(with_limits)
    return with_limits
