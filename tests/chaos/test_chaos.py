"""I1-I4, I7, W3: jobs that are broken over and over, harder than life does it, lose nothing.

``make chaos`` plays 200 rounds (or ``MIDASDL_CHAOS_ROUNDS``) from a new seed (or ``MIDASDL_CHAOS_SEED``) and prints
what became of them; CI plays 20 from a fixed one.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import JobOnTrial
from tests.chaos.monkey import Monkey
from tests.conftest import Archive
from tests.support.command import Command


def a_new_job(job_on: Callable[..., JobOnTrial], archive: Archive, folder: Path) -> JobOnTrial:
    """A job in a folder of its own, on a server slow enough for things to happen meanwhile."""
    folder.mkdir()
    job = job_on(archive, first_byte_delay_s=0.04)
    own = JobOnTrial(Command(folder, job.command.environment), job.simulator, job.manifest).with_settings(
        workers__restart_delay_ms=20,
        ceda_client__backoff__base_backoff_ms=20,
        ceda_client__backoff__max_retries=100,
        circuit_breaker__timeout_seconds=0.2,
    )
    own.init()
    return own


def play(rounds: int, seed: int, jobs: Callable[[], JobOnTrial], archive: Archive) -> dict[str, Any]:
    """So many rounds over as many jobs as it takes; the figures, after every check has passed."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    figures = {"seed": seed, "rounds": 0, "jobs": 0, "files": 0, "extra_requests": 0, "at_risk": 0}
    while figures["rounds"] < rounds:
        job = jobs()
        monkey = Monkey(job, chance)
        try:
            while figures["rounds"] < rounds and not monkey.is_finished:
                what = monkey.play_a_round()
                figures["rounds"] += 1
                print(f"round {figures['rounds']}: {what}")
                see_that_nothing_is_wrong(job, archive)
            monkey.finish()
            see_that_all_is_there(job, archive, monkey)
        finally:
            monkey.end()
        figures["jobs"] += 1
        figures["files"] += len(archive.lines)
        figures["extra_requests"] += len(job.downloads) - archive.distinct
        figures["at_risk"] += monkey.requests_at_risk
        for name, count in monkey.done.items():
            figures[name] = figures.get(name, 0) + count
        job.simulator.stop()
        shutil.rmtree(job.folder)
    return figures


def see_that_nothing_is_wrong(job: JobOnTrial, archive: Archive) -> None:
    """What holds at any moment, whoever has just died."""
    done = dict(
        job.rows(
            "SELECT d.path, t.md5 FROM destination d JOIN task t ON t.id = d.task_id WHERE t.state = 'done'"
        )
    )
    assert job.one("SELECT count(*) FROM task") == archive.distinct, "I4"
    assert job.one("SELECT count(*) FROM destination") == len(archive.lines), "I4"
    root = job.folder / "data-root"
    wanted = {path: md5 for md5, path in archive.lines}
    there = {
        str(path.relative_to(root)): md5_of(path) for path in (root / "data").rglob("*") if path.is_file()
    }
    wrong = {path for path, md5 in there.items() if wanted[path] != md5}
    assert wrong == set(), "I1: wrong bytes under a final name"
    lost = {path for path, md5 in done.items() if there.get(path) != md5}
    assert lost == set(), "I2: done, and not on disk"
    late = job.rows("SELECT id FROM task WHERE state = 'in_progress' AND worker_id IS NULL")
    assert late == [], "I3: a claim of nobody"


def see_that_all_is_there(job: JobOnTrial, archive: Archive, monkey: Monkey) -> None:
    """What holds when the job is over."""
    assert job.is_complete
    assert job.rows("SELECT state, count(*) FROM task GROUP BY state") == [("done", archive.distinct)]
    twice = "SELECT task_id FROM history WHERE to_state = 'done' GROUP BY task_id HAVING count(*) > 1"
    assert job.rows(twice) == [], "I3: done twice"
    assert job.rows("SELECT * FROM permit") == []
    assert job.one("SELECT count(*) FROM worker WHERE state = 'alive'") == 0
    assert list((job.folder / "data-root" / ".midasdl" / "parts").iterdir()) == []
    assert archive.distinct <= len(job.downloads) <= archive.distinct + monkey.requests_at_risk


def md5_of(path: Path) -> str | None:
    """None where a file was replaced just then."""
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except FileNotFoundError:
        return None


@pytest.fixture
def jobs(job_on: Callable[..., JobOnTrial], archive: Archive, tmp_path: Path) -> Callable[[], JobOnTrial]:
    """A new job each time."""
    numbers = iter(range(1_000_000))
    return lambda: a_new_job(job_on, archive, tmp_path / f"job-{next(numbers)}")


@pytest.mark.slow
def test_i1_i2_i3_i4_i7_twenty_rounds_of_chaos_lose_nothing(
    jobs: Callable[[], JobOnTrial], archive: Archive
) -> None:
    """After each round no wrong file and right sums; in the end md5sum agrees and few requests were repeated."""
    figures = play(20, 20261122, jobs, archive)
    assert figures["rounds"] == 20


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_i1_i2_i3_i4_i7_many_rounds_of_chaos_lose_nothing(
    jobs: Callable[[], JobOnTrial], archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same, for as long as one likes."""
    rounds = int(os.environ.get("MIDASDL_CHAOS_ROUNDS", "200"))
    seed = int(os.environ.get("MIDASDL_CHAOS_SEED", random.randrange(1_000_000)))
    figures = play(rounds, seed, jobs, archive)
    with capsys.disabled():
        print("\nlost 0, wrong 0;", ", ".join(f"{name} {count}" for name, count in sorted(figures.items())))
