"""C13, S2, I7: a large file that breaks off, or whose run is killed, is gone on with and not begun again."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from midasdl.parts import OVERLAP_BYTES
from midasdl.simulator import Fault
from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import kill_group
from tests.support.soaks import in_soaks

SIZE_BYTES = 6_000_000
PATH = "data/large.csv"
A_DAY_AGO_S = 86_400


@pytest.fixture(scope="module")
def large_archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """One file of 6 MB."""
    root = tmp_path_factory.mktemp("large-archive")
    contents = random.Random(13).randbytes(SIZE_BYTES)
    place = root / PATH
    place.parent.mkdir()
    place.write_bytes(contents)
    os.utime(place, (time.time() - A_DAY_AGO_S,) * 2)
    manifest = root / "manifest.txt"
    manifest.write_text(f"{hashlib.md5(contents).hexdigest()}  ./{PATH}\n")
    return Archive(root, manifest)


@pytest.fixture
def job_on_large(job_on: Callable[..., JobOnTrial], large_archive: Archive) -> Callable[..., JobOnTrial]:
    """A job on the large file, which is streamed."""

    def make(**simulator: object) -> JobOnTrial:
        job = job_on(large_archive, **simulator).with_settings(
            memory__max_file_size_in_memory=1_000, ceda_client__backoff__base_backoff_ms=10
        )
        job.init()
        return job

    return make


def part_bytes(job: JobOnTrial) -> int:
    """How much of the large file has come."""
    sizes = []
    for path in parts(job):
        with suppress(FileNotFoundError):  # it has got another name since it was listed
            sizes.append(path.stat().st_size)
    return max(sizes, default=0)


def parts(job: JobOnTrial) -> list[Path]:
    return list((job.folder / "data-root/.midasdl/parts").glob("*"))


@pytest.mark.parametrize("etag", [True, False], ids=["by-tag", "by-date"])
def test_a_large_file_that_breaks_off_is_not_sent_twice(
    job_on_large: Callable[..., JobOnTrial], etag: bool
) -> None:
    """C13: two bodies that break off, and in all the server sends less than 1.2 times the file."""
    job = job_on_large(etag=etag)
    job.simulator.add_fault(Fault("truncate", route="download", times=2))

    job.command("run")

    assert job.is_complete
    assert [record.status for record in job.downloads] == [200, 206, 206]
    assert sum(record.sent_bytes for record in job.downloads) < 1.2 * SIZE_BYTES
    assert job.rows("SELECT state, attempts, size_bytes FROM task") == [("done", 3, SIZE_BYTES)]
    assert parts(job) == []


def kill_everything(_: JobOnTrial, process: subprocess.Popen[str]) -> None:
    kill_group(process)


def kill_the_worker(job: JobOnTrial, process: subprocess.Popen[str]) -> None:
    """The run goes on with another one."""
    os.kill(job.one("SELECT worker.pid FROM worker JOIN task ON task.worker_id = worker.id"), signal.SIGKILL)
    process.communicate(timeout=60)


def ask_to_stop(_: JobOnTrial, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.mark.parametrize("end", [kill_everything, in_soaks(kill_the_worker), ask_to_stop])
def test_a_large_file_that_is_left_in_the_middle_is_gone_on_with(
    job_on_large: Callable[..., JobOnTrial], end: Callable[[JobOnTrial, subprocess.Popen[str]], None]
) -> None:
    """I7 C13 W2: after kill -9 or SIGTERM in the middle of the file only what is missing is asked for."""
    job = job_on_large(faults=[Fault("stall", route="download", bytes=SIZE_BYTES // 2, seconds=120)])
    process = job.command.start("run", "--workers", "2")
    deadline = time.monotonic() + 60
    while part_bytes(job) < 0.45 * SIZE_BYTES:
        assert process.poll() is None, "the run ended before half of the file had come"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    came = part_bytes(job)
    end(job, process)
    job.command("resume")

    assert job.is_complete
    (first, second) = job.downloads
    assert second.status == 206
    assert second.sent_bytes <= SIZE_BYTES - came + OVERLAP_BYTES
    assert first.sent_bytes + second.sent_bytes < 1.2 * SIZE_BYTES
    assert job.rows("SELECT state, size_bytes FROM task") == [("done", SIZE_BYTES)]
    assert parts(job) == []
