"""L6, L9: who only reads a ledger, who waits for its lock, and a ledger that is no longer there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from midasdl.errors import (
    LedgerBusyError,
    LedgerError,
)
from midasdl.ledger import engine as engine_module
from midasdl.ledger import ledger as ledger_module
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.library import best_library
from midasdl.ledger.schema import APPLICATION_ID
from tests.support.clock import FakeClock

REPOSITORY = Path(__file__).resolve().parents[2]
needs_safe_wal = pytest.mark.skipif(
    not best_library().wal_is_safe, reason="no SQLite with the WAL-reset fix here"
)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- reading only


def test_a_ledger_opened_for_reading_writes_nothing(ledger: Ledger, clock: FakeClock) -> None:
    """L7: not a byte, not even when asked to; older and unfinished ledgers are refused instead of changed."""
    with ledger.write() as connection:
        ledger.set_setting(connection, "data_root", "/data")
    ledger.close()
    before = ledger.path.read_bytes()
    with Ledger.open(ledger.path, clock, read_only=True) as reader:
        assert reader.setting("data_root") == "/data"
        with pytest.raises(LedgerError, match="readonly"), reader.write() as connection:
            reader.set_setting(connection, "data_root", "/elsewhere")
    assert ledger.path.read_bytes() == before
    assert int.from_bytes(before[68:72], "big") == APPLICATION_ID


def test_a_reader_sees_what_a_writer_has_not_moved_from_the_log_yet(ledger: Ledger) -> None:
    """L6: querying while a run is on shows everything that was committed, and one view within a block."""
    with Ledger.open(ledger.path, read_only=True) as reader, reader.read() as view:
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", "/data")
        assert view.exec_driver_sql("SELECT count(*) FROM setting").scalar() == 0
        assert reader.setting("data_root") == "/data"


# --- readers in folders that they may not write


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user can reach, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def after_a_crash(path: Path) -> None:
    """A ledger whose writer was killed: the last rows are only in its log."""
    script = (
        "import os, sys; from pathlib import Path; from midasdl.ledger.ledger import Ledger\n"
        "ledger = Ledger.create(Path(sys.argv[1]))\n"
        "with ledger.write() as connection:\n"
        "    ledger.set_setting(connection, 'data_root', '/data')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], cwd=REPOSITORY, check=False)


@needs_safe_wal
@pytest.mark.parametrize("state", ["at-rest", "after-a-crash"])
def test_a_ledger_can_be_read_where_nothing_can_be_written(
    open_folder: Path, request: pytest.FixtureRequest, state: str
) -> None:
    """L6 L9: in a colleague's folder, or on a read-only disk: what is asked is answered, and writing is refused."""
    path = open_folder / "progress.db"
    after_a_crash(path)
    if state == "at-rest":
        with Ledger.open(path):
            pass
    before = everything_in(open_folder)
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    request.getfixturevalue("as_an_ordinary_user")

    with Ledger.open(path, read_only=True) as ledger:
        assert ledger.setting("data_root") == "/data"
        assert ledger.damage() is None
    with pytest.raises(LedgerError) as caught, Ledger.open(path) as ledger, ledger.write() as connection:
        ledger.set_setting(connection, "data_root", "/mine")

    assert "-wal" in str(caught.value.hint)
    after = everything_in(open_folder)
    assert after["progress.db"] == before["progress.db"]


@needs_safe_wal
def test_the_log_is_cut_back_when_a_long_reader_is_through(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: it grows while somebody reads, because nothing else is possible; not for ever."""
    monkeypatch.setattr(engine_module, "LONGEST_LOG_BYTES", 100_000)
    with Ledger.open(ledger.path) as writer:
        with Ledger.open(ledger.path, read_only=True) as reader, reader.read():
            for number in range(250):
                with writer.write() as connection:
                    writer.set_setting(connection, f"name-{number}", "x" * 20_000)
            assert writer.log_bytes > 2_000_000
        for number in range(4):
            with writer.write() as connection:
                writer.set_setting(connection, f"more-{number}", "x")
        assert writer.log_bytes < 200_000


def test_a_commit_waits_for_readers_as_patiently_as_for_the_lock(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: with the rollback journal; what was tried in vain is not lost, and Python hears of Ctrl-C meanwhile."""
    monkeypatch.setattr(ledger_module, "journal_for", lambda *_: "delete")
    with Ledger.create(tmp_path / "progress.db", clock) as ledger:
        reader = best_library().module.connect(ledger.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM setting").fetchall()
        naps: list[float] = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            clock.advance(seconds)
            if sum(naps) > 60:
                reader.close()

        monkeypatch.setattr(clock, "nap", nap)
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", "/data")
        assert sum(naps) > 60
        assert ledger.setting("data_root") == "/data"


@pytest.mark.parametrize("hurried", [False, True])
def test_a_wait_for_the_lock_is_told_once_and_cut_short_on_a_wish(
    tmp_path: Path, clock: FakeClock, *, hurried: bool
) -> None:
    """L9 W4: after three seconds, not before; after the wish to stop all waits together get two seconds."""
    told: list[tuple[float, str]] = []
    began_s = clock.monotonic()
    with Ledger.create(
        tmp_path / "progress.db", clock, tell=lambda text: told.append((clock.monotonic() - began_s, text))
    ) as ledger:
        shell = best_library().module.connect(ledger.path, isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        if hurried:
            ledger.patience.hurry()
        for _ in range(3):
            with pytest.raises(LedgerBusyError, match="kept the ledger locked"), ledger.write():
                pytest.fail("the lock was held")
            if not hurried:
                break
        shell.close()
        waited_s = clock.monotonic() - began_s
        with ledger.write() as connection:
            ledger.set_setting(connection, "data_root", "/data")

    if hurried:
        assert told == []
        assert 2 <= waited_s < 2.1
    else:
        assert [round(when_s) for when_s, _ in told] == [3, 63]
        assert "waiting for it" in told[0][1]
        assert 120 <= waited_s < 121


def test_opening_waits_for_a_lock_too(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L2 L9: with the rollback journal even the first look needs a reader's lock."""
    monkeypatch.setattr(ledger_module, "journal_for", lambda *_: "delete")
    path = tmp_path / "progress.db"
    Ledger.create(path, clock).close()
    shell = best_library().module.connect(path, isolation_level=None)
    shell.execute("BEGIN EXCLUSIVE")
    real_nap = clock.nap

    def nap(seconds: float) -> None:
        real_nap(seconds)
        if shell.in_transaction and clock.monotonic() > until_s:
            shell.execute("ROLLBACK")

    until_s = clock.monotonic() + 10
    monkeypatch.setattr(clock, "nap", nap)
    with Ledger.open(path, clock) as ledger:
        assert ledger.setting("data_root") is None
    assert clock.monotonic() >= until_s
    shell.close()


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("way", ["write", "brief"])
@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_nothing_is_written_to_a_ledger_that_is_no_longer_there(
    ledger: Ledger, fate: str, way: str, is_open: bool
) -> None:
    """L5 L9: not a row goes into a file without a name."""
    with ledger.write() as connection:
        ledger.set_setting(connection, "data_root", "/data")
    if is_open:
        with getattr(ledger, way)():
            pass
    ledger.path.unlink()
    if fate == "replaced":
        ledger.path.write_bytes(b"")
    with pytest.raises(LedgerError, match="deleted, moved or replaced") as caught, getattr(ledger, way)():
        pytest.fail("it let us write")
    assert "midasdl init" in str(caught.value.hint)
    assert ledger.path.exists() == (fate == "replaced")
