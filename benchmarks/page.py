"""The results as ``docs/benchmarks.md`` shows them; the words around them are written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.bench import RESULTS, Result, Series, Target
from benchmarks.chart import bars
from benchmarks.workloads import NAMES

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"
CHARTED = "files/s"


def write_page(results: Path = RESULTS, docs: Path = DOCS) -> None:
    """Put everything that was measured between the two marks of the page, and draw what can be drawn."""
    found = [Result.kept(results / f"{name}.json") for name in NAMES if (results / f"{name}.json").exists()]
    (docs / "images").mkdir(exist_ok=True)
    for result in found:
        if drawn := charted(result):
            (docs / "images" / f"bench-{result.workload}.svg").write_text(bars(result.title, drawn))
    page = docs / "benchmarks.md"
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(head + BEGIN + "\n" + text_of(found) + "\n" + END + tail)


def charted(result: Result) -> list[Series]:
    """What of a result makes a picture."""
    drawn = [each for each in result.series if each.unit == CHARTED]
    return drawn if len(drawn) > 1 else []


def text_of(results: Iterable[Result]) -> str:
    """All targets in one table, then each workload."""
    found = list(results)
    lines = [
        "### Targets",
        "",
        "| workload | what | first target | aim | reached | |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_target_row(result.workload, target) for result in found for target in result.targets]
    for result in found:
        lines += ["", f"### {result.workload}: {result.title}", ""]
        if charted(result):
            lines += [f"![{result.title}](images/bench-{result.workload}.svg)", ""]
        lines += ["| contender | median | least | most | rounds | does |", "|---|---|---|---|---|---|"]
        lines += [_series_row(each) for each in result.series]
        lines += [line for note in result.notes for line in ("", note)]
        lines += ["", f"Measured on: {result.machine}."]
    return "\n".join(lines) + "\n"


def _target_row(workload: str, target: Target) -> str:
    sign = "at least" if target.at_least else "at most"
    bounds = (f"{sign} {_figure(bound, target.unit)}" for bound in (target.first, target.aim))
    reached = _figure(target.reached, target.unit)
    return f"| {workload} | {target.what} | {' | '.join(bounds)} | {reached} | {target.verdict} |"


def _series_row(series: Series) -> str:
    figures = (
        _figure(value, series.unit) for value in (series.median, min(series.values), max(series.values))
    )
    return f"| {series.contender} | {' | '.join(figures)} | {len(series.values)} | {series.does} |"


def _figure(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{number} {unit}".strip()
