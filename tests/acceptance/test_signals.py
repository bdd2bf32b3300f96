"""W4: one Ctrl-C is a wish, and it is granted within seconds."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.background import eventually, started
from tests.support.command import is_gone, kill_group
from tests.support.promptness import CROWDED_END_S
from tests.support.soaks import in_soaks
from tests.support.terminal import Terminal

JobOn = Callable[..., JobOnTrial]
SLOW = Fault("stall", route="download", seconds=60, times=None)
CLAIMED = "SELECT count(*) FROM task WHERE state = 'in_progress'"
SIGNING_IN = "SELECT count(*) FROM worker WHERE name = 'sign-in' AND state = 'alive'"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def require_that_all_is_given_back(job: JobOnTrial) -> None:
    assert job.one("SELECT count(*) FROM task WHERE state = 'in_progress'") == 0
    assert job.one("SELECT count(*) FROM worker WHERE state = 'alive'") == 0
    assert job.rows("SELECT * FROM permit") == []


@pytest.mark.punctual
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_ends_a_run_within_five_seconds_and_releases_every_claim(
    job_on: Callable[..., JobOnTrial], small_archive: Archive, number: signal.Signals, code: int
) -> None:
    """W4 W6: right exit code, summary, no traceback, no claim or permit left, and resume completes the job."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    process = job.command.start("run", "--workers", "3")
    while not job.simulator.requests:
        time.sleep(0.01)

    began = time.monotonic()
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)

    assert time.monotonic() - began < 5
    assert process.returncode == code
    assert "midasdl resume" in out
    assert "Traceback" not in errors
    assert job.one("SELECT count(*) FROM task WHERE state = 'in_progress'") == 0
    assert job.one("SELECT count(*) FROM worker WHERE state = 'alive'") == 0
    assert job.rows("SELECT * FROM permit") == []
    assert job.one("SELECT exit_code FROM run ORDER BY id DESC") == code
    job.command("resume")
    assert job.is_complete


@pytest.mark.punctual
def test_a_request_that_hangs_does_not_delay_the_end(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """W4: whatever is in flight, five seconds are enough, and its task is pending again."""
    job = job_on(small_archive, faults=[Fault("stall", route="download", seconds=60, times=None)])
    job.init()
    process = job.command.start("run", "--workers", "2")
    while job.one("SELECT count(*) FROM task WHERE state = 'in_progress'") < 2:
        time.sleep(0.01)
    time.sleep(0.3)

    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert time.monotonic() - began < 6
    assert process.returncode == 130
    assert job.one("SELECT count(*) FROM task WHERE state = 'in_progress'") == 0


def test_nohup_protects_a_run(job_on: Callable[..., JobOnTrial], small_archive: Archive) -> None:
    """W4: a signal that is ignored stays ignored."""
    job = job_on(small_archive, first_byte_delay_s=0.05)
    job.init()
    process = job.command.start("run", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not job.simulator.requests:
        time.sleep(0.01)

    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert job.is_complete


# --- twice, and at awkward moments


@pytest.mark.punctual
def test_a_second_ctrl_c_ends_a_run_at_once_and_leaves_nobody(job_on: JobOn, small_archive: Archive) -> None:
    """W4 I7: within a second, without orphans; what was claimed comes back with the next run."""
    job = job_on(small_archive, faults=[Fault("stall", route="download", seconds=60, times=2)])
    job.init()
    with started(job.command, "run", "--workers", "2") as process:
        eventually(lambda: job.one(CLAIMED) >= 2)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None

        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(10)

        assert time.monotonic() - began < 1
        assert process.returncode == 130
        eventually(lambda: is_gone(process.pid), within_s=2)
        assert "Traceback" not in process.communicate()[1]
    assert "Recovered" in job.command("resume").err
    assert job.is_complete


def test_ctrl_c_at_any_moment_of_the_start_leaves_no_traceback_and_nobody(
    job_on: JobOn, small_archive: Archive
) -> None:
    """W4: before the first import, while processes are made, before any of them has said a word: as a terminal does,
    to the whole group. Warnings are as a user has them: an import that is broken off leaves a file to be closed later.
    """
    job = job_on(small_archive, faults=[SLOW])
    job.init()
    program = (
        "import os, sys; os.write(1, b'.'); sys.argv[0] = 'midasdl'; from midasdl.__main__ import run\n"
        "sys.exit(run())"
    )
    for delay_s in (0.05, 0.2, 0.4, 0.7, 1.0, 1.5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, "run", "--workers", "2"],
            cwd=job.folder,
            env=job.command.without("PYTHONWARNINGS").environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            time.sleep(delay_s)
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            kill_group(process)

        assert time.monotonic() - began < CROWDED_END_S
        assert process.returncode in {130, -signal.SIGINT}, told
        assert b"Traceback" not in told, f"after {delay_s} s: {told.decode()}"
        eventually(lambda: is_gone(process.pid), within_s=5)  # noqa: B023 - called at once
        require_that_all_is_given_back(job)


@pytest.mark.parametrize("why", ["pause", "token", "lock"])
def test_whoever_waits_hears_the_wish_to_stop(job_on: JobOn, small_archive: Archive, why: str) -> None:
    """W4 C6: for the end of a pause, for a token, for the ledger's lock: within five seconds, with everything kept."""
    wait = Fault("status", status=503, retry_after="600", route="download", times=None)
    stall = Fault("stall", route="token", seconds=60, times=None)
    job = job_on(small_archive, faults={"pause": [wait], "token": [stall], "lock": [SLOW]}[why])
    job.init()
    with (
        started(job.command, "run", "--workers", "2") as process,
        closing(sqlite3.connect(job.ledger, isolation_level=None, timeout=30)) as shell,
    ):
        eventually(lambda: job.one(SIGNING_IN if why == "token" else CLAIMED) > 0)
        if why == "lock":
            shell.execute("BEGIN IMMEDIATE")
        time.sleep(2.5)

        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)

        assert time.monotonic() - began < CROWDED_END_S
        assert process.returncode == 143
        assert "Traceback" not in told
        assert ("keeps the ledger locked" in told) == (why == "lock")
        eventually(lambda: is_gone(process.pid), within_s=5)
        if why == "lock":
            shell.execute("ROLLBACK")
    job.command("status")
    if why != "lock":
        require_that_all_is_given_back(job)
    assert job.one("SELECT count(*) FROM task WHERE state IN ('done', 'failed')") == 0


# --- terminals


def test_ctrl_c_on_a_terminal_ends_a_run_with_its_summary(job_on: JobOn, small_archive: Archive) -> None:
    """W4: the terminal tells every process of the run; the coordinator alone acts on it."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    with Terminal(job.command, ["run", "--workers", "2"]) as terminal:
        eventually(lambda: len(job.downloads) > 5)
        terminal.type("\x03")
        ended = terminal.read_to_the_end()

    assert ended.code == 130
    assert "midasdl resume" in ended.out
    assert "Traceback" not in ended.out
    require_that_all_is_given_back(job)


def test_a_terminal_that_is_closed_ends_a_run_cleanly(job_on: JobOn, small_archive: Archive) -> None:
    """W4 I8: nobody sees the summary, the ledger has it: exit code, claims given back, nobody left behind."""
    job = job_on(small_archive, first_byte_delay_s=0.3)
    job.init()
    with Terminal(job.command, ["run", "--workers", "2"]) as terminal:
        eventually(lambda: len(job.downloads) > 5)
        terminal.hang_up()
        began = time.monotonic()
        code = terminal.process.wait(60)

        assert time.monotonic() - began < CROWDED_END_S
        assert code == 143
        eventually(lambda: is_gone(terminal.process.pid), within_s=5)
    require_that_all_is_given_back(job)
    assert job.one("SELECT exit_code FROM run ORDER BY id DESC") == 143


def test_a_run_that_outlives_its_terminal_completes(job_on: JobOn, small_archive: Archive) -> None:
    """W4 I8 P1: protected from the hang-up but without anybody to print for, the job is done all the same."""
    job = job_on(small_archive, first_byte_delay_s=0.05)
    job.init()
    with Terminal(job.command, ["run", "--workers", "2"], ignore=[signal.SIGHUP]) as terminal:
        eventually(lambda: len(job.downloads) > 5)
        terminal.hang_up()

        assert terminal.process.wait(60) == 0
    assert job.is_complete


def test_a_run_that_is_suspended_goes_on_where_it_was(job_on: JobOn, small_archive: Archive) -> None:
    """W4 W1: after Ctrl-Z and fg no worker is taken for dead, and no file is fetched twice."""
    job = job_on(small_archive, first_byte_delay_s=0.05)
    job.init()
    with started(job.command, "run", "--workers", "2", "--json") as process:
        eventually(lambda: len(job.downloads) > 5)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        seen = len(job.downloads)
        time.sleep(1.0)
        assert len(job.downloads) == seen
        os.killpg(process.pid, signal.SIGCONT)
        out, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert '"worker_deaths": 0' in out
    assert job.is_complete
    assert len(job.downloads) == small_archive.distinct


# --- pipes


def test_a_run_whose_reader_is_gone_ends_with_its_own_exit_code(
    job_on: JobOn, small_archive: Archive
) -> None:
    """W4 W6 I8: `midasdl run | head -1`: the job matters, not its words."""
    job = job_on(small_archive, first_byte_delay_s=0.01)
    job.init()
    with started(job.command, "run", "-v") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(60) == 0
        process.stdout = process.stderr = None
    assert job.is_complete


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        in_soaks(["status", "--json"]),
        ["sql", "SELECT * FROM downloads"],
        in_soaks(["sql", "SELECT * FROM downloads, progress", "--format", "csv"]),
        in_soaks(["sql", "SELECT 1", "--format", "json"]),
        ["doctor"],
    ],
    ids=lambda words: "-".join(word for word in words if " " not in word),
)
def test_a_reader_that_has_seen_enough_is_no_error(job: JobOnTrial, words: list[str]) -> None:
    """W4 U1: `midasdl sql … | head -1`: not a word on stderr."""
    job.init()
    with started(job.command, *words) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=30)[1] == ""


def test_a_watch_that_nobody_reads_any_more_ends(job_on: JobOn, small_archive: Archive) -> None:
    """W4 P6: `midasdl status --watch --json | head -1` does not stay behind; the run that it watched does."""
    job = job_on(small_archive, first_byte_delay_s=0.3)
    job.init()
    with started(job.command, "run", "--workers", "1") as run:
        eventually(lambda: len(job.downloads) > 1)
        with started(job.command, "status", "--watch", "--json") as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline()
            watch.stdout.close()
            watch.stdout = None
            assert watch.communicate(timeout=30)[1] == ""
        assert run.poll() is None


# --- the other commands


@pytest.mark.parametrize("number", [signal.SIGINT, in_soaks(signal.SIGTERM)], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "merge"])
def test_a_load_that_is_interrupted_leaves_nothing_half_loaded(
    job: JobOnTrial, number: signal.Signals, *, is_new: bool
) -> None:
    """W4 M7 L1: no ledger where there was none, and the old one as it was."""
    if not is_new:
        job.init()
    before = job.rows("SELECT path FROM destination ORDER BY path") if not is_new else []
    lines = "".join(f"{number:032x}  ./data/a/{number}.csv\n" for number in range(30_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "midasdl", "init", "-", *(["--dest", "data-root"] if is_new else [])],
        cwd=job.folder,
        env=job.command.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(lines)
    process.stdin.flush()
    time.sleep(0.3)

    process.send_signal(number)
    _, told = process.communicate(timeout=10)

    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert told == ""
    if is_new:
        assert not list(job.folder.glob("progress.db*"))
    else:
        assert job.rows("SELECT path FROM destination ORDER BY path") == before


def test_a_query_without_an_end_is_ended_by_ctrl_c(job: JobOnTrial) -> None:
    """W4 L7: also while SQLite computes."""
    job.init()
    with started(job.command, "sql", ENDLESS) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=5)

    assert process.returncode == 130
    assert told == ""


def test_ctrl_c_at_a_question_stores_nothing(job: JobOnTrial) -> None:
    """W4 C1: no .env, no traceback, and the terminal shows again what is typed."""
    job.command.environment.pop("CEDA_USERNAME")
    job.command.environment.pop("CEDA_PASSWORD")
    with Terminal(job.command, ["auth", "setup"]) as terminal:
        terminal.read_until(":")
        terminal.type("researcher\n")
        terminal.read_until("not shown")
        terminal.type("\x03")
        ended = terminal.read_to_the_end()
        assert terminal.echoes

    assert ended.code == 130
    assert "Traceback" not in ended.out
    assert not (job.folder / ".env").exists()


def test_a_manifest_whose_download_is_interrupted_leaves_no_file(
    job_on: JobOn, small_archive: Archive
) -> None:
    """W4 M8: exit 130 within seconds, and nothing that could be taken for the manifest."""
    job = job_on(small_archive, faults=[Fault("stall", path="*md5s.txt", seconds=60, bytes=100, times=None)])
    with started(job.command, "manifest", "fetch", "--output", "fetched") as process:
        eventually(lambda: job.simulator.requests)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=5)

    assert process.returncode == 130
    assert "Traceback" not in told
    assert not (job.folder / "fetched").exists()
