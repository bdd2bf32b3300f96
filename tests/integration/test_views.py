"""Promises about what people can ask the ledger, and about the pages that tell them how (L6, L7)."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from midasdl.identity import ProcessIdentity
from midasdl.ledger import gate_statements
from midasdl.ledger.brief import Brief
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released
from midasdl.ledger.overview import Overview
from midasdl.ledger.reference import reference
from midasdl.ledger.responses import add_responses
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.schema import metadata
from midasdl.ledger.tasks import RUNS_WITH_RESPONSES, TaskQueue
from midasdl.ledger.verification import Damage, Verification
from midasdl.ledger.views import VIEWS
from midasdl.models import ErrorClass
from midasdl.politeness.breaker import Answer
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.politeness.state import Report
from midasdl.politeness.tally import Tally
from tests.support.clock import FakeClock
from tests.support.programs import require_program

DOCS = Path(__file__).resolve().parents[2] / "docs"
COOKBOOK = re.findall(
    r"^### (.+?)\n\n```sql\n(.+?)```", (DOCS / "cookbook.md").read_text(), re.DOTALL | re.MULTILINE
)

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z")
TIMES = {
    *("when", "retry_at", "first_claimed_at", "finished_at", "minute", "started_at"),
    *("heartbeat_at", "at", "ended_at", "found_at"),
}

HOST = "dap.ceda.ac.uk:443"
DATASET = "uk-daily-rain-obs"
STATIONS = {
    "01346": ("chivenor", (1990, 1991, 1992, 1995, 1996)),
    "01381": ("twist", range(1985, 2022)),
    "09000": ("bude", range(2010, 2020)),
}
SETTLED_IN_THE_FIRST_RUN = 46


def manifest_lines() -> list[str]:
    """Three stations, one with a gap, with special files; two paths of the same contents; one bad line."""
    root = f"data/{DATASET}/dataset-version-202407"
    prefix = f"midas-open_{DATASET}_dv-202407"
    capability = f"{root}/devon/01381_twist/{prefix}_devon_01381_twist_capability.csv"
    paths = [
        f"{root}/{prefix}_station-metadata.csv",
        f"{root}/{prefix}_change_log.txt",
        "somewhere/else",
        capability,
    ]
    for number, (name, years) in STATIONS.items():
        station = f"{root}/devon/{number}_{name}"
        for year in years:
            paths.append(f"{station}/qc-version-1/{prefix}_devon_{number}_{name}_qcv-1_{year}.csv")
    lines = [f"{n:032x}  ./{path}" for n, path in enumerate(paths, start=1)]
    return [*lines, f"{1:032x}  ./a-copy/of-the-metadata.csv", "not a line"]


@pytest.fixture
def asked(ledger: Ledger, load: Callable[..., Any], clock: FakeClock) -> Ledger:
    """A ledger in the middle of its second run, with tasks in every state."""
    load(*manifest_lines())
    registry, queue = RunRegistry(ledger), TaskQueue(ledger)
    first_run = registry.start_run("run", {})
    first = registry.register(first_run, "worker", "worker-1", ProcessIdentity("here", 1, "x"))
    while Overview(ledger).counts().done < SETTLED_IN_THE_FIRST_RUN:
        clock.advance(30)
        claims = queue.settle(first, [], want=5).claims
        queue.settle(first, [outcome_of(claim) for claim in claims], want=0)
    hopeless = queue.settle(first, [], want=2).claims
    queue.settle(
        first, [Failed(each, ErrorClass.NOT_FOUND, "HTTP 404", 404, 900) for each in hopeless], want=0
    )
    registry.retire([first], dead=False)
    registry.end_run(first_run, 1)
    clock.advance(3_600)
    second_run = registry.start_run("resume", {})
    busy = registry.register(second_run, "worker", "worker-1", ProcessIdentity.current())
    [waiting, dropped, *_] = queue.settle(busy, [], want=4).claims
    later = Postponed(waiting, clock.now_us() + 60_000_000, ErrorClass.THROTTLED, "HTTP 429", 429, 800)
    queue.settle(busy, [later, Released(dropped, "stopped")], want=0)
    ask_in_vain(Gate(ledger, busy, Limits(0, None), middle))
    permit = {"worker": busy, "new_host": HOST, "now": 0, "new_start_at": 0}
    with ledger.write() as connection:
        connection.execute(gate_statements.TAKE_PERMIT, permit)
    records = Verification(ledger)
    spoilt = records.next_files("", 2)
    records.record(spoilt, [Damage(each, "corrupt", "it is empty") for each in spoilt], None, repair=False)
    counts = Overview(ledger).counts()
    assert min(counts.pending, counts.in_progress, counts.done, counts.failed) > 0
    return ledger


def ask_in_vain(gate: Gate) -> None:
    """Sixteen good answers, three timeouts, and one wish to be left alone for an hour."""
    answers = [Report("ok", Answer.GOOD, is_error=False, latency_us=1_000 * each) for each in range(1, 17)]
    timeouts = [Report("timeout", Answer.DOWN, is_error=True)] * 3
    refusal = Report("throttled", Answer.UNSURE, True, 40_400, True, 3_600_000_000, http_status=429)
    for report in [*answers, *timeouts, refusal]:
        with gate.request(HOST) as ticket:
            ticket.report = report
    gate.record()


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def outcome_of(claim: Claim) -> Outcome:
    """Of three tasks the first is on disk already, the third fails once; all others go well."""
    if claim.task_id == 3 and claim.attempts == 0:
        return Postponed(claim, 0, ErrorClass.TIMEOUT, "no answer", elapsed_us=300_000)
    size_bytes = 1_000 + claim.task_id
    if claim.task_id == 1:
        return Finished(claim, size_bytes, from_cache=True)
    return Finished(
        claim, size_bytes, False, http_status=200, elapsed_us=claim.task_id * 1_000, attempts_more=1
    )


def rows(ledger: Ledger, sql: str) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]


def in_the_shell(ledger: Ledger, sql: str) -> list[dict[str, Any]]:
    """Rows as the real sqlite3 shell gives them to somebody who may only read."""
    command = [require_program("sqlite3"), "-readonly", "-json", "-bail", str(ledger.path), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(json.loads(done.stdout or "[]"))


# --- views


@pytest.mark.parametrize("name", VIEWS)
def test_each_view_answers_with_the_columns_that_are_documented(asked: Ledger, name: str) -> None:
    """L6: by their names and in their order, with rows, and with times as ISO text in UTC."""
    found = rows(asked, f"SELECT * FROM {name}")
    assert found
    assert list(found[0]) == list(VIEWS[name].columns)
    for column in TIMES & set(VIEWS[name].columns):
        values = [row[column] for row in found if row[column] is not None]
        assert values
        assert all(ISO_TIME.fullmatch(value) for value in values), values


def test_no_view_is_left_out_and_none_shows_a_raw_time(asked: Ledger) -> None:
    """L6: the views of the schema are those of the code; microseconds appear only where their name says so."""
    names = rows(asked, "SELECT name FROM sqlite_schema WHERE type = 'view'")
    assert {row["name"] for row in names} == set(VIEWS)
    for name, view in VIEWS.items():
        columns = [column for column in view.columns if not column.endswith("_us")]
        for row in rows(asked, f"SELECT * FROM {name}"):
            assert not [column for column in columns if isinstance(row[column], int) and row[column] > 10**14]


def test_the_views_agree_with_each_other(asked: Ledger) -> None:
    """L6: files, bytes and states are the same from every side."""
    counts = Overview(asked).counts()
    progress = rows(
        asked, "SELECT state, sum(files) AS files, sum(tasks) AS tasks FROM progress GROUP BY state"
    )
    assert {row["state"] for row in progress} == {"pending", "in_progress", "done", "failed"}
    assert sum(row["files"] for row in progress) == counts.files == len(manifest_lines()) - 1
    assert rows(asked, "SELECT count(*) AS n FROM downloads") == [{"n": counts.files}]
    assert rows(asked, "SELECT sum(files) AS n, sum(failed) AS f FROM throughput") == [
        {"n": counts.done, "f": counts.failed}
    ]
    assert rows(asked, "SELECT sum(bytes) AS n FROM throughput") == [{"n": counts.bytes_done}]
    assert rows(asked, "SELECT count(*) AS n FROM failures") == [{"n": 2}]
    [waiting] = rows(asked, "SELECT * FROM waiting WHERE class = 'throttled'")
    assert waiting["retry_at"] == "2026-09-21T15:19:20Z"
    [worker] = rows(asked, "SELECT * FROM workers_now")
    assert (worker["worker"], worker["claimed"]) == ("worker-1", counts.in_progress)
    assert worker["requesting_from"] == HOST
    stations = rows(asked, "SELECT * FROM stations ORDER BY station_id")
    assert [(row["station_id"], row["files"], row["first_year"], row["last_year"]) for row in stations] == [
        ("01346", 5, 1990, 1996),
        ("01381", 38, 1985, 2021),
        ("09000", 10, 2010, 2019),
    ]
    moves = rows(asked, "SELECT count(DISTINCT task_id) AS n FROM history")
    assert moves == [{"n": counts.tasks}]
    assert [row["run"] for row in rows(asked, "SELECT * FROM runs")] == [2, 1]


# --- health


def test_health_says_how_the_server_answers_and_what_holds_requests_up(asked: Ledger) -> None:
    """C14 C7: success, errors by class, latencies, the pause with its reason, the halved rate."""
    [health] = rows(asked, "SELECT * FROM health")
    assert (health["host"], health["requests"], health["success_rate"]) == (HOST, 20, 0.8)
    assert health["errors"] == "timeout 3, throttled 1"
    assert (health["p50_ms"], health["p95_ms"], health["p99_ms"]) == (9.0, 41.0, 41.0)
    assert (health["consecutive_errors"], health["active_requests"]) == (4, 1)
    assert (health["breaker"], health["unavailable_since"], health["tries_again_at"]) == (
        "closed",
        None,
        None,
    )
    assert (health["throttle_share"], health["throttle_reason"]) == (
        0.5,
        "CEDA answered 429: it is asked too much",
    )
    assert [
        (row["what"], row["from_value"], row["to_value"]) for row in rows(asked, "SELECT * FROM steps")
    ] == [
        ("throttle", "100%", "50%"),
        ("pause", None, "2026-09-21T16:18:20Z"),
    ]


def test_health_shows_a_pause_while_it_lasts_and_requests_once_they_have_begun(asked: Ledger) -> None:
    """C14 C6: an hour ahead is a pause, an hour ago is none; a slot that lies ahead is no request yet."""
    seen = []
    for hours in (1, -1):
        at = f"(unixepoch() + {3_600 * hours}) * 1000000"
        with asked.write() as connection:
            connection.exec_driver_sql(f"UPDATE politeness SET paused_until = {at}")
            connection.exec_driver_sql(f"UPDATE permit SET start_at = {at}")
        [health] = rows(asked, "SELECT paused_until, pause_reason, active_requests AS active FROM health")
        seen.append((health["paused_until"] is None, health["pause_reason"] is None, health["active"]))
    assert seen == [(False, False, 0), (True, True, 1)]


def test_health_is_of_the_last_run_and_responses_are_of_all(asked: Ledger) -> None:
    """C14: a run that has asked nobody yet has no figures; those of the run before are not lost."""
    RunRegistry(asked).start_run("run", {})
    [health] = rows(asked, "SELECT requests, success_rate, errors, p50_ms FROM health")
    assert list(health.values()) == [0, None, None, None]
    found = rows(asked, "SELECT run, outcome, requests, answered, slowest_ms FROM responses")
    assert [list(row.values()) for row in found] == [
        [2, "ok", 16, 16, 16.0],
        [2, "timeout", 3, 0, None],
        [2, "throttled", 1, 1, 41.0],
    ]


def test_what_health_is_made_of_is_bounded(asked: Ledger) -> None:
    """L1 C14: steps go with the transitions, responses with their run; those of the latest runs stay."""
    TaskQueue(asked).trim_history(1)
    assert len(rows(asked, "SELECT * FROM steps")) == 1
    assert len(rows(asked, "SELECT * FROM responses")) == 3
    for _ in range(RUNS_WITH_RESPONSES):
        RunRegistry(asked).start_run("run", {})
    TaskQueue(asked).trim_history(1)
    assert rows(asked, "SELECT * FROM responses") == []


@given(
    latencies_us=st.lists(st.integers(1, 400_000_000), min_size=1, max_size=300), silent=st.integers(0, 50)
)
@example(latencies_us=[1_000 * each for each in range(1, 101)], silent=0)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_percentiles_are_those_of_the_latencies_rounded_up(
    ledger: Ledger, latencies_us: list[int], silent: int
) -> None:
    """C14: P50, P95 and P99 are at most a tenth above the exact ones, never below; silence has no latency."""
    tally = Tally()
    for latency_us in latencies_us:
        tally.count(HOST, "ok", latency_us)
    for _ in range(silent):
        tally.count(HOST, "timeout", None)
    with ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM response")
        add_responses(Brief.within(connection), 1, tally.counted()[::2])
        add_responses(Brief.within(connection), 1, tally.counted()[1::2])
    [health] = rows(ledger, "SELECT * FROM health")
    assert health["requests"] == len(latencies_us) + silent
    for share in (50, 95, 99):
        exact_us = sorted(latencies_us)[math.ceil(share * len(latencies_us) / 100) - 1]
        assert exact_us <= round(health[f"p{share}_ms"] * 1_000) < exact_us * 1.1


def test_asking_in_a_shell_holds_up_nobody(asked: Ledger) -> None:
    """L6: a shell that reads in the middle of a transaction lets workers go on."""
    shell = subprocess.Popen(
        [require_program("sqlite3"), "-readonly", str(asked.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write("BEGIN;\nSELECT count(*) FROM runs;\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "2\n"
    if asked.journal_mode() == "wal":
        RunRegistry(asked).start_run("run", {})
    shell.communicate("SELECT count(*) FROM runs;\nCOMMIT;\n")
    assert shell.returncode == 0


# --- pages


def test_the_cookbook_answers_many_questions() -> None:
    """L7: at least fifteen, each with one query of its own; window functions are among them."""
    page = (DOCS / "cookbook.md").read_text()
    assert len(COOKBOOK) == page.count("```sql") == page.count("\n### ") >= 15
    assert len({question for question, _ in COOKBOOK}) == len(COOKBOOK)
    assert sum(" OVER (" in sql for _, sql in COOKBOOK) >= 3


@pytest.mark.parametrize(("question", "sql"), COOKBOOK, ids=[question for question, _ in COOKBOOK])
def test_each_query_of_the_cookbook_gives_an_answer(asked: Ledger, question: str, sql: str) -> None:
    """L7: the same in the real sqlite3 shell, which may only read, and in midasdl."""
    here = rows(asked, sql)
    assert here, question
    there = in_the_shell(asked, sql)
    assert [list(row) for row in there] == [list(row) for row in here]
    assert [list(row.values()) for row in there] == [pytest.approx(list(row.values())) for row in here]


def test_the_queries_find_what_there_is_to_find(asked: Ledger) -> None:
    """L7: the gap of one station, the whole record of the other, the copy, the line that cannot be used."""
    answers = {question: rows(asked, sql) for question, sql in COOKBOOK}
    gaps = next(found for question, found in answers.items() if question.startswith("Where are gaps"))
    assert [list(row.values())[1:] for row in gaps] == [["01346", "chivenor", 1992, 1995, 2]]
    [whole] = next(found for question, found in answers.items() if "from 1991 to 2020" in question)
    assert (whole["station_name"], whole["years"]) == ("twist", 30)
    [rejected] = next(found for question, found in answers.items() if "lines of the manifests" in question)
    assert rejected["text"] == "not a line"
    [same] = next(found for question, found in answers.items() if "same contents" in question)
    assert (same["paths"], same["bytes_saved"]) == (2, 1_001)


def test_the_reference_page_is_up_to_date() -> None:
    """L6: docs/ledger.md is what `python -m midasdl.ledger.reference` prints, and names every table and view."""
    page = (DOCS / "ledger.md").read_text()
    assert page == reference(), "type: python -m midasdl.ledger.reference > docs/ledger.md"
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert headings == [*VIEWS, *metadata.tables]
    for table in metadata.tables.values():
        assert all(f"| `{column.name}` |" in page for column in table.columns)
