"""L2, L7, L9: the connection that brief blocks and looks share, and who else comes to use it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl.ledger import engine as engine_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.library import best_library
from midasdl.ledger.statements import SET_SETTING
from tests.support.clock import NappingClock

needs_safe_wal = pytest.mark.skipif(
    not best_library().wal_is_safe, reason="no SQLite with the WAL-reset fix here"
)


def put(ledger: Ledger, name: str) -> None:
    with ledger.brief() as brief:
        brief.send(SET_SETTING, {"new_name": name, "new_value": "x"})


def names_in(ledger: Ledger) -> set[str]:
    with ledger.read() as connection:
        return set(connection.exec_driver_sql("SELECT name FROM setting").scalars())


def test_an_interruption_while_a_block_begins_leaves_no_transaction_open(ledger: Ledger) -> None:
    """L9: Ctrl-C may come between SQLite's answer and the next instruction of Python."""
    wait_for = ledger.patience.wait_for

    def interrupted(attempt: Callable[[], Any]) -> Any:
        wait_for(attempt)
        signal.raise_signal(signal.SIGINT)

    ledger.patience.wait_for = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        put(ledger, "never")
    ledger.patience.wait_for = wait_for  # type: ignore[method-assign]
    put(ledger, "brief")
    with ledger.write() as connection:
        ledger.set_setting(connection, "long", "x")
    assert names_in(ledger) == {"brief", "long"}


@pytest.mark.parametrize("has_read_before", [False, True])
def test_who_reads_waits_for_no_brief_block_of_another_thread(tmp_path: Path, has_read_before: bool) -> None:
    """One thread may wait for the lock for two minutes; what is shown meanwhile comes from another."""
    Ledger.create(tmp_path / "progress.db").close()
    seen: list[str | None] = []
    with Ledger.open(tmp_path / "progress.db") as ledger:
        if has_read_before:
            ledger.setting("data_root")
        with ledger.brief():
            reader = threading.Thread(target=lambda: seen.append(ledger.setting("data_root")), daemon=True)
            reader.start()
            reader.join(10)
            assert seen == [None]
            assert ledger.setting("data_root") is None, "nor does the thread itself"


def test_closing_closes_every_connection_that_was_kept(tmp_path: Path) -> None:
    """L9: the one of looks and brief blocks, and the one that waits for the engine's first block."""
    Ledger.create(tmp_path / "progress.db").close()
    kept = []
    for needs_engine in (False, True):
        with Ledger.open(tmp_path / "progress.db") as ledger:
            kept.append(ledger._bare)
            assert not needs_engine or ledger._engine is not None
    for connection in kept:
        with pytest.raises(best_library().module.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_opening_waits_for_who_keeps_readers_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L9: in the rollback journal's mode a writer's commit does, for a moment."""
    monkeypatch.setattr("midasdl.ledger.ledger.journal_for", lambda *_: "delete")
    Ledger.create(tmp_path / "progress.db").close()
    other = best_library().module.connect(tmp_path / "progress.db", isolation_level=None)
    clock = NappingClock(1.0, lambda: other.in_transaction and other.execute("ROLLBACK"))
    ledger = Ledger(tmp_path / "progress.db", clock, engine_module.Patience(clock))
    put(ledger, "it is open")
    other.execute("BEGIN EXCLUSIVE")
    assert ledger._revision() is not None
    assert sum(clock.naps) >= 0.99
    ledger.close()
    other.close()


@needs_safe_wal
@pytest.mark.parametrize("has_read_before", [False, True])
def test_a_reader_looks_at_the_file_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_read_before: bool
) -> None:
    """L7: where nobody wrote when it was opened, SQLite was told that nobody will; then somebody does."""
    with Ledger.create(tmp_path / "progress.db") as ledger:
        put(ledger, "before")
    monkeypatch.setattr(engine_module, "may_be_written", lambda _: False)
    with Ledger.open(tmp_path / "progress.db", read_only=True) as reader:
        assert not has_read_before or names_in(reader) == {"before"}
        with Ledger.open(tmp_path / "progress.db") as writer:
            put(writer, "meanwhile")
            assert names_in(reader) == {"before", "meanwhile"}
