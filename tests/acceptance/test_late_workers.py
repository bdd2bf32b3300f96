"""L3 W3 I1 I3: a run that was stopped past its leases comes back to a job that others have finished."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import kill_group
from tests.support.standstill import ask_at_a_standstill

PATH = "data/rain/a.csv"
OLD, NEW = (f"Conventions,G,BADC-CSV,1\n{release}\n".encode() * 50 for release in ("202407", "202507"))


@contextmanager
def stopped_in_the_middle(job: JobOnTrial) -> Iterator[subprocess.Popen[str]]:
    """A run of which every process stands still while it fetches, and whose leases have ended."""
    process = job.command.start("run", "--workers", "1")
    try:
        while job.simulator.connections < 2:  # the token's and the file's
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        ask_at_a_standstill([process.pid], lambda: job.change("UPDATE worker SET lease_until = 0"))
        yield process
    finally:
        kill_group(process)


def go_on(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Let it run to its end; exit code and what it said."""
    os.killpg(process.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def recorded(job: JobOnTrial) -> list[Any]:
    """Everything that the ledger says of tasks and of what became of them."""
    return [job.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("task", "destination", "transition")]


def release(folder: Path, contents: bytes) -> Archive:
    """An archive of one file."""
    (folder / PATH).parent.mkdir(parents=True, exist_ok=True)
    (folder / PATH).write_bytes(contents)
    manifest = folder / "manifest.txt"
    manifest.write_text(f"{hashlib.md5(contents).hexdigest()}  ./{PATH}\n")
    return Archive(folder, manifest)


def test_a_late_worker_does_not_put_old_bytes_over_those_of_a_newer_manifest(
    job_on: Callable[..., JobOnTrial], tmp_path: Path
) -> None:
    """L3 I1: what it was fetching arrives after the newer file is in its place, and goes nowhere."""
    job = job_on(
        release(tmp_path / "archive", OLD),
        faults=[Fault("stall", route="download", seconds=3, bytes=100)],
    )
    job.init()
    with stopped_in_the_middle(job) as late:
        release(tmp_path / "archive", NEW)
        job.init()
        job.command("run", "--workers", "1")
        before = recorded(job)
        assert job.is_complete

        code, errors = go_on(late)

        assert (code, "Traceback" in errors) == (0, False), errors
    assert (job.folder / "data-root" / PATH).read_bytes() == NEW
    assert recorded(job) == before, "its writes changed no row"
    assert len(job.downloads) == 2
    assert list((job.folder / "data-root/.midasdl/parts").iterdir()) == []


def test_a_run_that_comes_back_after_its_leases_changes_nothing_that_others_have_done(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """L3 W3: another run takes its claims over; the late one drops them, and ends well."""
    job = job_on(small_archive, faults=[Fault("stall", route="download", seconds=3, bytes=100)])
    job.init()
    with stopped_in_the_middle(job) as late:
        told = job.command("run", "--workers", "2").err
        before = recorded(job)
        assert "Recovered" in told
        assert job.is_complete

        code, errors = go_on(late)

        assert (code, "Traceback" in errors) == (0, False), errors
    assert recorded(job) == before
    assert job.is_complete
    assert len(job.downloads) <= small_archive.distinct + 1
    assert job.rows("SELECT * FROM permit") == []
    assert list((job.folder / "data-root/.midasdl/parts").iterdir()) == []
