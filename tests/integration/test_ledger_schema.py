"""Promises about the schema and its migrations (L1, L6, L8)."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.exc import IntegrityError, OperationalError

from midasdl.errors import LedgerError, LedgerTooNewError
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger import migrate
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.schema import HEAD_REVISION, WORKER_ROLES, WORKER_STATES, metadata
from midasdl.ledger.views import VIEWS
from midasdl.models import Kind, TaskState
from tests.support.clock import FakeClock
from tests.support.programs import require_program

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
LINE = f"{'a' * 32}  data/file.csv"

REBUILD = """
from alembic import op
import sqlalchemy as sa

revision, down_revision = "{new}", "{old}"

def upgrade():
    with op.batch_alter_table("task", recreate="always") as table:
        table.add_column(sa.Column("colour", sa.Text, server_default="green"))
    {then}
"""


def later(by: int) -> str:
    """The revision that comes so many after the newest."""
    return f"{int(HEAD_REVISION) + by:04d}"


def schema_of(connection: Connection) -> dict[str, str]:
    """The text of every table and index, with blanks made equal."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'index') AND name NOT LIKE '%alembic_version%'"
    )
    return {name: " ".join((sql or "").split()) for name, sql in rows}


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


@pytest.fixture
def declared() -> Iterator[Connection]:
    """A database made straight from the metadata."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Turn this midasdl into one with another migration, or with a chain of them."""

    def become(*then: str) -> None:
        scripts = tmp_path / "scripts"
        shutil.rmtree(scripts, ignore_errors=True)
        shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
        old = HEAD_REVISION
        for number, code in enumerate(then, start=1):
            new = later(number)
            text = REBUILD.format(new=new, old=old, then=code).replace("colour", f"colour_{new}")
            (scripts / "versions" / f"{new}_test.py").write_text(text)
            old = new
        config = Config()
        config.set_main_option("script_location", str(scripts))
        monkeypatch.setattr(migrate, "_alembic_config", lambda: config)
        monkeypatch.setattr(migrate, "HEAD_REVISION", old)
        monkeypatch.setattr(ledger_module, "HEAD_REVISION", old)

    return become


@pytest.fixture
def used(ledger: Ledger, load: Callable[..., Any]) -> Path:
    """A ledger with a task and a transition, closed."""
    load(LINE)
    with ledger.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO transition (task_id, at, from_state, to_state) VALUES (1, 1, 'pending', 'in_progress')"
        )
    ledger.close()
    return ledger.path


# --- the schema


def test_the_migrations_lead_to_the_declared_schema(ledger: Ledger, declared: Connection) -> None:
    """L8: tables, columns, comments, checks, keys and indexes, word by word; and Alembic finds no difference."""
    with ledger.read() as connection:
        assert schema_of(connection) == schema_of(declared)
        inspector = inspect(connection)
        assert set(inspector.get_table_names()) == {*metadata.tables, "alembic_version"}
        for table in metadata.tables.values():
            columns = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}
            names = {index["name"] for index in inspector.get_indexes(table.name)}
            assert names == {index.name for index in table.indexes}
        options = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_head_revision_is_that_of_the_scripts() -> None:
    """L8: there is one head, and the code knows it without reading the scripts."""
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD_REVISION]


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("task", "state", tuple(TaskState)),
        ("destination", "kind", tuple(Kind)),
        ("worker", "role", WORKER_ROLES),
        ("worker", "state", WORKER_STATES),
    ],
)
def test_the_database_accepts_the_words_of_the_code_and_no_others(
    ledger: Ledger, table: str, column: str, words: tuple[str, ...]
) -> None:
    """L1: the CHECK of a state and the enumeration in Python hold the same words."""
    with ledger.read() as connection:
        checks = inspect(connection).get_check_constraints(table)
    [text] = [str(check["sqltext"]) for check in checks if str(check["sqltext"]).startswith(f"{column} IN")]
    assert tuple(re.findall(r"'([^']*)'", text)) == tuple(str(word) for word in words)


def test_the_schema_explains_itself_in_the_sqlite3_shell(ledger: Ledger) -> None:
    """L6: every comment on a table, a column, a view and its columns is shown by .schema."""
    shell = [require_program("sqlite3"), "-readonly", str(ledger.path), ".schema"]
    shown = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    assert "CREATE TABLE task ( /* one row for each distinct md5: bytes to obtain once */" in shown
    assert "claim_no INTEGER NOT NULL /* raised by each claim; fences late workers out */" in shown
    for table in metadata.tables.values():
        assert table.comment, table.name
        for commented in (table, *table.columns):
            assert f"/* {commented.comment} */" in shown or not commented.comment
    for name, view in VIEWS.items():
        assert f"CREATE VIEW {name} ( /* {view.purpose} */" in shown
        assert all(f"/* {meaning} */" in shown for meaning in view.columns.values() if meaning)


# --- upgrading


def test_a_ledger_of_the_first_version_keeps_its_rows_and_rules(tmp_path: Path, clock: FakeClock) -> None:
    """L8: 0001 to the newest: rows, links between them, and that md5s and paths stay unique."""
    path = tmp_path / "progress.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((Path(__file__).parent / "ledger_0001.sql").read_text())
    with Ledger.open(path, clock) as ledger, ledger.write() as connection:
        rows = connection.exec_driver_sql("SELECT path, md5, state, attempts, manifest FROM downloads").all()
        assert rows == [
            ("data/a.csv", "a" * 32, "done", 2, "old"),
            ("data/b.csv", "a" * 32, "done", 2, "old"),
            ("data/c.csv", "c" * 32, "pending", 0, "old"),
        ]
        assert connection.exec_driver_sql("SELECT count(*) FROM damaged").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM transition").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        for breach in (
            "UPDATE destination SET path = 'data/a.csv'",
            "UPDATE task SET md5 = 'same'",
            "DELETE FROM manifest",
            "UPDATE task SET state = 'lost'",
        ):
            with pytest.raises(IntegrityError):
                connection.exec_driver_sql(breach)


def test_an_older_ledger_is_upgraded_with_a_copy_beside_it(
    used: Path, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L8: on opening; the copy is the ledger as it was, and its name says of when and of which schema."""
    before = dump(used)
    next_version("pass", "pass")
    with Ledger.open(used, clock) as ledger, ledger.read() as connection:
        assert connection.exec_driver_sql(f"SELECT colour_{later(1)}, colour_{later(2)} FROM task").all() == [
            ("green", "green")
        ]
        assert connection.exec_driver_sql("SELECT files FROM progress").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert dump(used) != before
    [copy] = used.parent.glob("progress.db?*")
    assert copy.name == f"progress.db.backup-{HEAD_REVISION}-2026-09-21T141320Z"
    assert dump(copy) == before
    with Ledger.open(used, clock):
        assert [copy] == list(used.parent.glob("progress.db.*"))


def test_rebuilding_a_table_loses_nothing_that_points_to_it(
    used: Path, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L8: SQLite deletes what points to a dropped table, unless foreign keys are off meanwhile."""
    next_version("pass")
    with Ledger.open(used, clock) as ledger, ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM transition").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM destination").scalar() == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise RuntimeError('no')", RuntimeError),
        ("op.execute('CREATE TABLE task (id)')", OperationalError),
        ("op.execute('DELETE FROM task')", LedgerError),
    ],
    ids=["raises", "bad-sql", "leaves-orphans"],
)
def test_a_failing_migration_leaves_no_trace(
    used: Path, clock: FakeClock, next_version: Callable[..., None], code: str, error: type[Exception]
) -> None:
    """L8: the ledger is as it was, no copy is left, and the version that wrote it goes on."""
    before = dump(used)
    next_version("pass", code)
    with pytest.raises(error):
        Ledger.open(used, clock)
    assert dump(used) == before
    assert not list(used.parent.glob("*backup*"))
    next_version()
    with Ledger.open(used, clock) as ledger, ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT files FROM progress").scalar() == 1


def test_a_copy_that_cannot_be_made_keeps_the_ledger_as_it_is(
    used: Path, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L8: without a copy nothing is migrated, and the error is told in words."""
    before = dump(used)
    next_version("pass")
    (used.parent / f"progress.db.backup-{HEAD_REVISION}-2026-09-21T141320Z.part").mkdir()
    with pytest.raises((LedgerError, OSError)):
        Ledger.open(used, clock)
    assert dump(used) == before


def test_whoever_comes_second_finds_the_ledger_upgraded(
    ledger: Ledger, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L8: of two processes that open an older ledger at once, one upgrades and one copy is made."""
    next_version("pass")
    with Ledger.open(ledger.path, clock) as first, first.write() as connection:
        migrate.bring_up_to_date(connection, ledger.path, first.library, clock.now_us() + 10**9)
    assert len(list(ledger.path.parent.glob("progress.db.backup-*"))) == 1


def test_an_older_ledger_is_not_upgraded_by_a_reader(
    used: Path, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L7: reading only means reading only; the error names a command that upgrades."""
    before = dump(used)
    next_version("pass")
    with pytest.raises(LedgerError, match="older schema") as caught:
        Ledger.open(used, clock, read_only=True)
    assert "midasdl status" in str(caught.value.hint)
    assert dump(used) == before


def test_the_previous_version_refuses_what_the_next_one_upgraded(
    used: Path, clock: FakeClock, next_version: Callable[..., None]
) -> None:
    """L8: going back takes the copy, not a guess."""
    next_version("pass")
    Ledger.open(used, clock).close()
    with closing(sqlite3.connect(used)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == (later(1),)
    next_version()
    with pytest.raises(LedgerTooNewError):
        Ledger.open(used, clock)
