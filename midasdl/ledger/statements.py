"""The statements about tasks that midasdl sends while it works, by name and with their purpose.

Where a partial index must serve, the state is a literal in the text: SQLite cannot match a bound parameter against
an index condition and would walk every finished row (a test looks at the query plans).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from midasdl.ledger.schema import (
    destination,
    setting,
    task,
    transition,
    worker,
)

PENDING = task.c.state == literal_column("'pending'")
IN_PROGRESS = task.c.state == literal_column("'in_progress'")
FAILED = task.c.state == literal_column("'failed'")
DONE = task.c.state == literal_column("'done'")
ALIVE = worker.c.state == literal_column("'alive'")


def state_word(name: str) -> ColumnElement[str]:
    """A state as a literal in the text."""
    return literal_column(f"'{name}'")


def _keep_moves(
    at: Any, from_state: Any, to_state: Any, worker_id: Any, reason: Any, *which: ColumnElement[bool]
) -> Insert:
    """Keep a change of state of every task that meets the conditions."""
    return insert(transition).from_select(
        ["task_id", "at", "from_state", "to_state", "worker_id", "reason"],
        select(task.c.id, at, from_state, to_state, worker_id, reason).where(*which),
    )


def _keep_first_claims(*which: ColumnElement[bool]) -> Insert:
    """Keep the first claims of tasks that do not go straight to done; the others' stand in the task itself.

    Where later moves are kept already, the first claim was kept too, and has been trimmed away.
    """
    kept = exists().where(transition.c.task_id == task.c.id)
    return _keep_moves(
        task.c.first_claimed_at,
        state_word("pending"),
        state_word("in_progress"),
        task.c.worker_id,
        state_word("claimed"),
        task.c.claim_no == 1,
        ~kept,
        *which,
    )


# --- settings

SET_SETTING = upsert(setting).values(name=bindparam("new_name"), value=bindparam("new_value"))
"""Record a fact about the ledger, or replace it."""
SET_SETTING = SET_SETTING.on_conflict_do_update(
    index_elements=["name"], set_={"value": SET_SETTING.excluded.value}
)

# --- claiming: which tasks, and whose they are

_CLAIMABLE: Select[tuple[int]] = (
    select(task.c.id)
    .where(PENDING, task.c.not_before <= bindparam("now"))
    .order_by(task.c.not_before, task.c.id)
    .limit(bindparam("how_many"))
)

COUNT_CLAIMABLE = select(func.count()).select_from(_CLAIMABLE.subquery())
"""How many tasks could be claimed now, counting no further than asked."""

CLAIMED = (task.c.id, task.c.md5, task.c.claim_no, task.c.attempts, task.c.not_before, task.c.size_bytes)
"""What who claims a task is told of it."""

CLAIM = (
    update(task)
    .where(task.c.id.in_(_CLAIMABLE.scalar_subquery()))
    .values(
        state=state_word("in_progress"),
        worker_id=bindparam("worker"),
        claim_no=task.c.claim_no + 1,
        first_claimed_at=func.coalesce(task.c.first_claimed_at, bindparam("now")),
    )
    .returning(*CLAIMED)
)
"""Take the next tasks in their order: one statement, so that no two workers ever hold the same."""

DESTINATIONS_OF_HOLDER = (
    select(destination.c.task_id, destination.c.path)
    .join(task)
    .where(IN_PROGRESS, task.c.worker_id == bindparam("worker"))
    .order_by(destination.c.id)
)
"""Every path at which the bytes of the tasks that a worker holds must be."""

NEXT_RETRY_AT = select(func.min(task.c.not_before)).where(PENDING)
"""When the next pending task may be claimed; NULL if none is pending."""

FORGET_IMPOSSIBLE_WAITS: Update = (
    update(task).where(PENDING, task.c.not_before > bindparam("latest")).values(not_before=bindparam("now"))
)
"""Retries that lie further ahead than any rule allows are due now: the clock was set back."""

ANY_IN_PROGRESS = select(exists().where(IN_PROGRESS))
"""Whether anybody holds a claim."""

IS_ONLY_FORBIDDEN_LEFT = select(
    and_(
        exists().where(DONE, task.c.from_cache == literal_column("0")),
        ~exists().where(
            or_(PENDING, IN_PROGRESS), func.coalesce(task.c.error_class, "") != bindparam("forbidden")
        ),
    )
)
"""Whether files have come before, in whichever run, and all that is left was forbidden when it was last asked for."""

# --- settling: every write after the claim names task, worker and claim number

_FENCE = (
    task.c.id == bindparam("task"),
    IN_PROGRESS,
    task.c.worker_id == bindparam("worker"),
    task.c.claim_no == bindparam("claim"),
)

HELD = select(exists().where(*_FENCE))
"""Whether a claim is still its worker's."""

HELD_BY: Select[tuple[int, int]] = select(task.c.id, task.c.claim_no).where(
    IN_PROGRESS, task.c.worker_id == bindparam("worker")
)
"""Every claim that a worker holds."""

FINISH: Update = (
    update(task)
    .where(*_FENCE)
    .values(
        state=state_word("done"),
        attempts=task.c.attempts + bindparam("attempts_more"),
        size_bytes=bindparam("new_size_bytes"),
        from_cache=bindparam("new_from_cache"),
        http_status=bindparam("new_http_status"),
        error_class=None,
        error=None,
        not_before=0,
        finished_at=bindparam("now"),
        elapsed_us=bindparam("new_elapsed_us"),
    )
)
"""The bytes are durable at every destination."""

FAIL: Update = (
    update(task)
    .where(*_FENCE)
    .values(
        state=state_word("failed"),
        attempts=task.c.attempts + bindparam("attempts_more"),
        http_status=bindparam("new_http_status"),
        error_class=bindparam("new_error_class"),
        error=bindparam("new_error"),
        not_before=0,
        finished_at=bindparam("now"),
        elapsed_us=bindparam("new_elapsed_us"),
    )
)
"""It will not be tried again unless a person asks."""

POSTPONE: Update = (
    update(task)
    .where(*_FENCE)
    .values(
        state=state_word("pending"),
        attempts=task.c.attempts + bindparam("attempts_more"),
        http_status=bindparam("new_http_status"),
        error_class=bindparam("new_error_class"),
        error=bindparam("new_error"),
        not_before=bindparam("new_not_before"),
        elapsed_us=bindparam("new_elapsed_us"),
    )
)
"""It failed for the moment and waits for its retry."""

RELEASE: Update = update(task).where(*_FENCE).values(state=state_word("pending"))
"""The claim goes back unused."""

# --- history

RECORD_TRANSITION = insert(transition).values(
    task_id=bindparam("task"),
    at=bindparam("now"),
    from_state=bindparam("new_from_state"),
    to_state=bindparam("new_to_state"),
    worker_id=bindparam("worker"),
    reason=bindparam("new_reason"),
)
"""Keep one change of state."""

RECORD_FIRST_CLAIM = _keep_first_claims(task.c.id == bindparam("task"))
"""Keep the first claim of a task that does not go straight to done."""

TRIM_HISTORY = delete(transition).where(
    transition.c.id <= select(func.max(transition.c.id)).scalar_subquery() - bindparam("keep")
)
"""Keep only the newest rows."""

# --- putting back

_HELD_BY = (IN_PROGRESS, task.c.worker_id.in_(bindparam("workers", expanding=True)))

RECORD_FIRST_CLAIMS_OF = _keep_first_claims(*_HELD_BY)
"""Keep the first claims of tasks that are about to be taken back."""

RECORD_TAKEN_BACK = _keep_moves(
    bindparam("now"),
    state_word("in_progress"),
    state_word("pending"),
    task.c.worker_id,
    bindparam("why"),
    *_HELD_BY,
)
"""Keep that claims were taken back from workers that are gone."""

TAKE_BACK: Update = update(task).where(*_HELD_BY).values(state=state_word("pending"))
"""Claims of workers that are gone become pending at once."""

_FAILED_OF_CLASSES = (FAILED, task.c.error_class.in_(bindparam("classes", expanding=True)))

RECORD_REQUEUED = _keep_moves(
    bindparam("now"),
    state_word("failed"),
    state_word("pending"),
    literal_column("NULL"),
    state_word("requeued"),
    *_FAILED_OF_CLASSES,
)
"""Keep that failures were put back."""

REQUEUE: Update = (
    update(task)
    .where(*_FAILED_OF_CLASSES)
    .values(state=state_word("pending"), attempts=0, not_before=0, finished_at=None)
)
"""Failures of some classes get a fresh set of attempts."""

_REOPENED = (
    task.c.id.in_(bindparam("tasks", expanding=True)),
    task.c.state.in_([state_word("done"), state_word("in_progress")]),
)
_STRAIGHT_TO_DONE = (task.c.state == state_word("done"), task.c.claim_no == 1)

RECORD_FIRST_CLAIMS_OF_REOPENED = _keep_first_claims(*_REOPENED)
"""Keep the first claims of tasks that are about to be reopened."""

RECORD_FINISHED_OF_REOPENED = _keep_moves(
    task.c.finished_at,
    state_word("in_progress"),
    state_word("done"),
    task.c.worker_id,
    state_word("finished"),
    ~exists().where(transition.c.task_id == task.c.id, transition.c.to_state == state_word("done")),
    *_STRAIGHT_TO_DONE,
    *_REOPENED,
)
"""Keep when tasks that went straight to done were finished, before they are reopened."""

RECORD_REOPENED = _keep_moves(
    bindparam("now"),
    task.c.state,
    state_word("pending"),
    literal_column("NULL"),
    bindparam("why"),
    *_REOPENED,
)
"""Keep that tasks have to be done again."""

REOPEN: Update = (
    update(task)
    .where(*_REOPENED)
    .values(state=state_word("pending"), not_before=0, attempts=0, finished_at=None)
)
"""What was known of their destinations no longer holds; a worker that has one loses its claim."""

FORGET_SIZES: Update = update(task).where(*_REOPENED).values(size_bytes=None)
"""Nor is it certain that their first destination holds their bytes."""

OWNERS_OF = (
    select(destination.c.task_id)
    .distinct()
    .join(task)
    .where(destination.c.path.in_(bindparam("paths", expanding=True)), task.c.md5 != bindparam("written"))
)
"""The tasks of other bytes to which paths belong by now."""

_RUN_OF = select(worker.c.run_id).where(worker.c.id == bindparam("worker")).scalar_subquery()

FETCHED_IN_RUN_OF = (
    select(task.c.id)
    .where(
        DONE,
        task.c.from_cache == literal_column("0"),
        or_(
            task.c.worker_id == bindparam("worker"),
            task.c.worker_id.in_(select(worker.c.id).where(worker.c.run_id == _RUN_OF)),
        ),
    )
    .limit(1)
)
"""Any file that has come in the run of a worker."""
