"""P6: a run as it is seen from another terminal, from the ledger alone: while it is on, after it, after the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed
from midasdl.ledger.reading import FULL_EVERY_S
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.ledger.watching import LedgerWatch
from midasdl.models import ErrorClass
from midasdl.progress.events import CacheHit, DownloadCompleted, DownloadFailed, Event
from midasdl.progress.snapshot import Phase, Tally
from midasdl.progress.tracker import Tracker
from tests.support.clock import FakeClock

FILES = 400
RAIN = "data/uk-daily-rain-obs/dataset-version-202407/devon/01346_chivenor"
STEM = "midas-open_uk-daily-rain-obs_dv-202407_devon_01346_chivenor"


def line(number: int) -> str:
    """Real shapes: a capability file now and then, years else."""
    if number % 10 == 0:
        station = f"x{number}"
        folder, stem = RAIN.replace("chivenor", station), STEM.replace("chivenor", station)
        return f"{number:032x}  ./{folder}/{stem}_capability.csv"
    year, station = 1900 + number % 100, f"y{number // 100}"
    folder = f"{RAIN.replace('chivenor', station)}/qc-version-1"
    return f"{number:032x}  ./{folder}/{STEM.replace('chivenor', station)}_qcv-1_{year}.csv"


class ImaginedRun:
    """A run whose only worker is this test: it settles in the ledger, and tells a tracker what a worker would tell."""

    def __init__(self, ledger: Ledger, clock: FakeClock) -> None:
        self.ledger, self.clock = ledger, clock
        self.registry = RunRegistry(ledger)
        self.run_id = self.registry.start_run("run", {})
        me = ProcessIdentity.current()
        self.coordinator = self.registry.register(self.run_id, "coordinator", "coordinator", me)
        self.worker = self.registry.register(self.run_id, "worker", "worker-1", me)
        self.queue = TaskQueue(ledger)
        self.tracker = Tracker(FILES, 0, 0, clock.monotonic())
        self.claims: list[Claim] = []
        self.fetched = 0

    def round(self, files: int, second_s: float = 1.0) -> None:
        """One round of a worker: what it held is done now, and the next files are claimed."""
        outcomes = [self._end(claim) for claim in self.claims]
        self.claims = list(self.queue.settle(self.worker, outcomes, want=files).claims)
        self.clock.advance(second_s)

    def end(self) -> None:
        self.round(0)
        self.registry.retire([self.worker, self.coordinator], dead=False)
        self.registry.end_run(self.run_id, 0)

    def _end(self, claim: Claim) -> Outcome:
        self.fetched += 1
        path, size = claim.paths[0], 20_000 + claim.task_id * 10
        outcome: Outcome
        told: Event
        if self.fetched % 40 == 0:
            outcome = Failed(claim, ErrorClass.NOT_FOUND, "not there")
            told = DownloadFailed(claim.task_id, path, ErrorClass.NOT_FOUND, "", will_retry=False)
        elif self.fetched % 25 == 0 and not claim.attempts:
            outcome = Postponed(claim, self.clock.now_us() + 1, ErrorClass.TIMEOUT, "late")
            told = DownloadFailed(claim.task_id, path, ErrorClass.TIMEOUT, "", will_retry=True)
        elif self.fetched % 10 == 0:
            outcome, told = Finished(claim, size, from_cache=True), CacheHit(claim.task_id, path, size, 1)
        else:
            outcome = Finished(claim, size, from_cache=False, elapsed_us=200_000, attempts_more=1)
            told = DownloadCompleted(claim.task_id, path, size, 200_000, 1)
        self.tracker.follow(told, self.clock.monotonic())
        return outcome


@pytest.fixture
def job(ledger: Ledger, load: Callable[..., Any], clock: FakeClock) -> ImaginedRun:
    load(*(line(number) for number in range(1, FILES + 1)))
    return ImaginedRun(ledger, clock)


def sql(ledger: Ledger, query: str) -> Any:
    with ledger.read() as connection:
        return connection.exec_driver_sql(query).scalar()


def assert_as_sql_says(ledger: Ledger, watch: LedgerWatch, run_id: int) -> None:
    """Every count of the picture, against SQL that anybody would write."""
    now = watch.snapshot()
    states = {
        state: sql(ledger, f"SELECT count(*) FROM downloads WHERE state = '{state}'")
        for state in ("done", "failed", "in_progress")
    }
    whose = f"FROM task t JOIN worker w ON w.id = t.worker_id WHERE w.run_id = {run_id}"
    of_run = f"{whose} AND t.state = 'done'"
    assert now.files == now.tasks == Tally(FILES, states["done"], states["failed"])
    assert now.claimed == states["in_progress"]
    assert now.bytes_done == (sql(ledger, "SELECT sum(size_bytes) FROM task WHERE state = 'done'") or 0)
    assert now.fetched == sql(ledger, f"SELECT count(*) {of_run} AND from_cache = 0")
    assert now.cached == sql(ledger, f"SELECT count(*) {of_run} AND from_cache = 1")
    assert now.bytes_fetched == (sql(ledger, f"SELECT sum(size_bytes) {of_run} AND from_cache = 0") or 0)
    failed = sql(ledger, f"SELECT count(*) {whose} AND t.state = 'failed'")
    assert sum(count for _, count in now.failures) == failed


def test_p6_at_every_moment_the_picture_is_what_sql_says(job: ImaginedRun, ledger: Ledger) -> None:
    """One that watches from the start, through a minute and more: full readings and those between them."""
    watch = LedgerWatch(ledger)
    for _ in range(30):
        job.round(12, second_s=4)
        assert_as_sql_says(ledger, watch, job.run_id)
    assert job.clock.monotonic() - job.tracker._started_s > FULL_EVERY_S
    assert watch.snapshot().phase is Phase.WORKING


def test_p6_the_run_itself_and_whoever_watches_say_the_same(job: ImaginedRun, ledger: Ledger) -> None:
    """The same speed, the same sizes, the same end, from messages and from rows; also for one who comes late."""
    early = LedgerWatch(ledger)
    early.snapshot()
    tracker = job.tracker
    tracker.learn(LedgerWatch(ledger)._reader.read(), job.clock.monotonic())
    for _ in range(18):
        job.round(12)
        early.snapshot()
    own = tracker.snapshot(job.clock.monotonic(), 1)
    for watch in (early, LedgerWatch(ledger)):
        seen = watch.snapshot()
        assert (seen.files, seen.bytes_done) == (own.files, own.bytes_done)
        assert seen.bytes_per_s == pytest.approx(own.bytes_per_s, rel=0.07)
        assert seen.file_s == pytest.approx(own.file_s)
        assert seen.bytes_expected == pytest.approx(own.bytes_expected, rel=0.02)
        assert seen.eta_s == pytest.approx(own.eta_s, rel=0.1)
        assert seen.elapsed_s == pytest.approx(own.elapsed_s, abs=0.1)
        assert [file.path for file in seen.active] == [job.claims[0].paths[0]]


def test_p6_after_the_run_and_after_a_restart_it_goes_on_from_there(
    job: ImaginedRun, ledger: Ledger, clock: FakeClock
) -> None:
    """What was done stays done; what is told of a run is told of the latest."""
    watch = LedgerWatch(ledger)
    for _ in range(5):
        job.round(12)
    job.end()
    assert_as_sql_says(ledger, watch, job.run_id)
    ended = watch.snapshot()
    assert (ended.phase, ended.eta_s, ended.elapsed_s) == (Phase.ENDED, None, pytest.approx(6))
    clock.advance(3_600)
    assert watch.snapshot().elapsed_s == pytest.approx(6)

    again = ImaginedRun(ledger, clock)
    again.round(12)
    again.round(12)
    for looker in (watch, LedgerWatch(ledger)):
        assert_as_sql_says(ledger, looker, again.run_id)
        assert looker.snapshot().phase is Phase.WORKING
        assert looker.snapshot().files.done > ended.files.done
        assert looker.snapshot().fetched <= 12


def test_p6_a_run_that_was_killed_is_not_shown_as_going_on(job: ImaginedRun, ledger: Ledger) -> None:
    """Its processes are gone, and nobody wrote an end."""
    job.round(12)
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE worker SET process_started = 'long ago'")
    assert LedgerWatch(ledger).snapshot().phase is Phase.ENDED


def test_p6_a_pause_of_the_schedule_is_seen_from_outside_too(job: ImaginedRun, ledger: Ledger) -> None:
    """It is told as long as it lasts, by one who comes late as well."""
    job.round(12)
    watch = LedgerWatch(ledger)
    assert watch.snapshot().phase is Phase.WORKING
    for profile, phase in (("pause", Phase.PAUSED), ("balanced", Phase.WORKING)):
        with ledger.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO step (host, at, what, to_value, reason) VALUES ('', ?, 'profile', ?, 'as planned')",
                (job.clock.now_us(), profile),
            )
        job.clock.advance(100)
        for looker in (watch, LedgerWatch(ledger)):
            assert looker.snapshot().phase is phase
        job.clock.advance(100)


def test_p6_before_the_first_run_there_is_a_picture_too(ledger: Ledger, load: Callable[..., Any]) -> None:
    load(line(1), line(2))
    now = LedgerWatch(ledger).snapshot()
    assert (now.phase, now.files, now.elapsed_s) == (Phase.NOT_STARTED, Tally(2), 0)


def test_p6_what_failed_and_was_put_back_is_counted_anew(job: ImaginedRun, ledger: Ledger) -> None:
    """`midasdl retry` from another terminal during the run."""
    watch = LedgerWatch(ledger)
    for _ in range(10):
        job.round(12)
        watch.snapshot()
    assert watch.snapshot().files.failed == 2
    job.queue.requeue()
    for _ in range(3):
        job.clock.advance(3)
        watch.snapshot()
    assert watch.snapshot().files.failed == 0
    job.clock.advance(FULL_EVERY_S)
    assert_as_sql_says(ledger, watch, job.run_id)


MANY = 30_000

GROW = f"""
WITH RECURSIVE n(i) AS (SELECT {FILES + 1} UNION ALL SELECT i + 1 FROM n WHERE i < {FILES + MANY})
INSERT INTO task (id, md5, state, claim_no, not_before, attempts, manifest_id, size_bytes, from_cache, worker_id,
                  first_claimed_at, finished_at)
SELECT i, printf('%032x', i), 'done', 1, 0, 0, 1, 1000, 0, 1, 1, 1 FROM n
"""


@pytest.fixture
def steps(ledger: Ledger) -> Iterator[list[int]]:
    """How much SQLite works for reading: its virtual machine's steps, in thousands."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    def watch_over(connection: Any, *_: Any) -> None:
        connection.set_progress_handler(count, 1_000)

    event.listen(ledger._engine, "checkout", watch_over)
    yield counted
    event.remove(ledger._engine, "checkout", watch_over)


def test_p6_looking_again_does_not_walk_what_is_done(
    job: ImaginedRun, ledger: Ledger, steps: list[int]
) -> None:
    """Thirty thousand finished files: the second look and further ones cost next to nothing."""
    job.round(12)
    with ledger.write() as connection:
        connection.exec_driver_sql(GROW)
        connection.exec_driver_sql(
            "INSERT INTO destination (path, task_id, kind, manifest_id, line_no) "
            f"SELECT md5, id, 'other', 1, id FROM task WHERE id > {FILES}"
        )
    watch = LedgerWatch(ledger)
    watch.snapshot()
    full = steps[0]
    steps[0] = 0
    for _ in range(5):
        job.round(12)
        watch.snapshot()
    assert full > 200
    assert steps[0] / 5 < full / 10
