"""The options of `relevo-central serve` that say how much each peer may have."""

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from central.quotas import Quotas
from core.names import MAX_PATH_BYTES

# What an engine can count.
_MOST = 2**62
# For each limit its least value, and what it limits. A peer can always publish one file, whatever its name.
_LIMITS = {
    "entries": (1, "Most files that one peer may publish."),
    "path_bytes": (MAX_PATH_BYTES, "Most bytes that the paths of one peer's files may have together."),
    "copies": (1, "Most copies that one peer may say to store for others."),
    "placements": (0, "Most files of which one peer may want copies on others."),
    "placed_bytes": (0, "Most bytes that one peer may want others to store: size times wanted copies of its files."),
    "reports": (0, "Most holders that one peer may report within an hour."),
}


def quota_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--max-…` for every limit, and hands them over together as `quotas`."""

    @functools.wraps(command)
    def with_quotas(**options: Any) -> None:
        limits = {name: options.pop(f"max_{name}") for name in _LIMITS}
        command(quotas=Quotas(**limits), **options)

    defaults = asdict(Quotas())
    for name, (least, text) in reversed(_LIMITS.items()):
        with_quotas = click.option(
            f"--max-{name.replace('_', '-')}",
            type=click.IntRange(min=least, max=_MOST),
            metavar="BYTES" if name.endswith("bytes") else "N",
            default=defaults[name],
            show_default=True,
            help=text,
        )(with_quotas)
    return with_quotas
