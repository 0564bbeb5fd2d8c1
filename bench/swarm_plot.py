"""A plot of a few lines as an SVG: x in powers of ten, y from one on. Pure."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 120, 20, 50
_COLOURS = ("#1f6fb2", "#c8641e", "#4a8f3c", "#7a4fa3")
_STEP = 0.25


def plot(lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str) -> str:
    """Returns an SVG of lines by name, each of points (x, y) with x above 0 and y at least 1, in the order of x."""
    points = [point for line in lines.values() for point in line]
    first = math.log10(min(x for x, _ in points))
    last = max(math.log10(max(x for x, _ in points)), first + 1)
    most = max(1.5, math.ceil(max(y for _, y in points) / _STEP) * _STEP)

    def at(x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        down = (most - y) / (most - 1) * (_HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + right, 1), round(_TOP + down, 1)

    floor, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
        '  font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text((_LEFT + end) / 2, _HEIGHT - 10, x_name, "middle"),
        f'<g transform="rotate(-90 16 {(_TOP + floor) / 2})">{_text(16, (_TOP + floor) / 2, y_name, "middle")}</g>',
    ]
    for number in range(round((most - 1) / _STEP) + 1):
        value = 1 + number * _STEP
        height = at(10**first, value)[1]
        parts += [_rule(_LEFT, height, end, height), _text(_LEFT - 8, height + 4, f"{value:g}", "end")]
    for x in sorted({x for x, _ in points}):
        across = at(x, 1)[0]
        parts += [_rule(across, floor, across, floor + 5), _text(across, floor + 20, f"{x:g}", "middle")]
    for colour, line in zip(_COLOURS, lines.values(), strict=False):
        places = [at(x, y) for x, y in line]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
    # Where lines end close to each other their names would lie upon each other.
    for rank, (colour, name) in enumerate(zip(_COLOURS, lines, strict=False)):
        parts.append(_text(end + 12, _TOP + 12 + 18 * rank, name, "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#333") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#ccc"/>'
