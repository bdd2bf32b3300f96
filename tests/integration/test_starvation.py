"""L4: no worker waits for a particular file; duplicates keep nobody idle.

Real processes work through a real ledger; network and disk are replaced by a wait of some milliseconds, so that
what is measured is how long workers sleep although there is work.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from midasdl.cache import Checked
from midasdl.ceda.client import Body
from midasdl.clock import SystemClock
from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.policy import WorkerPolicy
from midasdl.politeness.backoff import Backoff
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.worker import DownloadWorker

pytestmark = pytest.mark.punctual

WORKERS = 8
LATENCY_S = 0.008


@dataclass(frozen=True)
class Shift:
    """What one worker reports: when it began, when its last task ended, and its sleeps."""

    began: float
    last_task_ended: float
    naps: tuple[tuple[float, float], ...]


class NappingClock(SystemClock):
    """Writes down when the worker slept for want of work."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[tuple[float, float]] = []

    def wait(self, seconds: float) -> bool:
        began = time.monotonic()
        stopped = super().wait(seconds)
        if seconds > 0:
            self.naps.append((began, time.monotonic()))
        return stopped


class InstantStore:
    """A store that never has anything and keeps nothing."""

    held = None

    def check(self, paths: Sequence[str], *_: object) -> Checked:
        return Checked((), tuple(paths), None)

    def has_no_folder_of(self, _: Sequence[str]) -> bool:
        return False

    def require_room(self, _: str) -> None:
        return None

    def look_around(self) -> None:
        return None

    def make_folders_of(self, _: object) -> None:
        return None

    def incoming(self, *_: object) -> Any:
        return self

    def whole(self, _: bytes) -> Any:
        return self

    def __enter__(self) -> InstantStore:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def publish(self, *_: object) -> None:
        return None

    def sync_folders(self) -> None:
        return None


class SlowClient:
    """A client whose every answer takes the same time; it knows the md5 of each path."""

    host = "nowhere"

    def __init__(self, md5s: dict[str, str]) -> None:
        self.md5s = md5s
        self.last_task_ended = 0.0

    def fetch(self, path: str, _: object) -> Body:
        time.sleep(LATENCY_S)
        self.last_task_ended = time.monotonic()
        return Body(b"", self.md5s[path], 0, 200, None)


def work(path: Path, md5s: dict[str, str], answers: Any) -> None:
    """One worker process."""
    clock = NappingClock()
    with Ledger.open(path, clock) as ledger:
        worker_id = RunRegistry(ledger).register(None, "worker", "worker", ProcessIdentity.current())
        client = SlowClient(md5s)
        policy = WorkerPolicy(3, Backoff(1, 10, 2, 0), WORKERS)
        gate = Gate(ledger, worker_id, Limits(0, None), random.uniform)
        parts: list[Any] = [worker_id, TaskQueue(ledger), InstantStore(), client, gate, policy, clock]
        began = time.monotonic()
        DownloadWorker(*parts, lambda _: None, random.uniform).run()
    answers.put(Shift(began, client.last_task_ended, tuple(clock.naps)))


def one_in_ten_of_its_own() -> list[str]:
    """1,000 lines of which 900 repeat the contents of file 1."""
    return [f"{number:032x}" if number < 100 else f"{0:032x}" for number in range(1_000)]


def a_fifth_repeated() -> list[str]:
    """10,000 lines of which 20 % repeat the contents of another, at random."""
    own = [f"{number:032x}" for number in range(8_000)]
    lines = own + random.Random(4).choices(own, k=2_000)
    random.Random(5).shuffle(lines)
    return lines


@pytest.mark.parametrize("scenario", [one_in_ten_of_its_own, a_fifth_repeated])
def test_workers_are_busy_until_the_queue_is_empty(
    tmp_path: Path, load: Callable[..., Any], ledger: Ledger, scenario: Callable[[], list[str]]
) -> None:
    """L4: while anything is left to claim, eight workers spend at least 95 % of their time on tasks."""
    lines = [(md5, f"data/file-{number}.csv") for number, md5 in enumerate(scenario())]
    load(*(f"{md5}  {path}" for md5, path in lines))

    shifts = run_workers(ledger.path, {path: md5 for md5, path in lines})

    everybody_there = max(shift.began for shift in shifts)
    queue_empty = max(shift.last_task_ended for shift in shifts) - LATENCY_S
    slept = sum(overlap(nap, (everybody_there, queue_empty)) for shift in shifts for nap in shift.naps)
    with ledger.read() as connection:
        states = connection.exec_driver_sql("SELECT state, count(*) FROM task GROUP BY state").all()
    assert states == [("done", len({md5 for md5, _ in lines}))]
    assert 1 - slept / (WORKERS * (queue_empty - everybody_there)) >= 0.95


def overlap(nap: tuple[float, float], window: tuple[float, float]) -> float:
    return max(0.0, min(nap[1], window[1]) - max(nap[0], window[0]))


def run_workers(path: Path, md5s: dict[str, str]) -> list[Shift]:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    processes = [context.Process(target=work, args=(path, md5s, answers)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    shifts: list[Shift] = []
    while len(shifts) < WORKERS:
        assert not any(process.exitcode for process in processes), (
            "a worker met what this test does not imitate"
        )
        with suppress(queue.Empty):
            shifts.append(answers.get(timeout=0.5))
    for process in processes:
        process.join()
    return shifts
