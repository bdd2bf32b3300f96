"""U8: the report's pictures and figures: pure functions, bounded, escaped, and never rounded up to everything."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.ledger.coverage import Cover, Failures, Loaded, OneRun, OneStep, Pace
from midasdl.report.facts import Facts
from midasdl.report.grid import (
    MOST_COUNTIES,
    MOST_DATASETS,
    NO_YEAR,
    REST,
    Cell,
    by_county_and_dataset,
    by_dataset_and_year,
)
from midasdl.report.markup import Markup, element, join
from midasdl.report.page import page_of
from midasdl.report.pictures import heat_map, shade_of
from midasdl.report.politeness import Limits, limits_of, loosest, pauses, seconds_of, shares_over_time
from midasdl.report.words import percent, span

START_US = 1_790_000_000_000_000
SECOND = 1_000_000


def facts_of(**changed: Any) -> Facts:
    """An empty ledger, but for what a test needs."""
    nothing: dict[str, Any] = {
        "at_us": START_US,
        "ledger": "progress.db",
        "data_root": "midas-open",
        "cover": [],
        "states": {},
        "failures": [],
        "rejects": [],
        "damaged": 0,
        "pace_us": SECOND,
        "pace": [],
        "runs": [],
        "steps": [],
        "requests": [],
        "health": [],
        "manifests": [],
    }
    return Facts(**{**nothing, **changed})


def a_run(began_s: float, ended_s: float | None, **client: Any) -> OneRun:
    ended_us = None if ended_s is None else START_US + int(ended_s * SECOND)
    settings = {"performance": {"ceda_client": client}} if client else {}
    return OneRun(1, "run", START_US + int(began_s * SECOND), ended_us, 0, settings)


# --- counting into cells

names = st.one_of(st.none(), st.text("abc", min_size=1, max_size=2))
covers = st.lists(
    st.builds(
        lambda dataset, county, year, done, failed, rest: Cover(
            dataset, county, year, done + failed + rest, done, failed
        ),
        *(names, names, st.one_of(st.none(), st.integers(1850, 2030))),
        *(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)),
    ),
    max_size=60,
)


@given(covers)
def test_u8_nothing_is_lost_between_ledger_and_picture(cover: list[Cover]) -> None:
    """U8: the cells of both pictures add up to the files that they are made of."""
    for grid, wanted in (
        (by_dataset_and_year(cover), cover),
        (by_county_and_dataset(cover), [each for each in cover if each.county is not None]),
    ):
        total = sum(grid.cells.values(), Cell())
        assert (total.files, total.done, total.failed) == tuple(
            sum(getattr(each, name) for each in wanted) for name in ("files", "done", "failed")
        )
        assert sum((grid.row_sum(row) for row in grid.rows), Cell()) == total


def test_u8_years_that_nobody_has_are_empty_columns_and_files_without_a_year_come_last() -> None:
    cover = [
        Cover("a", None, 1990, 1, 1, 0),
        Cover("a", None, 1994, 1, 0, 0),
        Cover("b", None, None, 1, 1, 0),
    ]
    grid = by_dataset_and_year(cover)
    assert grid.columns == ("1990", "1991", "1992", "1993", "1994", NO_YEAR)
    assert ("a", "1992") not in grid.cells


@pytest.mark.parametrize(
    ("cell", "shade"),
    [
        (Cell(1_000_000, 0, 0), "s0"),
        (Cell(1_000_000, 1, 0), "s1"),
        (Cell(100, 25, 0), "s2"),
        (Cell(100, 50, 50), "s3"),
        (Cell(1_000_000, 999_999, 1), "s4"),
        (Cell(3, 3, 0), "s5"),
    ],
)
def test_u8_only_everything_looks_like_everything(cell: Cell, shade: str) -> None:
    """U8: one file that is missing among a million keeps a cell from the last colour."""
    assert shade_of(cell) == shade


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0 %"), (1e-9, "0.1 %"), (0.5, "50.0 %"), (1 - 1e-9, "99.9 %"), (1.0, "100 %")]
)
def test_u8_shares_are_never_rounded_to_all_or_nothing(share: float, words: str) -> None:
    assert percent(share) == words


def test_u8_a_cell_tells_its_numbers_and_marks_what_has_failed() -> None:
    picture = heat_map(by_dataset_and_year([Cover("rain", None, 1990, 9, 7, 1)]), "title")
    assert "<title>rain, 1990: 7 of 9 files, 1 failed</title>" in picture
    assert picture.count('class="dot"') == 1
    clean = heat_map(by_dataset_and_year([Cover("rain", None, 1990, 9, 7, 0)]), "title")
    assert "dot" not in clean


# --- markup


@given(st.text(), st.text())
def test_u8_what_was_not_made_here_is_escaped(text: str, value: str) -> None:
    """U8: no text of a ledger can begin an element or end an attribute."""
    made = element("b", text, title=value)
    assert isinstance(made, Markup)
    inside = made.removeprefix("<b title=").removesuffix("</b>")
    assert "<" not in inside
    assert inside.count('"') == 2
    assert join(made, text).startswith(made)


# --- politeness


def test_u8_the_loosest_limits_of_all_runs_are_shown() -> None:
    """U8: what was allowed at most is what requests are compared with; no limit is no limit."""
    slow, fast = (
        a_run(0, 1, min_request_spacing_ms=ms, max_concurrent_requests=n) for ms, n in ((500, 1), (50, 6))
    )
    free = a_run(0, 1, min_request_spacing_ms=0, max_concurrent_requests=0)
    assert loosest(map(limits_of, [slow, fast])) == Limits(20.0, 6)
    assert loosest(map(limits_of, [slow, free])) == Limits(None, None)
    assert limits_of(a_run(0, 1)) == Limits(None, None)


@pytest.mark.parametrize(
    ("runs", "seconds"),
    [
        ([], 0),
        ([a_run(0, 10), a_run(100, 105)], 15),
        ([a_run(0, 10), a_run(5, 20)], 20),
        ([a_run(0, 100), a_run(10, 20)], 100),
        ([a_run(0, None), a_run(50, 60)], 60),
        ([a_run(0, None)], 90),
    ],
    ids=["none", "apart", "overlapping", "one-inside-another", "killed", "still-on"],
)
def test_u8_the_time_of_runs_is_that_in_which_any_was_on(runs: list[OneRun], seconds: float) -> None:
    assert seconds_of(runs, START_US + 90 * SECOND) == seconds


def test_u8_steps_become_a_curve_and_pauses_bands() -> None:
    steps = [
        OneStep(START_US, "dap", "throttle", "100%", "50%", "429"),
        OneStep(START_US + 5, "dap", "pause", None, "2026-09-21T14:14:20Z", "asked to wait"),
        OneStep(START_US + 9, "dap", "throttle", "50%", "60%", "no further trouble"),
    ]
    assert [share for _, share in shares_over_time(steps)] == [1.0, 0.5, 0.6]
    ((begun, ended, words),) = pauses(steps)
    assert (begun, ended) == (START_US + 5, START_US + 60 * SECOND)
    assert words.endswith("asked to wait")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(9.6, "10 s"), (245, "4 min 05 s"), (7_620, "2 h 07 min"), (273_700, "3 d 4 h")],
)
def test_u8_spans_of_time_are_said_for_people(seconds: float, words: str) -> None:
    assert span(seconds) == words


# --- the page


def test_u8_an_empty_ledger_has_a_report_too() -> None:
    page = page_of(facts_of(), {})
    for words in (
        "No manifest has been loaded",
        "Nothing has been finished yet",
        "No run has asked a server yet",
    ):
        assert words in page


def test_u8_a_complete_archive_says_so() -> None:
    facts = facts_of(cover=[Cover("rain", "devon", 1990, 3, 3, 0)], states={"done": (3, 300)})
    page = page_of(facts, {})
    assert "Nothing: every file is there" in page
    assert "100 %" in page
    assert "midasdl resume" not in page


def test_u8_every_gap_has_its_cure() -> None:
    facts = facts_of(
        cover=[Cover("rain", "devon", 1990, 9, 2, 3)],
        states={"done": (2, 1), "failed": (3, 0), "pending": (4, 0)},
        failures=[Failures("forbidden", 3, (("data/a.csv", "403"),))],
        rejects=[("no md5", 7)],
        damaged=1,
    )
    page = page_of(facts, {"forbidden": "accept the licence"})
    for words in (
        *("accept the licence", "data/a.csv: 403", "midasdl run --retry-failed", "midasdl resume", "no md5"),
        *("midasdl verify --resume --repair", "4 distinct contents are still to be fetched"),
    ):
        assert words in page


def test_u8_the_report_is_of_bounded_size_whatever_a_ledger_holds() -> None:
    """U8: 60 datasets, 300 counties, 400 years, all runs, steps and bins that a ledger can give: below 2 MB."""
    cover = [
        Cover(f"dataset-{d}", f"county-{c}", 1600 + (d * 7 + c * 13) % 400, 30, 20, 5)
        for d, c in product(range(60), range(300))
    ]
    facts = facts_of(
        cover=cover,
        states={"done": (360_000, 10**12)},
        failures=[Failures(f"class-{n}", n, (("p" * 200, "m" * 300),) * 3) for n in range(15)],
        pace=[Pace(START_US + n * SECOND, 10, 1, 10**6) for n in range(300)],
        runs=[a_run(n * 10, n * 10 + 9, min_request_spacing_ms=100) for n in range(30)],
        steps=[OneStep(START_US + n, "dap", "throttle", "100%", "50%", "r" * 100) for n in range(2_000)],
        requests=[("dap", "ok", 5)],
        manifests=[Loaded("m.txt", "0" * 32, START_US, "{}", 1, 0)] * 20,
    )
    page = page_of(facts, {})

    assert len(page) < 2_000_000
    assert REST in page
    counties = by_county_and_dataset(cover)
    assert (len(counties.rows), len(counties.columns)) == (MOST_COUNTIES, MOST_DATASETS)


def test_u8_the_report_loads_and_runs_nothing() -> None:
    """U8: no script, no address to load from, and a policy that would forbid both."""
    page = page_of(facts_of(cover=[Cover("rain", "devon", 1990, 3, 3, 0)]), {})
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:,)', page) == []
    assert "url(" not in page
    assert "default-src 'none'" in page
