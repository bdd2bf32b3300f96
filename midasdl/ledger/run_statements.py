"""Statements about runs and the processes that take part in them."""

from __future__ import annotations

from sqlalchemy import Update, bindparam, func, insert, or_, select, update

from midasdl.ledger.schema import permit, run, task, worker
from midasdl.ledger.statements import ALIVE, IN_PROGRESS, state_word

REGISTER = (
    insert(worker)
    .values(
        run_id=bindparam("new_run_id"),
        role=bindparam("new_role"),
        name=bindparam("new_name"),
        host=bindparam("new_host"),
        pid=bindparam("new_pid"),
        process_started=bindparam("new_process_started"),
        started_at=bindparam("now"),
        heartbeat_at=bindparam("now"),
        lease_until=bindparam("new_lease_until"),
        state="alive",
    )
    .returning(worker.c.id)
)
"""Enter a living process; its number."""

END_RUN = (
    update(run)
    .where(run.c.id == bindparam("run"))
    .values(ended_at=bindparam("now"), exit_code=bindparam("code"))
)
"""A run came to its end."""

LAST_RUN = select(run).order_by(run.c.id.desc()).limit(1)
"""The run that resume takes up."""

ENDED_BY = select(func.count()).where(
    task.c.worker_id == bindparam("worker"), task.c.state.in_([state_word("done"), state_word("failed")])
)
"""The tasks that a worker brought to an end; walks all tasks, when a worker with a quota has died."""

BEAT: Update = (
    update(worker)
    .where(
        worker.c.state.in_([state_word("alive"), state_word("dead")]),
        worker.c.id == bindparam("worker"),
    )
    .values(
        state=state_word("alive"),
        heartbeat_at=bindparam("now"),
        lease_until=bindparam("new_lease_until"),
        ended_at=None,
    )
)
"""The coordinator vouches for one of its workers or itself, also where others took it for dead."""

MAYBE_GONE = select(
    worker.c.id, worker.c.lease_until, worker.c.host, worker.c.pid, worker.c.process_started
).where(
    or_(
        ALIVE,
        worker.c.id.in_(select(task.c.worker_id).where(IN_PROGRESS)),
        worker.c.id.in_(select(permit.c.worker_id)),
    )
)
"""Everybody who claims to be alive, and whoever holds a claim or a permit all the same."""

RETIRE: Update = (
    update(worker)
    .where(ALIVE, worker.c.id.in_(bindparam("workers", expanding=True)))
    .values(state=bindparam("how"), ended_at=bindparam("now"))
)
"""Workers that stopped or were found dead."""
