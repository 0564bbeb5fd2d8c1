"""What a user typed, made into what an engine searches for."""

from collections.abc import Iterator
from dataclasses import dataclass

from central.store.store import FileQuery, Order
from core.content import DIGEST_BYTES
from core.errors import InvalidInput
from core.names import ID_PREFIX, MAX_PATH_BYTES, folded, normal, path_problem

GRAM = 3
MAX_GRAMS = 16
_HEX = frozenset("0123456789abcdef")
_NOTHING = "[\x01]"  # a class that no path matches, because paths have no control characters


@dataclass(frozen=True, slots=True)
class TextSearch:
    """A search in folded paths.

    Attributes:
        needle: what the folded path contains; empty when there is a pattern or when every file is meant.
        glob: what the folded path, or its last part, is matched against as a whole: `*`, `?`, `[…]` and `[^…]` as in
            SQLite's GLOB, `*` and `?` also standing for `/`. Empty when there is none.
        name_only: whether `glob` is for the last part.
        grams: runs of three characters that every match contains; empty when an index of such runs cannot help.
    """

    needle: str = ""
    glob: str = ""
    name_only: bool = False
    grams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a user typed to mean one file.

    Attributes:
        path: in NFC, to be compared exactly.
        name: the same as a last part; empty when it cannot be one.
        ids: the first and the last content id with this prefix; None when it is no prefix.
    """

    path: str
    name: str
    ids: tuple[bytes, bytes] | None


def compile_text(text: str) -> TextSearch:
    """Returns the search for part of a path or a shell pattern.

    Case and Unicode form do not matter. It is a pattern when it has `*`, `?` or a closed `[…]`; `[!…]` is every other
    character, and `[*]`, `[?]`, `[[]` stand for these characters themselves. A pattern with `/` is matched against
    the whole path, one without against the last part.

    Raises:
        InvalidInput: longer than 4,096 bytes, not valid UTF-8, or with a control character.
    """
    wanted = folded(_checked(text, "query"))
    pieces = list(_pieces(wanted))
    if all(literal for _, literal in pieces):
        return TextSearch(needle=wanted, grams=_grams([wanted]))
    glob = "".join(piece for piece, _ in pieces)
    if not glob.strip("*"):
        return TextSearch()
    runs = "".join(literal or "\0" for _, literal in pieces).split("\0")
    return TextSearch(glob=glob, name_only="/" not in wanted, grams=_grams(runs))


def compile_reference(reference: str) -> Reference:
    """Returns the candidates' description for an exact path, an exact last part or the beginning of a content id.

    Raises:
        InvalidInput: empty, longer than 4,096 bytes, not valid UTF-8, or with a control character.
    """
    wanted = normal(_checked(reference, "reference"))
    if not wanted:
        raise InvalidInput("reference", "say which file: a path, a name, or the beginning of a content id")
    digits = wanted.lower()
    most = 2 * DIGEST_BYTES
    ids = None
    if ID_PREFIX <= len(digits) <= most and _HEX.issuperset(digits):
        ids = (bytes.fromhex(digits.ljust(most, "0")), bytes.fromhex(digits.ljust(most, "f")))
    return Reference(wanted, "" if "/" in wanted else wanted, ids)


def position(query: FileQuery) -> tuple[str | float, str, bytes, int] | None:
    """Returns `query.after` with the content id as bytes, or None for the first page.

    Raises:
        InvalidInput: it is not the key of a file in this order.
    """
    if query.after is None:
        return None
    problem = InvalidInput("page_token", "this page token was not given out for this list; start again without one")
    if len(query.after) != 4:
        raise problem
    first, path, digits, size = query.after
    kind = str if query.order is Order.BY_NAME else float
    if not isinstance(first, kind) or not isinstance(path, str) or not isinstance(digits, str) or path_problem(path):
        raise problem
    if not isinstance(size, int) or (isinstance(first, str) and first != folded(path)):
        raise problem
    try:
        return first, path, bytes.fromhex(digits), size
    except ValueError:
        raise problem from None


def _checked(text: str, field: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(field, "it is not valid UTF-8") from None
    if size > MAX_PATH_BYTES:
        raise InvalidInput(field, f"it is longer than {MAX_PATH_BYTES} bytes")
    if any(char < " " or "\x7f" <= char < "\xa0" for char in text):
        raise InvalidInput(field, "it has a control character, which no path has")
    return text


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yields the parts of a pattern, each in the dialect of GLOB and as what it stands for alone: empty for several."""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "[":
            # A `]` right after the opening, or after `[!`, is a member.
            close = text.find("]", at + (3 if text.startswith("[!", at) else 2))
            if close > 0:
                yield _character_class(text[at + 1 : close]), ""
                at = close + 1
                continue
            yield "[[]", "["
        else:
            yield char, "" if char in "*?" else char
        at += 1


def _character_class(typed: str) -> str:
    """Returns `[…]` in the dialect of GLOB, where `]`, `-` and `^` mean themselves only in certain places."""
    negated = typed.startswith("!")
    singles, ranges = _members(typed[negated:])
    # Ranges may run over the special characters, so these are cut out of them and stand where they mean themselves.
    special = {char for char in "]-^" if char in singles or any(low <= char <= high for low, high in ranges)}
    inner = "".join(char for char in "]-" if char in special)
    for low, high in ranges + [(char, char) for char in singles]:
        inner += "".join(f"{a}-{b}" if a < b else a for a, b in _without_special(low, high))
    if not inner and not negated:
        return "^" if special else _NOTHING
    inner += "^" if "^" in special else ""
    return f"[{'^' if negated else ''}{inner}]" if inner else "?"


def _members(typed: str) -> tuple[list[str], list[tuple[str, str]]]:
    singles, ranges, at = [], [], 0
    while at < len(typed):
        if typed[at + 1 : at + 2] == "-" and at + 2 < len(typed):
            ranges.append((typed[at], typed[at + 2]))
            at += 3
        else:
            singles.append(typed[at])
            at += 1
    return singles, [(low, high) for low, high in ranges if low <= high]


def _without_special(low: str, high: str) -> Iterator[tuple[str, str]]:
    start = ord(low)
    for cut in sorted(ord(char) for char in "]-^" if low <= char <= high):
        if start < cut:
            yield chr(start), chr(cut - 1)
        start = cut + 1
    if start <= ord(high):
        yield chr(start), high


def _grams(runs: list[str]) -> tuple[str, ...]:
    """Returns runs of three that cover the literal parts, those of the longest first, at most 16."""
    grams: dict[str, None] = {}
    for run in sorted(runs, key=len, reverse=True):
        last = len(run) - GRAM
        for at in [*range(0, last, GRAM), last] if last >= 0 else []:
            grams[run[at : at + GRAM]] = None
            if len(grams) == MAX_GRAMS:
                return tuple(grams)
    return tuple(grams)
