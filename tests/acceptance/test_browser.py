"""O5, U8: the status page and the report in a real browser, on a desk and on a phone, in light and in dark."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from midasdl.ledger.figures import Standing, WorkerNow
from midasdl.metrics.figures import Ending, Figures
from midasdl.metrics.server import StatusServer
from tests.acceptance.conftest import JobOnTrial
from tests.support.browser import Browser, browsing
from tests.support.command import Command
from tests.support.figures import SERVER, ended, some_figures
from tests.support.inside import run_inside

DESK, PHONE = (1100, 900), (390, 844)
HOSTILE = "<img src=x onerror=document.title='stolen'><script>document.title='stolen'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


class Run:
    """Figures that a test changes while a page looks at them."""

    def __init__(self) -> None:
        self.figures: Figures = some_figures()

    def latest(self) -> Figures:
        return self.figures


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def url(run: Run) -> Iterator[str]:
    with closing(StatusServer("127.0.0.1", 0, run.latest, lambda: 0.0)) as server:
        yield server.url


def brightness(browser: Browser) -> int:
    return sum(
        json.loads(
            browser.value(
                "JSON.stringify(getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))"
            )
        )
    )


def test_o5_the_page_shows_the_run_and_follows_it(browser: Browser, run: Run, url: str) -> None:
    """O5: progress, speed curve, workers, failures by class, servers and alerts; live; told when the run has ended."""
    browser.open(url, *DESK)
    browser.wait_for("document.getElementById('state').textContent === 'working'")

    text = browser.text
    for words in (
        "57.1 %",
        "120 done",
        "2 failed",
        "4 in progress",
        "84 to come",
        "49.0 kB/s",
        "of about 6.0 MB",
        "53 s",
        "confidence: medium",
        "worker-1",
        "requesting",
        "not-found",
        "Slower than usual",
    ):
        assert words in text, words
    assert "asked at 50 % of the usual rate: CEDA answered 503" in text
    assert browser.value("document.querySelectorAll('#speed path').length") == 2
    assert browser.value("document.title").startswith("57.1 % ")

    run.figures = some_figures(snapshot=ended(198, 2), alerts=(), ending=Ending(1))
    browser.wait_for("document.getElementById('state').textContent === 'ended with exit code 1'")
    assert "99.0 %" in browser.text
    assert browser.complaints == []


def test_o5_the_page_fits_a_phone_in_light_and_dark(browser: Browser, url: str) -> None:
    """O5: on 390 pixels nothing has to be moved sideways; dark is dark and light is light."""
    shades = {}
    for dark in (False, True):
        for window in (PHONE, DESK):
            browser.open(url, *window, dark=dark)
            browser.wait_for("document.getElementById('state').textContent === 'working'")
            assert not browser.overflows, window
        shades[dark] = brightness(browser)
    assert shades[True] < 150
    assert shades[False] > 600


def test_o5_the_page_takes_nothing_from_outside_for_markup(browser: Browser, run: Run, url: str) -> None:
    """O5: names of files, servers and reasons are words, whatever stands in them; nothing runs, nothing is loaded."""
    hostile: dict[str, Any] = {**SERVER, "host": HOSTILE, "throttle_reason": HOSTILE}
    standing = Standing({}, {}, 0, 0, (WorkerNow(HOSTILE, 1, "idle", 0, HOSTILE),), (hostile,))
    run.figures = some_figures(standing=standing, errors={(HOSTILE, True): 1})
    browser.open(url, *DESK)
    browser.wait_for("document.getElementById('workers').textContent.includes('script')")

    assert HOSTILE in browser.text
    assert browser.value("document.querySelectorAll('img, main script').length") == 0
    assert "stolen" not in browser.value("document.title")
    assert browser.complaints == []


def test_o5_a_page_whose_run_is_gone_says_so(browser: Browser, run: Run) -> None:
    """O5: when nothing answers any more, the last figures stay and the page tells that they are the last."""
    server = StatusServer("127.0.0.1", 0, run.latest, lambda: 0.0)
    with closing(server):
        browser.open(server.url, *DESK)
        browser.wait_for("document.getElementById('state').textContent === 'working'")
    browser.wait_for("document.getElementById('state').textContent.startsWith('out of reach')")
    assert "57.1 %" in browser.text


# --- the report


def test_u8_the_report_shows_coverage_gaps_and_cures(
    browser: Browser, job: JobOnTrial, tmp_path: Path
) -> None:
    """U8: after a load, and after failures, in a real browser: pictures first, every gap with its cure."""
    job.init()
    path = job.lone_path()
    job.change(
        "UPDATE task SET state = 'failed', error_class = 'not-found', error = 'CEDA answered 404', finished_at = 1 "
        f"WHERE id = (SELECT task_id FROM destination WHERE path = '{path}')"
    )
    before = job.ledger.read_bytes()
    ended = job.command("--json", "report", "--output", str(tmp_path / "out.html"))

    record = ended.record("report")
    assert (record["path"], record["files"], record["failed"]) == (str(tmp_path / "out.html"), 120, 1)
    assert job.ledger.read_bytes() == before
    for window in (DESK, PHONE):
        browser.open((tmp_path / "out.html").as_uri(), *window)
        assert not browser.overflows, window
    text = browser.text
    for words in (
        *("Coverage by dataset and year", "Coverage by county", "What is missing, and why", "0 of 120 files"),
        *(
            "not-found",
            path,
            "the release may not be complete",
            "midasdl run --retry-failed",
            "midasdl resume",
        ),
    ):
        assert words in text, words
    cells = browser.value("document.querySelectorAll('svg rect.s0').length")
    assert cells > 20
    assert browser.value("document.querySelectorAll('svg circle.dot').length") >= 2
    assert browser.value("document.querySelector('svg').getBoundingClientRect().top") < 500
    assert browser.complaints == []


def test_u8_a_report_takes_nothing_from_a_ledger_for_markup(
    browser: Browser, command: Command, tmp_path: Path
) -> None:
    """U8: counties, reasons and messages of hostile hands are words."""
    manifest = tmp_path / "manifest.txt"
    manifest.write_text(f"{'0' * 32}  ./data/a.csv\n")
    run_inside(command, "init", str(manifest), "--dest", "out")
    with closing(sqlite3.connect(command.folder / "progress.db")) as ledger, ledger:
        ledger.execute("UPDATE task SET state = 'failed', error_class = ?, error = ?", (HOSTILE, HOSTILE))
        ledger.execute("UPDATE destination SET county = ?, dataset = ?", (HOSTILE, HOSTILE))
        ledger.execute("INSERT INTO step VALUES (1, ?, 1, 'pause', NULL, ?, ?)", (HOSTILE, HOSTILE, HOSTILE))
        ledger.execute("INSERT INTO run VALUES (1, 'run', ?, '{}', 1, 2, 0)", (HOSTILE,))
        ledger.execute("INSERT INTO response VALUES (1, ?, ?, 0, 1)", (HOSTILE, HOSTILE))
        ledger.execute("INSERT INTO reject VALUES (1, 1, 1, ?, ?)", (HOSTILE, HOSTILE))
        ledger.execute("UPDATE manifest SET name = ?, selection = ?", (HOSTILE, HOSTILE))
    run_inside(command, "report")

    browser.open((command.folder / "report.html").as_uri(), *DESK)

    assert browser.text.count(HOSTILE) >= 8
    assert browser.value("document.querySelectorAll('img, script').length") == 0
    assert "stolen" not in browser.value("document.title")
    assert browser.complaints == []
