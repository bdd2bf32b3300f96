"""What readings of the ledger ask; each is answered from an index, or says what it walks."""

from __future__ import annotations

from sqlalchemy import bindparam, func, literal_column, select

from midasdl.ledger.schema import (
    destination,
    manifest,
    politeness,
    run,
    step,
    task,
    total,
    transition,
    worker,
)
from midasdl.ledger.statements import ALIVE, DONE, FAILED, IN_PROGRESS, PENDING
from midasdl.models import ErrorClass

COUNT_PENDING = select(func.count()).where(PENDING)
COUNT_CLAIMED = select(func.count()).where(IN_PROGRESS)
COUNT_FAILED = select(func.count()).where(FAILED)
"""From partial indexes, in a time that grows with what is counted."""

COUNT_TASKS = select(func.count()).select_from(task)
COUNT_FILES = select(func.count()).select_from(destination)
"""From the smallest index, all of it: tens of milliseconds for a million."""

LATEST_MANIFEST = select(func.max(manifest.c.id))
"""How many tasks and files there are changes with this only."""

LAST_RETRY_AT = select(func.max(task.c.not_before)).where(PENDING)
"""When the last of the waiting retries falls due; 0 where none waits."""

WORKERS_ALIVE = select(worker.c.host, worker.c.pid, worker.c.process_started).where(
    ALIVE, worker.c.role == "worker"
)
SERVERS = select(politeness).order_by(politeness.c.host)

BYTES_DONE = select(func.coalesce(func.sum(total.c.content_bytes), 0)).where(
    total.c.state == literal_column("'done'")
)
FILES_IN = select(func.coalesce(func.sum(total.c.files), 0)).where(total.c.state == bindparam("state"))
"""From sums that are kept."""

_first_of = destination.alias("first_of")
_first = (
    select(func.min(_first_of.c.id)).where(_first_of.c.task_id == task.c.id).correlate(task).scalar_subquery()
)
_RUNS_WORKERS = select(worker.c.id).where(worker.c.run_id == bindparam("run"))

DONE_BY_WORKER = (
    select(task.c.worker_id, task.c.from_cache, func.count(), func.coalesce(func.sum(task.c.size_bytes), 0))
    .where(DONE)
    .group_by(task.c.worker_id, task.c.from_cache)
)
"""What each worker of each run has brought; walks all tasks."""

RUN_FAILED = (
    select(task.c.error_class, func.count())
    .where(FAILED, task.c.worker_id.in_(_RUNS_WORKERS))
    .group_by(task.c.error_class)
    .order_by(func.count().desc(), task.c.error_class)
)

RUN_RETRIED = select(func.count()).where(
    transition.c.worker_id.in_(_RUNS_WORKERS),
    transition.c.from_state == "in_progress",
    transition.c.to_state == "pending",
    transition.c.reason.in_([str(name) for name in ErrorClass]),
)
"""Requests that failed for the moment, as far as the history is kept; walks it."""

RUN = select(run).order_by(run.c.id.desc()).limit(1)

CREW = select(worker).where(worker.c.run_id == bindparam("run"))
"""Every process of a run."""

NEXT_FRESH = select(func.min(task.c.id)).where(PENDING, task.c.not_before == literal_column("0"))
"""The task that is claimed next; NULL where none is pending but those that wait for a retry."""

LAST_TASK = select(func.max(task.c.id))

_path_of = select(destination.c.path).where(destination.c.id == _first).correlate(task).scalar_subquery()
_files_of = select(func.count()).where(destination.c.task_id == task.c.id).correlate(task).scalar_subquery()

ENDED_BETWEEN = (
    select(
        task.c.id,
        task.c.state,
        task.c.from_cache,
        task.c.size_bytes,
        task.c.finished_at,
        task.c.elapsed_us,
        task.c.error_class,
        _path_of.label("path"),
        _files_of.label("files"),
    )
    .where(
        task.c.id > bindparam("after"),
        task.c.id <= bindparam("up_to"),
        task.c.finished_at > bindparam("since"),
    )
    .order_by(task.c.finished_at)
)
"""What has ended since an instant among tasks of some numbers."""

CLAIMED_NOW = (
    select(task.c.worker_id, func.min(task.c.id).label("id"))
    .join(worker, worker.c.id == task.c.worker_id)
    .where(IN_PROGRESS, ALIVE)
    .group_by(task.c.worker_id)
    .subquery()
)
ACTIVE = select(CLAIMED_NOW.c.id, _path_of.label("path")).join(task, task.c.id == CLAIMED_NOW.c.id)
"""The file that each worker is busy with, or one of those that it has just finished and not recorded."""

PACE = (
    select(step.c.at, step.c.from_value, step.c.to_value, step.c.reason)
    .where(step.c.what == "profile", step.c.at >= bindparam("since"))
    .order_by(step.c.id.desc())
    .limit(1)
)
"""Which profile a run has come to, and why."""
