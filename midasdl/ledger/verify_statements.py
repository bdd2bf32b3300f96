"""Every statement that verifying and adopting send, by name and with its purpose."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    Update,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from midasdl.ledger.schema import damage, destination, task, transition
from midasdl.ledger.statements import CLAIMED

DONE = task.c.state == literal_column("'done'")
UNFETCHED = or_(task.c.state == literal_column("'pending'"), task.c.state == literal_column("'failed'"))

_FINISHED = (
    select(
        destination.c.id.label("destination_id"),
        destination.c.path,
        task.c.id.label("task_id"),
        task.c.md5,
        task.c.claim_no,
    )
    .join_from(destination, task)
    .where(DONE)
)

FINISHED_AFTER = (
    _FINISHED.where(destination.c.path > bindparam("after"))
    .order_by(destination.c.path)
    .limit(bindparam("how_many"))
)
"""The next files that the ledger calls done, in the order of their paths."""

DAMAGED_AFTER = (
    _FINISHED.join(damage, damage.c.destination_id == destination.c.id)
    .where(destination.c.path > bindparam("after"))
    .order_by(destination.c.path)
    .limit(bindparam("how_many"))
)
"""The same, of those that were found damaged before."""

COUNT_FINISHED_AFTER = (
    select(func.count())
    .select_from(destination)
    .join(task)
    .where(DONE, destination.c.path > bindparam("after"))
)
"""How many files the ledger calls done, from some path on."""

COUNT_DAMAGED = select(func.count()).select_from(damage)
"""How many were found damaged before."""

FINISHED_NOW = _FINISHED.where(destination.c.id.in_(bindparam("destinations", expanding=True)))
"""Which of some files are done as the ledger stands now, and what their tasks are."""

FORGET_DAMAGE = delete(damage).where(damage.c.destination_id.in_(bindparam("destinations", expanding=True)))
"""Files that were looked at again, or are about to be fetched."""

RECORD_DAMAGE = insert(damage).values(
    destination_id=bindparam("destination"),
    found=bindparam("new_found"),
    detail=bindparam("new_detail"),
    found_at=bindparam("now"),
)
"""Keep what is wrong with a file."""

NAMED = select(destination.c.path).where(destination.c.path.in_(bindparam("paths", expanding=True)))
"""Which of some paths the manifests name."""

ALL_PATHS = select(destination.c.id, destination.c.path)
"""Every path."""

STANDING = (
    select(destination.c.id, destination.c.path, task.c.state)
    .join_from(destination, task)
    .where(destination.c.id.in_(bindparam("destinations", expanding=True)))
)
"""Where the tasks of some files stand."""

TASKS_OF = select(task.c.id, task.c.md5, task.c.state).where(
    task.c.md5.in_(bindparam("md5s", expanding=True))
)
"""The tasks of some contents."""

UNFETCHED_AFTER = (
    select(task.c.id)
    .where(UNFETCHED, task.c.id > bindparam("after"))
    .order_by(task.c.id)
    .limit(bindparam("how_many"))
)
"""The next tasks that are not done and that nobody works on."""

COUNT_UNFETCHED = select(func.count()).select_from(task).where(UNFETCHED)
"""How many those are."""

_THESE: tuple[ColumnElement[bool], ...] = (task.c.id.in_(bindparam("tasks", expanding=True)),)
_FAILED_OF_THESE = (*_THESE, task.c.state == literal_column("'failed'"))

RECORD_PUT_BACK = insert(transition).from_select(
    ["task_id", "at", "from_state", "to_state", "worker_id", "reason"],
    select(
        task.c.id,
        bindparam("now"),
        literal_column("'failed'"),
        literal_column("'pending'"),
        literal_column("NULL"),
        literal_column("'found on disk'"),
    ).where(*_FAILED_OF_THESE),
)
"""Keep that failures were put back, because their bytes were found elsewhere."""

PUT_BACK: Update = (
    update(task)
    .where(*_FAILED_OF_THESE)
    .values(state=literal_column("'pending'"), attempts=0, not_before=0, finished_at=None)
)
"""The same, as it is done."""

DESTINATIONS_OF = (
    select(destination.c.task_id, destination.c.path)
    .where(destination.c.task_id.in_(bindparam("tasks", expanding=True)))
    .order_by(destination.c.id)
)
"""Every path at which the bytes of some tasks must be."""

CLAIM_THESE = (
    update(task)
    .where(*_THESE, task.c.state == literal_column("'pending'"))
    .values(
        state=literal_column("'in_progress'"),
        worker_id=bindparam("worker"),
        claim_no=task.c.claim_no + 1,
        first_claimed_at=func.coalesce(task.c.first_claimed_at, bindparam("now")),
    )
    .returning(*CLAIMED)
)
"""Take some tasks that wait, and no others."""
