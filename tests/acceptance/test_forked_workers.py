"""W3: the process that a run's workers are forked off is the command once more, from before it opened anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.background import eventually
from tests.support.command import kill_group

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is a new interpreter")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def opened_by(pid: int) -> list[str]:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return [str(link.readlink()) for link in links if link.is_symlink()]


def test_workers_come_from_a_copy_of_the_command_that_holds_no_ledger(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    job = job_on(small_archive, first_byte_delay_s=0.5)
    job.init()
    process = job.command.start("run", "--workers", "2")
    try:
        workers = "SELECT pid FROM worker WHERE state = 'alive' AND role = 'worker'"
        [worker, *_] = eventually(lambda: [pid for (pid,) in job.rows(workers)])
        server = parent_of(worker)
        assert parent_of(server) == process.pid
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert Path(f"/proc/{server}/cmdline").read_bytes() == words
        assert not [place for place in opened_by(server) if "progress.db" in place]
    finally:
        kill_group(process)


def test_a_command_leaves_nothing_in_the_folder_of_temporary_files(
    job_on: Callable[..., JobOnTrial], small_archive: Archive, tmp_path: Path
) -> None:
    """What multiprocessing makes there it removes at the end of Python, which a command does not wait for."""
    job = job_on(small_archive)
    job.init()
    with TemporaryDirectory(dir="/tmp") as temporary:
        command = job.command.outside.with_environment(TMPDIR=temporary)
        for words in (("run", "--workers", "2"), ("verify", "--workers", "2"), ("run",)):
            command(*words)
            assert not list(Path(temporary).iterdir()), words


def test_a_folder_for_temporary_files_with_a_long_name_keeps_nobody_from_working(
    job_on: Callable[..., JobOnTrial], small_archive: Archive, tmp_path: Path
) -> None:
    """As on clusters: the path of a socket has hardly more than a hundred bytes."""
    job = job_on(small_archive)
    job.init()
    temporary = tmp_path / "of-a-job-on-a-cluster" / ("x" * 80)
    temporary.mkdir(parents=True)
    command = job.command.outside.with_environment(TMPDIR=str(temporary))
    command("run", "--workers", "2")
    command("verify", "--workers", "2")
    assert job.is_complete
    assert not list(temporary.iterdir())
