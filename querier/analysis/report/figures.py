"""Where the marks of the report's figures stand, in pixels; `parts.html.j2` draws them as SVG.

A figure is as wide as a phone and keeps its size, so that its letters do too; a wide screen shows several in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from querier.analysis.figures import COLOURS
from querier.analysis.report.numbers import Number
from querier.analysis.report.sources import Curve

WIDTH = 340
LEFT, RIGHT = 22, 22  # of a dot plot: half a number of its axis
LABEL, LINE, GAP = 17, 13, 12  # heights: the name of a row, a mark of it, the space under it
LINES_LEFT, LINES_HEIGHT = 62, 170  # of a plot of curves
POINTS = 150  # of a curve; more are averaged
LETTERS = 46  # that fit beside each other
SHAPES = {
    "circle": "M-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0z",
    "square": "M-3.8,-3.8h7.6v7.6h-7.6z",
    "triangle": "M0,-4.8L4.6,3.6L-4.6,3.6z",
    "diamond": "M0,-5.2L4.6,0L0,5.2L-4.6,0z",
    "down": "M0,4.8L4.6,-3.6L-4.6,-3.6z",
    "plus": "M-1.6,-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z",
    "cross": "M-4.6,-2.6L-2.6,-4.6L0,-2L2.6,-4.6L4.6,-2.6L2,0L4.6,2.6L2.6,4.6L0,2L-2.6,4.6L-4.6,2.6L-2,0z",
}
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2")
SEEN_ON_WHITE = [colour for colour in COLOURS if colour != "#F0E442"]


@dataclass(frozen=True)
class Style:
    """How an entry is told from others without its colour: by shape and line too."""

    colour: str
    shape: str
    dash: str


def style(place: int) -> Style:
    """Of the entry at a place; the first 35 differ."""
    shapes = list(SHAPES.values())
    return Style(SEEN_ON_WHITE[place % len(SEEN_ON_WHITE)], shapes[place % len(shapes)], DASHES[place % len(DASHES)])


@dataclass(frozen=True)
class Scale:
    """A straight map of numbers to pixels, with round numbers to write beside it."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Pixels and texts of about so many round numbers."""
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step / power:.1f}" == "2.5" else 0))
        values = [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(self(value), f"{value + 0.0:.{decimals}f}") for value in values]


def scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that holds all values, with a little room."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.05
    return Scale(low - room, high + room, start, end)


@dataclass(frozen=True)
class Mark:
    """A number with its interval in a dot plot; `x` is None where nothing was measured."""

    y: float
    x: float | None
    low: float | None
    high: float | None
    style: Style
    text: str
    title: str


@dataclass(frozen=True)
class Row:
    """A name, and under it its marks."""

    y: float
    name: str
    full: str
    text: str
    marks: list[Mark]


@dataclass(frozen=True)
class Dots:
    """A dot-and-interval plot."""

    rows: list[Row]
    height: float
    axis: float
    ticks: list[tuple[float, str]]
    line: float | None
    unit: str
    width: int = WIDTH


def dots(
    rows: Sequence[tuple[str, Sequence[tuple[str, Number, Style]]]],
    span: Sequence[float],
    unit: str,
    digits: int,
    line: float | None = None,
) -> Dots:
    """Names with one or several numbers each.

    Args:
        rows: Of each name what its marks are called, their numbers and styles.
        span: Numbers that the axis must hold, of other plots that are to have the same axis too.
        unit: Of the axis; the number of dialogues stands beside it.
        digits: Decimals of the numbers.
        line: A number to draw a line at.
    """
    many = any(len(marks) > 1 for _, marks in rows)
    wide = WIDTH - RIGHT - (30 if many else 0)
    x = scale([*span, *([] if line is None else [line])], LEFT, wide)
    made, y = [], 4.0
    for name, marks in rows:
        text = "" if many else interval_text(marks[0][1], digits)
        places = [y + LABEL + LINE * number + LINE / 2 for number in range(len(marks))]
        drawn = [
            _mark(x, place, said, number, style, digits)
            for place, (said, number, style) in zip(places, marks, strict=True)
        ]
        made.append(Row(y + 12, shortened(name, max(12, LETTERS - len(text))), name, text, drawn))
        y += LABEL + LINE * len(marks) + GAP
    n = number_range(mark[1].n for _, marks in rows for mark in marks if mark[1].value is not None)
    axis = ", ".join(part for part in (unit, f"n = {n}" if n else "") if part)
    return Dots(made, y + 36, y, x.ticks(), None if line is None else x(line), axis)


def number_range(counts: Iterable[int]) -> str:
    """One number where all are the same, else the least and the most; empty without any."""
    known = sorted(set(counts))
    return "" if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _mark(x: Scale, y: float, said: str, number: Number, style: Style, digits: int) -> Mark:
    title = f"{said}: {interval_text(number, digits)}, n {number.n}, failed {number.n_failed}"
    if number.value is None:
        return Mark(y, None, None, None, style, "–", title)
    low, high = (None if end is None else x(end) for end in (number.low, number.high))
    return Mark(y, x(number.value), low, high, style, f"{number.value:.{digits}f}", title)


@dataclass(frozen=True)
class Point:
    """A point of a curve, with what a pointer over it reads."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Line:
    """A curve: its path, its band, and the points that carry a marker."""

    name: str
    path: str
    band: str
    points: list[Point]
    style: Style


@dataclass(frozen=True)
class Lines:
    """Curves over one axis."""

    lines: list[Line]
    xs: list[tuple[float, str]]
    under: list[tuple[float, str]]
    ys: list[tuple[float, str]]
    x_name: str
    y_name: str
    zero: float | None
    width: int = WIDTH
    left: int = LINES_LEFT
    height: int = LINES_HEIGHT
    notes: list[str] = field(default_factory=list)


def cold_lines(
    curves: Mapping[str, tuple[Style, Mapping[str, Number]]],
    items: Sequence[str],
    span: Sequence[float],
    unit: str,
    digits: int,
    line: float | None = None,
) -> Lines:
    """Curves over the number of history items, at equal distances, with bands.

    Args:
        curves: Of each name its style and its number at each number of items.
        items: All numbers of items, in order.
        span: Numbers that the axis must hold.
        unit: Of the numbers.
        digits: Their decimals.
        line: A number to draw a line at.
    """
    y = scale([*span, *([] if line is None else [line])], LINES_HEIGHT, 6)
    step = (WIDTH - LINES_LEFT - 2 * RIGHT) / max(1, len(items) - 1)
    places = {item: round(LINES_LEFT + RIGHT + step * place, 1) for place, item in enumerate(items)}
    drawn = []
    for name, (look, numbers) in curves.items():
        known = [(places[item], item, numbers[item]) for item in items if item in numbers]
        known = [one for one in known if one[2].value is not None]
        path = _path([(x, y(number.value or 0.0)) for x, _, number in known])
        ends = [(x, number.low, number.high) for x, _, number in known if number.low is not None]
        edge = [(x, y(high)) for x, _, high in ends if high is not None]
        edge += [(x, y(low)) for x, low, _ in reversed(ends) if low is not None]
        points = [
            Point(x, y(number.value or 0.0), f"{name}, {item} items: {_measured(number, digits)}")
            for x, item, number in known
        ]
        drawn.append(Line(name, path, _path(edge) + "z" if len(edge) > 2 else "", points, look))
    under = [(places[item], _count(item, curves)) for item in items]
    zero = None if line is None else y(line)
    xs = [(places[item], item) for item in items]
    return Lines(drawn, xs, under, y.ticks(), "earlier dialogues that are read", unit, zero)


def _measured(number: Number, digits: int) -> str:
    """Value and interval, and how many dialogues of how many queriers stand behind them."""
    of = f" of {number.queriers} queriers" if number.queriers else ""
    return f"{interval_text(number, digits)}, n {number.n}{of}"


def _count(item: str, curves: Mapping[str, tuple[Style, Mapping[str, Number]]]) -> str:
    """How many dialogues stand behind a point, of all curves; `≥` where they differ."""
    counts = {numbers[item].n for _, numbers in curves.values() if item in numbers}
    return "" if not counts else f"{'≥' if len(counts) > 1 else ''}{min(counts)}"


def step_lines(curves: Mapping[str, tuple[Style, Curve]], unit: str) -> Lines:
    """Curves over training steps; many steps are put together to their mean, and a hole stays a hole."""
    thin = {name: (look, thinned(curve)) for name, (look, curve) in curves.items()}
    finite = [point for _, curve in thin.values() for point in curve if math.isfinite(point[1])]
    x = scale([step for step, _ in finite], LINES_LEFT + 2, WIDTH - RIGHT)
    y = scale([value for _, value in finite], LINES_HEIGHT, 6)
    drawn, notes = [], []
    for name, (look, curve) in thin.items():
        parts: list[list[tuple[float, float]]] = [[]]
        for step, value in curve:
            if math.isfinite(value):
                parts[-1].append((x(step), y(value)))
            else:
                parts.append([])
        known = [(step, value) for step, value in curve if math.isfinite(value)]
        points = [Point(x(step), y(value), f"{name}, step {step:.0f}: {value:.4g}") for step, value in marked(known)]
        drawn.append(Line(name, "".join(_path(part) for part in parts), "", points, look))
        if holes := sum(not math.isfinite(value) for _, value in curves[name][1]):
            notes.append(f"{name}: {holes} values are no finite number")
    ticks = [(place, text) for place, text in x.ticks() if place >= LINES_LEFT]
    return Lines(drawn, ticks, [], y.ticks(), "step", unit, None, notes=notes)


def thinned(curve: Curve) -> Curve:
    """The curve, or means over equal numbers of its points where it has many."""
    size = math.ceil(len(curve) / POINTS)
    if size <= 1:
        return curve
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def marked(curve: Curve) -> Curve:
    """The points that carry a marker: all of a short curve, some of a long one."""
    return curve if len(curve) <= 20 else curve[:: len(curve) // 7]


def shortened(name: str, letters: int) -> str:
    """A name with its middle left out where it is long."""
    if len(name) <= letters:
        return name
    end = letters // 3
    return f"{name[: letters - end - 1]}…{name[-end:]}"


def interval_text(number: Number, digits: int) -> str:
    """Value and interval; what is missing is said."""
    if number.value is None:
        return "not measured"
    if number.low is None or number.high is None:
        return f"{number.value:.{digits}f}"
    return f"{number.value:.{digits}f} [{number.low:.{digits}f}, {number.high:.{digits}f}]"


def _path(points: Sequence[tuple[float, float]]) -> str:
    if len(points) < 2:
        return ""
    return f"M{points[0][0]},{points[0][1]}" + "".join(f"L{x},{y}" for _, (x, y) in pairwise(points))
