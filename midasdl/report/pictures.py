"""Pictures as inline SVG, coloured by the page's style. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from midasdl.clock import iso_utc
from midasdl.report.grid import Cell, Grid
from midasdl.report.markup import Markup, element, join

CELL = 13
NARROWEST = 4
WIDEST_MAP = 860
GAP = 1
LABEL_WIDTH = 176
HEAD = 18
WIDE_HEAD = 150
CHART_WIDTH, CHART_HEIGHT = 900, 150
LEFT, BOTTOM = 8, 20

SHADES = 5


def shade_of(cell: Cell) -> str:
    """The class of a cell's colour: s0 has nothing, s5 everything; never rounded up to everything."""
    if cell.missing == 0:
        return f"s{SHADES}"
    return f"s{min(int(cell.share * (SHADES - 1)) + 1, SHADES - 1) if cell.done else 0}"


def heat_map(grid: Grid, title: str, *, upright: bool = False) -> Markup:
    """A grid in which each cell shows the share that is there, and a dot where something has failed.

    Parameters
    ----------
    upright : bool
        Every column has its name, written upwards; else only every tenth, as for years.
    """
    head = WIDE_HEAD if upright else HEAD
    step = CELL + GAP
    wide = CELL if upright else cell_width(len(grid.columns))
    parts: list[Markup] = []
    for number, column in enumerate(grid.columns):
        x = LABEL_WIDTH + number * (wide + GAP)
        if upright:
            at = f"translate({x + CELL - 3},{head - 5}) rotate(-90)"
            parts.append(element("text", column, transform=at, class_="label"))
        elif column.endswith("0") or not column.isdigit():
            anchor = "start" if column.isdigit() else "middle"
            parts.append(element("text", column, x=x, y=head - 5, class_="label", text_anchor=anchor))
    for number, row in enumerate(grid.rows):
        y = head + number * step
        parts.append(
            element("text", row, x=LABEL_WIDTH - 6, y=y + CELL - 3, class_="label", text_anchor="end")
        )
        for place, column in enumerate(grid.columns):
            cell = grid.cells.get((row, column))
            if cell is not None:
                parts.append(_cell(cell, f"{row}, {column}", LABEL_WIDTH + place * (wide + GAP), y, wide))
    return _svg(
        title, LABEL_WIDTH + len(grid.columns) * (wide + GAP) + 40, head + len(grid.rows) * step + 4, parts
    )


def cell_width(columns: int) -> int:
    """So that many columns fit beside each other, as long as one can still see them."""
    return max(NARROWEST, min(CELL, WIDEST_MAP // max(columns, 1) - GAP))


def _cell(cell: Cell, name: str, x: int, y: int, wide: int) -> Markup:
    failed = f", {cell.failed:,} failed" if cell.failed else ""
    words = element("title", f"{name}: {cell.done:,} of {cell.files:,} files{failed}")
    square = element("rect", words, x=x, y=y, width=wide, height=CELL, class_=shade_of(cell))
    if not cell.failed:
        return square
    x_dot = x + wide / 2 if wide < CELL else x + CELL - 3.5
    return join(square, element("circle", cx=x_dot, cy=y + 3.5, r=min(2.5, wide / 2), class_="dot"))


def time_chart(
    points: Sequence[tuple[int, float]],
    width_us: int,
    spans: Sequence[tuple[int, int, str]],
    title: str,
    say: Callable[[float], str],
) -> Markup:
    """Bars over time, above bands that show when something was on.

    Parameters
    ----------
    points : sequence
        When a bin begins, and how high its bar is.
    width_us : int
        How wide a bin is.
    spans : sequence
        From when to when, and a word about it.
    say : callable
        A value in words.
    """
    first = min(at for at, _ in points)
    last = max(max(at for at, _ in points) + width_us, first + 1)
    most = max((value for _, value in points), default=0) or 1

    def x(at_us: int) -> float:
        share = (min(max(at_us, first), last) - first) / (last - first)
        return round(LEFT + share * (CHART_WIDTH - 2 * LEFT), 1)

    base = CHART_HEIGHT - BOTTOM - 8
    parts = [
        _span(x(begun), x(ended), base + 2, words)
        for begun, ended, words in spans
        if ended >= first and begun <= last
    ]
    for at, value in points:
        height = round((base - 16) * value / most, 1)
        bar = element("title", f"{iso_utc(at)}: {say(value)}")
        wide = max(x(at + width_us) - x(at) - 0.4, 0.8)
        parts.append(
            element("rect", bar, x=x(at), y=round(base - height, 1), width=wide, height=height, class_="bar")
        )
    parts.append(element("line", x1=LEFT, x2=CHART_WIDTH - LEFT, y1=16, y2=16, class_="axis"))
    parts.append(element("line", x1=LEFT, x2=CHART_WIDTH - LEFT, y1=base, y2=base, class_="axis"))
    parts.append(element("text", say(most), x=LEFT, y=12, class_="label"))
    parts.extend(_dates(first, last))
    return _svg(title, CHART_WIDTH, CHART_HEIGHT, parts)


def _span(begun: float, ended: float, y: float, words: str) -> Markup:
    wide = max(round(ended - begun, 1), 1.0)
    return element("rect", element("title", words), x=begun, y=y, width=wide, height=5, class_="span")


def steps_chart(
    points: Sequence[tuple[int, float]], until_us: int, spans: Sequence[tuple[int, int, str]], title: str
) -> Markup:
    """A share between 0 and 1 that changes in steps, and bands while nobody was to send."""
    first = points[0][0]
    last = max(until_us, points[-1][0] + 1)

    def x(at_us: int) -> float:
        share = (min(max(at_us, first), last) - first) / (last - first)
        return round(LEFT + share * (CHART_WIDTH - 2 * LEFT), 1)

    base = CHART_HEIGHT - BOTTOM - 8

    def y(share: float) -> float:
        return round(base - (base - 16) * share, 1)

    line = f"M{x(first)} {y(points[0][1])}"
    for at, share in points[1:]:
        line += f"H{x(at)}V{y(share)}"
    parts = [_span(x(begun), x(ended), base + 2, words) for begun, ended, words in spans]
    parts += [
        element("line", x1=LEFT, x2=CHART_WIDTH - LEFT, y1=16, y2=16, class_="axis"),
        element("line", x1=LEFT, x2=CHART_WIDTH - LEFT, y1=base, y2=base, class_="axis"),
        element("path", d=f"{line}H{x(last)}", class_="curve"),
        element("text", "100 % of the rate that the settings allow", x=LEFT, y=12, class_="label"),
        *_dates(first, last),
    ]
    return _svg(title, CHART_WIDTH, CHART_HEIGHT, parts)


def _dates(first_us: int, last_us: int) -> list[Markup]:
    y = CHART_HEIGHT - 4
    return [
        element("text", iso_utc(first_us), x=LEFT, y=y, class_="label"),
        element("text", iso_utc(last_us), x=CHART_WIDTH - LEFT, y=y, class_="label", text_anchor="end"),
    ]


def _svg(title: str, width: int, height: int, parts: Sequence[Markup]) -> Markup:
    inside = join(element("title", title), *parts)
    return element(
        "svg",
        inside,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )
