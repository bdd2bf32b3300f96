"""Statements about hosts and the permits to send to them."""

from __future__ import annotations

from sqlalchemy import bindparam, case, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from midasdl.ledger.schema import permit, politeness

POLITENESS_OF = select(politeness).where(politeness.c.host == bindparam("this_host"))
"""What everybody knows of a host."""

PAUSED_UNTIL = select(politeness.c.paused_until).where(politeness.c.host == bindparam("this_host"))
"""Until when nobody may send to a host."""

COUNT_PERMITS = select(func.count(), func.count(case((permit.c.host == bindparam("this_host"), 1)))).where(
    permit.c.worker_id != bindparam("worker")
)
"""Requests in flight, or about to be, of everybody else: over all hosts, and to one."""

RETURN_PERMITS = delete(permit).where(permit.c.worker_id.in_(bindparam("workers", expanding=True)))
"""Requests that have ended, or whose worker is gone."""

RETURN_PERMIT = delete(permit).where(permit.c.worker_id == bindparam("worker"))
"""A request has ended."""

_SAVE_POLITENESS = upsert(politeness).values({c.name: bindparam(f"new_{c.name}") for c in politeness.c})
SAVE_POLITENESS = _SAVE_POLITENESS.on_conflict_do_update(
    index_elements=["host"],
    set_={c.name: _SAVE_POLITENESS.excluded[c.name] for c in politeness.c if not c.primary_key},
)
"""Replace what everybody knows of a host."""

_TAKE_PERMIT = upsert(permit).values(
    worker_id=bindparam("worker"),
    host=bindparam("new_host"),
    taken_at=bindparam("now"),
    start_at=bindparam("new_start_at"),
)
TAKE_PERMIT = _TAKE_PERMIT.on_conflict_do_update(
    index_elements=["worker_id"],
    set_={name: _TAKE_PERMIT.excluded[name] for name in ("host", "taken_at", "start_at")},
)
"""A worker may have one request in flight, from `start_at` on."""
