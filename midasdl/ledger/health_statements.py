"""The statements that keep what figures of health are made of: responses and steps."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from midasdl.ledger.schema import response, run, step, worker

# --- responses

_RUN_OF_WORKER = select(worker.c.run_id).where(worker.c.id == bindparam("worker")).scalar_subquery()
_ADD_RESPONSES = upsert(response).values(
    run_id=func.coalesce(_RUN_OF_WORKER, 0),
    host=bindparam("new_host"),
    outcome=bindparam("new_outcome"),
    up_to_us=bindparam("new_up_to_us"),
    count=bindparam("more"),
)
ADD_RESPONSES = _ADD_RESPONSES.on_conflict_do_update(
    index_elements=["run_id", "host", "outcome", "up_to_us"],
    set_={"count": response.c["count"] + _ADD_RESPONSES.excluded["count"]},
).inline()
"""Add requests to the counts of a worker's run; those of a command outside of a run have number 0."""

TRIM_RESPONSES = delete(response).where(
    response.c.run_id != 0,
    response.c.run_id <= select(func.max(run.c.id)).scalar_subquery() - bindparam("runs"),
)
"""Keep only the counts of the latest runs, and of commands."""

# --- steps

RECORD_STEP = (
    insert(step)
    .values(
        host=bindparam("new_host"),
        at=bindparam("now"),
        what=bindparam("new_what"),
        from_value=bindparam("new_from_value"),
        to_value=bindparam("new_to_value"),
        reason=bindparam("new_reason"),
    )
    .inline()
)
"""Keep a change of throttle or breaker, or that a pause has begun."""

TRIM_STEPS = delete(step).where(
    step.c.id <= select(func.max(step.c.id)).scalar_subquery() - bindparam("keep")
)
"""Keep only the newest rows."""
