"""W1: workers are processes that may die, hang or crash; the coordinator sees to it that the work is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from midasdl import coordinator
from midasdl.berth import Berth
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.config import Settings, resolve
from midasdl.coordinator import Coordinator
from midasdl.errors import ExitCode, WorkerCrashedError
from midasdl.identity import ProcessIdentity, start_mark
from midasdl.job import Job, RunResult
from midasdl.ledger import engine
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.load import ManifestLoader
from midasdl.ledger.runs import RunRegistry
from midasdl.manifest import ManifestParser
from midasdl.progress.audience import Nobody
from midasdl.selection import Selection
from midasdl.simulator import Fault, Simulator
from tests.conftest import ACCOUNT, Archive
from tests.support.frozen import work_but_freeze_once_with_the_lock
from tests.support.refused import work_after_a_refusal

CREDENTIALS = Credentials(username=ACCOUNT["CEDA_USERNAME"], password=Secret(ACCOUNT["CEDA_PASSWORD"]))
ALIVE = "SELECT pid FROM worker WHERE state = 'alive' AND role = 'worker'"


@pytest.fixture
def real_ledger(tmp_path: Path, small_archive: Archive) -> Iterator[Ledger]:
    """The small archive, loaded, on the machine's clock."""
    with Ledger.create(tmp_path / "progress.db") as ledger:
        with ledger.write() as connection, small_archive.manifest.open("rb") as stream:
            ledger.set_setting(connection, "data_root", str(tmp_path / "data-root"))
            ManifestLoader(ledger, "manifest", Selection()).load(connection, ManifestParser(stream))
        yield ledger


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[..., Settings]:
    """Settings for a simulator: no limits, no eye for load, two workers, quick restarts."""

    def settings(simulator: Simulator, **workers: object) -> Settings:
        ceda = {"archive_url": simulator.archive_url, "token_url": simulator.token_url}
        client = {"min_request_spacing_ms": 0, "max_concurrent_requests": 0}
        counts = {"count": 2, "restart_delay_ms": 50, **workers}
        performance = {"ceda_client": client, "workers": counts, "tuning": {"enabled": False}}
        return resolve(
            {"ceda": ceda, "storage": {"token_cache": str(tmp_path / "tokens")}, "performance": performance}
        )

    return settings


def run(job: Job) -> RunResult:
    job.prepare()
    return job.run(lambda: CREDENTIALS)


def workers_of(path: Path) -> list[int]:
    with Ledger.open(path, read_only=True) as ledger, ledger.read() as connection:
        return [pid for (pid,) in connection.exec_driver_sql(ALIVE)]


def meanwhile(path: Path, act: Callable[[list[int]], None], until: int = 2) -> threading.Thread:
    """Wait in a thread until so many workers are alive, then act on their pids."""

    def wait_and_act() -> None:
        while len(pids := workers_of(path)) < until:
            time.sleep(0.02)
        time.sleep(0.2)
        act(pids)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_a_worker_that_is_killed_is_replaced_and_its_files_are_taken_over(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """W1: the run completes and reports the death."""
    with Simulator(small_archive.root, first_byte_delay_s=0.05) as simulator:
        job = Job(real_ledger, settings_for(simulator))
        thread = meanwhile(real_ledger.path, lambda pids: os.kill(pids[0], signal.SIGKILL))
        result = run(job)
        thread.join()

    assert (result.exit_code, result.report.deaths) == (ExitCode.DONE, 1)
    assert result.counts.done == small_archive.distinct


def test_a_worker_that_hangs_is_killed_and_replaced(
    real_ledger: Ledger,
    small_archive: Archive,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W1: a stopped process gives no sign of life; after a while it is killed for it."""
    monkeypatch.setattr(coordinator, "SILENCE_S", 3.0)
    with Simulator(small_archive.root, first_byte_delay_s=0.05) as simulator:
        job = Job(real_ledger, settings_for(simulator))
        thread = meanwhile(real_ledger.path, lambda pids: os.kill(pids[0], signal.SIGSTOP))
        result = run(job)
        thread.join()

    assert (result.exit_code, result.report.deaths) == (ExitCode.DONE, 1)


def test_a_worker_that_hangs_with_the_ledgers_lock_in_hand_is_killed_for_its_silence(
    real_ledger: Ledger,
    small_archive: Archive,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W1: all others, the coordinator too, wait for the lock that only its death gives back."""
    monkeypatch.setattr(coordinator, "SILENCE_S", 3.0)
    monkeypatch.setattr(coordinator, "work", work_but_freeze_once_with_the_lock)
    monkeypatch.setattr(engine, "LOCK_PATIENCE_S", 30.0)
    with Simulator(small_archive.root) as simulator:
        result = run(Job(real_ledger, settings_for(simulator)))

    assert (result.exit_code, result.report.deaths) == (ExitCode.DONE, 1)


def test_a_worker_that_starts_late_takes_the_refusal_that_its_run_has_heard(
    real_ledger: Ledger,
    small_archive: Archive,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C2 C3: on a slow machine the first is refused before the last one stands; the password is tried once."""
    monkeypatch.setattr(coordinator, "work", work_after_a_refusal)
    revoked = Fault("revoke-tokens", route="download")
    with Simulator(small_archive.root, faults=[revoked]) as simulator:
        result = run(Job(real_ledger, settings_for(simulator)))
        tokens_asked_for = sum(record.route == "token" for record in simulator.requests)

    assert (result.exit_code, tokens_asked_for) == (ExitCode.AUTHENTICATION, 1)


def test_whoever_has_ended_is_not_taken_for_dead_before_its_goodbye_is_heard(
    real_ledger: Ledger, settings_for: Callable[..., Settings], small_archive: Archive
) -> None:
    """W1: the process is gone already, and its last words still lie in the pipe."""
    registry = RunRegistry(real_ledger)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ended = ProcessIdentity(ProcessIdentity.current().host, process.pid, str(start_mark(process.pid)))
        process.communicate(b"\n")
    with Simulator(small_archive.root) as simulator:
        crew = Coordinator(real_ledger, lambda _: None, settings_for(simulator), 1, Nobody())  # type: ignore[arg-type, return-value]
    crew._berths = [Berth("worker-1", worker_id=registry.register(None, "worker", "worker-1", ended))]
    crew._stopping_since_s = real_ledger.clock.monotonic()

    crew._tick(registry.register(None, "coordinator", "coordinator", ProcessIdentity.current()))

    with real_ledger.read() as connection:
        states = connection.exec_driver_sql("SELECT state FROM worker ORDER BY id").scalars().all()
    assert states == ["alive", "alive"]


def test_time_in_which_the_coordinator_was_held_up_is_nobodys_silence(
    real_ledger: Ledger,
    small_archive: Archive,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W1 W4: after Ctrl-Z and fg, which stop everybody, no worker is taken for stuck, though the others wake later."""
    monkeypatch.setattr(coordinator, "SILENCE_S", 2.0)
    stopped: list[int] = []

    def wake() -> None:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    class HoldsUp(Nobody):
        def tick(self, workers: int) -> None:
            if not stopped and len(pids := workers_of(real_ledger.path)) == 2:
                stopped.extend(pids)
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(2.5)
                threading.Timer(0.4, wake).start()

    with Simulator(small_archive.root, first_byte_delay_s=0.05) as simulator:
        job = Job(real_ledger, settings_for(simulator))
        job.prepare()
        result = job.run(lambda: CREDENTIALS, HoldsUp())

    assert len(stopped) == 2
    assert (result.exit_code, result.report.deaths) == (ExitCode.DONE, 0)


@pytest.mark.effect_of("performance.workers.count", "performance.workers.restart_on_failure")
def test_without_restart_the_others_do_the_work_of_the_dead(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """F1 restart_on_failure: no replacement, and nothing is lost all the same."""
    with Simulator(small_archive.root, first_byte_delay_s=0.05) as simulator:
        job = Job(real_ledger, settings_for(simulator, restart_on_failure=False))
        thread = meanwhile(real_ledger.path, lambda pids: os.kill(pids[0], signal.SIGKILL))
        result = run(job)
        thread.join()

    with real_ledger.read() as connection:
        started = connection.exec_driver_sql("SELECT count(*) FROM worker WHERE role = 'worker'").scalar()
    assert (result.exit_code, started) == (ExitCode.DONE, 2)


def test_workers_that_die_again_and_again_end_the_run(
    real_ledger: Ledger,
    small_archive: Archive,
    settings_for: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W1: a run does not restart for ever; every task is still pending."""
    monkeypatch.setattr(coordinator, "MOST_CRASHES", 2)
    (real_ledger.path.parent / "data-root" / ".midasdl").mkdir(parents=True)
    with Simulator(
        small_archive.root, faults=[Fault("stall", route="download", seconds=30, times=None)]
    ) as simulator:
        job = Job(real_ledger, settings_for(simulator, restart_delay_ms=0))
        ended = threading.Event()
        killer = threading.Thread(target=keep_killing, args=(real_ledger.path, ended))
        killer.start()
        result = run(job)
        ended.set()
        killer.join()

    assert isinstance(result.report.error, WorkerCrashedError)
    assert result.exit_code == ExitCode.SOME_FAILED
    assert result.counts.pending == small_archive.distinct


def keep_killing(path: Path, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        for pid in workers_of(path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_run_can_be_stopped_from_another_thread(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """W4 U6: no signal is needed; claims go back, the result says that it was interrupted."""
    with Simulator(small_archive.root, first_byte_delay_s=0.1) as simulator:
        job = Job(real_ledger, settings_for(simulator))
        thread = meanwhile(real_ledger.path, lambda _: job.stop())
        result = run(job)
        thread.join()

    assert result.exit_code == ExitCode.INTERRUPTED
    assert result.counts.in_progress == 0
    assert 0 < result.counts.pending < small_archive.distinct
