"""S2, S7, I1, I2, I4: a disk that fails at any of a worker's calls costs nothing but time."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from midasdl.errors import ExitCode, StorageError
from midasdl.ledger.engine import translate
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.manifest import ManifestParser
from midasdl.selection import Selection
from midasdl.simulator import Simulator
from tests.support.clock import FakeClock
from tests.support.desk import FILES, TWIN, Desk, desk, line, md5, simulator
from tests.support.shim.failing import Failing, calls_of

__all__ = ["desk", "simulator"]

WANTED = (*list(FILES)[:2], TWIN)
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENAMETOOLONG]
FEWEST_CALLS = 12
IN_MEMORY, STREAMED = 10**8, 0


class Trial:
    """One desk of its own, whose disk fails from the n-th call on, or at that call only."""

    def __init__(
        self, simulator: Simulator, folder: Path, how: str, nth: int, *, in_memory: int, once: bool
    ) -> None:
        folder.mkdir()
        self.ledger = Ledger.create(folder / "progress.db", FakeClock())
        with self.ledger.write() as connection:
            loader = ManifestLoader(self.ledger, "manifest.txt", Selection(), strict=False)
            loader.load(connection, ManifestParser([f"{line(path)}\n".encode() for path in WANTED]))
        self.desk = Desk(self.ledger, FakeClock(), simulator, folder, in_memory=in_memory)
        self.desk.use_store(how)
        number = NUMBERS[nth % len(NUMBERS)]
        self.disk = Failing(str(self.desk.root), str(folder / "tally"), number, nth, once=once)
        self.requests_before = len(self.desk.gets())

    def close(self) -> None:
        self.desk.close()
        self.ledger.close()

    def run_on_the_failing_disk(self) -> StorageError | None:
        with pytest.MonkeyPatch.context() as patched:
            for call in calls_of(self.disk):
                patched.setattr(*call)
            try:
                self.desk.worker.run()
            except StorageError as error:
                return error
        return None

    def see_that_nothing_is_wrong(self) -> None:
        """No wrong byte under a final name, no task failed or held, none done that is not there, no litter."""
        assert self.desk.states() <= {"pending", "done"}
        present = {path for path in WANTED if (self.desk.root / path).exists()}
        for path in present:
            assert hashlib.md5((self.desk.root / path).read_bytes()).hexdigest() == md5(path)
        for path, row in self.desk.tasks().items():
            assert row.state == "pending" or path in present
            assert row.error is None
            assert row.attempts == (row.state == "done" and not row.from_cache)
        assert list((self.desk.root / ".midasdl/parts").iterdir()) == []


@pytest.mark.parametrize(
    ("how", "in_memory", "once"),
    [
        ("hardlink", IN_MEMORY, False),
        ("reflink", IN_MEMORY, False),
        ("copy", STREAMED, False),
        ("hardlink", STREAMED, True),
    ],
    ids=["hardlink", "reflink", "streamed-copy", "streamed-for-a-moment"],
)
def test_a_disk_that_fails_at_any_call_stops_the_run_and_loses_nothing(
    simulator: Simulator, tmp_path: Path, how: str, in_memory: int, once: bool
) -> None:
    """S7 S2 I1 I2: whichever call fails, no task does, nothing wrong is named, and the cure is enough."""
    for nth in range(1, 200):
        folder = tmp_path / str(nth)
        with closing(Trial(simulator, folder, how, nth, in_memory=in_memory, once=once)) as trial:
            error = trial.run_on_the_failing_disk()
            trial.see_that_nothing_is_wrong()
            if not trial.disk.has_failed:
                assert error is None
                break
            assert once or error is not None
            assert error is None or error.exit_code is ExitCode.STORAGE

            trial.desk.use_store(how)
            trial.desk.worker.run()

            trial.see_that_nothing_is_wrong()
            assert trial.desk.states() == {"done"}
            assert len(trial.desk.gets()) - trial.requests_before <= len(WANTED)
    assert nth > FEWEST_CALLS, "the disk was hardly asked for anything"


def test_names_of_which_nobody_knows_whether_they_are_durable_are_not_recorded(
    desk: Desk, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: a system that could not flush a folder says so once; the second call succeeds and means nothing."""
    load(line("data/a.csv"))
    desk.worker.turn()
    fails = iter([OSError(errno.EIO, "Input/output error")])
    fsync = os.fsync

    def once(descriptor: int) -> None:
        for error in fails:
            raise error
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    with pytest.raises(StorageError, match="Input/output error"):
        desk.worker.run()
    assert desk.states() == {"pending"}
    desk.worker.run()
    assert desk.states() == {"done"}
    assert desk.gets() == ["data/a.csv"]


def test_a_full_disk_is_told_from_a_broken_ledger_also_where_sqlite_does_not(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W6 S7: no room for the index of the log is an I/O error to SQLite, and a full disk to the person."""
    no_room = sqlite3.OperationalError("disk I/O error")
    no_room.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    broken = translate(no_room, ledger.path)
    assert broken is not None
    assert broken.exit_code is ExitCode.LEDGER
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=8_192))
    full = translate(no_room, ledger.path)
    assert full is not None
    assert full.exit_code is ExitCode.STORAGE
    assert full.hint == "Make space, then type: midasdl resume"
