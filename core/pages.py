"""Page sizes and page tokens of every list."""

import base64
import binascii
import json
import math

from core.errors import InvalidInput

DEFAULT_PAGE = 100
MAX_PAGE = 1000


def page_size(asked: int, field: str = "page_size") -> int:
    """Returns how many items a page has: 100 when `asked` is 0, at most 1,000.

    Raises:
        InvalidInput: `asked` is negative.
    """
    if asked < 0:
        raise InvalidInput(field, "a page size is not negative")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def encode_token(*key: str | float) -> str:
    """Returns an opaque token for the key of the last item of a page."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def decode_token(token: str, *kinds: type, field: str = "page_token") -> tuple[str | float, ...] | None:
    """Returns the key inside `token`, or None for the first page.

    Raises:
        InvalidInput: the token is not one with parts of these `kinds`.
    """
    if not token:
        return None
    try:
        key = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        key = None
    fits = isinstance(key, list) and len(key) == len(kinds)
    if not fits or not all(type(part) is kind and _storable(part) for part, kind in zip(key, kinds, strict=True)):
        raise InvalidInput(field, "this page token was not given out for this list; start again without one")
    return tuple(key)


def _storable(part: object) -> bool:
    """Tells whether a database can compare with `part`: JSON also spells lone surrogates, NaN and endless integers."""
    if isinstance(part, str):
        return not any("\ud800" <= char <= "\udfff" for char in part)
    if isinstance(part, float):
        return math.isfinite(part)
    return not isinstance(part, int) or abs(part) < 1 << 63
