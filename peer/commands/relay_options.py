"""The options of `relevo serve` that say what it does at once as a relay."""

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from peer.commands import params
from peer.settings import RelayLimits

# For each option the limit that it sets, and what it limits.
_OPTIONS = {
    "max-attached": ("attached", "Most peers that nobody can dial and that are attached to this one."),
    "max-relayed": ("slots", "Most questions relayed at once; half of them to one attached peer."),
    "max-relayed-each": ("slots_each", "Most questions relayed at once for one peer that asks."),
    "max-relayed-size": ("bytes", "Most bytes relayed at once; half of them from one attached peer."),
    "max-relayed-size-each": ("bytes_each", "Most bytes relayed at once for one peer that asks."),
}


def relay_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds an option for every limit, and hands them over together as `relay`."""

    @functools.wraps(command)
    def with_limits(*args: Any, **options: Any) -> None:
        chosen = {limit: options.pop(option.replace("-", "_")) for option, (limit, _) in _OPTIONS.items()}
        command(*args, relay=RelayLimits(**chosen), **options)

    defaults = asdict(RelayLimits())
    for option, (limit, text) in reversed(_OPTIONS.items()):
        sized = limit.startswith("bytes")
        with_limits = click.option(
            f"--{option}",
            type=params.size if sized else click.IntRange(0 if limit == "attached" else 1, 100_000),
            metavar="SIZE" if sized else "N",
            default=f"{defaults[limit] >> 20}MiB" if sized else defaults[limit],
            show_default=True,
            help=text,
        )(with_limits)
    return with_limits
