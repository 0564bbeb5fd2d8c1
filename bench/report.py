"""docs/benchmarks.md as a list of what is measured: each table stands behind the command that printed it.

<!-- measured: python -m bench.tls --rounds 3 -->
(the command, the machine and the day, then what the command has printed)
<!-- end -->
"""

import os
import platform
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_BLOCK = re.compile(r"(<!-- measured: (python -m bench\.(\w+)[^\n]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
# What the figures depend on most, by the names of their packages.
_PACKAGES = ("grpcio", "blake3", "cryptography", "libtorrent")


def names(page: str) -> list[str]:
    """Returns the names of what a page lists, in its order."""
    return [match[3] for match in _BLOCK.finditer(page)]


def measured(page: str, wanted: Callable[[str], bool], run: Callable[[list[str]], str], where: str) -> str:
    """Returns a page with the tables of everything that is `wanted` by its name replaced.

    Args:
        page: as it was.
        wanted: tells what is to be measured.
        run: runs a command, which begins with this Python, and returns what it printed.
        where: the machine and the day.
    """

    def replaced(match: re.Match[str]) -> str:
        begin, command, name, end = match.groups()
        if not wanted(name):
            return match[0]
        printed = run([sys.executable, *command.split()[1:]]).strip()
        return f"{begin}\n```\n{command}\n```\n\n{where}\n\n{printed}\n\n{end}"

    return _BLOCK.sub(replaced, page)


def machine() -> str:
    """Returns what the figures of this machine depend on: its processor, its system, versions of libraries."""
    versions = [f"{name} {found}" for name in _PACKAGES if (found := _version(name))]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [
        f"{os.cpu_count()} cores ({_processor()})",
        f"{memory:.0f} GiB of memory",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *versions,
    ]
    return ", ".join(parts)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
