"""What the machine of `test_queue_machine` or its making has found, each in as few steps as it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from midasdl.ledger.ledger import Ledger
from midasdl.ledger.outcomes import Finished
from midasdl.ledger.tasks import TaskQueue


def test_a_late_worker_never_meets_another_task_by_the_number_of_its_own(
    ledger: Ledger, load: Callable[..., Any]
) -> None:
    """I1, I3: tasks that are gone leave their numbers unused, so that late bytes over newer ones are noticed."""
    queue = TaskQueue(ledger)
    load(f"{'a' * 32}  p", f"{'b' * 32}  q")
    _, late = queue.settle(1, [], want=2).claims
    load(f"{'a' * 32}  q")
    load(f"{'c' * 32}  q")
    claims = queue.settle(2, [], want=2).claims
    assert late.task_id not in {claim.task_id for claim in claims}
    queue.settle(2, [Finished(claim, 1, from_cache=False) for claim in claims], want=0)
    assert queue.settle(1, [Finished(late, 1, from_cache=False)], want=0).lost == {late.task_id}
    [again] = queue.settle(2, [], want=2).claims
    assert (again.md5, again.paths) == ("c" * 32, ("q",))


def test_a_first_claim_that_was_trimmed_away_does_not_come_back_out_of_order(
    ledger: Ledger, load: Callable[..., Any]
) -> None:
    """L1: a done task whose history was kept in part and that is opened again goes on from where it was."""
    queue = TaskQueue(ledger, keep_all_history=True)
    load(f"{'a' * 32}  p")
    [claim] = queue.settle(1, [], want=1).claims
    queue.settle(1, [Finished(claim, 1, from_cache=False)], want=0)
    queue.trim_history(1)
    load(f"{'a' * 32}  q")
    with ledger.read() as connection:
        moves = connection.exec_driver_sql(
            "SELECT from_state, to_state FROM history ORDER BY task_id, seq"
        ).all()
    assert moves == [(None, "pending"), ("in_progress", "done"), ("done", "pending")]
