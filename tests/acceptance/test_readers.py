"""L6: people may look at the ledger at any time, for as long as they like."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable

from midasdl.ledger.views import VIEWS
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.programs import require_program


def test_every_view_answers_in_the_sqlite3_shell_while_a_run_is_on(
    job_on: Callable[..., JobOnTrial], archive: Archive
) -> None:
    """L6: read-only, with a reader that holds a transaction open all the time; no lock error on either side."""
    shell = require_program("sqlite3")
    job = job_on(archive, first_byte_delay_s=0.01)
    job.init()
    holder = sqlite3.connect(f"{job.ledger.as_uri()}?mode=ro", uri=True, isolation_level=None)
    holder.execute("BEGIN")
    before = holder.execute("SELECT count(*) FROM task WHERE state = 'done'").fetchone()

    process = job.command.start("run", "--workers", "4")
    answers = 0
    while process.poll() is None:
        for view in VIEWS:
            asked = subprocess.run(
                [shell, "-readonly", str(job.ledger), f"SELECT * FROM {view} LIMIT 5"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert (asked.returncode, asked.stderr) == (0, ""), view
            answers += 1
    _, errors = process.communicate()

    assert process.returncode == 0, errors
    assert answers >= len(VIEWS)
    assert "locked" not in errors
    assert holder.execute("SELECT count(*) FROM task WHERE state = 'done'").fetchone() == before == (0,)
    holder.close()
    assert job.is_complete


def test_sql_prints_tables_csv_and_json(job: JobOnTrial) -> None:
    """L7: for people, for spreadsheets, for programs."""
    job.init()
    query = "SELECT kind, count(*) AS files FROM destination GROUP BY kind ORDER BY files DESC LIMIT 1"

    (row,) = job.command("sql", query, "--format", "json").records
    table = job.command("sql", query).out.split()
    text = job.command("sql", query, "--format", "csv").out

    assert table == ["kind", "files", row["kind"], str(row["files"])]
    assert text == f"kind,files\n{row['kind']},{row['files']}\n"


def test_sql_cannot_write(job: JobOnTrial) -> None:
    """L7: read-only means read-only, whatever is typed."""
    job.init()
    attempts = ["DELETE FROM task", "DROP TABLE task", "PRAGMA user_version = 7"]
    attempts += ["ATTACH 'x.db' AS x", "VACUUM INTO 'x.db'"]
    for query in attempts:
        job.command("sql", query, code=None)

    assert job.one("SELECT count(*) FROM task") > 0
    assert job.one("PRAGMA user_version") == 0
    assert "readonly" in job.command("sql", "DELETE FROM task", code=2).err
    assert not (job.folder / "x.db").exists()


def test_a_mistake_in_a_query_is_told_in_one_sentence(job: JobOnTrial) -> None:
    """U1: what SQLite says, and where to look; exit 2."""
    job.init()

    ended = job.command("sql", "SELECT * FROM nowhere", code=2)

    assert "no such table: nowhere" in ended.err
    assert "sqlite_schema" in ended.err


def test_whoever_looks_changes_nothing(job: JobOnTrial) -> None:
    """L7: before the first run has counted what a load has brought, others count for themselves and keep nothing."""
    job.init()
    tables = [name for (name,) in job.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    before = {name: job.rows(f"SELECT * FROM {name}") for name in tables}

    told = [job.command("status").out, job.command("sql", "SELECT * FROM progress").out]

    assert "120 files" in told[0]
    assert {name: job.rows(f"SELECT * FROM {name}") for name in tables} == before
