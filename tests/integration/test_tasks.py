"""Promises about the life of a task: order of claims, fences, retries, requeues (L1, L3, L4, L5, I3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from midasdl.identity import ProcessIdentity
from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Claim, Failed, Finished, Outcome, Postponed, Released, Settled
from midasdl.ledger.overview import Counts, FailureGroup, Overview
from midasdl.ledger.responses import Responses
from midasdl.ledger.runs import RunRegistry
from midasdl.ledger.tasks import TaskQueue
from midasdl.models import ErrorClass, TaskState
from tests.support.clock import FakeClock

MINUTE_US = 60_000_000
ME, OTHER = 1, 2

Load = Callable[..., Any]


@pytest.fixture
def queue(ledger: Ledger) -> TaskQueue:
    return TaskQueue(ledger)


@pytest.fixture
def load_tasks(load: Load) -> Callable[[int], None]:
    """Load so many tasks of one path each: md5s 1, 2, 3, … in hexadecimal."""
    return lambda number: load(*(f"{n:032x}  data/{n}.csv" for n in range(1, number + 1)))


def ids(settled: Settled) -> list[int]:
    return [claim.task_id for claim in settled.claims]


def row(ledger: Ledger, task_id: int) -> dict[str, Any]:
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT * FROM task WHERE id = ?", (task_id,))
        return dict(found.mappings().one())


def everything(ledger: Ledger) -> list[list[Any]]:
    with ledger.read() as connection:
        tables = ("task", "transition", "destination")
        return [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in tables]


def finished(claim: Claim) -> Outcome:
    return Finished(claim, 12_345, from_cache=False, http_status=200, elapsed_us=1_500, attempts_more=1)


def postponed(claim: Claim, until_us: int = 0) -> Outcome:
    return Postponed(claim, until_us, ErrorClass.TIMEOUT, "no answer", elapsed_us=9)


def failed(claim: Claim, error_class: ErrorClass = ErrorClass.NOT_FOUND) -> Outcome:
    return Failed(claim, error_class, "it is not there", http_status=404, elapsed_us=7)


def released(claim: Claim) -> Outcome:
    return Released(claim, "stopped")


OUTCOMES = pytest.mark.parametrize("outcome", [finished, postponed, failed, released])


# --- claims


def test_tasks_are_claimed_in_the_order_of_the_manifest(queue: TaskQueue, load_tasks: Load) -> None:
    """L4: the first ones first, never one twice."""
    load_tasks(7)
    assert [ids(queue.settle(worker, [], want=3)) for worker in (ME, OTHER, ME)] == [
        [1, 2, 3],
        [4, 5, 6],
        [7],
    ]


def test_a_claim_says_all_that_a_worker_needs(queue: TaskQueue, ledger: Ledger, load: Load) -> None:
    """M5: md5, number, attempts so far, and every path in the order of the manifest."""
    md5 = "a" * 32
    load(f"{md5}  z", f"{md5}  a", f"{md5}  m")
    [first] = queue.settle(ME, [], want=9).claims
    assert first == Claim(1, md5, 1, 0, ("z", "a", "m"))
    [second] = queue.settle(ME, [postponed(first)], want=9).claims
    assert second == Claim(1, md5, 2, 1, ("z", "a", "m"))
    assert row(ledger, 1)["worker_id"] == ME


def test_a_task_waits_until_its_time_has_come(queue: TaskQueue, clock: FakeClock, load_tasks: Load) -> None:
    """L1: a retry is pending with a not-before time; those that wait longest over it come after fresh ones."""
    load_tasks(3)
    first, second, _ = queue.settle(ME, [], want=3).claims
    due_us = clock.now_us() + MINUTE_US
    settled = queue.settle(ME, [postponed(first, due_us), postponed(second, due_us - 1)], want=3)
    assert (settled.claims, settled.next_retry_at_us, settled.others_busy) == ((), due_us - 1, True)
    clock.advance(59.999999)
    assert ids(queue.settle(ME, [], want=3)) == [2]
    clock.advance(0.000001)
    assert ids(queue.settle(ME, [], want=3)) == [1]


def test_fresh_tasks_come_before_retries_that_are_due(
    queue: TaskQueue, clock: FakeClock, load_tasks: Load
) -> None:
    """L4: trouble with one file never holds up the others, and within a claim the order is kept."""
    load_tasks(4)
    [first] = queue.settle(ME, [], want=1).claims
    queue.settle(ME, [postponed(first, clock.now_us())], want=0)
    assert ids(queue.settle(ME, [], want=9)) == [2, 3, 4, 1]


def test_near_the_end_everybody_gets_a_share(queue: TaskQueue, load_tasks: Load) -> None:
    """L4: with 8 workers and 60 tasks left nobody takes 16 of them, nor all that would be its part."""
    load_tasks(60)
    sizes = [len(queue.settle(worker, [], want=16, share_among=8).claims) for worker in range(1, 25)]
    assert sizes == [3, 3, 3, 3, 3] + [2] * 7 + [1] * 12


def test_who_wants_nothing_is_given_nothing(queue: TaskQueue, ledger: Ledger, load_tasks: Load) -> None:
    """L1: outcomes can be recorded without another claim."""
    load_tasks(2)
    [first] = queue.settle(ME, [], want=1).claims
    assert queue.settle(ME, [finished(first)], want=0) == Settled()
    assert Overview(ledger).counts() == Counts(pending=1, done=1, files=2, bytes_done=12_345)


def test_nothing_is_left_only_when_nobody_is_busy_and_nothing_waits(
    queue: TaskQueue, clock: FakeClock, load_tasks: Load
) -> None:
    """L4: a worker goes home when the queue is empty for good, not when it is empty for now."""
    load_tasks(1)
    [claim] = queue.settle(ME, [], want=1).claims
    assert not queue.settle(OTHER, [], want=1).nothing_left
    assert not queue.settle(ME, [postponed(claim, clock.now_us() + 1)], want=1).nothing_left
    clock.advance(1)
    [claim] = queue.settle(ME, [], want=1).claims
    assert queue.settle(ME, [failed(claim)], want=1).nothing_left


# --- outcomes


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        (
            finished,
            {"state": "done", "attempts": 1, "size_bytes": 12_345, "from_cache": 0, "http_status": 200},
        ),
        (failed, {"state": "failed", "attempts": 1, "error_class": "not-found", "http_status": 404}),
        (postponed, {"state": "pending", "attempts": 1, "error_class": "timeout", "error": "no answer"}),
        (released, {"state": "pending", "attempts": 0, "error_class": None}),
    ],
)
def test_each_outcome_is_recorded_with_its_facts(
    queue: TaskQueue, ledger: Ledger, clock: FakeClock, load_tasks: Load, outcome: Any, facts: dict[str, Any]
) -> None:
    """L1: a finish time stands exactly where a task is done or failed."""
    load_tasks(1)
    first_us = clock.now_us()
    [claim] = queue.settle(ME, [], want=1).claims
    clock.advance(5)
    queue.settle(ME, [outcome(claim)], want=0)
    now = row(ledger, 1)
    assert now.items() >= facts.items()
    assert now["first_claimed_at"] == first_us
    assert now["finished_at"] == (clock.now_us() if facts["state"] in {"done", "failed"} else None)


def test_what_is_done_keeps_no_trace_of_earlier_trouble_in_its_row(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load
) -> None:
    """L1: the trouble stands in the history; the row says how it is now."""
    load_tasks(1)
    [claim] = queue.settle(ME, [], want=1).claims
    [claim] = queue.settle(ME, [postponed(claim)], want=1).claims
    queue.settle(ME, [finished(claim)], want=0)
    now = row(ledger, 1)
    assert (now["error_class"], now["error"], now["attempts"], now["not_before"]) == (None, None, 2, 0)


def test_a_batch_is_settled_and_the_next_claimed_in_one_transaction(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1: a worker that dies while it claims has not finished either; nothing is half done."""
    load_tasks(4)
    first, second = queue.settle(ME, [], want=2).claims
    before = everything(ledger)
    monkeypatch.setattr(TaskQueue, "_claim", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        queue.settle(ME, [finished(first), failed(second)], want=2)
    assert everything(ledger) == before


# --- fences


def by_another_worker(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    return OTHER, claim


def with_an_old_number(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    [again] = queue.settle(ME, [released(claim)], want=1).claims
    assert again.task_id == claim.task_id
    return ME, claim


def with_a_number_to_come(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    return ME, Claim(claim.task_id, claim.md5, claim.claim_no + 1, 0, claim.paths)


def after_it_was_taken_back(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    with ledger.write() as connection:
        assert queue.take_back(connection, [ME], "worker died") == 1
    return ME, claim


def after_another_claimed_it(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    after_it_was_taken_back(queue, ledger, claim)
    assert ids(queue.settle(OTHER, [], want=1)) == [claim.task_id]
    return ME, claim


def after_it_was_done(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    queue.settle(ME, [finished(claim)], want=0)
    return ME, claim


def after_it_was_requeued(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    queue.settle(ME, [failed(claim)], want=0)
    assert queue.requeue() == 1
    return ME, claim


def after_it_was_reopened(queue: TaskQueue, ledger: Ledger, claim: Claim) -> tuple[int, Claim]:
    with ledger.write() as connection:
        assert queue.reopen(connection, [claim.task_id], "new destination") == 1
    return ME, claim


@OUTCOMES
@pytest.mark.parametrize(
    "how",
    [
        by_another_worker,
        with_an_old_number,
        with_a_number_to_come,
        after_it_was_taken_back,
        after_another_claimed_it,
        after_it_was_done,
        after_it_was_requeued,
        after_it_was_reopened,
    ],
)
def test_a_claim_that_is_lost_changes_nothing(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load, outcome: Any, how: Any
) -> None:
    """I3, L3: 0 rows, no history, and the worker is told; its other outcomes are recorded all the same."""
    load_tasks(2)
    [claim] = queue.settle(ME, [], want=1).claims
    worker, late = how(queue, ledger, claim)
    before = everything(ledger)
    assert queue.settle(worker, [outcome(late)], want=0) == Settled(lost=frozenset({claim.task_id}))
    assert everything(ledger) == before
    [good] = queue.settle(worker, [], want=1).claims
    assert queue.settle(worker, [outcome(late), finished(good)], want=0).lost <= {late.task_id}
    assert row(ledger, good.task_id)["state"] == "done"


def test_who_has_lost_a_claim_gets_the_rest_done_all_the_same(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load
) -> None:
    """L3, C14: what is still its own is recorded, its requests are counted, and it gets new work."""
    load_tasks(3)
    worker = RunRegistry(ledger).register(None, "worker", "w", ProcessIdentity.current())
    lost, kept = queue.settle(worker, [], want=2).claims
    with ledger.write() as connection:
        queue.reopen(connection, [lost.task_id], "new destination")
    requests = [Responses("host", "ok", 1_000, 2)]
    settled = queue.settle(worker, [finished(lost), finished(kept)], want=1, responses=requests)
    assert (settled.lost, len(settled.claims)) == ({lost.task_id}, 1)
    assert row(ledger, kept.task_id)["state"] == "done"
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT sum(count) FROM response").scalar() == 2


def test_a_claim_that_is_lost_at_the_last_moment_is_told(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: between the look at what is held and the transaction that puts others' tasks right."""
    load_tasks(2)
    early, late = queue.settle(ME, [], want=2).claims
    with ledger.write() as connection:
        queue.reopen(connection, [early.task_id], "new destination")
    write = ledger.write

    def write_after_another_loss() -> Any:
        monkeypatch.setattr(ledger, "write", write)
        with write() as connection:
            queue.reopen(connection, [late.task_id], "new destination")
        return write()

    monkeypatch.setattr(ledger, "write", write_after_another_loss)
    settled = queue.settle(ME, [finished(early), finished(late)], want=0)
    assert settled.lost == {early.task_id, late.task_id}


def test_taking_back_takes_from_the_gone_alone(queue: TaskQueue, ledger: Ledger, load_tasks: Load) -> None:
    """I3: claims of others, and what the gone had settled, stay as they are."""
    load_tasks(6)
    mine = queue.settle(ME, [], want=4).claims
    queue.settle(OTHER, [], want=1)
    queue.settle(ME, [finished(mine[0]), failed(mine[1])], want=0)
    with ledger.write() as connection:
        assert queue.take_back(connection, [ME], "worker died") == 2
        assert queue.take_back(connection, [ME], "worker died") == 0
        assert queue.take_back(connection, [], "worker died") == 0
    states = [row(ledger, number)["state"] for number in range(1, 7)]
    assert states == ["done", "failed", "pending", "pending", "in_progress", "pending"]


# --- putting back


def test_failures_are_requeued_by_class_with_fresh_attempts(
    queue: TaskQueue, ledger: Ledger, load_tasks: Load
) -> None:
    """W2, L1: only the classes that were named, and all of them without a name."""
    load_tasks(4)
    claims = queue.settle(ME, [], want=4).claims
    classes = (ErrorClass.TIMEOUT, ErrorClass.NOT_FOUND, ErrorClass.CHECKSUM, ErrorClass.NOT_FOUND)
    queue.settle(ME, [failed(*each) for each in zip(claims, classes, strict=True)], want=0)
    assert queue.requeue([ErrorClass.CHECKSUM, ErrorClass.TLS]) == 1
    assert queue.requeue([]) == 0
    now = row(ledger, 3)
    assert (now["state"], now["attempts"], now["not_before"], now["finished_at"]) == ("pending", 0, 0, None)
    assert Overview(ledger).counts().failed == 3
    assert queue.requeue() == 3
    assert queue.requeue() == 0
    assert Overview(ledger).counts().pending == 4


def test_only_what_is_done_or_claimed_is_reopened(queue: TaskQueue, ledger: Ledger, load_tasks: Load) -> None:
    """M7: failed tasks wait for a person, pending ones need nothing."""
    load_tasks(4)
    done, lost, _ = queue.settle(ME, [], want=3).claims
    queue.settle(ME, [finished(done), failed(lost)], want=0)
    with ledger.write() as connection:
        assert queue.reopen(connection, [1, 2, 3, 4, 99], "repair") == 2
        assert queue.reopen(connection, [], "repair") == 0
    assert [row(ledger, number)["state"] for number in (1, 2, 3, 4)] == [
        "pending",
        "failed",
        "pending",
        "pending",
    ]


# --- the whole


def test_failures_are_grouped_with_the_same_example_each_time(
    queue: TaskQueue, ledger: Ledger, load: Load
) -> None:
    """P5: the most frequent class first; the example is the first failed task and the first of its paths."""
    load("a" * 32 + "  z", "a" * 32 + "  b", *(f"{n:032x}  p/{n}" for n in range(1, 4)))
    first, *others = queue.settle(ME, [], want=4).claims
    one = Failed(first, ErrorClass.CHECKSUM, "wrong bytes")
    queue.settle(
        ME, [one, *(Failed(each, ErrorClass.TIMEOUT, each.paths[0]) for each in reversed(others))], want=0
    )
    assert Overview(ledger).failures() == [
        FailureGroup(ErrorClass.TIMEOUT, 3, "p/1", "p/1"),
        FailureGroup(ErrorClass.CHECKSUM, 1, "b", "wrong bytes"),
    ]
    assert [path for *_, path, _ in Overview(ledger).failed_paths()] == ["b", "p/1", "p/2", "p/3", "z"]


def test_tasks_by_state_always_add_up(queue: TaskQueue, ledger: Ledger, load_tasks: Load) -> None:
    """I4, L5: whatever happens to tasks, none is lost; one that is lost would be noticed."""
    load_tasks(10)
    a, b, c, d, *_ = queue.settle(ME, [], want=6).claims
    queue.settle(ME, [finished(a), failed(b), postponed(c), released(d)], want=0)
    counts = Overview(ledger).counts()
    assert (counts.pending, counts.in_progress, counts.done, counts.failed) == (6, 2, 1, 1)
    assert (counts.tasks, counts.unfinished, counts.files) == (10, 8, 10)
    assert counts.tasks == sum(getattr(counts, state) for state in TaskState)
    Overview(ledger).require_that_all_adds_up()


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM destination WHERE id = 1",
        "UPDATE destination SET task_id = 2 WHERE task_id = 1",
        "DELETE FROM destination WHERE id IN (SELECT max(id) FROM destination)",
    ],
)
def test_a_lost_row_is_an_error_at_the_end(ledger: Ledger, load: Load, harm: str) -> None:
    """L5: the sums are compared, and a difference is told with the command that mends it."""
    load("a" * 32 + "  p", "b" * 32 + "  q", "b" * 32 + "  r")
    with ledger.write() as connection:
        connection.exec_driver_sql(harm)
    with pytest.raises(Exception, match="does not add up") as caught:
        Overview(ledger).require_that_all_adds_up()
    assert "midasdl init" in str(getattr(caught.value, "hint", ""))
