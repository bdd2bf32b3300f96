"""W1, I1-I4, I7: whatever is killed, the next run finds everything and asks for hardly anything again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.acceptance.conftest import JobOnTrial
from tests.conftest import Archive
from tests.support.command import kill_group
from tests.support.standstill import ask_at_a_standstill

KILLS = 50
OF_EVERYTHING = 0.2
WORKERS = "6"


class Killer:
    """Kills workers, or a whole run, and adds up the claims that were in flight at each kill."""

    def __init__(self, job: JobOnTrial, seed: int) -> None:
        self.kills = 0
        self.claims_in_flight = 0
        self._job = job
        self._random = random.Random(seed)
        self._process = self._start("run")

    def kill_at_random_moments(self, kills: int) -> None:
        """Mostly a worker; sometimes everything, which is then resumed."""
        while self.kills < kills and self._unfinished():
            time.sleep(self._random.uniform(0.01, 0.25))
            if self._random.random() < OF_EVERYTHING or self._process.poll() is not None:
                self._kill_everything()
                self._process = self._start("resume")
            else:
                self._kill_a_worker()

    def end(self) -> None:
        kill_group(self._process)

    def _start(self, command: str) -> subprocess.Popen[str]:
        process = self._job.command.start(command, "--workers", WORKERS)
        deadline = time.monotonic() + 30
        while not self._claims() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    def _kill_everything(self) -> None:
        self.claims_in_flight += ask_at_a_standstill([self._process.pid], self._claims)
        kill_group(self._process)
        self.kills += 1

    def _kill_a_worker(self) -> None:
        workers = self._job.rows("SELECT w.id, w.pid FROM worker w WHERE state = 'alive' AND role = 'worker'")
        if not workers:
            return
        number, pid = self._random.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            self.claims_in_flight += ask_at_a_standstill(
                [pid], lambda: self._claims(f"AND worker_id = {number}"), send=os.kill
            )
            os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def _claims(self, condition: str = "") -> int:
        return int(self._job.one(f"SELECT count(*) FROM task WHERE state = 'in_progress' {condition}"))

    def _unfinished(self) -> bool:
        return bool(self._job.one("SELECT count(*) FROM task WHERE state <> 'done'"))


@pytest.fixture
def killer_on() -> Iterator[Callable[[JobOnTrial, int], Killer]]:
    """Start a killer that leaves nothing running behind."""
    killers: list[Killer] = []

    def start(job: JobOnTrial, seed: int) -> Killer:
        killers.append(Killer(job, seed))
        return killers[-1]

    yield start
    for killer in killers:
        killer.end()


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_cost_no_more_requests_than_were_in_flight(
    job_on: Callable[..., JobOnTrial], archive: Archive, killer_on: Callable[[JobOnTrial, int], Killer]
) -> None:
    """I7: after 50 kill -9 and a resume md5sum agrees, each task is done once, few requests were repeated."""
    job = job_on(archive, first_byte_delay_s=0.05).with_settings(workers__restart_delay_ms=20)
    job.init()

    killer = killer_on(job, 20261122)
    killer.kill_at_random_moments(KILLS)
    killer.end()
    assert killer.kills == KILLS, "the job ended before all kills were done: make the simulator slower"
    job.command("resume", "--workers", WORKERS)

    assert job.is_complete
    assert job.rows("SELECT state, count(*) FROM task GROUP BY state") == [("done", archive.distinct)]
    finished = job.rows(
        "SELECT task_id FROM history WHERE to_state = 'done' GROUP BY task_id HAVING count(*) > 1"
    )
    assert finished == []
    assert archive.distinct <= len(job.downloads) <= archive.distinct + killer.claims_in_flight
    assert job.rows("SELECT * FROM permit") == []
    assert job.one("SELECT count(*) FROM worker WHERE state = 'alive'") == 0
    assert list((job.folder / "data-root" / ".midasdl" / "parts").iterdir()) == []


def test_resume_says_what_it_recovered(job_on: Callable[..., JobOnTrial], small_archive: Archive) -> None:
    """W2: claims of a run that was killed come back at once, and the person is told."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    process = job.command.start("run", "--workers", "4")
    while not job.one("SELECT count(*) FROM task WHERE state = 'in_progress'"):
        time.sleep(0.01)
    kill_group(process)
    held = job.one("SELECT count(*) FROM task WHERE state = 'in_progress'")

    ended = job.command("resume")

    assert f"Recovered {held} claim" in ended.err
    assert job.is_complete
    settings = job.rows("SELECT settings FROM run ORDER BY id")
    assert '"count": 4' in settings[0][0]
    assert settings[0] == settings[1], "resume takes up the recorded settings"


def test_the_workers_of_a_killed_coordinator_end_by_themselves(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """W3: kill -9 of the coordinator alone leaves no orphan, and nothing that a resume cannot repair."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    process = job.command.start("run", "--workers", "3")
    while len(workers := job.rows("SELECT pid FROM worker WHERE state = 'alive' AND role = 'worker'")) < 3:
        time.sleep(0.01)

    process.kill()
    process.communicate()

    deadline = time.monotonic() + 10
    while any(_runs(pid) for (pid,) in workers):
        assert time.monotonic() < deadline, "a worker outlived its coordinator"
        time.sleep(0.05)
    job.command("resume")
    assert job.is_complete


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_status_does_not_take_the_dead_for_workers(
    job_on: Callable[..., JobOnTrial], small_archive: Archive
) -> None:
    """P6: after kill -9 of everything it says that the run ended without a word, and how to go on."""
    job = job_on(small_archive, first_byte_delay_s=0.1)
    job.init()
    process = job.command.start("run")
    while not job.one("SELECT count(*) FROM task WHERE state = 'in_progress'"):
        time.sleep(0.01)
    kill_group(process)

    told = job.command("status").out

    assert "ended without a word" in told
    assert "midasdl resume" in told
    assert "At work" not in told
