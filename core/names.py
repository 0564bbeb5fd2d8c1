"""Names of files and peers: what is refused, how names are compared, and how they are shown."""

import re
import unicodedata

from core.errors import InvalidInput

MAX_PATH_BYTES = 4096
MAX_PART_BYTES = 255
MAX_PEER_NAME = 64
ID_PREFIX = 4
# Unicode's category Cc, which will never have others.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def check_path(path: str, field: str = "path") -> str:
    """Returns `path` when it may be a file's path in the catalogue; never cleans it up.

    Relative, `/`-separated, NFC, at most 4,096 bytes of UTF-8, each part at most 255; no empty part, `.`, `..`,
    backslash, NUL, control character or lone surrogate.

    Raises:
        InvalidInput: it breaks a rule; the text says which.
    """
    problem = path_problem(path)
    if problem:
        raise InvalidInput(field, f"{printable(path)!r} is not a valid path: {problem}")
    return path


def path_problem(path: str) -> str:
    """Returns in a few words why `path` is refused, or an empty string when it is not."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if not path:
        return "it is empty"
    if len(encoded) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it contains a backslash"
    if _CONTROL.search(path):
        return "it contains a control character"
    if not unicodedata.is_normalized("NFC", path):
        return "it is not in Unicode normal form C"
    return next(filter(None, map(_part_problem, path.split("/"))), "")


def _part_problem(part: str) -> str:
    if not part:
        return "it has an empty part"
    if part in {".", ".."}:
        return f"it has the part {part!r}"
    if len(part.encode()) > MAX_PART_BYTES:
        return f"a part is longer than {MAX_PART_BYTES} bytes"
    return ""


def check_peer_name(name: str, field: str = "name") -> str:
    """Returns `name` when a peer may call itself that: 1 to 64 characters, none of them a control character.

    Raises:
        InvalidInput: it breaks a rule.
    """
    if not 1 <= len(name) <= MAX_PEER_NAME or not name.strip():
        raise InvalidInput(field, f"a peer's name has 1 to {MAX_PEER_NAME} characters")
    if printable(name) != name:
        raise InvalidInput(field, "a peer's name has no control characters")
    return name


def last_part(path: str) -> str:
    """Returns the part after the last `/`."""
    return path.rpartition("/")[2]


def normal(text: str) -> str:
    """Returns `text` in NFC, the form in which names travel."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Returns the form in which names are compared when case does not matter: case folded, then NFC."""
    return unicodedata.normalize("NFC", text.casefold())


# Control and format characters (bidirectional overrides among them), surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners that scripts and emoji need.
_JOINERS = frozenset("\u200c\u200d")


def printable(text: str) -> str:
    """Returns `text` with everything escaped that could steer or deceive a terminal; other scripts stay as they are."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _HIDDEN and char not in _JOINERS
        else char
        for char in text
    )
