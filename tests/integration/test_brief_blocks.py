"""L1, L2, L5, L9: brief blocks promise what write blocks do, on a connection that all of them share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midasdl.errors import LedgerError
from midasdl.ledger import engine as engine_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.library import best_library
from midasdl.ledger.statements import SET_SETTING
from tests.support.clock import FakeClock

needs_safe_wal = pytest.mark.skipif(
    not best_library().wal_is_safe, reason="no SQLite with the WAL-reset fix here"
)


def put(ledger: Ledger, name: str, and_raise: type[BaseException] | None = None) -> None:
    with ledger.brief() as brief:
        assert brief.send(SET_SETTING, {"new_name": name, "new_value": "x"}) == 1
        if and_raise is not None:
            raise and_raise


def names_in(ledger: Ledger) -> set[str]:
    with ledger.read() as connection:
        return set(connection.exec_driver_sql("SELECT name FROM setting").scalars())


def test_a_brief_block_is_all_or_nothing(ledger: Ledger) -> None:
    """L1: whatever is raised inside, nothing of it stays, and the next block works."""
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            put(ledger, "half", error)
    put(ledger, "whole")
    assert names_in(ledger) == {"whole"}


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


def test_blocks_of_several_threads_never_mix(ledger: Ledger) -> None:
    """L2: what one undoes the others keep, though all use the same connection."""
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(100):
                put(ledger, f"{name}-{number}")
                with pytest.raises(ZeroDivisionError):
                    put(ledger, f"{name}-{number}-undone", ZeroDivisionError)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"thread-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    names = names_in(ledger)
    assert len(names) == 400
    assert not any(name.endswith("undone") for name in names)


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


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_nothing_is_written_to_a_ledger_that_is_no_longer_there(ledger: Ledger, fate: str) -> None:
    """L5 L9: what workers record does not go into a file without a name."""
    put(ledger, "before")
    ledger.path.unlink()
    if fate == "replaced":
        ledger.path.write_bytes(b"")
    with pytest.raises(LedgerError, match="deleted, moved or replaced"):
        put(ledger, "after")
    assert ledger.path.exists() == (fate == "replaced")


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
    clock = FakeClock()
    ledger = Ledger(tmp_path / "progress.db", clock, engine_module.Patience(clock))
    put(ledger, "it is open")
    other.execute("BEGIN EXCLUSIVE")
    nap = clock.nap

    def nap_until_it_ends(seconds: float) -> None:
        nap(seconds)
        if other.in_transaction and clock.monotonic() > until_s:
            other.execute("ROLLBACK")

    until_s = clock.monotonic() + 1
    monkeypatch.setattr(clock, "nap", nap_until_it_ends)
    assert ledger._revision() is not None
    assert clock.monotonic() >= until_s
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
