"""Bars, as a picture that any browser shows: no library, a few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.bench import Series

WIDTH = 760
LABEL = 170
FIGURE = 90
BAR = 22
GAP = 10
TOP = 40
OURS = "#1f6f8b"
THEIRS = "#b8c4c8"


def bars(title: str, series: Sequence[Series]) -> str:
    """One bar a contender, the longest first; a thin line shows the span of its rounds."""
    ordered = sorted(series, key=lambda each: each.median, reverse=True)
    longest = max(max(each.values) for each in ordered)
    scale = (WIDTH - LABEL - FIGURE) / longest
    height = TOP + len(ordered) * (BAR + GAP) + GAP
    rows = "\n".join(_row(each, TOP + number * (BAR + GAP), scale) for number, each in enumerate(ordered))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="14">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="10" y="24" font-weight="bold" fill="#222222">{escape(title)}</text>\n'
        f"{rows}\n</svg>\n"
    )


def _row(series: Series, top: float, scale: float) -> str:
    colour = OURS if series.contender == "midasdl" else THEIRS
    length = series.median * scale
    middle = top + BAR / 2
    low, high = (LABEL + bound * scale for bound in (min(series.values), max(series.values)))
    figure = f"{series.median:,.0f} {series.unit}"
    return (
        f'<text x="{LABEL - 8}" y="{middle + 5}" text-anchor="end" fill="#222222">{escape(series.contender)}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#222222"/>'
        f'<text x="{max(high, LABEL + length) + 6:.1f}" y="{middle + 5}" fill="#222222">{escape(figure)}</text>'
    )
