"""The report as one HTML file that loads nothing and runs nothing. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files

from midasdl.clock import iso_utc
from midasdl.ledger.coverage import Failures
from midasdl.report.facts import Facts
from midasdl.report.grid import Cell, Grid, by_county_and_dataset, by_dataset_and_year
from midasdl.report.markup import Markup, element, join
from midasdl.report.pictures import CELL, SHADES, heat_map, steps_chart, time_chart
from midasdl.report.politeness import (
    KINDS,
    limits_of,
    loosest,
    pauses,
    seconds_of,
    shares_over_time,
    span_of,
)
from midasdl.report.words import moment, number, percent, size, span
from midasdl.version import PROJECT_URL, __version__

MOST_STEPS_SHOWN = 40
MOST_CHARTS = 4
COUNTIES_IN_A_BLOCK = 34

LICENCE = (
    "Data: Met Office MIDAS Open, © Crown copyright, Met Office, under the Open Government Licence v3. Cite the "
    "dataset and version that you use as its page in CEDA's catalogue says."
)


def page_of(facts: Facts, cures: Mapping[str, str]) -> str:
    """The whole report.

    Parameters
    ----------
    cures : mapping of str to str
        What to do about failures of each class.
    """
    style = files("midasdl.report").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = join(
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup('<link rel="icon" href="data:,">'),
        element("title", f"MIDAS Open: {percent_done(facts)} in {facts.data_root}"),
        Markup(f"<style>{style}</style>"),
    )
    body = join(
        *(_top(facts), _coverage(facts), _missing(facts, cures), _speed(facts)),
        *(_politeness(facts), _runs(facts), _origin(facts)),
    )
    return f'<!doctype html>\n<html lang="en-GB"><head>{head}</head><body>{body}</body></html>\n'


def percent_done(facts: Facts) -> str:
    """How much is there."""
    return percent(facts.files_done / facts.files if facts.files else 1.0)


def _top(facts: Facts) -> Markup:
    numbers = (
        (percent_done(facts), f"{number(facts.files_done)} of {number(facts.files)} files are there"),
        (size(facts.bytes_done), "of distinct contents"),
        (number(facts.files_failed), "files failed"),
        (number(facts.files - facts.files_done - facts.files_failed), "files are still to come"),
    )
    return join(
        element("h1", "MIDAS Open: what there is"),
        element("p", f"{facts.data_root}, as of {iso_utc(facts.at_us)}", class_="soft"),
        element(
            "div",
            *(element("div", element("b", value), words) for value, words in numbers),
            class_="headline",
        ),
    )


def _coverage(facts: Facts) -> Markup:
    if not facts.cover:
        return element("p", "No manifest has been loaded.")
    years, counties = by_dataset_and_year(facts.cover), by_county_and_dataset(facts.cover)
    parts = [
        element("h2", "Coverage by dataset and year"),
        _picture(heat_map(years, "Share of the files that are there, by dataset and year")),
        _key(),
        _table(
            ("dataset", "files", "there", "failed", "to come", "share"),
            ((row, *_numbers(years.row_sum(row))) for row in years.rows),
        ),
    ]
    if counties.rows:
        parts += [
            element("h2", "Coverage by county"),
            element("div", *_county_maps(counties), class_="picture blocks"),
            _key(),
        ]
    return join(*parts)


def _county_maps(counties: Grid) -> Iterator[Markup]:
    """The counties in blocks, which stand side by side where there is room."""
    blocks = -(-len(counties.rows) // COUNTIES_IN_A_BLOCK)
    height = -(-len(counties.rows) // blocks)
    for first in range(0, len(counties.rows), height):
        rows = counties.rows[first : first + height]
        title = f"Share of the files that are there, by county and dataset: {rows[0]} to {rows[-1]}"
        yield heat_map(Grid(rows, counties.columns, counties.cells), title, upright=True)


def _numbers(cell: Cell) -> tuple[str, ...]:
    to_come = cell.missing - cell.failed
    return (*map(number, (cell.files, cell.done, cell.failed, to_come)), percent(cell.share))


def _key() -> Markup:
    """What colours mean."""
    words = ["nothing", "up to a quarter", "up to a half", "up to three quarters", "more", "everything"]
    squares = [
        element("span", _swatch(element("rect", width=CELL, height=CELL, class_=f"s{n}")), words[n])
        for n in range(SHADES + 1)
    ]
    dot = element("circle", cx=CELL / 2, cy=CELL / 2, r=3, class_="dot")
    return element("div", *squares, element("span", _swatch(dot), "something failed"), class_="key")


def _swatch(inside: Markup) -> Markup:
    return element("svg", inside, width=CELL, height=CELL, aria_hidden="true")


def _missing(facts: Facts, cures: Mapping[str, str]) -> Markup:
    parts: list[Markup] = [element("h2", "What is missing, and why")]
    if not (facts.failures or facts.unfinished or facts.damaged):
        parts.append(
            element("p", "Nothing: every file is there, and its md5 is the manifest's.", class_="good")
        )
    if facts.unfinished:
        words = f"{number(facts.unfinished)} distinct contents are still to be fetched: "
        parts.append(element("p", words, element("code", "midasdl resume")))
    if facts.damaged:
        words = f"{number(facts.damaged)} files were found damaged afterwards and can be put back: "
        parts.append(element("p", words, element("code", "midasdl verify --resume --repair")))
    if facts.failures:
        rows = [_failure_row(group, cures) for group in facts.failures]
        parts.append(_table(("class", "contents", "what helps", "for example"), rows, words=(0, 2, 3)))
        parts.append(
            element(
                "p",
                "When that is done: ",
                element("code", "midasdl run --retry-failed"),
                "; each of them: ",
                element("code", 'midasdl sql "SELECT * FROM failures"'),
            )
        )
    if facts.rejects:
        parts.append(element("h3", "Lines of manifests that could not be used"))
        parts.append(_table(("reason", "lines"), ((reason, number(n)) for reason, n in facts.rejects)))
    return join(*parts)


def _failure_row(group: Failures, cures: Mapping[str, str]) -> tuple[Markup | str, ...]:
    told = ((path, message.removeprefix(f"{path}: ")) for path, message in group.examples)
    examples = join(*(element("div", f"{path}: {message}") for path, message in told))
    cure = cures.get(group.error_class, "see the message")
    return element("b", group.error_class, class_="bad"), number(group.tasks), cure, examples


def _speed(facts: Facts) -> Markup:
    parts: list[Markup] = [element("h2", "Speed over time")]
    if not facts.pace:
        return join(*parts, element("p", "Nothing has been finished yet.", class_="soft"))
    seconds = facts.pace_us / 1e6
    bands = [span_of(run, facts.at_us) for run in facts.runs]
    charts: tuple[tuple[str, list[tuple[int, float]], Callable[[float], str]], ...] = (
        (
            "Files finished a second",
            [(each.from_us, each.files / seconds) for each in facts.pace],
            lambda value: f"{value:.2g} files/s" if value < 100 else f"{value:,.0f} files/s",
        ),
        (
            "Bytes fetched a second",
            [(each.from_us, each.bytes_fetched / seconds) for each in facts.pace],
            lambda value: f"{size(value)}/s",
        ),
    )
    for title, points, say in charts:
        parts.append(element("h3", title))
        parts.append(_picture(time_chart(points, facts.pace_us, bands, title, say), "picture chart"))
    words = f"A bar stands for {span(max(seconds, 1))}. The band below shows when runs were on."
    cached = sum(each.from_cache for each in facts.pace)
    if cached:
        words += (
            f" {number(cached)} of {number(sum(each.files for each in facts.pace))} were on disk already."
        )
    return join(*parts, element("p", words, class_="soft"))


def _politeness(facts: Facts) -> Markup:
    parts: list[Markup] = [element("h2", "Politeness kept")]
    if not facts.requests:
        return join(*parts, element("p", "No run has asked a server yet.", class_="soft"))
    allowed = loosest(limits_of(run) for run in facts.runs)
    seconds = seconds_of(facts.runs, facts.at_us)
    rate = "any" if allowed.rate is None else f"{allowed.rate:.3g} a second"
    permits = "any number" if allowed.in_flight is None else number(allowed.in_flight)
    parts.append(
        element(
            "p",
            f"Allowed by the settings of the runs: {rate}, {permits} in flight. In all, runs have lasted "
            f"{span(seconds)}. Starts and permits are kept by one row of the ledger, over all workers and runs.",
        )
    )
    parts.append(
        _table(
            (
                "server",
                "requests",
                "a second",
                "good",
                "others",
                "answer began after",
                "pauses",
                "throttle",
                "breaker",
            ),
            (_server_row(host, facts, seconds) for host in dict.fromkeys(row[0] for row in facts.requests)),
            words=(0, 4),
        )
    )
    for host in list(dict.fromkeys(row[0] for row in facts.requests))[:MOST_CHARTS]:
        steps = [step for step in facts.steps if step.host == host]
        shares = shares_over_time(steps)
        if shares:
            title = f"Share of the allowed rate at which {host} was asked, and pauses"
            chart = steps_chart(shares, facts.at_us, pauses(steps), title)
            parts += [element("h3", title), _picture(chart, "picture chart")]
    if facts.steps:
        latest = facts.steps[-MOST_STEPS_SHOWN:][::-1]
        parts.append(
            element("h3", f"The latest steps ({number(len(latest))} of {number(len(facts.steps))} or more)")
        )
        rows = ((moment(s.at_us), s.host, s.what, s.from_value or "", s.to_value, s.reason) for s in latest)
        parts.append(_table(("when (UTC)", "server", "what", "from", "to", "why"), rows, words=range(6)))
    return join(*parts)


def _server_row(host: str, facts: Facts, seconds: float) -> tuple[str, ...]:
    outcomes = {outcome: count for where, outcome, count in facts.requests if where == host}
    total, good = sum(outcomes.values()), outcomes.get("ok", 0)
    others = ", ".join(f"{outcome} {number(count)}" for outcome, count in outcomes.items() if outcome != "ok")
    row = next((row for row in facts.health if row["host"] == host), None)
    latency = ""
    if row is not None and row["p50_ms"] is not None:
        latency = f"{row['p50_ms']:.0f} ms (P50), {row['p95_ms']:.0f} ms (P95)"
    steps = [step.what for step in facts.steps if step.host == host]
    counts = (number(steps.count(kind)) for kind in KINDS)
    mean = f"{total / seconds:.3g}" if seconds else ""
    return (host, number(total), mean, percent(good / total if total else 1.0), others, latency, *counts)


def _runs(facts: Facts) -> Markup:
    if not facts.runs:
        return Markup("")
    rows = (
        (
            number(run.run_id),
            run.command,
            moment(run.started_us),
            moment(run.ended_us) or "on, or killed",
            "" if run.ended_us is None else span((run.ended_us - run.started_us) / 1e6),
            "" if run.exit_code is None else str(run.exit_code),
        )
        for run in reversed(facts.runs)
    )
    heads = ("run", "command", "began (UTC)", "ended", "took", "exit code")
    return join(element("h2", "Runs"), _table(heads, rows, words=(1, 2, 3)))


def _origin(facts: Facts) -> Markup:
    rows = (
        (
            each.name,
            each.md5,
            moment(each.loaded_us),
            number(each.lines),
            number(each.rejected),
            each.selection,
        )
        for each in facts.manifests
    )
    heads = ("manifest", "its md5", "loaded (UTC)", "lines", "not usable", "selection ({}: everything)")
    return join(
        element("h2", "Where it comes from"),
        _table(heads, rows, words=(0, 1, 2, 5)),
        element("p", LICENCE),
        element("footer", f"midasdl {__version__} ({PROJECT_URL}), from the ledger {facts.ledger}"),
    )


def _picture(inside: Markup, kind: str = "picture") -> Markup:
    return element("div", inside, class_=kind)


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Markup | str]],
    words: Iterable[int] = (0,),
) -> Markup:
    """A table; the columns of `words` hold no numbers."""
    left = set(words)

    def cells(name: str, row: Sequence[Markup | str]) -> Iterator[Markup]:
        for place, value in enumerate(row):
            yield element(name, value, class_=None if place in left else "n")

    head = element("thead", element("tr", *cells("th", heads)))
    body = element("tbody", *(element("tr", *cells("td", row)) for row in rows))
    return element("div", element("table", head, body), class_="wide")
