"""Promises about what the ledger costs: partial indexes serve, and work is bounded (L2, L4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import Executable

from midasdl.ledger import reading_statements, run_statements, statements
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Failed, Finished, Postponed, Released
from midasdl.ledger.overview import Overview
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.totals import Totals, forget_what_a_load_has_changed
from midasdl.models import ErrorClass

DONE, PENDING = 30_000, 2_000
ME = 1

FILL = f"""
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {DONE + PENDING})
INSERT INTO task (id, md5, state, claim_no, not_before, attempts, manifest_id, first_claimed_at, finished_at)
SELECT i, printf('%032x', i), iif(i <= {DONE}, 'done', 'pending'), i <= {DONE}, 0, 0, 1, iif(i <= {DONE}, 1, NULL),
       iif(i <= {DONE}, 1, NULL) FROM n
"""
FILL_PATHS = """
INSERT INTO destination (path, task_id, kind, manifest_id, line_no) SELECT md5, id, 'other', 1, id FROM task
"""


@pytest.fixture
def busy(ledger: Ledger, load: Callable[..., Any]) -> Ledger:
    """A ledger in the middle of a run: most tasks done, some claimed, failed and waiting."""
    load("f" * 32 + "  first")
    with ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM destination")
        connection.exec_driver_sql("DELETE FROM task")
        connection.exec_driver_sql(FILL)
        connection.exec_driver_sql(FILL_PATHS)
        forget_what_a_load_has_changed(connection, held_before=True)
    return ledger


@pytest.fixture
def sent(busy: Ledger) -> Iterator[list[str]]:
    """Every statement of a worker's life as SQLite was given it, by whichever way, with its values in it."""
    seen: list[str] = []
    for connection in kept_by(busy):
        connection.set_trace_callback(seen.append)
    yield seen
    for connection in kept_by(busy):
        connection.set_trace_callback(None)


def kept_by(ledger: Ledger) -> tuple[Any, Any]:
    """The connections that a ledger keeps and uses again: that of its engine, and the bare one."""
    with closing(ledger._engine.raw_connection()) as of_the_engine:
        return of_the_engine.dbapi_connection, ledger._bare_connection()


def plan(ledger: Ledger, sql: str, parameters: Any = ()) -> str:
    with ledger.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
    return "\n".join(row[3] for row in rows)


def text_of(statement: Executable) -> str:
    """As it is sent, with one value in each list."""
    return re.sub(r"\(__\[POSTCOMPILE_\w+\]\)", "(?)", str(statement.compile(dialect=sqlite.dialect())))


def test_nothing_that_workers_send_walks_or_sorts_all_tasks(busy: Ledger, sent: list[str]) -> None:
    """L2: every statement of claiming, settling and putting back finds its rows by an index."""
    queue = TaskQueue(busy)
    a, b, c, d = queue.settle(ME, [], want=4).claims
    late = Finished(a, 1, from_cache=False)
    queue.settle(
        ME,
        [
            late,
            Failed(b, ErrorClass.CHECKSUM, "wrong"),
            Postponed(c, 10**18, ErrorClass.TIMEOUT, "slow"),
            Released(d, "stopped"),
            late,
        ],
        want=PENDING,
    )
    queue.settle(2, [], want=1)
    queue.requeue([ErrorClass.CHECKSUM, ErrorClass.TIMEOUT])
    with busy.write() as connection:
        queue.take_back(connection, [ME, 2], "worker died")
        queue.reopen(connection, [1, 2, 3], "new destination")
    of_rows = [sql for sql in sent if re.match("WITH|SELECT|INSERT|UPDATE|DELETE", sql)]
    plans = {sql: plan(busy, sql) for sql in of_rows}
    assert len(plans) >= 18
    for sql, steps in plans.items():
        assert "TEMP B-TREE" not in steps or "FROM destination" in sql, (sql, steps)
        assert not re.search(r"^SCAN (task|destination|transition)$", steps, re.MULTILINE), (sql, steps)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (statements.CLAIM, "SEARCH task USING COVERING INDEX task_claimable (not_before<?)"),
        (statements.COUNT_CLAIMABLE, "SEARCH task USING COVERING INDEX task_claimable (not_before<?)"),
        (statements.NEXT_RETRY_AT, "SEARCH task USING COVERING INDEX task_claimable"),
        (statements.FORGET_IMPOSSIBLE_WAITS, "SEARCH task USING INDEX task_claimable (not_before>?)"),
        (statements.ANY_IN_PROGRESS, "SCAN task USING INDEX task_claimed"),
        (statements.TAKE_BACK, "SEARCH task USING COVERING INDEX task_claimed (worker_id=?)"),
        (statements.RECORD_TAKEN_BACK, "SEARCH task USING COVERING INDEX task_claimed (worker_id=?)"),
        (statements.REQUEUE, "SEARCH task USING COVERING INDEX task_failed (error_class=?)"),
        (statements.FINISH, "SEARCH task USING INTEGER PRIMARY KEY (rowid=?)"),
        (statements.ALIVE, "SCAN worker USING COVERING INDEX worker_alive"),
    ],
    ids=[
        *("CLAIM", "COUNT_CLAIMABLE", "NEXT_RETRY_AT", "FORGET_IMPOSSIBLE_WAITS"),
        *("ANY_IN_PROGRESS", "TAKE_BACK"),
        *("RECORD_TAKEN_BACK", "REQUEUE", "FINISH", "ALIVE"),
    ],
)
def test_the_partial_indexes_serve(busy: Ledger, statement: Any, index: str) -> None:
    """L2: without a sort, and for claims without a look at the table before a task is chosen."""
    sql = (
        text_of(statement)
        if statement is not statements.ALIVE
        else "SELECT id FROM worker WHERE state = 'alive'"
    )
    steps = plan(busy, sql, (None,) * sql.count("?"))
    assert index in steps, steps
    assert "TEMP B-TREE" not in steps


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        (statements.CLAIM, "pending"),
        (statements.COUNT_CLAIMABLE, "pending"),
        (statements.NEXT_RETRY_AT, "pending"),
        (statements.FORGET_IMPOSSIBLE_WAITS, "pending"),
        (statements.ANY_IN_PROGRESS, "in_progress"),
        (statements.FINISH, "in_progress"),
        (statements.FAIL, "in_progress"),
        (statements.POSTPONE, "in_progress"),
        (statements.RELEASE, "in_progress"),
        (statements.TAKE_BACK, "in_progress"),
        (statements.REQUEUE, "failed"),
        (run_statements.MAYBE_GONE, "alive"),
    ],
)
def test_the_state_is_a_literal_in_the_statement(statement: Executable, state: str) -> None:
    """L2: a bound parameter could not be matched with the condition of a partial index."""
    sql = text_of(statement)
    assert re.search(rf"\bstate = '{state}'", sql)
    assert not re.search(r"\bstate (=|IN) \(?\?", sql.partition("WHERE")[2])


def steps_of(ledger: Ledger, work: Callable[[], Any]) -> int:
    """Instructions of SQLite's machine, in hundreds."""
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    for connection in kept_by(ledger):
        connection.set_progress_handler(count, 100)
    work()
    for connection in kept_by(ledger):
        connection.set_progress_handler(None, 100)
    return hundreds


def test_a_claim_costs_the_same_however_many_tasks_there_are(busy: Ledger) -> None:
    """L2: neither finished tasks nor pending ones beyond what is asked for are visited."""
    queue = TaskQueue(busy)
    counted = steps_of(busy, lambda: queue.settle(ME, [], want=16, share_among=8))
    assert 0 < counted < 100
    with busy.read() as connection:
        parameters = {"now": 1, "how_many": 5}
        counted = steps_of(busy, lambda: connection.execute(statements.COUNT_CLAIMABLE, parameters).all())
    assert counted < 10


def test_an_empty_queue_costs_nothing_to_ask(busy: Ledger) -> None:
    """L4: workers that wait for the last ones do not walk over everything that is done."""
    with busy.write() as connection:
        connection.exec_driver_sql("UPDATE task SET state = 'done'")
    queue = TaskQueue(busy)
    assert steps_of(busy, lambda: queue.settle(ME, [], want=16, share_among=8)) < 10


@pytest.mark.parametrize("view", ["history", "time_in_state"])
def test_the_history_of_one_task_is_found_without_reading_that_of_all(busy: Ledger, view: str) -> None:
    """L6: looking at a task while a run is on is cheap, however long the ledger."""
    with busy.read() as connection:
        query = f"SELECT * FROM {view} WHERE task_id = 77"
        assert steps_of(busy, lambda: connection.exec_driver_sql(query).all()) < 20


def test_what_status_and_resume_ask_of_a_large_ledger_walks_nothing_that_is_done(busy: Ledger) -> None:
    """Issue 7: counts come from indexes and sums, sizes and places from sums; all of it is exact."""
    with busy.write() as connection:
        connection.exec_driver_sql("UPDATE task SET size_bytes = 100 WHERE state = 'done'")
        connection.exec_driver_sql("UPDATE task SET state = 'in_progress', worker_id = 1 WHERE id = 30001")
        connection.exec_driver_sql("UPDATE task SET state = 'failed' WHERE id = 30002")
    Totals(busy).count_if_due()
    asked = Overview(busy)

    counts, [sizes], places = asked.counts(), asked.sizes(), asked.progress()

    assert (counts.done, counts.pending, counts.in_progress, counts.failed) == (DONE, PENDING - 2, 1, 1)
    assert (counts.tasks, counts.files, counts.bytes_done) == (DONE + PENDING, DONE + PENDING, 100 * DONE)
    assert (sizes.done, sizes.bytes_done, sizes.unfinished) == (DONE, 100 * DONE, PENDING - 1)
    assert {place["state"]: place["files"] for place in places} == {
        "done": DONE,
        "failed": 1,
        "in_progress": 1,
        "pending": PENDING - 2,
    }
    for statement in (reading_statements.COUNT_PENDING, reading_statements.COUNT_CLAIMED):
        assert "USING COVERING INDEX task_claim" in plan(busy, text_of(statement))
    assert steps_of(busy, asked.progress) + steps_of(busy, asked.sizes) < 20
