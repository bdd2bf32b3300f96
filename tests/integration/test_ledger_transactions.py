"""Promises about transactions: locks, threads, forks, crashes, and what errors mean (L2, L9, I7)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from midasdl.errors import LedgerBusyError, LedgerError, MidasdlError, NotALedgerError, StorageError
from midasdl.ledger.engine import LOCK_NAP_S, LOCK_PATIENCE_S, translate
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.statements import SET_SETTING
from tests.support.clock import FakeClock, NappingClock
from tests.support.programs import require_program

REPOSITORY = Path(__file__).resolve().parents[2]


def put(ledger: Ledger, name: str, and_raise: type[BaseException] | None = None) -> None:
    with ledger.write() as connection:
        ledger.set_setting(connection, name, "x")
        if and_raise is not None:
            raise and_raise


def put_briefly(ledger: Ledger, name: str, and_raise: type[BaseException] | None = None) -> None:
    with ledger.brief() as brief:
        assert brief.send(SET_SETTING, {"new_name": name, "new_value": "x"}) == 1
        if and_raise is not None:
            raise and_raise


BOTH_WAYS = pytest.mark.parametrize("write", [put, put_briefly], ids=["write", "brief"])


@contextmanager
def locked_by_a_shell(path: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[Callable[[], None]]:
    """A person's sqlite3 shell with an open transaction; gives the way to close it."""
    shell = subprocess.Popen(
        [require_program("sqlite3"), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def close() -> None:
        if shell.returncode is None:
            shell.communicate("COMMIT;\n")

    try:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(f"{begin};\nSELECT 'locked';\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "locked\n"
        yield close
    finally:
        close()


# --- locks


@pytest.mark.parametrize("held_s", [0.01, 6.0, LOCK_PATIENCE_S - 1])
def test_a_lock_that_another_program_holds_for_a_while_is_waited_out(ledger: Ledger, held_s: float) -> None:
    """L2: with short random naps, none of them long enough to starve anybody."""
    with locked_by_a_shell(ledger.path) as close:
        clock = NappingClock(held_s, close)
        with Ledger.open(ledger.path, clock) as other:
            put(other, "waited")
            assert other.setting("waited") == "x"
    assert held_s - 0.01 <= sum(clock.naps) < held_s + 1, "the shell takes its own time to let go"
    assert all(LOCK_NAP_S[0] <= nap <= LOCK_NAP_S[1] for nap in clock.naps)


def test_a_lock_that_stays_is_an_error_only_after_the_patience(ledger: Ledger, clock: FakeClock) -> None:
    """L9: it says for how long somebody has locked the ledger, and what to close; readers are not concerned."""
    with locked_by_a_shell(ledger.path):
        started_s = clock.monotonic()
        with pytest.raises(LedgerBusyError, match="120 s") as caught:
            put(ledger, "never")
        assert LOCK_PATIENCE_S <= clock.monotonic() - started_s < LOCK_PATIENCE_S + 1
        assert "midasdl resume" in str(caught.value.hint)
        if ledger.journal_mode() == "wal":
            assert ledger.setting("never") is None
    put(ledger, "later")
    assert ledger.setting("later") == "x"


def test_making_a_ledger_waits_for_somebody_who_is_making_it(tmp_path: Path) -> None:
    """L9: SQLite's own patience does not cover a change of the journal mode."""
    path = tmp_path / "progress.db"
    path.touch()
    with locked_by_a_shell(path, "BEGIN EXCLUSIVE") as close:
        clock = NappingClock(2.0, close)
        with Ledger.create(path, clock) as ledger:
            put(ledger, "made")
    assert 1.99 <= sum(clock.naps) < 3.0


# --- blocks


@BOTH_WAYS
def test_a_write_block_is_all_or_nothing(ledger: Ledger, write: Callable[..., None]) -> None:
    """L1: whatever is raised inside, nothing of it stays, and the next block works."""
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            write(ledger, "half", error)
    assert ledger.setting("half") is None
    write(ledger, "whole")
    assert ledger.setting("whole") == "x"


def test_a_read_inside_a_write_sees_the_ledger_as_it_was(ledger: Ledger) -> None:
    """L1: a question asked in the middle of a change neither sees it nor ends it."""
    with ledger.write() as connection:
        ledger.set_setting(connection, "new", "x")
        assert ledger.setting("new") is None
        ledger.set_setting(connection, "newer", "x")
    assert (ledger.setting("new"), ledger.setting("newer")) == ("x", "x")


@BOTH_WAYS
def test_threads_may_share_a_ledger(ledger: Ledger, write: Callable[..., None]) -> None:
    """L2: blocks of several threads never mix: what one undoes the others keep."""
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(40):
                write(ledger, f"{name}-{number}")
                with pytest.raises(ZeroDivisionError):
                    write(ledger, f"{name}-{number}-undone", ZeroDivisionError)
                assert ledger.setting(f"{name}-{number}") == "x"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"thread-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with ledger.read() as connection:
        names = connection.exec_driver_sql("SELECT name FROM setting").scalars().all()
    assert len(names) == 160
    assert not any(name.endswith("undone") for name in names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_ledger_does_not_cross_a_fork(ledger: Ledger) -> None:
    """L9: the child is told to open its own, and closing there does no harm here."""
    put(ledger, "before")
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        code = 1
        try:
            ledger.setting("before")
        except LedgerError as error:
            ledger.close()
            code = 0 if "forked" in error.message else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    put(ledger, "after")
    assert (ledger.setting("before"), ledger.setting("after")) == ("x", "x")


# --- crashes

DIES_INSIDE = """
import sys, time
from pathlib import Path
from midasdl.ledger import ledger as module
module.journal_for = lambda *_: sys.argv[2]
with module.Ledger.create(Path(sys.argv[1])) as ledger:
    with ledger.write() as connection:
        ledger.set_setting(connection, "kept", "x")
    with ledger.write() as connection:
        for number in range(4_000):
            ledger.set_setting(connection, f"lost-{number}", "x" * 2_000)
        print("inside", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_process_killed_inside_a_write_block_leaves_no_trace_of_it(
    tmp_path: Path, clock: FakeClock, journal: str
) -> None:
    """I7: kill -9 in the middle of eight megabytes, part of which are in the file already, undoes them all."""
    path = tmp_path / "progress.db"
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_INSIDE, str(path), journal],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if journal == "delete":
        with pytest.raises(LedgerError, match="A program was killed") as caught:
            Ledger.open(path, clock, read_only=True)
        assert "by typing: midasdl status" in str(caught.value.hint)
    with Ledger.open(path, clock) as ledger, ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM setting").scalars().all() == ["kept"]
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


# --- what errors mean


def failure(code: int) -> OperationalError:
    original = sqlite3.OperationalError("something is wrong\nand more")
    original.sqlite_errorcode = code
    return OperationalError("SELECT 1", {}, original)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_NOTADB, NotALedgerError, "not a ledger"),
        (sqlite3.SQLITE_CORRUPT, NotALedgerError, "damaged"),
        (sqlite3.SQLITE_CORRUPT_INDEX, NotALedgerError, "damaged"),
        (sqlite3.SQLITE_FULL, StorageError, "full"),
        (sqlite3.SQLITE_PERM, LedgerError, "cannot be opened"),
        (sqlite3.SQLITE_READONLY, LedgerError, "cannot be opened"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, LedgerError, "cannot be opened"),
        (sqlite3.SQLITE_CANTOPEN, LedgerError, "cannot be opened"),
        (sqlite3.SQLITE_IOERR, LedgerError, "fails"),
        (sqlite3.SQLITE_IOERR_FSYNC, LedgerError, "fails"),
        (sqlite3.SQLITE_BUSY, LedgerBusyError, "locked"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, LedgerBusyError, "locked"),
        (sqlite3.SQLITE_LOCKED, LedgerBusyError, "locked"),
        (sqlite3.SQLITE_PROTOCOL, LedgerBusyError, "locked"),
    ],
)
def test_each_error_of_sqlite_is_told_in_words_that_help(
    code: int, kind: type[MidasdlError], words: str
) -> None:
    """L9: extended codes mean what their primary code means; message and hint name the file and the cure."""
    error = translate(failure(code), Path("progress.db"))
    assert type(error) is kind
    assert words in error.message
    assert "progress.db" in error.message
    assert "and more" not in error.message
    assert error.hint


@pytest.mark.parametrize("error", [failure(sqlite3.SQLITE_CONSTRAINT), ValueError("ours")])
def test_a_mistake_of_midasdl_is_not_disguised(error: Exception) -> None:
    """L9: a broken rule of the schema is no trouble of the file; it comes through as it is."""
    assert translate(error, Path("progress.db")) is None


def test_a_broken_rule_undoes_its_block(ledger: Ledger) -> None:
    """I4: the database holds the rules: a destination needs a task."""
    homeless = (
        "INSERT INTO destination (path, task_id, kind, manifest_id, line_no) VALUES ('p', 1, 'data', 1, 1)"
    )
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), ledger.write() as connection:
        connection.exec_driver_sql(homeless)
    put(ledger, "next")
    assert ledger.setting("next") == "x"
