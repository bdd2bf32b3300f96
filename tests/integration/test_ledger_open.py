"""Promises about opening the ledger: what is refused, how it is journaled, what is sent to it (L6, L9)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from midasdl.errors import (
    ExitCode,
    LedgerError,
    LedgerMissingError,
    LedgerTooNewError,
    NotALedgerError,
)
from midasdl.ledger import engine as engine_module
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger.engine import LONGEST_LOG_BYTES, Patience
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.ledger_file import require_ledger_file
from midasdl.ledger.library import SqliteLibrary, best_library
from tests.support.clock import FakeClock

REPOSITORY = Path(__file__).resolve().parents[2]
needs_safe_wal = pytest.mark.skipif(
    not best_library().wal_is_safe, reason="no SQLite with the WAL-reset fix here"
)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sqlite_file(path: Path, *statements: str) -> Path:
    with closing(best_library().module.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    return path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that SQLite is given, on any connection."""
    statements: list[str] = []
    real = best_library().module

    def keep(statement: str) -> None:
        if statement != "PRAGMA read_uncommitted":  # SQLAlchemy asks that once an engine
            statements.append(statement)

    class Traced(ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def connect(self, *words: Any, **options: Any) -> Any:
            connection = real.connect(*words, **options)
            connection.set_trace_callback(keep)
            return connection

    monkeypatch.setattr(ledger_module, "best_library", lambda: SqliteLibrary(Traced(real.__name__)))
    return statements


@pytest.fixture
def on_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every path lie on a network file system."""
    monkeypatch.setattr(ledger_module, "file_system_of", lambda _: "nfs4")
    monkeypatch.setattr(engine_module, "file_system_of", lambda _: "nfs4")


# --- what is refused, and left as it was


@pytest.mark.parametrize("content", [None, b""], ids=["no-file", "empty-file"])
def test_a_missing_ledger_is_named_with_the_command_that_makes_one(
    tmp_path: Path, content: bytes | None
) -> None:
    """L8: open never makes a ledger, neither where nothing is nor in an empty file."""
    path = tmp_path / "progress.db"
    if content is not None:
        path.write_bytes(content)
    before = everything_in(tmp_path)
    with pytest.raises(LedgerMissingError) as caught:
        Ledger.open(path)
    assert str(path) in caught.value.message
    assert "midasdl init" in str(caught.value.hint)
    assert caught.value.exit_code is ExitCode.LEDGER
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("opening", [Ledger.open, Ledger.create], ids=["open", "create"])
@pytest.mark.parametrize("what", ["folder", "text", "short", "device", "binary"])
def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path, what: str, opening: Any) -> None:
    """L8: a folder, a text, a device or garbage is not a ledger, and nothing is written to it."""
    path = tmp_path / "progress.db"
    match what:
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("50c9d1c465f3cbff652be1509c2e2a4e  ./data/file.csv\n" * 100)
        case "short":
            path.write_bytes(b"SQL")
        case "binary":
            path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5_000)
        case "device":
            path = Path(os.devnull)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(NotALedgerError):
        opening(path)
    assert before is None or path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ([] if what == "device" else ["progress.db"])


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_another_programs_database_is_left_byte_for_byte_as_it_was(tmp_path: Path, journal: str) -> None:
    """L8: even one in WAL mode whose log holds rows that its program has yet to move is not touched."""
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as owner:
        owner.execute(f"PRAGMA journal_mode = {journal}")
        owner.execute("CREATE TABLE bookmark (url TEXT)")
        owner.execute("INSERT INTO bookmark VALUES ('https://example.org')")
        copies = tmp_path / "as-after-a-crash"
        copies.mkdir()
        for file in tmp_path.glob("places.sqlite*"):
            shutil.copy(file, copies)
    path = copies / path.name
    before = everything_in(copies)
    before.pop("places.sqlite-shm", None)
    for opening in (Ledger.open, Ledger.create):
        with pytest.raises(NotALedgerError, match="another program"):
            opening(path)
    after = everything_in(copies)
    after.pop("places.sqlite-shm", None)
    assert after == before


def test_a_ledger_of_a_newer_midasdl_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    """L8: an unknown revision is an error that says how to upgrade, not a migration."""
    path = tmp_path / "progress.db"
    Ledger.create(path).close()
    sqlite_file(path, "UPDATE alembic_version SET version_num = '9999'")
    before = everything_in(tmp_path)
    for read_only in (False, True):
        with pytest.raises(LedgerTooNewError, match="9999") as caught:
            Ledger.open(path, read_only=read_only)
        assert "pip install --upgrade midasdl" in str(caught.value.hint)
        for leftover in tmp_path.glob("progress.db-*"):
            leftover.unlink()
    assert everything_in(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    """L9: no traceback where the ledger's folder cannot exist."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger.create(tmp_path / "file" / "progress.db")


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("opening", [Ledger.open, Ledger.create], ids=["open", "create"])
@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["unreadable", "unwritable"])
def test_missing_permissions_are_an_error_of_the_ledger(
    tmp_path: Path, request: pytest.FixtureRequest, opening: Any, mode: int
) -> None:
    """L9: no traceback where the file, or its folder, belongs to somebody else."""
    path = tmp_path / "progress.db"
    path.chmod(mode)
    request.getfixturevalue("as_an_ordinary_user")
    with pytest.raises(LedgerError), opening(path) as ledger, ledger.write():
        pytest.fail("it was opened")


# --- making one


def test_create_opens_what_is_there_and_makes_what_is_not(tmp_path: Path) -> None:
    """M7: creating twice is opening the second time; folders come along, whatever they are called."""
    path = tmp_path / "new folder #1" / "50 % föhn?" / "progress.db"
    with Ledger.create(path) as ledger, ledger.write() as connection:
        ledger.set_setting(connection, "data_root", "/data")
    with Ledger.create(path) as ledger:
        assert ledger.setting("data_root") == "/data"
        assert ledger.setting("unknown") is None
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", "/other")
        assert ledger.setting("data_root") == "/other"


@pytest.mark.parametrize("leftover", ["empty", "header"])
def test_what_a_crash_left_of_a_new_ledger_is_completed(
    tmp_path: Path, clock: FakeClock, leftover: str
) -> None:
    """I7: a process killed between making the file and making the tables leaves nothing that blocks."""
    path = tmp_path / "progress.db"
    ledger_module._make_empty(path, Patience(clock))
    if leftover == "empty":
        path.write_bytes(b"")
    if path.stat().st_size:
        with pytest.raises(LedgerMissingError):
            Ledger.open(path, read_only=True)
    with Ledger.create(path) as ledger:
        assert ledger.setting("data_root") is None
    assert require_ledger_file(path)


def test_many_processes_may_make_the_same_ledger_at_once(tmp_path: Path) -> None:
    """L2: of those that come together one makes the tables, all open the same ledger."""
    path = tmp_path / "progress.db"
    script = (
        "import sys; from pathlib import Path; from midasdl.ledger.ledger import Ledger; import alembic.command\n"
        "print(flush=True); sys.stdin.readline()\n"
        "with Ledger.create(Path(sys.argv[1])) as ledger, ledger.write() as connection:\n"
        "    ledger.set_setting(connection, sys.argv[2], 'was here')\n"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), f"maker-{number}"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None
        maker.stdout.readline()
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    assert [(maker.communicate()[1], maker.returncode) for maker in makers] == [("", 0)] * 4
    with Ledger.open(path) as ledger:
        assert all(ledger.setting(f"maker-{number}") == "was here" for number in range(4))
    assert not list(tmp_path.glob("*.backup-*"))


# --- the journal


@needs_safe_wal
def test_a_new_ledger_on_a_local_disk_is_in_wal_mode(ledger: Ledger) -> None:
    """L9: readers and workers do not wait for each other."""
    assert ledger.journal_mode() == "wal"


def test_with_an_old_library_a_new_ledger_keeps_the_rollback_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: without the WAL-reset fix WAL is not used, and everything works all the same."""
    monkeypatch.setattr(SqliteLibrary, "wal_is_safe", False)
    with Ledger.create(tmp_path / "progress.db") as ledger, ledger.write() as connection:
        ledger.set_setting(connection, "data_root", "/data")
    with Ledger.open(tmp_path / "progress.db") as ledger:
        assert ledger.journal_mode() == "delete"
        assert ledger.setting("data_root") == "/data"


@pytest.mark.usefixtures("on_nfs")
def test_a_new_ledger_on_a_network_file_system_keeps_the_rollback_journal(tmp_path: Path) -> None:
    """L9: such a file system lacks the shared memory that WAL needs."""
    with Ledger.create(tmp_path / "progress.db") as ledger:
        assert ledger.journal_mode() == "delete"


@needs_safe_wal
def test_a_wal_ledger_that_was_moved_to_a_network_file_system_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """L9: it could be corrupted there; it is neither used nor silently switched."""
    path = tmp_path / "progress.db"
    Ledger.create(path).close()
    before = path.read_bytes()
    request.getfixturevalue("on_nfs")
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=r"network file system \(nfs4\)") as caught:
            Ledger.open(path, read_only=read_only)
        assert "local disk" in str(caught.value.hint)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", ["delete", pytest.param("wal", marks=needs_safe_wal)])
def test_the_journal_mode_is_chosen_once_and_never_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[str], mode: str
) -> None:
    """L9: an existing ledger keeps its journal, even where a new one would get another, and on errors too."""
    path = tmp_path / "progress.db"
    monkeypatch.setattr(ledger_module, "journal_for", lambda *_: mode)
    Ledger.create(path).close()
    assert [each for each in sent if "journal_mode =" in each] == [f"PRAGMA journal_mode = {mode}"]
    sent.clear()
    monkeypatch.setattr(ledger_module, "journal_for", lambda *_: "wal" if mode == "delete" else "delete")
    for opening in (Ledger.open, Ledger.create):
        with opening(path) as ledger:
            with pytest.raises(ZeroDivisionError), ledger.write():
                raise ZeroDivisionError
            assert ledger.journal_mode() == mode
    assert not [each for each in sent if "journal_mode" in each and each != "PRAGMA journal_mode"]


@pytest.mark.parametrize(
    ("mode", "synchronous"), [("delete", "FULL"), pytest.param("wal", "NORMAL", marks=needs_safe_wal)]
)
def test_these_pragmas_are_sent_on_each_connection(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: list[str],
    mode: str,
    synchronous: str,
) -> None:
    """L9: the journal mode is read before anything is set, and each transaction begins IMMEDIATE."""
    monkeypatch.setattr(ledger_module, "journal_for", lambda *_: mode)
    Ledger.create(tmp_path / "progress.db").close()
    sent.clear()
    with Ledger.open(tmp_path / "progress.db") as ledger:
        assert sent[:5] == [
            "PRAGMA journal_mode",
            f"PRAGMA synchronous = {synchronous}",
            "PRAGMA busy_timeout = 0",
            "PRAGMA foreign_keys = ON",
            f"PRAGMA journal_size_limit = {LONGEST_LOG_BYTES}",
        ]
        assert not [each for each in sent[5:] if "=" in each and "PRAGMA" in each]
        sent.clear()
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", "/data")
        assert sent[0] == "BEGIN IMMEDIATE"
        assert sent[-1] == "COMMIT"
        sent.clear()
        assert ledger.setting("data_root") == "/data"
        assert sent[0] == "BEGIN"
