"""W5: runs that stop though there is more to do: after so many files, after so long."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from midasdl.berth import RunLimits, shares_of
from midasdl.ceda.credentials import Credentials
from midasdl.ceda.secret import Secret
from midasdl.cli.limits import at_least_one, seconds_of
from midasdl.config import Settings
from midasdl.errors import ExitCode
from midasdl.job import Job, RunResult
from midasdl.ledger.ledger import Ledger
from midasdl.simulator import Fault, Simulator
from tests.conftest import ACCOUNT, Archive
from tests.integration.test_coordinator import real_ledger, settings_for, workers_of

CREDENTIALS = Credentials(username=ACCOUNT["CEDA_USERNAME"], password=Secret(ACCOUNT["CEDA_PASSWORD"]))
__all__ = ["real_ledger", "settings_for"]


def run(job: Job, limits: RunLimits) -> RunResult:
    job.prepare()
    return job.run(lambda: CREDENTIALS, limits=limits)


def test_w5_a_limit_is_kept_to_the_file_and_the_next_run_goes_on(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """Failures count, requests that are tried again do not; nothing stays claimed, and no more is asked for."""
    faults = [
        Fault("status", route="download", status=404, times=2),
        Fault("reset", route="download", after=5, times=3),
    ]
    with Simulator(small_archive.root, faults=faults) as simulator:
        settings = settings_for(simulator)
        first = run(Job(real_ledger, settings), RunLimits(tasks=25))
        asked = sum(record.route == "download" for record in simulator.requests)
        second = run(Job(real_ledger, settings), RunLimits(tasks=10_000))

    ended = first.counts
    assert (ended.done + ended.failed, ended.in_progress) == (25, 0)
    assert (first.exit_code, first.report.stopped_by) == (ExitCode.SOME_FAILED, "--limit")
    assert asked <= 25 + 3 + 2
    assert second.report.stopped_by is None
    assert second.counts.done + second.counts.failed == small_archive.distinct


def test_w5_a_limit_is_kept_though_a_worker_dies(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """Its successor brings to an end what the dead one has left of its share."""
    with Simulator(small_archive.root, first_byte_delay_s=0.05) as simulator:
        killer = threading.Thread(target=kill_one_at_work, args=(real_ledger,))
        killer.start()
        result = run(Job(real_ledger, settings_for(simulator)), RunLimits(tasks=60))
        killer.join()
    assert result.report.deaths == 1
    assert result.counts.done == 60


def kill_one_at_work(ledger: Ledger) -> None:
    """As soon as one has recorded a file."""
    with Ledger.open(ledger.path, read_only=True) as seen:
        while True:
            with seen.read() as connection:
                done = connection.exec_driver_sql("SELECT count(*) FROM task WHERE state = 'done'").scalar()
            if done and (pids := workers_of(ledger.path)):
                os.kill(pids[0], signal.SIGKILL)
                return
            time.sleep(0.02)


def test_w5_a_run_ends_when_its_time_is_up(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """Cleanly: claims are given back, what is done is recorded, and the run says why it ended."""
    with Simulator(small_archive.root, first_byte_delay_s=0.3) as simulator:
        deadline_s = real_ledger.clock.monotonic() + 4
        result = run(Job(real_ledger, settings_for(simulator)), RunLimits(deadline_s))
    assert (result.exit_code, result.report.stopped_by) == (ExitCode.SOME_FAILED, "--max-time")
    assert result.report.interrupted_by is None
    assert result.counts.in_progress == 0
    assert result.counts.unfinished > 0


def test_w5_time_that_is_up_before_there_is_a_token_ends_the_run_too(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """The token service is away; the run waits for it no longer than it may last."""
    with Simulator(small_archive.root, faults=[Fault("status", route="token", status=503)]) as simulator:
        deadline_s = real_ledger.clock.monotonic() + 1
        result = run(Job(real_ledger, settings_for(simulator)), RunLimits(deadline_s))
    assert (result.exit_code, result.report.stopped_by) == (ExitCode.SOME_FAILED, "--max-time")
    assert result.counts.done == 0


def test_w5_what_is_all_done_within_its_limits_is_all_done(
    real_ledger: Ledger, small_archive: Archive, settings_for: Callable[..., Settings]
) -> None:
    """Exactly as many as there are: exit code 0."""
    with Simulator(small_archive.root) as simulator:
        limits = RunLimits(real_ledger.clock.monotonic() + 300, small_archive.distinct)
        result = run(Job(real_ledger, settings_for(simulator)), limits)
    assert (result.exit_code, result.counts.done) == (ExitCode.DONE, small_archive.distinct)


@pytest.mark.parametrize(
    ("tasks", "workers", "shares"),
    [(None, 3, [None, None, None]), (7, 3, [3, 2, 2]), (2, 4, [1, 1]), (1, 1, [1])],
)
def test_w5_a_limit_is_shared_out(tasks: int | None, workers: int, shares: list[int | None]) -> None:
    assert shares_of(tasks, workers) == shares


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h50m", 13_800), ("90m", 5_400), ("2d", 172_800), ("1h 30s", 3_630), (" 5s ", 5)]
)
def test_w5_a_span_of_time_is_understood(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "3h50", "h", "-1h", "3 weeks", "0s", "1.5h"])
def test_w5_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds_of(text)


@pytest.mark.parametrize("text", ["0", "-3", "many", ""])
def test_w5_what_is_no_number_of_files_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        at_least_one(text)
