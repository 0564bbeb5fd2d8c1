"""Tables for a terminal: columns that line up in every script, cells that cannot steer it, ids that are short."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

from core.names import printable

_GAP = "  "
SHORTEST_ID = 8


def short_ids(ids: Iterable[str], least: int = SHORTEST_ID) -> dict[str, str]:
    """Returns for each id the shortest prefix, at least `least` characters, that no other of `ids` begins with."""
    ordered = sorted(set(ids))
    wanted = dict.fromkeys(ordered, least)
    for one, other in pairwise(ordered):
        shared = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        wanted[one] = max(wanted[one], shared + 1)
        wanted[other] = max(wanted[other], shared + 1)
    return {whole: whole[:length] for whole, length in wanted.items()}


def width(text: str) -> int:
    """Returns how many columns `text` takes on a terminal: East Asian characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(map(char_width, text))


def char_width(char: str) -> int:
    """Returns how many columns a character takes."""
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a table. A head that begins with `>` has its column aligned to the right.

    Every cell is made printable, so that nothing from the network can steer the terminal; widths are those on screen.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    right = [head.startswith(">") for head in heads]
    lines = [[head.removeprefix(">") for head in heads], *cells]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    return [_GAP.join(map(_padded, line, widths, right)).rstrip() for line in lines]


def _padded(text: str, columns: int, right: bool) -> str:
    blank = " " * (columns - width(text))
    return blank + text if right else text + blank
