"""How things are shown to people: sizes, rates, spans, ages, shortened names. Pure; nothing here prints."""

from collections.abc import Sequence
from datetime import UTC, datetime

from core.tables import SHORTEST_ID, char_width, short_ids, table, width

# What core shows alike for central's commands, commands of a peer find here.
__all__ = ["SHORTEST_ID", "short_ids", "table", "width"]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Up to here an age says more than a date.
_AGED = 30 * _DAY


def size(count: float) -> str:
    """Returns bytes as people read them: `0 B`, `1023 B`, `1.0 KiB`, `12.3 MiB`, `104 MiB`, `2.0 GiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    number, unit = count / 1024, 0
    # 1023.6 would be shown as 1024: it belongs to the next unit.
    while number >= 1023.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if number < 99.95 else f"{number:.0f} {_UNITS[unit]}"


def rate(bytes_per_second: float) -> str:
    """Returns a rate: `12.3 MiB/s`."""
    return f"{size(bytes_per_second)}/s"


def span(seconds: float) -> str:
    """Returns how long something takes: `3 ms`, `1.2 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def _two(seconds: int, unit: int, name: str, lesser: int, lesser_name: str) -> str:
    rest = seconds % unit // lesser
    return f"{seconds // unit} {name}" + (f" {rest} {lesser_name}" if rest else "")


def age(then: float, now: float) -> str:
    """Returns how long ago `then` was, in one unit: `now`, `42 s`, `5 min`, `3 h`, `12 d`; beyond a month its date.

    Both are seconds since 1970; 0 and what no calendar holds are `-`.
    """
    when = moment(then)
    if not then or when is None:
        return "-"
    past = now - then
    if past < 1:
        return "now" if past > -_MINUTE else f"{when:%Y-%m-%d}"
    for limit, unit, name in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h"), (_AGED, _DAY, "d")):
        if past < limit:
            return f"{past // unit:.0f} {name}"
    return f"{when:%Y-%m-%d}"


def moment(seconds: float) -> datetime | None:
    """Returns the time in UTC, or None when no calendar holds it: times come from other machines."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def listed(words: Sequence[str]) -> str:
    """Returns `ana`, `ana and ben`, `ana, ben and eva`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def count(number: int, one: str, many: str = "") -> str:
    """Returns `1 file`, `0 files`, `12,345 files`; `many` where an `s` does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(done: int, whole: int) -> str:
    """Returns how much is done: `0%` to `100%`, 100 only when everything is."""
    return f"{min(done * 100 // whole, 100) if whole else 100}%"


def clip(text: str, columns: int) -> str:
    """Returns `text` within `columns`; what is longer loses its middle, so that a file's ending stays readable."""
    if width(text) <= columns:
        return text
    room = max(columns - 1, 0)
    return f"{_fit(text, room - room // 2)}…{_fit(text[::-1], room // 2)[::-1]}"[: max(columns, 0)]


def _fit(text: str, columns: int) -> str:
    taken = 0
    for at, char in enumerate(text):
        taken += char_width(char)
        if taken > columns:
            return text[:at]
    return text
