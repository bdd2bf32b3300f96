"""C5, C6, I5: one limit over everything that shares a ledger, judged by what the server saw.

A gap at the server lies between two starts; to each of them two processes had to be woken in time. How often this
machine fails to wake a process in time is measured beside, and set aside.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from midasdl.simulator import busiest_window, gaps, peak_in_flight
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.jitter import lateness
from tests.support.soaks import in_soaks

pytestmark = pytest.mark.punctual

SPACING_MS = 50
PERMITS = 3
SECONDS = 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill_workers", [in_soaks(False), True], ids=["undisturbed", "while-workers-are-killed"]
)
def test_two_runs_of_eight_workers_share_one_limit(
    job_on: Callable[..., JobOnTrial], archive: Archive, kill_workers: bool
) -> None:
    """C5 W5: starts keep their spacing and requests their number, and hardly a slot is wasted."""
    job = job_on(archive, first_byte_delay_s=0.08).with_settings(
        workers__count=8,
        workers__restart_delay_ms=100,
        ceda_client__min_request_spacing_ms=SPACING_MS,
        ceda_client__max_concurrent_requests=PERMITS,
    )
    job.init()
    runs = [job.command.start("run"), job.command.start("run")]
    wait_for_workers(job, 16)
    job.simulator.clear_requests()

    with lateness(SPACING_MS / 1000, 0.005) as machine:
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            time.sleep(0.5)
            if kill_workers:
                kill_one_worker(job)
        records = job.simulator.requests
    for run in runs:
        run.send_signal(signal.SIGTERM)
    for run in runs:
        _, errors = run.communicate(timeout=30)
        assert (run.returncode, "Traceback" in errors) == (143, False), errors

    between = gaps(records)
    assert busiest_window(records, 1.0) <= 21
    assert sum(gap < 0.040 for gap in between) <= (0.01 + 4 * machine.share) * len(between)
    assert peak_in_flight(records) <= PERMITS
    assert len(records) / (records[-1].started - records[0].started) >= 19 * (1 - 2 * machine.share)
    assert job.rows("SELECT * FROM permit") == []


def wait_for_workers(job: JobOnTrial, number: int) -> None:
    """Until so many workers have entered the ledger."""
    deadline = time.monotonic() + 30
    while job.one("SELECT count(*) FROM worker WHERE state = 'alive' AND role = 'worker'") < number:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.05)


def kill_one_worker(job: JobOnTrial) -> None:
    """``kill -9`` of a random worker."""
    (pid,) = random.choice(job.rows("SELECT pid FROM worker WHERE state = 'alive' AND role = 'worker'"))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_many_workers_behind_few_permits_finish_the_job(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """L5: a worker that waits long for its permit records meanwhile what it has, and forgets nothing."""
    job = job_on(small_archive, first_byte_delay_s=0.05).with_settings(
        workers__count=8, ceda_client__min_request_spacing_ms=10, ceda_client__max_concurrent_requests=1
    )
    job.init()

    job.command("run")

    assert job.is_complete
    assert len(job.downloads) == small_archive.distinct
