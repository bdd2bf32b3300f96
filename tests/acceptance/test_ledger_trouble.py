"""L5 L9: whatever happens to the ledger's file, it is said in words, and no file on disk has to be fetched again."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from midasdl.ledger import engine, ledger, library
from midasdl.ledger.library import SqliteLibrary, best_library
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import is_gone, kill_group
from tests.support.inside import run_inside
from tests.support.soaks import in_soaks

JobOn = Callable[..., JobOnTrial]
BESIDE = ("", "-wal", "-shm", "-journal")
PAGE = 4096
WRITER = (
    "import sqlite3, sys\n"
    "shell = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
    "shell.execute('BEGIN IMMEDIATE'); print(flush=True); sys.stdin.read(); shell.execute('ROLLBACK')\n"
)
needs_safe_wal = pytest.mark.skipif(
    not best_library().wal_is_safe, reason="no SQLite with the WAL-reset fix here"
)


def put_aside(job: JobOnTrial) -> None:
    """What the hint says: the ledger goes, with what belongs to it."""
    for suffix in BESIDE:
        job.ledger.with_name(job.ledger.name + suffix).unlink(missing_ok=True)


@contextmanager
def run_under_way(job: JobOnTrial, requests: int = 10) -> Iterator[subprocess.Popen[str]]:
    """A run that has asked for some files; nothing of it outlives the block."""
    before = len(job.downloads)
    process = job.command.start("run", "--workers", "2")
    try:
        while len(job.downloads) < before + requests and process.poll() is None:
            time.sleep(0.01)
        yield process
    finally:
        kill_group(process)


def end_of(process: subprocess.Popen[str], within_s: float = 30.0) -> tuple[int, str]:
    """Exit code and words of a run that must leave nobody behind."""
    out, err = process.communicate(timeout=within_s)
    assert "Traceback" not in err, err
    deadline = time.monotonic() + 5
    while not is_gone(process.pid):
        assert time.monotonic() < deadline, f"somebody outlived the run: {out + err}"
        time.sleep(0.05)
    return process.returncode, out + err


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is in the middle of writing."""
    shell = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert shell.stdout is not None
    shell.stdout.readline()
    try:
        yield
    finally:
        shell.communicate()


def damage(path: Path, kind: str, dice: random.Random) -> None:
    """Let a disk, or a person, spoil a file."""
    content = bytearray(path.read_bytes())
    at = dice.randrange(PAGE, len(content))
    match kind:
        case "truncated":
            content = content[:at]
        case "zeros":
            content[at // PAGE * PAGE : (at // PAGE + 1) * PAGE] = bytes(PAGE)
        case "noise":
            content[at // PAGE * PAGE : (at // PAGE + 1) * PAGE] = dice.randbytes(PAGE)
        case "flipped":
            for place in range(at, min(at + 60, len(content))):
                content[place] ^= 0xFF
        case "schema":
            content[200:PAGE] = dice.randbytes(PAGE - 200)
        case "header":
            content[16:24] = b"\xff" * 8
    path.write_bytes(content)


# --- lost and damaged: files are the truth


@pytest.mark.parametrize("trouble", ["deleted", "schema"])
def test_a_ledger_that_is_lost_costs_hashing_and_no_request(job: JobOnTrial, trouble: str) -> None:
    """L5 L9 S1 U1: the error names the way back, and going it asks CEDA for nothing at all."""
    job.init()
    job.command("run", "--workers", "2")
    asked = len(job.simulator.requests)
    if trouble == "deleted":
        put_aside(job)
    else:
        damage(job.ledger, trouble, random.Random(1))
        ended = run_inside(job.command, "run", code=6)
        assert "midasdl init MANIFEST" in ended.err
        assert "not fetched again" in ended.err
        told = run_inside(job.command, "doctor", code=1).out
        assert "problem  ledger" in told
        assert ".recover" in told
        put_aside(job)

    job.init()
    job.command("run", "--workers", "2")

    assert job.is_complete
    assert len(job.simulator.requests) == asked


def test_no_damage_ends_a_command_in_a_traceback_or_unseen_by_doctor(job: JobOnTrial) -> None:
    """L9 W6 U1: zeros, noise and flipped bits anywhere: an answer or exit 6, and doctor finds each spoilt page."""
    job.init()
    good = job.folder / "good.db"
    shutil.copy(job.ledger, good)
    dice = random.Random(6)

    for kind in ["zeros", "noise", "truncated"] * 3 + ["flipped"] * 3:
        for words in [("status",), ("sql", "SELECT * FROM downloads"), ("retry",), ("doctor",)]:
            put_aside(job)
            shutil.copy(good, job.ledger)
            damage(job.ledger, kind, random.Random(dice.random()))
            ended = run_inside(job.command, *words, code=None)
            assert ended.code in ({0, 1} if words == ("doctor",) else {0, 6}), (kind, words, ended)
            assert "foresee" not in ended.err, (kind, words, ended)
        assert kind == "flipped" or ended.code == 1, f"doctor did not see {kind}: {ended.out}"


def test_a_view_that_is_no_longer_what_it_was_is_no_fault_of_the_query(job: JobOnTrial) -> None:
    """L9 U1: exit 6 and the way back; a query that is wrong itself stays a usage error."""
    job.init()
    run_inside(job.command, "sql", "SELECT * FROM download", code=2)
    job.change("DROP VIEW downloads")
    job.change("CREATE VIEW downloads (path) AS SELECT path, id FROM destination")

    ended = run_inside(job.command, "sql", "SELECT * FROM downloads", code=6)

    assert "the view downloads" in ended.err
    assert "midasdl init MANIFEST" in ended.err


def test_a_log_that_a_crash_left_and_the_disk_spoilt_costs_hashing_only(
    job_on: JobOn, small_archive: Archive
) -> None:
    """L5 I7 L9: what the log no longer tells is found on disk; a spoilt log never spoils the ledger."""
    job = job_on(small_archive, first_byte_delay_s=0.02)
    job.init()
    with run_under_way(job, requests=60):
        pass
    log = job.ledger.with_name("progress.db-wal")
    if log.exists():
        damage(log, "noise", random.Random(3))
        job.ledger.with_name("progress.db-shm").unlink()

    job.command("resume")

    assert job.is_complete
    assert len(job.downloads) <= small_archive.distinct + 2 * 64, "only what was in flight is asked for again"
    assert run_inside(job.command, "doctor").code == 0


@pytest.mark.parametrize("fate", ["deleted", in_soaks("moved"), in_soaks("replaced")])
def test_a_ledger_that_goes_away_under_a_run_stops_it_and_is_not_made_anew(
    job_on: JobOn, small_archive: Archive, fate: str
) -> None:
    """L5 L9: a file without a name takes no more facts: exit 6 with the way back, and no empty ledger appears."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    aside = job.folder / "aside"
    aside.mkdir()
    with run_under_way(job) as process:
        if fate == "deleted":
            put_aside(job)
        else:
            for suffix in BESIDE:
                there = job.ledger.with_name(job.ledger.name + suffix)
                if there.exists():
                    there.rename(aside / there.name)
        if fate == "replaced":
            job.ledger.write_bytes(b"")
        code, told = end_of(process)

    assert code == 6
    assert "was deleted, moved or replaced while it was in use" in told
    assert job.ledger.exists() == (fate == "replaced")
    assert fate != "replaced" or job.ledger.stat().st_size == 0
    put_aside(job)
    if fate == "deleted":
        job.init()
    for there in aside.iterdir():
        there.rename(job.folder / there.name)
    job.command("run")
    assert job.is_complete
    assert len(job.downloads) <= small_archive.distinct + 2 * 64


def test_a_ledger_that_is_spoilt_under_a_run_stops_it(job_on: JobOn, small_archive: Archive) -> None:
    """L9 W6: exit 6, nobody is left behind, and doctor tells how to go on."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    with run_under_way(job) as process:
        os.truncate(job.ledger, 3 * PAGE)
        log = job.ledger.with_name("progress.db-wal")
        if log.exists():
            os.truncate(log, 0)
        code, told = end_of(process)

    assert code == 6
    assert "is damaged" in told or "midasdl doctor" in told
    assert "midasdl init MANIFEST" in run_inside(job.command, "doctor", code=1).out


# --- locked


def test_a_lock_of_some_seconds_holds_a_run_up_and_harms_nobody(
    job_on: JobOn, small_archive: Archive
) -> None:
    """L2 L9: the run says why it waits, and goes on; no worker dies, no file fails, none is fetched twice."""
    job = job_on(small_archive, first_byte_delay_s=0.02)
    job.init()
    with run_under_way(job) as process:
        with locked(job.ledger):
            time.sleep(7)
        code, told = end_of(process, 60)

    assert code == 0
    assert told.count("Another program keeps the ledger locked; waiting for it") == 1
    assert "died" not in told
    assert job.is_complete
    assert len(job.downloads) == small_archive.distinct


@pytest.mark.parametrize("words", ["run", in_soaks("retry")])
def test_a_lock_that_outlasts_patience_ends_a_command_and_everything_can_be_resumed(
    job_on: JobOn, small_archive: Archive, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """L9 W6: exit 6, for how long it waited and what to close; nothing is lost."""
    job = job_on(small_archive)
    job.init()
    monkeypatch.setattr(engine, "LOCK_PATIENCE_S", 1.0)

    with locked(job.ledger):
        ended = run_inside(job.command, words, code=6)

    assert re.search(r"has kept the ledger locked for \d+ s", ended.err)
    assert "sqlite3 shell" in ended.err
    job.command("run")
    assert job.is_complete


def test_a_reader_with_a_long_transaction_stops_no_writer_and_doctor_names_it(
    job: JobOnTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6 L9: the run ends well; the log that cannot be cleared away meanwhile is told, with its cause."""
    job.init()
    monkeypatch.setattr(engine, "LONGEST_LOG_BYTES", 20_000)
    with closing(sqlite3.connect(f"{job.ledger.as_uri()}?mode=ro", uri=True)) as reader:
        if reader.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            pytest.skip("with the rollback journal writers wait for readers")
        reader.execute("BEGIN")
        seen = reader.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall()

        job.command.outside("run")
        told = run_inside(job.command, "doctor").out

        assert "ledger log" in told
        assert "progress.db-wal has grown to" in told
        assert reader.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall() == seen
    assert job.is_complete
    run_inside(job.command, "status")
    assert "ledger log" not in run_inside(job.command, "doctor").out


# --- where it lies, and with which library


@pytest.fixture
def on_nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every path lie on a network file system."""
    for room in (engine, ledger, library):
        monkeypatch.setattr(room, "file_system_of", lambda _: "nfs4")


@pytest.mark.usefixtures("on_nfs")
def test_on_a_network_file_system_a_job_is_done_with_the_rollback_journal(job: JobOnTrial) -> None:
    """L9: detected before the file is made; doctor says what that means."""
    run_inside(job.command, "init", str(job.manifest), "--dest", "data-root")
    told = run_inside(job.command, "doctor").out
    job.command("run", "--workers", "2")

    assert job.one("PRAGMA journal_mode") == "delete"
    assert "network file system (nfs4)" in told
    assert "only one host" in told
    assert job.is_complete


@needs_safe_wal
@pytest.mark.parametrize("place", ["network", "old-library"])
def test_where_wal_is_not_safe_a_wal_ledger_is_refused_with_advice_and_not_touched(
    job: JobOnTrial, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """L9: neither used at a risk nor switched behind its owner's back; doing what the advice says helps."""
    job.init()
    before = job.ledger.read_bytes()
    if place == "network":
        request.getfixturevalue("on_nfs")
    else:
        monkeypatch.setattr(SqliteLibrary, "wal_is_safe", False)

    told = [run_inside(job.command, command, code=6).err for command in ("run", "status", "retry")]

    assert job.ledger.read_bytes() == before
    if place == "network":
        assert "problem  ledger" in run_inside(job.command, "doctor", code=1).out
        assert all("Move it back to a local disk" in each for each in told)
    else:
        assert all("PRAGMA journal_mode = delete" in each for each in told)
        with closing(sqlite3.connect(job.ledger)) as shell:
            shell.execute("PRAGMA journal_mode = delete")
        assert "rollback" in run_inside(job.command, "doctor").out
        run_inside(job.command, "status")


@pytest.mark.parametrize("what", ["fifo", "folder", in_soaks("loop"), in_soaks("device")])
def test_what_cannot_be_a_ledger_is_told_at_once_by_every_command(job: JobOnTrial, what: str) -> None:
    """L9 U1: no command hangs on a pipe that nobody writes to, and nothing is made of a device."""
    path = job.ledger
    match what:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to(os.devnull)

    for words in [("init", str(job.manifest)), ("run",), ("status",), ("sql", "SELECT 1")]:
        assert run_inside(job.command, *words, code=6).err.startswith("midasdl: ")
    run_inside(job.command, "doctor", code=None)


def test_a_ledger_may_be_a_symbolic_link(job: JobOnTrial) -> None:
    """L9: the log and the journal belong beside the file itself; the link stays one."""
    scratch = job.folder / "scratch"
    scratch.mkdir()
    job.ledger.symlink_to(scratch / "real.db")

    job.init()
    job.command("run", "--workers", "2")

    assert job.ledger.is_symlink()
    assert job.one("SELECT count(*) FROM task WHERE state != 'done'") == 0
    assert job.is_complete


def test_a_full_disk_under_the_ledger_undoes_the_block_and_is_told_as_such(
    job: JobOnTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5 W6: exit 4; nothing half loaded; with space the same command goes through."""
    job.init("--kind", "change-log")
    loaded = job.one("SELECT count(*) FROM destination")
    set_pragmas = engine.set_pragmas

    def on_a_full_disk(dbapi: sqlite3.Connection, *words: object, **options: object) -> None:
        set_pragmas(dbapi, *words, **options)  # type: ignore[arg-type]
        dbapi.execute("PRAGMA max_page_count = 1")

    with monkeypatch.context() as full:
        full.setattr(engine, "set_pragmas", on_a_full_disk)
        ended = run_inside(job.command, "init", str(job.manifest), code=4)

    assert "is full" in ended.err
    assert job.one("SELECT count(*) FROM destination") == loaded
    run_inside(job.command, "init", str(job.manifest))
    assert job.one("SELECT count(*) FROM destination") > loaded
