"""O2: the figures of a run as the ledger has them, and what is made of them while a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midasdl.identity import ProcessIdentity
from midasdl.ledger import figures, gate_statements
from midasdl.ledger.figures import RunFigures
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Failed, Finished, Postponed, Released
from midasdl.ledger.responses import Responses
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.metrics.figures import Place, status_of
from midasdl.metrics.gatherer import Gatherer
from midasdl.models import ErrorClass
from midasdl.politeness.gate import Gate
from midasdl.politeness.limiter import Limits
from midasdl.progress.events import CacheHit, DownloadCompleted, DownloadFailed, FileQueued
from midasdl.progress.snapshot import Snapshot, Tally
from midasdl.progress.tracker import Tracker
from tests.support.clock import FakeClock

HOST = "dap.ceda.ac.uk:443"
LINES = [f"{number:032x}  ./data/file-{number}.csv" for number in range(10)]
PLACE = Place("progress.db", "midas-open", 1, 0)


class Crew:
    """A run with two workers of this process, and one worker of another run."""

    def __init__(self, ledger: Ledger) -> None:
        registry = RunRegistry(ledger)
        me = ProcessIdentity.current()
        stranger = ProcessIdentity("elsewhere", 1, "then")
        self.other_run = registry.start_run("run", {})
        self.stranger = registry.register(self.other_run, "worker", "stranger", stranger)
        self.run_id = registry.start_run("run", {})
        registry.register(self.run_id, "coordinator", "coordinator", me)
        self.workers = [registry.register(self.run_id, "worker", f"worker-{n}", me) for n in (1, 2)]
        self.queue = TaskQueue(ledger)


@pytest.fixture
def crew(ledger: Ledger, load: Callable[..., Any]) -> Crew:
    load(*LINES)
    return Crew(ledger)


def test_o2_queue_workers_and_requests_are_those_of_the_ledger(ledger: Ledger, crew: Crew) -> None:
    """O2: depths add up to all tasks; requests are this run's alone; each worker has its own file and its own state."""
    first, second = crew.workers
    claims = crew.queue.settle(first, [], want=4).claims
    crew.queue.settle(second, [], want=1)
    outcomes = [
        Finished(claims[0], 100, from_cache=False),
        Failed(claims[1], ErrorClass.NOT_FOUND, "404", 404, 10, 1),
        Released(claims[2], "stopped"),
    ]
    responses = [Responses(HOST, "ok", 20_000, 3), Responses(HOST, "not-found", 50_000, 1)]
    crew.queue.settle(first, outcomes, want=0, responses=[*responses, Responses(HOST, "timeout", 0, 1)])
    crew.queue.settle(crew.stranger, [], want=0, responses=[Responses(HOST, "ok", 20_000, 7)])

    standing = RunFigures(ledger).read()

    assert standing.failed == {"not-found": 1}
    assert standing.requests == {(HOST, "ok"): 3, (HOST, "not-found"): 1, (HOST, "timeout"): 1}
    assert (standing.answers, standing.latency_us) == (4, 110_000)
    assert [(w.name, w.doing, w.claimed, w.path) for w in standing.workers] == [
        ("worker-1", "working", 1, "data/file-3.csv"),
        ("worker-2", "working", 1, "data/file-4.csv"),
    ]


def test_o2_a_worker_waits_requests_works_or_idles(ledger: Ledger, clock: FakeClock, crew: Crew) -> None:
    """O2: what a worker is doing follows from its permit and its claims."""
    reader, (first, second) = RunFigures(ledger), crew.workers
    with ledger.write() as connection:
        for worker_id, start_at in ((first, clock.now_us() + 1), (second, clock.now_us())):
            permit = {"worker": worker_id, "new_host": HOST, "now": clock.now_us(), "new_start_at": start_at}
            connection.execute(gate_statements.TAKE_PERMIT, permit)
    assert [worker.doing for worker in reader.read().workers] == ["waiting", "requesting"]

    with ledger.write() as connection:
        connection.execute(gate_statements.RETURN_PERMITS, {"workers": [first, second]})
    crew.queue.settle(second, [], want=1)
    assert [worker.doing for worker in reader.read().workers] == ["idle", "working"]


def test_l6_o2_reading_figures_walks_over_no_table_of_files(ledger: Ledger, crew: Crew) -> None:
    """O2: a look costs no walk over all files: claims come from their index, paths by their key."""
    with ledger.read() as connection:
        values = {"run": 1, "now": 1, "role_1": "worker", "state_1": "alive"}
        text = str(
            figures.WORKERS_OF_RUN.params(**values).compile(
                connection.engine, compile_kwargs={"literal_binds": True}
            )
        )
        plan = "; ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    assert "SCAN task" not in plan, plan
    assert "SCAN destination" not in plan, plan


def gatherer_of(ledger: Ledger, clock: FakeClock, tracker: Tracker) -> Gatherer:
    first = tracker.snapshot(clock.monotonic())
    return Gatherer(
        RunFigures(ledger), PLACE, first, clock, lambda pids: {"workers": len(list(pids))}, lambda: 0.0
    )


def test_o2_time_in_states_and_the_share_of_busy_workers_add_up(
    ledger: Ledger, clock: FakeClock, crew: Crew
) -> None:
    """O2: ten tasks wait for 10 s; then one of two workers holds two of them for 20 s."""
    tracker = Tracker(10, 0, 0, clock.monotonic())
    gatherer = gatherer_of(ledger, clock, tracker)
    gatherer.gather()
    clock.advance(10)
    gatherer.gather()
    crew.queue.settle(crew.workers[0], [], want=2)
    tracker.follow(FileQueued(2), clock.monotonic())
    gatherer.show(tracker.snapshot(clock.monotonic(), 2))
    gatherer.gather()
    clock.advance(20)

    found = gatherer.gather()

    assert found.task_seconds == {"pending": 100 + 160, "in_progress": 40, "failed": 0, "done": 0}
    assert found.busy_share == pytest.approx(20 / 60)
    assert found.memory == {"workers": 2}


def test_o2_events_give_errors_by_class_mean_time_and_cache_hits(
    ledger: Ledger, clock: FakeClock, crew: Crew
) -> None:
    """O2: what cannot be read from the ledger is counted from events; the picture is the one that everybody sees."""
    tracker = Tracker(10, 0, 0, clock.monotonic())
    gatherer = gatherer_of(ledger, clock, tracker)
    gatherer.gather()
    for event in (
        DownloadCompleted(1, "a", 1_000, 200_000, 1),
        DownloadCompleted(2, "b", 2_000, 400_000, 1),
        CacheHit(3, "c", 10, 1),
        DownloadFailed(4, "d", ErrorClass.TIMEOUT, "slow", will_retry=True),
        DownloadFailed(4, "d", ErrorClass.TIMEOUT, "slow", will_retry=False),
        DownloadFailed(5, "e", ErrorClass.NOT_FOUND, "404", will_retry=False),
    ):
        tracker.follow(event, clock.monotonic())
        gatherer.follow(event)
    clock.advance(10)
    gatherer.show(tracker.snapshot(clock.monotonic(), 2))

    status = status_of(gatherer.gather())

    assert status["errors"] == {
        "not-found": {"retried": 0, "failed": 1},
        "timeout": {"retried": 1, "failed": 1},
    }
    assert status["run"]["mean_download_s"] == pytest.approx(0.3)
    assert status["run"]["cache_hit_share"] == pytest.approx(1 / 3, abs=1e-3)
    assert (status["run"]["fetched"], status["run"]["cached"], status["run"]["retrying"]) == (2, 1, 1)
    assert status["curve"][-1] == [10.0, 300.0, 0.3]


def test_o2_counts_never_fall_whatever_is_trimmed_or_cannot_be_read(
    ledger: Ledger, clock: FakeClock, crew: Crew
) -> None:
    """O2: responses that are trimmed, and a ledger that cannot be read for a while, make no counter smaller."""
    gatherer = gatherer_of(ledger, clock, Tracker(10, 0, 0, clock.monotonic()))
    crew.queue.settle(crew.workers[0], [], want=0, responses=[Responses(HOST, "ok", 20_000, 9)])
    before = gatherer.gather().standing
    with ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM response")

    after = gatherer.gather().standing

    assert after.requests == before.requests == {(HOST, "ok"): 9}
    assert (after.answers, after.latency_us) == (before.answers, before.latency_us)
    gatherer._figures = None  # type: ignore[assignment]
    assert gatherer.gather().standing == after


def test_o2_limiter_and_breaker_are_those_of_the_ledger(ledger: Ledger, clock: FakeClock, crew: Crew) -> None:
    """O2 C14: a pause that anybody was told is seen, and takes the blame from slowness."""
    gatherer = gatherer_of(ledger, clock, Tracker(10, 0, 0, clock.monotonic()))
    gatherer.show(Snapshot(Tally(10), Tally(10), workers=2))
    assert not (gatherer.gather() and gatherer.totals().held_back)
    gate = Gate(ledger, crew.workers[0], Limits(0, 4), lambda low, _: low, clock=clock)
    with ledger.read() as connection:
        now_us = int(connection.exec_driver_sql("SELECT strftime('%s', 'now')").scalar_one()) * 1_000_000
    gate.pause(HOST, now_us + 600_000_000, "asked to wait")

    (server,) = status_of(gatherer.gather())["servers"]

    assert (server["host"], server["breaker"], server["pause_reason"]) == (HOST, "closed", "asked to wait")
    assert gatherer.totals().held_back


def test_o2_a_large_ledger_is_read_less_often_and_the_picture_stays_fresh(
    ledger: Ledger, clock: FakeClock, crew: Crew
) -> None:
    """O2: a look that keeps a processor busy for 0.1 s is followed by the next after 5 s; counts do not wait for it."""
    tracker = Tracker(10, 0, 0, clock.monotonic())
    effort = iter(number / 10 for number in range(100))
    first = tracker.snapshot(clock.monotonic())
    gatherer = Gatherer(RunFigures(ledger), PLACE, first, clock, lambda _: {}, lambda: next(effort))
    gatherer.gather()
    crew.queue.settle(crew.workers[0], [], want=0, responses=[Responses(HOST, "ok", 20_000, 9)])
    tracker.follow(CacheHit(3, "c", 10, 1), clock.monotonic())
    for _ in range(2):
        clock.advance(2)
        gatherer.show(tracker.snapshot(clock.monotonic()))
        found = gatherer.gather()
        assert (found.snapshot.cached, found.standing.requests) == (1, {})
    clock.advance(2)
    assert gatherer.gather().standing.requests == {(HOST, "ok"): 9}


def test_o3_nobody_is_stalled_while_all_that_is_left_waits_for_its_retry(
    ledger: Ledger, clock: FakeClock, crew: Crew
) -> None:
    """O3: ten tasks that were postponed for five minutes; when they are due there is work again."""
    reader = RunFigures(ledger)
    assert reader.read().has_work
    claims = crew.queue.settle(crew.workers[0], [], want=10).claims
    due_us = clock.now_us() + 300_000_000
    outcomes = [Postponed(claim, due_us, ErrorClass.TIMEOUT, "slow", None, 10, 1) for claim in claims]
    assert reader.read().has_work
    crew.queue.settle(crew.workers[0], outcomes, want=0)
    assert not reader.read().has_work
    clock.advance(300)
    assert reader.read().has_work
