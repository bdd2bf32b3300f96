"""W3: the process that a run's workers are forked off is the command once more, from before it opened anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

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
